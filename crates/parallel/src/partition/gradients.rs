//! The backward pass of a partition: over which mesh dimensions each gradient is a pending sum.
//!
//! The gradient of an operand sums over every axis of the operator that the operand itself does not carry. Where such an
//! axis is split, each rank holds a summand: batch axes make the gradients of weights pending over the data dimension (the
//! all-reduce of data parallelism), the output axis of a column-parallel product makes the gradient of its input pending over
//! the tensor dimension. Gradients from several consumers are added before the sum is resolved, once per tensor.

use crate::completion::Completion;
use crate::graph::{AnnotatedGraph, GraphError, Layout, Mesh, Origin};
use crate::reshard::{Links, ReshardError, Route, route};
use serde::Serialize;
use std::collections::BTreeSet;

/// A gradient whose sum must be resolved over some mesh dimensions.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Gradient {
    /// Index of the tensor.
    pub tensor: usize,
    /// Mesh dimensions over which its gradient is a pending sum, ascending.
    pub partial: Vec<usize>,
    /// How it is resolved into the tensor's own layout.
    pub route: Route,
}

/// Pending mesh dimensions of the gradient of every tensor, by index; empty where nothing is pending or nothing flows
/// (inputs from outside have no gradient).
///
/// # Errors
/// `Placement` when the completion belongs to another graph.
pub fn pending_gradients(input: &AnnotatedGraph, completion: &Completion) -> Result<Vec<Vec<usize>>, GraphError> {
    let graph = &input.graph;
    if completion.operators.len() != graph.operators().len() || completion.mappings.len() != graph.tensors().len() {
        return Err(GraphError::Placement {
            what: "operators".into(),
            expected: format!("{} mappings", graph.operators().len()),
            got: completion.operators.len().to_string(),
        });
    }
    let mut pending: Vec<BTreeSet<usize>> = vec![BTreeSet::new(); graph.tensors().len()];
    for (op, mapping) in graph.operators().iter().zip(&completion.operators) {
        let operands = mapping.inputs.iter().chain(std::iter::once(&mapping.output));
        let used: BTreeSet<usize> = operands.flat_map(|m| m.iter().flatten().copied()).collect();
        for (&tensor, own) in op.inputs.iter().zip(&mapping.inputs) {
            if graph.tensors()[tensor].origin != Origin::Input {
                pending[tensor].extend(used.iter().filter(|m| !own.contains(&Some(**m))));
            }
        }
    }
    for (pending, mapping) in pending.iter_mut().zip(&completion.mappings) {
        pending.retain(|m| !mapping.contains(&Some(*m)));
    }
    Ok(pending.into_iter().map(|p| p.into_iter().collect()).collect())
}

/// The gradients that need a reduction on `mesh`, in order of tensors, each with its cheapest route.
///
/// # Errors
/// As [`pending_gradients`]; `Links` for broken constants.
pub fn gradients(
    input: &AnnotatedGraph,
    completion: &Completion,
    mesh: &Mesh,
    links: &Links,
    item_bytes: f64,
) -> Result<Vec<Gradient>, ReshardError> {
    if mesh.shape() != input.mesh {
        return Err(ReshardError::Layout(GraphError::Placement {
            what: "a mesh".into(),
            expected: format!("shape {:?}", input.mesh),
            got: format!("{:?}", mesh.shape()),
        }));
    }
    let mut result: Vec<Gradient> = Vec::new();
    for (tensor, partial) in pending_gradients(input, completion)?.into_iter().enumerate() {
        if partial.is_empty() {
            continue;
        }
        let shape = &input.graph.tensors()[tensor].shape;
        let mapping = &completion.mappings[tensor];
        let alike = |g: &&Gradient| {
            g.partial == partial
                && completion.mappings[g.tensor] == *mapping
                && input.graph.tensors()[g.tensor].shape == *shape
        };
        let route = match result.iter().rev().take(64).find(alike) {
            Some(known) => known.route.clone(),
            None => {
                let from = Layout::from_mapping(mesh, mapping, &partial);
                route(shape, item_bytes, &from, &Layout::from_mapping(mesh, mapping, &[]), links)?
            }
        };
        result.push(Gradient { tensor, partial, route });
    }
    Ok(result)
}
