//! Distributed graph: operators with shapes, flops, bytes and parameters, process meshes and placements.
//!
//! A [`Graph`] is captured from a [`crate::model::ModelSpec`] ([`capture`]) or read from JSON ([`GraphFile`]). It knows
//! no device: [`crate::completion`] decides how every tensor is split, [`crate::partition`] derives what each rank runs.

mod axes;
mod capture;
mod error;
mod file;
mod mesh;
mod operator;
mod region;
mod signature;

pub use capture::capture;
pub use error::GraphError;
pub use file::{AnnotatedGraph, GraphFile};
pub use mesh::{DimsMapping, Layout, MAX_RANKS, Mesh, Placement};
pub use operator::{OpKind, Pointwise};
pub use region::Region;
pub use signature::{Axis, Role, Signature};

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Where a tensor comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Origin {
    /// Fed from outside.
    Input,
    /// Trained; kept between steps.
    Parameter,
    /// Computed by an operator.
    Activation,
}

/// A tensor of the graph.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// Unique name.
    pub name: String,
    /// Whole shape, before any split.
    pub shape: Vec<u64>,
    /// Where it comes from.
    pub origin: Origin,
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// An operator: inputs and one output, as indices of tensors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Operator {
    /// Unique name.
    pub name: String,
    /// What it computes.
    pub kind: OpKind,
    /// Indices of its inputs.
    pub inputs: Vec<usize>,
    /// Index of its output.
    pub output: usize,
}

/// What operators cost together, forward only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Totals {
    /// Floating-point operations of matrix products.
    pub product_flops: f64,
    /// Other floating-point operations.
    pub other_flops: f64,
    /// Elements read and written, each operand once.
    pub elements_moved: f64,
    /// Trained elements.
    pub parameters: u64,
}

/// Tensors and operators in topological order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    tensors: Vec<Tensor>,
    operators: Vec<Operator>,
    #[serde(skip)]
    names: BTreeMap<String, usize>,
    #[serde(skip)]
    operator_names: BTreeSet<String>,
}

impl Graph {
    /// A graph of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// All tensors; positions are their indices.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// All operators in topological order.
    pub fn operators(&self) -> &[Operator] {
        &self.operators
    }

    /// Index of the tensor called `name`.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Adds a tensor that is fed from outside.
    ///
    /// # Errors
    /// `Duplicate` name; `Size` for a zero dimension or more than 2^53 elements.
    pub fn input(&mut self, name: &str, shape: &[u64]) -> Result<usize, GraphError> {
        self.tensor(name, shape, Origin::Input)
    }

    /// Adds a trained tensor.
    ///
    /// # Errors
    /// As [`Graph::input`].
    pub fn parameter(&mut self, name: &str, shape: &[u64]) -> Result<usize, GraphError> {
        self.tensor(name, shape, Origin::Parameter)
    }

    /// Adds an operator and its output, called `output`; gives the output's index.
    ///
    /// # Errors
    /// `Operand` when the inputs do not fit; `Duplicate` or `UnknownTensor`.
    pub fn apply(&mut self, name: &str, output: &str, kind: OpKind, inputs: &[usize]) -> Result<usize, GraphError> {
        if self.operator_names.contains(name) {
            return Err(GraphError::Duplicate { what: "operator", name: name.into() });
        }
        if let Some(missing) = inputs.iter().find(|&&i| i >= self.tensors.len()) {
            return Err(GraphError::UnknownTensor { operator: name.into(), tensor: format!("#{missing}") });
        }
        let shapes: Vec<&[u64]> = inputs.iter().map(|&i| self.tensors[i].shape.as_slice()).collect();
        let shape = kind.signature(name, &shapes)?.output;
        let output = self.tensor(output, &shape, Origin::Activation)?;
        self.operator_names.insert(name.into());
        self.operators.push(Operator { name: name.into(), kind, inputs: inputs.to_vec(), output });
        Ok(output)
    }

    fn tensor(&mut self, name: &str, shape: &[u64], origin: Origin) -> Result<usize, GraphError> {
        let fail = |problem| GraphError::Size { tensor: name.into(), shape: shape.to_vec(), problem };
        if shape.contains(&0) {
            return Err(fail("expected every dimension to be 1 or more"));
        }
        let elements = shape.iter().try_fold(1u64, |p, &n| p.checked_mul(n));
        if elements.is_none_or(|n| n > 1 << 53) {
            return Err(fail("expected at most 2^53 elements"));
        }
        if self.names.insert(name.into(), self.tensors.len()).is_some() {
            return Err(GraphError::Duplicate { what: "tensor", name: name.into() });
        }
        self.tensors.push(Tensor { name: name.into(), shape: shape.to_vec(), origin });
        Ok(self.tensors.len() - 1)
    }

    /// Axes of operator `index`.
    ///
    /// # Errors
    /// None for a graph built through [`Graph::apply`]; the shapes were checked there.
    pub fn signature(&self, index: usize) -> Result<Signature, GraphError> {
        let op = &self.operators[index];
        op.kind.signature(&op.name, &self.input_shapes(op))
    }

    fn input_shapes(&self, op: &Operator) -> Vec<&[u64]> {
        op.inputs.iter().map(|&i| self.tensors[i].shape.as_slice()).collect()
    }

    /// Forward flops of an operator on whole tensors.
    pub fn flops(&self, op: &Operator) -> f64 {
        op.kind.flops(&self.input_shapes(op), &self.tensors[op.output].shape)
    }

    /// Elements that an operator reads and writes, each operand once; an embedding reads only the rows it looks up.
    pub fn elements_moved(&self, op: &Operator) -> f64 {
        let output = self.tensors[op.output].elements() as f64;
        if op.kind == OpKind::Embedding {
            return 2.0 * output + self.tensors[op.inputs[0]].elements() as f64;
        }
        output + op.inputs.iter().map(|&i| self.tensors[i].elements() as f64).sum::<f64>()
    }

    /// Sums over all operators and parameters.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for op in &self.operators {
            let flops = self.flops(op);
            *(if op.kind.is_product() { &mut totals.product_flops } else { &mut totals.other_flops }) += flops;
            totals.elements_moved += self.elements_moved(op);
        }
        let trained = self.tensors.iter().filter(|t| t.origin == Origin::Parameter);
        totals.parameters = trained.map(Tensor::elements).fold(0, u64::saturating_add);
        totals
    }
}

#[cfg(test)]
mod tests;
