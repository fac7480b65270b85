//! Completion: from the mappings that a user fixed on some tensors to the mapping of every tensor.
//!
//! For each operator every axis joins the mesh dimensions that its operands already use; the result spreads to the other
//! operands. Operators are visited forward in their order, then backward, until nothing changes; each write fills an
//! entry that was free, so the fix-point comes after at most as many sweeps as there are tensor dimensions. What cannot be
//! joined stays as it is, and a [`Conflict`] says so: the operator then computes with one choice and the operands that
//! differ are redistributed. Tensors with an annotation are frozen.

mod meshes;

pub use meshes::complete_meshes;

use crate::graph::{AnnotatedGraph, DimsMapping, Graph, GraphError, Role, Signature};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Why the operands of an operator could not agree on an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum ConflictKind {
    /// An operand splits an axis over which the operator needs all elements.
    #[serde(rename = "must stay whole")]
    MustStayWhole,
    /// Operands split the same axis over different mesh dimensions; the first is used.
    #[serde(rename = "different mesh dimensions")]
    DifferentMeshDimensions,
    /// A size is not divisible by that of the mesh dimension.
    #[serde(rename = "not divisible")]
    NotDivisible,
    /// An earlier axis of the same operator already uses the mesh dimension.
    #[serde(rename = "mesh dimension already used")]
    AlreadyUsed,
}

impl std::fmt::Display for ConflictKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::MustStayWhole => "must stay whole",
            Self::DifferentMeshDimensions => "different mesh dimensions",
            Self::NotDivisible => "not divisible",
            Self::AlreadyUsed => "mesh dimension already used",
        })
    }
}

/// One axis on which the operands of an operator do not agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The operator.
    pub operator: String,
    /// The axis within it, such as `k`.
    pub axis: String,
    /// Why.
    pub kind: ConflictKind,
    /// Mesh dimensions that the operands use for it.
    pub mesh_dims: Vec<usize>,
    /// Operands that carry the axis: tensor, dimension, and the mesh dimension that splits it there.
    pub places: Vec<(String, usize, Option<usize>)>,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "operator `{}`, axis {}: {}", self.operator, self.axis, self.kind)?;
        for (tensor, dim, split) in &self.places {
            let split = split.map_or("whole".into(), |m| format!("split over mesh dimension {m}"));
            write!(f, "; `{tensor}` dimension {dim} {split}")?;
        }
        Ok(())
    }
}

/// How an operator computes after completion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OperatorMapping {
    /// Mapping that each input is used with.
    pub inputs: Vec<DimsMapping>,
    /// Mapping of what it produces.
    pub output: DimsMapping,
    /// Mesh dimensions over which the output is a pending sum, ascending.
    pub partial: Vec<usize>,
    /// Positions of inputs that must be redistributed first.
    pub reshard_inputs: Vec<usize>,
    /// The output must be redistributed to its tensor's mapping (beyond resolving the pending sum).
    pub reshard_output: bool,
}

/// The fix-point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Completion {
    /// Mapping of every tensor, by index.
    pub mappings: Vec<DimsMapping>,
    /// How every operator computes, in order.
    pub operators: Vec<OperatorMapping>,
    /// What could not be agreed on.
    pub conflicts: Vec<Conflict>,
    /// Pairs of a forward and a backward sweep until nothing changed, the last idle one included.
    pub sweeps: usize,
}

/// Completes the annotations of `input`.
///
/// # Errors
/// None for graphs built through [`Graph::apply`] or read from a file; `Placement` for an annotation that does not fit
/// its tensor or the mesh.
pub fn complete(input: &AnnotatedGraph) -> Result<Completion, GraphError> {
    let order: Vec<usize> = (0..input.graph.operators().len()).collect();
    complete_in_order(input, &order)
}

