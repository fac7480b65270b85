//! Kinds of operators: which dimensions of their operands belong together, and what they cost.

use super::signature::{Signature, SignatureBuilder};
use super::{GraphError, axes};
use serde::Serialize;

/// A function of one tensor, element by element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum Pointwise {
    /// Gaussian error linear unit.
    Gelu,
    /// x times its logistic function.
    Silu,
    /// Rectifier.
    Relu,
    /// Rotary positions, applied within the last dimension's halves by table: counted as element-wise.
    Rotary,
}

/// What an operator computes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub enum OpKind {
    /// x `[.., m, k]` times w `[.., k, n]`; a two-dimensional w serves every batch entry.
    MatMul {
        /// The last two dimensions of x are exchanged first.
        transpose_x: bool,
        /// The last two dimensions of w are exchanged first.
        transpose_y: bool,
    },
    /// Sum of two tensors, aligned from the right; size 1 is repeated.
    Add,
    /// Product element by element, aligned from the right; size 1 is repeated.
    Mul,
    /// One function on each element.
    Pointwise(Pointwise),
    /// Normalised exponentials along one dimension (negative: from the end).
    Softmax {
        /// The dimension.
        axis: i64,
    },
    /// Normalisation over the last dimension; inputs x, scale and, possibly, bias.
    LayerNorm,
    /// Normalisation per channel (dimension 1) with a fixed scale and shift, `[c]` each.
    ChannelNorm,
    /// Sum along some dimensions (negative: from the end).
    ReduceSum {
        /// The dimensions.
        axes: Vec<i64>,
        /// They stay, with size 1.
        keepdim: bool,
    },
    /// Output dimension i is input dimension `perm[i]`.
    Transpose {
        /// The order.
        perm: Vec<usize>,
    },
    /// Rows of table `[v, h]` for each of ids `[..]`.
    Embedding,
    /// Inputs one after the other along a dimension (negative: from the end).
    Concat {
        /// The dimension.
        axis: i64,
    },
    /// The same elements in another shape.
    Reshape {
        /// The new shape.
        shape: Vec<u64>,
    },
    /// Cross entropy of logits `[.., v]` at targets `[..]`.
    CrossEntropy,
    /// Tokens `[b, s, h]` sorted to experts: `[experts, b, capacity, h]`.
    Dispatch {
        /// Number of experts.
        experts: u64,
        /// Slots per expert and batch entry.
        capacity: u64,
    },
    /// Experts' outputs `[e, b, c, h]` weighted and put back: `[b, s, h]`; the second input is the routing `[b, s, e]`.
    Combine,
    /// Images `[b, c, y, x]` with kernels `[o, c, k, k]`, padded so that the output is input / stride.
    Convolution {
        /// Stride in both directions.
        stride: u64,
    },
    /// Largest value in windows of `stride` x `stride` (0: mean over the whole image, `[b, c]`).
    Pool {
        /// Window and stride.
        stride: u64,
    },
    /// Bidirectional recurrent layer on `[b, t, i]` with all weights in one matrix `[i + h + 1, 8h]`; gives `[b, t, 2h]`.
    Recurrent,
    /// Products of every pair of the n vectors in `[b, n, d]`: `[b, n(n-1)/2]`.
    Interaction,
}

