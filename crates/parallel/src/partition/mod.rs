//! Partition: from a completed graph to the program that each rank runs.
//!
//! Operators compute with the mappings of [`crate::completion`]; where a tensor is laid out otherwise, or lives on another
//! mesh, a redistribution stands before; pending sums are resolved right behind their operator. Every version of a tensor
//! (tensor and layout) is made once and used by all that need it.

mod gradients;
mod program;

pub use gradients::{Gradient, gradients, pending_gradients};
pub use program::{Instruction, Program};

use crate::completion::Completion;
use crate::graph::{AnnotatedGraph, GraphError, Layout, Mesh};
use crate::reshard::{Links, ReshardError, Route, route};
use serde::Serialize;
use std::collections::HashMap;

/// A tensor in one layout.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Version {
    /// Index of the tensor.
    pub tensor: usize,
    /// How it is laid out.
    pub layout: Layout,
}

/// What happens, in order; each rank takes part where its mesh does.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub enum Action {
    /// An operator on the parts that each rank of its mesh holds.
    Compute {
        /// Index of the operator.
        operator: usize,
        /// Versions of its inputs.
        inputs: Vec<usize>,
        /// Version of its output.
        output: usize,
    },
    /// Another layout of the same tensor.
    Reshard {
        /// Version that there is.
        from: usize,
        /// Version that is made.
        to: usize,
        /// Steps.
        route: Route,
    },
}

/// The programs of all ranks in one description.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Partition {
    /// All versions of tensors; positions are their indices.
    pub versions: Vec<Version>,
    /// Version in which every tensor is kept, by index of tensor; none for tensors that nothing uses.
    pub home: Vec<Option<usize>>,
    /// Actions in order.
    pub actions: Vec<Action>,
}

/// What to partition for.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// Process meshes, all of the shape that the graph was annotated for; groups may overlap.
    pub meshes: &'a [Mesh],
    /// Mesh of every operator, such as from [`crate::completion::complete_meshes`].
    pub placed: &'a [usize],
    /// Links, to choose collectives.
    pub links: &'a Links,
    /// Bytes per element.
    pub item_bytes: f64,
}

/// Partitions a completed graph.
///
/// # Errors
/// `Layout` when meshes, their shapes or the operators' places do not fit the graph; `Links` for broken constants.
pub fn partition(
    input: &AnnotatedGraph,
    completion: &Completion,
    target: &Target<'_>,
) -> Result<Partition, ReshardError> {
    check(input, completion, target)?;
    let mut work = Work {
        input,
        completion,
        target,
        result: Partition { versions: Vec::new(), home: vec![None; input.graph.tensors().len()], actions: Vec::new() },
        known: HashMap::new(),
        routes: HashMap::new(),
    };
    for operator in 0..input.graph.operators().len() {
        work.operator(operator)?;
    }
    Ok(work.result)
}

fn check(input: &AnnotatedGraph, completion: &Completion, target: &Target<'_>) -> Result<(), GraphError> {
    let operators = input.graph.operators().len();
    let fail = |what: &str, expected: String, got: String| GraphError::Placement { what: what.into(), expected, got };
    if let Some(mesh) = target.meshes.iter().find(|mesh| mesh.shape() != input.mesh) {
        return Err(fail("a mesh", format!("shape {:?}", input.mesh), format!("{:?}", mesh.shape())));
    }
    if target.placed.len() != operators || completion.operators.len() != operators {
        let got = format!("{} places, {} mappings", target.placed.len(), completion.operators.len());
        return Err(fail("operators", format!("{operators} places and mappings"), got));
    }
    if let Some(mesh) = target.placed.iter().find(|&&mesh| mesh >= target.meshes.len()) {
        return Err(fail("an operator", format!("a mesh below {}", target.meshes.len()), mesh.to_string()));
    }
    Ok(())
}

struct Work<'a> {
    input: &'a AnnotatedGraph,
    completion: &'a Completion,
    target: &'a Target<'a>,
    result: Partition,
    known: HashMap<Version, usize>,
    routes: HashMap<(Vec<u64>, Layout, Layout), Route>,
}

impl Work<'_> {
    fn operator(&mut self, index: usize) -> Result<(), ReshardError> {
        let (input, completion, target) = (self.input, self.completion, self.target);
        let operator = &input.graph.operators()[index];
        let mapping = &completion.operators[index];
        let mesh = &target.meshes[target.placed[index]];
        let mut inputs = Vec::with_capacity(operator.inputs.len());
        for (&tensor, needed) in operator.inputs.iter().zip(&mapping.inputs) {
            let home = Layout::from_mapping(mesh, &completion.mappings[tensor], &[]);
            let home = match self.result.home[tensor] {
                Some(home) => home,
                None => self.keep(tensor, home),
            };
            inputs.push(self.reshard(home, Layout::from_mapping(mesh, needed, &[]))?);
        }
        let layout = Layout::from_mapping(mesh, &mapping.output, &mapping.partial);
        let output = self.version(Version { tensor: operator.output, layout });
        self.result.actions.push(Action::Compute { operator: index, inputs, output });
        let home = Layout::from_mapping(mesh, &completion.mappings[operator.output], &[]);
        let home = self.reshard(output, home)?;
        self.result.home[operator.output] = Some(home);
        Ok(())
    }

    fn keep(&mut self, tensor: usize, layout: Layout) -> usize {
        let version = self.version(Version { tensor, layout });
        self.result.home[tensor] = Some(version);
        version
    }

    fn version(&mut self, version: Version) -> usize {
        if let Some(&known) = self.known.get(&version) {
            return known;
        }
        self.known.insert(version.clone(), self.result.versions.len());
        self.result.versions.push(version);
        self.result.versions.len() - 1
    }

    /// The version of the same tensor in `layout`, made from `from` where it does not exist yet.
    fn reshard(&mut self, from: usize, layout: Layout) -> Result<usize, ReshardError> {
        let Version { tensor, layout: source } = self.result.versions[from].clone();
        let version = Version { tensor, layout };
        if let Some(&known) = self.known.get(&version) {
            return Ok(known);
        }
        let shape = &self.input.graph.tensors()[tensor].shape;
        let key = (shape.clone(), source, version.layout.clone());
        let found = match self.routes.get(&key) {
            Some(found) => found.clone(),
            None => route(shape, self.target.item_bytes, &key.1, &key.2, self.target.links)?,
        };
        self.routes.insert(key, found.clone());
        let to = self.version(version);
        self.result.actions.push(Action::Reshard { from, to, route: found });
        Ok(to)
    }
}

impl Partition {
    /// Predicted seconds of all redistributions, one after the other.
    pub fn reshard_seconds(&self) -> f64 {
        let seconds = self.actions.iter().map(|action| match action {
            Action::Reshard { route, .. } => route.seconds,
            Action::Compute { .. } => 0.0,
        });
        seconds.sum()
    }
}

#[cfg(test)]
mod tests;