/// As [`complete`], visiting the operators in another order; without conflicts the result is the same.
///
/// # Errors
/// As [`complete`].
pub fn complete_in_order(input: &AnnotatedGraph, order: &[usize]) -> Result<Completion, GraphError> {
    let graph = &input.graph;
    check_annotations(input)?;
    let signatures: Result<Vec<Signature>, GraphError> =
        (0..graph.operators().len()).map(|i| graph.signature(i)).collect();
    let signatures = signatures?;
    let mut state = State::new(input);
    let mut sweeps = 0;
    loop {
        sweeps += 1;
        let mut changed = false;
        for &op in order.iter().chain(order.iter().rev()) {
            let joined = join(graph, &state.mappings, &input.mesh, op, &signatures[op]);
            changed |= state.spread(graph, op, &signatures[op], &joined);
        }
        if !changed {
            break;
        }
    }
    Ok(report(graph, &input.mesh, &signatures, state.mappings, sweeps))
}

fn check_annotations(input: &AnnotatedGraph) -> Result<(), GraphError> {
    for (&index, mapping) in &input.annotations {
        let tensor = input.graph.tensors().get(index);
        let used: Vec<usize> = mapping.iter().flatten().copied().collect();
        let distinct: BTreeSet<usize> = used.iter().copied().collect();
        let fits = tensor.is_some_and(|t| t.shape.len() == mapping.len())
            && distinct.len() == used.len()
            && used.iter().all(|&m| m < input.mesh.len());
        if !fits {
            return Err(GraphError::Placement {
                what: tensor.map_or(format!("tensor #{index}"), |t| format!("tensor `{}`", t.name)),
                expected: format!("distinct mesh dimensions below {}, one entry per dimension", input.mesh.len()),
                got: format!("{mapping:?}"),
            });
        }
    }
    Ok(())
}

/// The outcome of an axis: the mesh dimension the operator uses for it, and the conflict if there is one.
struct Joined {
    mesh_dim: Option<usize>,
    conflict: Option<(ConflictKind, Vec<usize>)>,
}

/// Joins the axes of one operator in their order.
fn join(graph: &Graph, mappings: &[DimsMapping], mesh: &[usize], op: usize, signature: &Signature) -> Vec<Joined> {
    let mut taken = vec![false; mesh.len()];
    let mut result = Vec::with_capacity(signature.axes.len());
    for (a, axis) in signature.axes.iter().enumerate() {
        let places: Vec<(usize, usize)> = places(graph, op, signature, a).collect();
        let mut seen: Vec<usize> = Vec::new();
        for m in places.iter().filter_map(|&(t, d)| mappings[t][d]) {
            if !seen.contains(&m) {
                seen.push(m);
            }
        }
        let Some(&first) = seen.first() else {
            result.push(Joined { mesh_dim: None, conflict: None });
            continue;
        };
        let mut joined = Joined { mesh_dim: Some(first), conflict: None };
        let divisible = |&(t, d): &(usize, usize)| graph.tensors()[t].shape[d].is_multiple_of(mesh[first] as u64);
        let note = |joined: &mut Joined, kind, keeps: bool| {
            joined.conflict = Some((kind, seen.clone()));
            joined.mesh_dim = joined.mesh_dim.filter(|_| keeps);
        };
        if axis.role == Role::Whole {
            note(&mut joined, ConflictKind::MustStayWhole, false);
        } else if seen.len() > 1 {
            note(&mut joined, ConflictKind::DifferentMeshDimensions, true);
        }
        if joined.mesh_dim.is_some() && !places.iter().all(divisible) {
            note(&mut joined, ConflictKind::NotDivisible, false);
        }
        if joined.mesh_dim.is_some_and(|m| taken[m]) {
            note(&mut joined, ConflictKind::AlreadyUsed, false);
        }
        if let Some(m) = joined.mesh_dim {
            taken[m] = true;
        }
        result.push(joined);
    }
    result
}