impl OpKind {
    /// Short name, as in graph files.
    pub fn name(&self) -> &'static str {
        match self {
            Self::MatMul { .. } => "matmul",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Pointwise(Pointwise::Gelu) => "gelu",
            Self::Pointwise(Pointwise::Silu) => "silu",
            Self::Pointwise(Pointwise::Relu) => "relu",
            Self::Pointwise(Pointwise::Rotary) => "rotary",
            Self::Softmax { .. } => "softmax",
            Self::LayerNorm => "layer_norm",
            Self::ChannelNorm => "channel_norm",
            Self::ReduceSum { .. } => "reduce_sum",
            Self::Transpose { .. } => "transpose",
            Self::Embedding => "embedding",
            Self::Concat { .. } => "concat",
            Self::Reshape { .. } => "reshape",
            Self::CrossEntropy => "cross_entropy",
            Self::Dispatch { .. } => "dispatch",
            Self::Combine => "combine",
            Self::Convolution { .. } => "convolution",
            Self::Pool { .. } => "pool",
            Self::Recurrent => "recurrent",
            Self::Interaction => "interaction",
        }
    }

    /// The axes that tie the operands' dimensions together, and the output's shape.
    ///
    /// # Errors
    /// `Operand` when number or shapes of the inputs do not fit; `operator` names it.
    pub fn signature(&self, operator: &str, inputs: &[&[u64]]) -> Result<Signature, GraphError> {
        let builder = SignatureBuilder::new(operator, self.name(), inputs);
        match self {
            Self::MatMul { transpose_x, transpose_y } => axes::matmul(builder, *transpose_x, *transpose_y),
            Self::Add | Self::Mul => axes::broadcast(builder),
            Self::Pointwise(_) => axes::pointwise(builder, None),
            Self::Softmax { axis } => axes::pointwise(builder, Some(*axis)),
            Self::LayerNorm => axes::layer_norm(builder),
            Self::ChannelNorm => axes::channel_norm(builder),
            Self::ReduceSum { axes, keepdim } => axes::reduce_sum(builder, axes, *keepdim),
            Self::Transpose { perm } => axes::transpose(builder, perm),
            Self::Embedding => axes::embedding(builder),
            Self::Concat { axis } => axes::concat(builder, *axis),
            Self::Reshape { shape } => axes::reshape(builder, shape),
            Self::CrossEntropy => axes::cross_entropy(builder),
            Self::Dispatch { experts, capacity } => axes::dispatch(builder, *experts, *capacity),
            Self::Combine => axes::combine(builder),
            Self::Convolution { stride } => axes::convolution(builder, *stride),
            Self::Pool { stride } => axes::pool(builder, *stride),
            Self::Recurrent => axes::recurrent(builder),
            Self::Interaction => axes::interaction(builder),
        }
    }

    /// Forward flops for whole operands of these shapes. Products count a multiplication and an addition; others count
    /// arithmetic per element, exponentials as one.
    pub fn flops(&self, inputs: &[&[u64]], output: &[u64]) -> f64 {
        let count = |shape: &[u64]| shape.iter().map(|&n| n as f64).product::<f64>();
        let dim = |i: usize, d: usize| inputs.get(i).and_then(|s| s.get(d)).copied().unwrap_or(1) as f64;
        let (first, out) = (inputs.first().map_or(0.0, |s| count(s)), count(output));
        match self {
            Self::MatMul { transpose_x, .. } => {
                let rank = inputs.first().map_or(0, |s| s.len());
                2.0 * out * dim(0, rank.saturating_sub(if *transpose_x { 2 } else { 1 }))
            }
            Self::Convolution { .. } => 2.0 * out * dim(1, 1) * dim(1, 2) * dim(1, 3),
            Self::Recurrent => 2.0 * dim(0, 0) * dim(0, 1) * inputs.get(1).map_or(0.0, |s| count(s)),
            Self::Interaction => 2.0 * out * dim(0, 2),
            Self::Add | Self::Mul | Self::ReduceSum { .. } | Self::Pool { .. } => first.max(out),
            Self::Pointwise(Pointwise::Relu) => out,
            Self::Pointwise(_) | Self::LayerNorm | Self::CrossEntropy => 8.0 * first,
            Self::Softmax { .. } => 5.0 * out,
            Self::ChannelNorm | Self::Combine => 2.0 * out,
            Self::Transpose { .. } | Self::Embedding | Self::Concat { .. } | Self::Reshape { .. } => 0.0,
            Self::Dispatch { .. } => 0.0,
        }
    }

    /// Whether the cost is that of a matrix product (runs on matrix units; its backward costs twice the forward).
    pub fn is_product(&self) -> bool {
        matches!(self, Self::MatMul { .. } | Self::Convolution { .. } | Self::Recurrent | Self::Interaction)
    }
}
