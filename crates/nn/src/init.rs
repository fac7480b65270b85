//! Initial values.

use candle_core::{Device, Result, Shape, Tensor};
use chandlery_kernels::Key;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// One value everywhere.
    Const(f64),
    /// Normal around zero.
    Normal {
        /// Standard deviation.
        std: f64,
    },
    /// Normal around zero, redrawn outside two standard deviations.
    TruncatedNormal {
        /// Standard deviation before truncation.
        std: f64,
    },
    /// Uniform in `-bound..bound`.
    Uniform {
        /// Largest size.
        bound: f64,
    },
}

impl Init {
    /// Zeros.
    pub const ZEROS: Self = Self::Const(0.0);
    /// Ones.
    pub const ONES: Self = Self::Const(1.0);

    /// Uniform with bound `1 / sqrt(fan_in)`: PyTorch's default for linear layers.
    pub fn fan_in(fan_in: usize) -> Self {
        Self::Uniform { bound: 1.0 / (fan_in.max(1) as f64).sqrt() }
    }

    /// Normal with deviation `sqrt(2 / fan_in)` (He et al., arXiv 1502.01852).
    pub fn kaiming(fan_in: usize) -> Self {
        Self::Normal { std: (2.0 / fan_in.max(1) as f64).sqrt() }
    }

    /// Uniform with bound `sqrt(6 / (fan_in + fan_out))` (Glorot and Bengio 2010).
    pub fn xavier(fan_in: usize, fan_out: usize) -> Self {
        Self::Uniform { bound: (6.0 / (fan_in + fan_out).max(1) as f64).sqrt() }
    }

    /// The tensor, a pure function of `key` and `shape`.
    pub(crate) fn tensor(self, key: Key, shape: &Shape, device: &Device) -> Result<Tensor> {
        let value = |i: u64| match self {
            Self::Const(c) => c,
            Self::Normal { std } => std * key.normal(i),
            Self::TruncatedNormal { std } => std * truncated(key.at(i)),
            Self::Uniform { bound } => bound * (2.0 * key.uniform(i) - 1.0),
        };
        let values: Vec<f32> = (0..shape.elem_count() as u64).map(|i| value(i) as f32).collect();
        Tensor::from_vec(values, shape, device)
    }
}

/// A standard normal draw within two deviations.
fn truncated(key: Key) -> f64 {
    (0..).map(|i| key.normal(i)).find(|x| x.abs() <= 2.0).unwrap_or(0.0)
}
