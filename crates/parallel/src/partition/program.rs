//! The program of one rank.

use super::{Action, Partition, Version};
use crate::graph::{Graph, OpKind, Origin, Region};
use crate::reshard::{Method, ReshardError, Step};
use serde::Serialize;

/// What one rank does at one point.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub enum Instruction {
    /// Computes its part of an operator.
    Compute {
        /// Name of the operator.
        operator: String,
        /// What it computes.
        kind: OpKind,
        /// Shapes of the parts of its inputs.
        inputs: Vec<Vec<u64>>,
        /// Shape of the part of its output.
        output: Vec<u64>,
        /// Floating-point operations on these parts.
        flops: f64,
    },
    /// Takes part in a collective.
    Collective {
        /// Name of the tensor.
        tensor: String,
        /// Which.
        method: Method,
        /// Ranks that take part, in the order of their pieces.
        group: Vec<usize>,
        /// Its part before and after.
        parts: (Region, Region),
    },
    /// Sends and receives single boxes.
    Messages {
        /// Name of the tensor.
        tensor: String,
        /// Receiver and box.
        sends: Vec<(usize, Region)>,
        /// Sender and box.
        receives: Vec<(usize, Region)>,
    },
    /// Takes a part of what it has, or zeros for a pending sum that another rank holds.
    Local {
        /// Name of the tensor.
        tensor: String,
        /// Its part after.
        part: Region,
    },
}

/// All that one rank does for one forward pass.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Program {
    /// The rank.
    pub rank: usize,
    /// In order.
    pub instructions: Vec<Instruction>,
    /// Trained elements that it keeps.
    pub parameters: u64,
}

impl Program {
    /// Forward floating-point operations of this rank.
    pub fn flops(&self) -> f64 {
        let flops =
            self.instructions.iter().map(|i| if let Instruction::Compute { flops, .. } = i { *flops } else { 0.0 });
        flops.sum()
    }
}

impl Partition {
    /// What `rank` does. `devices_per_node` decides which replica sends.
    ///
    /// # Errors
    /// `Layout` for zero devices per node.
    pub fn program(&self, graph: &Graph, rank: usize, devices_per_node: usize) -> Result<Program, ReshardError> {
        let mut instructions = Vec::new();
        for action in &self.actions {
            match action {
                Action::Compute { operator, inputs, output } => {
                    instructions.extend(self.compute(graph, rank, (*operator, inputs, *output)));
                }
                Action::Reshard { from, route, .. } => {
                    let tensor = &graph.tensors()[self.versions[*from].tensor];
                    for step in &route.steps {
                        instructions.extend(part_in_step(step, rank, &tensor.name, &tensor.shape, devices_per_node)?);
                    }
                }
            }
        }
        let kept = self.home.iter().enumerate().filter_map(|(tensor, home)| {
            let trained = graph.tensors()[tensor].origin == Origin::Parameter;
            home.filter(|_| trained).and_then(|home| self.part(graph, home, rank))
        });
        let parameters = kept.map(|region| region.elements()).sum();
        Ok(Program { rank, instructions, parameters })
    }

    /// The box of a version that `rank` holds, if it belongs to its mesh.
    pub fn part(&self, graph: &Graph, version: usize, rank: usize) -> Option<Region> {
        let Version { tensor, layout } = &self.versions[version];
        let position = layout.mesh.ranks().iter().position(|&r| r == rank)?;
        Some(layout.region(&graph.tensors()[*tensor].shape, position))
    }

    fn compute(
        &self,
        graph: &Graph,
        rank: usize,
        (operator, inputs, output): (usize, &[usize], usize),
    ) -> Option<Instruction> {
        let output = self.part(graph, output, rank)?.size;
        let parts: Option<Vec<Vec<u64>>> =
            inputs.iter().map(|&v| self.part(graph, v, rank).map(|region| region.size)).collect();
        let (inputs, operator) = (parts?, &graph.operators()[operator]);
        let shapes: Vec<&[u64]> = inputs.iter().map(Vec::as_slice).collect();
        let flops = operator.kind.flops(&shapes, &output);
        let (name, kind) = (operator.name.clone(), operator.kind.clone());
        Some(Instruction::Compute { operator: name, kind, inputs, output, flops })
    }
}

/// What `rank` does in one step of a redistribution, if anything.
fn part_in_step(
    step: &Step,
    rank: usize,
    tensor: &str,
    shape: &[u64],
    devices_per_node: usize,
) -> Result<Option<Instruction>, ReshardError> {
    let tensor = tensor.to_string();
    let position = |layout: &crate::graph::Layout| layout.mesh.ranks().iter().position(|&r| r == rank);
    let (before, after) = (position(&step.from), position(&step.to));
    if before.is_none() && after.is_none() {
        return Ok(None);
    }
    let region = |layout: &crate::graph::Layout, at: Option<usize>| at.map(|at| layout.region(shape, at));
    let parts = (region(&step.from, before), region(&step.to, after));
    let axis = match step.method {
        Method::AllGather(a) | Method::ReduceScatter(a) | Method::AllReduce(a) | Method::AllToAll(a) => Some(a),
        Method::Local | Method::PointToPoint => None,
    };
    Ok(match (axis, parts) {
        (Some(axis), (Some(before), Some(after))) => {
            let group = step.from.mesh.groups(axis).into_iter().find(|g| g.contains(&rank)).unwrap_or_default();
            Some(Instruction::Collective { tensor, method: step.method, group, parts: (before, after) })
        }
        (None, (_, Some(part))) if step.method == Method::Local => Some(Instruction::Local { tensor, part }),
        _ => {
            let moves = step.transfers(shape, devices_per_node)?.moves;
            let sends: Vec<_> = moves.iter().filter(|t| t.from == rank).map(|t| (t.to, t.region.clone())).collect();
            let receives: Vec<_> = moves.iter().filter(|t| t.to == rank).map(|t| (t.from, t.region.clone())).collect();
            let idle = sends.is_empty() && receives.is_empty();
            (!idle).then_some(Instruction::Messages { tensor, sends, receives })
        }
    })
}
