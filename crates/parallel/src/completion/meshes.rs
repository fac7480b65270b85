//! Completion of process meshes: which pipeline stage or device group runs an operator that the user did not place.

use crate::graph::{Graph, GraphError};
use std::collections::{BTreeMap, VecDeque};

/// Mesh index of every operator. Placed operators keep theirs; others take that of the nearest placed operator, measured
/// along producers and consumers; at equal distance a producer's side wins, then the lower mesh index. With nothing
/// placed all run on mesh 0.
///
/// # Errors
/// `Placement` for an operator that does not exist or a mesh index of `meshes` or more.
pub fn complete_meshes(
    graph: &Graph,
    placed: &BTreeMap<usize, usize>,
    meshes: usize,
) -> Result<Vec<usize>, GraphError> {
    let operators = graph.operators();
    for (&op, &mesh) in placed {
        if op >= operators.len() || mesh >= meshes {
            return Err(GraphError::Placement {
                what: operators.get(op).map_or(format!("operator #{op}"), |o| format!("operator `{}`", o.name)),
                expected: format!("an operator below {} on a mesh below {meshes}", operators.len()),
                got: format!("mesh {mesh}"),
            });
        }
    }
    let (before, after) = neighbours(graph);
    let mut result: Vec<Option<usize>> = vec![None; operators.len()];
    let mut order: Vec<(usize, usize)> = placed.iter().map(|(&op, &mesh)| (mesh, op)).collect();
    order.sort_unstable();
    let mut queue: VecDeque<usize> = VecDeque::new();
    for (mesh, op) in order {
        result[op] = Some(mesh);
        queue.push_back(op);
    }
    while let Some(op) = queue.pop_front() {
        for &next in after[op].iter().chain(&before[op]) {
            if result[next].is_none() {
                result[next] = result[op];
                queue.push_back(next);
            }
        }
    }
    Ok(result.into_iter().map(|mesh| mesh.unwrap_or(0)).collect())
}

/// Producers and consumers of every operator.
fn neighbours(graph: &Graph) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
    let operators = graph.operators();
    let mut producer: Vec<Option<usize>> = vec![None; graph.tensors().len()];
    for (i, op) in operators.iter().enumerate() {
        producer[op.output] = Some(i);
    }
    let mut before = vec![Vec::new(); operators.len()];
    let mut after = vec![Vec::new(); operators.len()];
    for (i, op) in operators.iter().enumerate() {
        for source in op.inputs.iter().filter_map(|&t| producer[t]) {
            before[i].push(source);
            after[source].push(i);
        }
    }
    (before, after)
}
