//! Graphs of the networks that a [`ModelSpec`] describes: the forward pass of one batch.

mod tables;
mod transformer;
mod vision;

use super::operator::{OpKind, Pointwise};
use super::{Graph, GraphError};
use crate::model::{ModelSpec, Network, size};

/// The forward pass of `batch` samples as a graph, down to the loss (transformer, ResNet, reader) or score.
///
/// Parameters are named like the layers they belong to, such as `layer3.ffn.up.weight`; the output of an operator is
/// called like the operator. Masks, dropout and the backward pass are not operators: masks and dropout move no
/// parameters, the backward pass follows from the forward one.
///
/// # Errors
/// `Model` for an impossible description, `Size` for tensors beyond 2^53 elements.
pub fn capture(spec: &ModelSpec, batch: u64) -> Result<Graph, GraphError> {
    spec.validate()?;
    size(&spec.name, "batch", batch, 1 << 24)?;
    let mut net = Net { graph: Graph::new() };
    match &spec.network {
        Network::Gpt(shape) => net.transformer(shape, batch)?,
        Network::Recommender(shape) => net.recommender(shape, batch)?,
        Network::Resnet(shape) => net.resnet(shape, batch)?,
        Network::Reader(shape) => net.reader(shape, batch)?,
    }
    Ok(net.graph)
}

/// A graph under construction.
struct Net {
    graph: Graph,
}

impl Net {
    fn op(&mut self, name: String, kind: OpKind, inputs: &[usize]) -> Result<usize, GraphError> {
        self.graph.apply(&name, &name, kind, inputs)
    }

    fn pointwise(&mut self, name: String, function: Pointwise, x: usize) -> Result<usize, GraphError> {
        self.op(name, OpKind::Pointwise(function), &[x])
    }

    /// x `[.., i]` times a weight `[i, o]`, plus a bias where there is one.
    fn linear(&mut self, name: &str, x: usize, io: (u64, u64), bias: bool) -> Result<usize, GraphError> {
        let w = self.graph.parameter(&format!("{name}.weight"), &[io.0, io.1])?;
        let y = self.op(name.into(), OpKind::MatMul { transpose_x: false, transpose_y: false }, &[x, w])?;
        if !bias {
            return Ok(y);
        }
        let b = self.graph.parameter(&format!("{name}.bias"), &[io.1])?;
        self.op(format!("{name}.biased"), OpKind::Add, &[y, b])
    }

    fn norm(&mut self, name: &str, x: usize, width: u64, bias: bool) -> Result<usize, GraphError> {
        let scale = self.graph.parameter(&format!("{name}.weight"), &[width])?;
        let mut inputs = vec![x, scale];
        if bias {
            inputs.push(self.graph.parameter(&format!("{name}.bias"), &[width])?);
        }
        self.op(name.into(), OpKind::LayerNorm, &inputs)
    }

    fn reshape(&mut self, name: String, x: usize, shape: &[u64]) -> Result<usize, GraphError> {
        self.op(name, OpKind::Reshape { shape: shape.to_vec() }, &[x])
    }
}
