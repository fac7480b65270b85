//! ReLU and ReLU6, alone and as the end of a larger operation.

use candle_core::{Result, Tensor};

/// What bounds a result from below and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)` (Sandler et al., arXiv 1801.04381).
    Relu6,
}

impl Clamp {
    /// As a composition of candle's operations; the slope at a bound is zero.
    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        let (inside, bounded) = match self {
            Self::Relu => (x.gt(0.0)?, x.relu()?),
            Self::Relu6 => ((x.gt(0.0)? * x.lt(6.0)?)?, x.clamp(0.0, 6.0)?),
        };
        inside.where_cond(x, &bounded.detach())
    }
}

/// `max(x, 0)`, any shape; slope 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    Clamp::Relu.composed(x)
}

/// `min(max(x, 0), 6)`, any shape; slope 0 at both bounds.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    Clamp::Relu6.composed(x)
}