/// (tensor, dimension) of every operand dimension that carries axis `axis`, inputs first.
fn places<'a>(
    graph: &'a Graph,
    op: usize,
    signature: &'a Signature,
    axis: usize,
) -> impl Iterator<Item = (usize, usize)> + 'a {
    let op = &graph.operators()[op];
    let tensors = op.inputs.iter().chain(std::iter::once(&op.output));
    tensors.zip(&signature.operands).flat_map(move |(&tensor, dims)| {
        dims.iter().enumerate().filter(move |(_, a)| **a == Some(axis)).map(move |(d, _)| (tensor, d))
    })
}

/// Mappings as they grow.
struct State<'a> {
    mappings: Vec<DimsMapping>,
    frozen: &'a BTreeMap<usize, DimsMapping>,
}

impl<'a> State<'a> {
    fn new(input: &'a AnnotatedGraph) -> Self {
        let free = input.graph.tensors().iter().map(|t| vec![None; t.shape.len()]);
        let mut mappings: Vec<DimsMapping> = free.collect();
        for (&tensor, mapping) in &input.annotations {
            mappings[tensor].clone_from(mapping);
        }
        Self { mappings, frozen: &input.annotations }
    }

    /// Writes the agreed mesh dimensions to free entries; true if anything changed.
    fn spread(&mut self, graph: &Graph, op: usize, signature: &Signature, joined: &[Joined]) -> bool {
        let mut changed = false;
        for (a, joined) in joined.iter().enumerate() {
            let (Some(m), None) = (joined.mesh_dim, &joined.conflict) else { continue };
            for (tensor, dim) in places(graph, op, signature, a) {
                let mapping = &mut self.mappings[tensor];
                if mapping[dim].is_none() && !mapping.contains(&Some(m)) && !self.frozen.contains_key(&tensor) {
                    mapping[dim] = Some(m);
                    changed = true;
                }
            }
        }
        changed
    }
}

fn report(
    graph: &Graph,
    mesh: &[usize],
    signatures: &[Signature],
    mappings: Vec<DimsMapping>,
    sweeps: usize,
) -> Completion {
    let mut operators = Vec::with_capacity(signatures.len());
    let mut conflicts = Vec::new();
    for (op, signature) in signatures.iter().enumerate() {
        let joined = join(graph, &mappings, mesh, op, signature);
        operators.push(operator_mapping(graph, op, signature, &joined, &mappings));
        for (a, joined) in joined.into_iter().enumerate() {
            let Some((kind, mesh_dims)) = joined.conflict else { continue };
            let places = places(graph, op, signature, a);
            conflicts.push(Conflict {
                operator: graph.operators()[op].name.clone(),
                axis: signature.axes[a].name.clone(),
                kind,
                mesh_dims,
                places: places.map(|(t, d)| (graph.tensors()[t].name.clone(), d, mappings[t][d])).collect(),
            });
        }
    }
    Completion { mappings, operators, conflicts, sweeps }
}

fn operator_mapping(
    graph: &Graph,
    op: usize,
    signature: &Signature,
    joined: &[Joined],
    mappings: &[DimsMapping],
) -> OperatorMapping {
    let operator = &graph.operators()[op];
    let computes = |dims: &Vec<Option<usize>>| dims.iter().map(|a| a.and_then(|a| joined[a].mesh_dim)).collect();
    let mut inputs: Vec<DimsMapping> = signature.operands.iter().map(computes).collect();
    let output = inputs.pop().unwrap_or_default();
    let summed = signature.axes.iter().zip(joined).filter(|(axis, _)| axis.role == Role::Summed);
    let partial: BTreeSet<usize> = summed.filter_map(|(_, j)| j.mesh_dim).collect();
    let differs = |&(i, used): &(usize, &DimsMapping)| mappings[operator.inputs[i]] != *used;
    let reshard_inputs = inputs.iter().enumerate().filter(differs).map(|(i, _)| i).collect();
    let reshard_output = mappings[operator.output] != output;
    OperatorMapping { inputs, output, partial: partial.into_iter().collect(), reshard_inputs, reshard_output }
}

#[cfg(test)]
mod tests;
