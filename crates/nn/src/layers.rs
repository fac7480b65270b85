//! Layers.

use crate::{Init, Mode, Scope};
use candle_core::{Result, Tensor};
use chandlery_kernels::{self as ck, Activation};

/// `y = x W^T + b`; parameters `weight` [o, i] and `bias` `[o]`.
#[derive(Clone, Debug)]
pub struct Linear {
    /// [o, i].
    pub weight: Tensor,
    /// `[o]`.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// PyTorch's default start: uniform with bound `1 / sqrt(i)`.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn new(scope: &Scope, i: usize, o: usize, bias: bool) -> Result<Self> {
        Self::with_init(scope, i, o, bias.then_some(Init::fan_in(i)), Init::fan_in(i))
    }

    /// With given start values; without bias where `bias` is `None`.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn with_init(scope: &Scope, i: usize, o: usize, bias: Option<Init>, weight: Init) -> Result<Self> {
        let weight = scope.param("weight", (o, i), weight)?;
        let bias = bias.map(|init| scope.param("bias", o, init)).transpose()?;
        Ok(Self { weight, bias })
    }

    /// [.., i] to [.., o].
    ///
    /// # Errors
    /// If the last dimension is not `i`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ck::linear(x, &self.weight, self.bias.as_ref())
    }
}

/// Layer norm; parameters `weight` and `bias`, both `[d]`.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// Starts as plain normalisation.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn new(scope: &Scope, d: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.param("weight", d, Init::ONES)?, bias: scope.param("bias", d, Init::ZEROS)?, eps })
    }

    /// [.., d] to [.., d].
    ///
    /// # Errors
    /// If the last dimension is not `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ck::layer_norm(x, &self.weight, Some(&self.bias), self.eps)
    }
}

/// RMS norm; parameter `weight` `[d]`.
#[derive(Clone, Debug)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// Starts as plain normalisation.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn new(scope: &Scope, d: usize, eps: f64) -> Result<Self> {
        Ok(Self { weight: scope.param("weight", d, Init::ONES)?, eps })
    }

    /// [.., d] to [.., d].
    ///
    /// # Errors
    /// If the last dimension is not `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ck::rms_norm(x, &self.weight, self.eps)
    }
}

/// Which normalisation a model uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// [`LayerNorm`].
    #[default]
    Layer,
    /// [`RmsNorm`].
    Rms,
}

/// Either normalisation.
#[derive(Clone, Debug)]
pub enum Norm {
    /// Layer norm.
    Layer(LayerNorm),
    /// RMS norm.
    Rms(RmsNorm),
}

impl Norm {
    /// The norm of this kind.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn new(kind: NormKind, scope: &Scope, d: usize, eps: f64) -> Result<Self> {
        Ok(match kind {
            NormKind::Layer => Self::Layer(LayerNorm::new(scope, d, eps)?),
            NormKind::Rms => Self::Rms(RmsNorm::new(scope, d, eps)?),
        })
    }

    /// [.., d] to [.., d].
    ///
    /// # Errors
    /// If the last dimension is not `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(norm) => norm.forward(x),
        }
    }
}

/// Table of vectors; parameter `weight` [v, d].
#[derive(Clone, Debug)]
pub struct Embedding {
    /// [v, d].
    pub weight: Tensor,
}

impl Embedding {
    /// A table of `v` vectors of width `d`.
    ///
    /// # Errors
    /// If the parameter exists with another shape.
    pub fn new(scope: &Scope, v: usize, d: usize, init: Init) -> Result<Self> {
        Ok(Self { weight: scope.param("weight", (v, d), init)? })
    }

    /// Ids of any shape to [.., d].
    ///
    /// # Errors
    /// If an id is not below `v`.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        ck::embedding(ids, &self.weight)
    }
}

/// Dropout that is active in [`Mode::Train`] only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropout {
    /// Probability that a value is dropped.
    pub p: f64,
}

impl Dropout {
    /// Any shape.
    ///
    /// # Errors
    /// If `p` is not in [0, 1).
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train(key) if self.p > 0.0 => ck::dropout(x, self.p, key),
            _ => Ok(x.clone()),
        }
    }
}

/// Two linear layers with a nonlinearity between, as one node of the graph.
#[derive(Clone, Debug)]
pub struct Mlp {
    /// d to hidden.
    pub up: Linear,
    /// Hidden to d.
    pub down: Linear,
    /// Between them.
    pub act: Activation,
}

impl Mlp {
    /// [.., d] to [.., d].
    ///
    /// # Errors
    /// If the last dimension is not `d`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (up, down) = (&self.up, &self.down);
        ck::mlp(x, &up.weight, up.bias.as_ref(), &down.weight, down.bias.as_ref(), self.act)
    }
}
