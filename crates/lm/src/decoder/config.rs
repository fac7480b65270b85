//! The shape of a decoder.

use crate::{Error, Result};
use chandlery_kernels::{Activation, RopeStyle};
use chandlery_nn::NormKind;
use serde::{Deserialize, Serialize};

/// How tokens know their place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Positions {
    /// One learned vector per position (Radford et al. 2019).
    Learned {
        /// Longest sequence, in tokens.
        max: usize,
    },
    /// Rotated queries and keys (Su et al., arXiv 2104.09864).
    Rotary {
        /// Longest sequence, in tokens.
        max: usize,
        /// Base of the angles' geometric series.
        #[serde(default = "rotary_base")]
        base: f64,
        /// Which two values are rotated together.
        #[serde(default)]
        style: RotaryStyle,
    },
}

fn rotary_base() -> f64 {
    10_000.0
}

impl Positions {
    /// Longest sequence, in tokens.
    pub fn max(&self) -> usize {
        match *self {
            Self::Learned { max } | Self::Rotary { max, .. } => max,
        }
    }
}

/// [`RopeStyle`] in a configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotaryStyle {
    /// `x[i]` with `x[i + d/2]`.
    #[default]
    Halves,
    /// `x[2i]` with `x[2i + 1]`.
    Interleaved,
}

impl From<RotaryStyle> for RopeStyle {
    fn from(style: RotaryStyle) -> Self {
        match style {
            RotaryStyle::Halves => Self::Halves,
            RotaryStyle::Interleaved => Self::Interleaved,
        }
    }
}

/// The nonlinearity of the feed-forward blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FeedForward {
    /// Two layers with GELU in the tanh form.
    #[default]
    GeluTanh,
    /// Two layers with GELU in the erf form.
    GeluErf,
    /// Three layers, gated by SiLU (Shazeer, arXiv 2002.05202).
    SwiGlu,
}

impl FeedForward {
    /// The nonlinearity of a block of two layers; `None` for the gated block.
    pub(crate) fn pointwise(self) -> Option<Activation> {
        match self {
            Self::GeluTanh => Some(Activation::GeluTanh),
            Self::GeluErf => Some(Activation::GeluErf),
            Self::SwiGlu => None,
        }
    }
}

/// The shape of a [`Decoder`](super::Decoder).
///
/// ```
/// # use chandlery_lm::decoder::DecoderConfig;
/// let json = r#"{"vocab": 100, "d_model": 32, "n_layers": 2, "n_heads": 4, "positions": {"learned": {"max": 64}}}"#;
/// let cfg: DecoderConfig = serde_json::from_str(json).unwrap();
/// assert_eq!((cfg.kv_heads(), cfg.width()), (4, 128));
/// cfg.validate().unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecoderConfig {
    /// Number of tokens that can be predicted.
    pub vocab: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of query heads; `d_model / n_heads` is the width of a head.
    pub n_heads: usize,
    /// Number of key and value heads, a divisor of `n_heads`; all heads have their own without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub n_kv_heads: Option<usize>,
    /// Hidden width of the feed-forward blocks; `4 d_model` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn: Option<usize>,
    /// How tokens know their place, and the longest sequence.
    pub positions: Positions,
    /// Kind of normalisation.
    #[serde(default)]
    pub norm: NormKind,
    /// Added to the variance in the normalisation.
    #[serde(default = "eps")]
    pub norm_eps: f64,
    /// Nonlinearity of the feed-forward blocks.
    #[serde(default)]
    pub activation: FeedForward,
    /// Whether the head uses the token embeddings.
    #[serde(default)]
    pub tied: bool,
    /// Whether the attention's projections have biases.
    #[serde(default = "yes")]
    pub attention_bias: bool,
    /// Whether the feed-forward layers have biases.
    #[serde(default = "yes")]
    pub mlp_bias: bool,
    /// Whether the head has a bias.
    #[serde(default)]
    pub head_bias: bool,
    /// Dropout of the embeddings and of what each block adds, in [0, 1).
    #[serde(default)]
    pub dropout: f64,
    /// Of the query heads, how many of each block see the prompt only ([`Pass::prompt`](super::Pass::prompt)), as the
    /// decoder of an encoder-decoder model sees its source.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub prompt_heads: usize,
    /// Learnable input vectors beside the vocabulary: ids `vocab .. vocab + soft_rows`, never predicted.
    #[serde(default)]
    pub soft_rows: usize,
}

fn eps() -> f64 {
    1e-5
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn yes() -> bool {
    true
}

impl DecoderConfig {
    /// Number of key and value heads.
    pub fn kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Hidden width of the feed-forward blocks.
    pub fn width(&self) -> usize {
        self.ffn.unwrap_or(4 * self.d_model)
    }

    /// Width of a head.
    pub fn d_head(&self) -> usize {
        self.d_model / self.n_heads.max(1)
    }

    /// Longest sequence, in tokens.
    pub fn context(&self) -> usize {
        self.positions.max()
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// If one is out of its range or two do not fit; the message names it.
    pub fn validate(&self) -> Result<()> {
        self.check_sizes()?;
        self.check_heads()?;
        self.check_numbers()
    }

    fn check_sizes(&self) -> Result<()> {
        let sizes = [
            ("vocab", self.vocab),
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("n_heads", self.n_heads),
            ("n_kv_heads", self.kv_heads()),
            ("ffn", self.width()),
            ("positions.max", self.context()),
        ];
        // One parameter must stay below 2^31 values so that a wrong number cannot ask for all memory.
        let limits = |n: usize| (1..1 << 31).contains(&n);
        match sizes.iter().find(|(_, n)| !limits(*n)) {
            Some((field, n)) => Err(Error::config(*field, format!("expected 1 to 2^31, got {n}"))),
            None if self.soft_rows.saturating_add(self.vocab) >= 1 << 31 => {
                Err(Error::config("soft_rows", "too many rows"))
            }
            None => Ok(()),
        }
    }

    fn check_heads(&self) -> Result<()> {
        let (d, h, g) = (self.d_model, self.n_heads, self.kv_heads());
        if d % h != 0 {
            return Err(Error::config("n_heads", format!("must divide d_model = {d}, got {h}")));
        }
        if self.prompt_heads > h {
            return Err(Error::config(
                "prompt_heads",
                format!("expected at most n_heads = {h}, got {}", self.prompt_heads),
            ));
        }
        if h % g != 0 {
            return Err(Error::config("n_kv_heads", format!("must divide n_heads = {h}, got {g}")));
        }
        if matches!(self.positions, Positions::Rotary { .. }) && !self.d_head().is_multiple_of(2) {
            return Err(Error::config("n_heads", format!("rotary heads must be of even width, got {}", self.d_head())));
        }
        Ok(())
    }

    fn check_numbers(&self) -> Result<()> {
        if !(0.0..1.0).contains(&self.dropout) {
            return Err(Error::config("dropout", format!("expected 0 <= p < 1, got {}", self.dropout)));
        }
        if !(self.norm_eps > 0.0 && self.norm_eps < 1.0) {
            return Err(Error::config("norm_eps", format!("expected 0 < eps < 1, got {}", self.norm_eps)));
        }
        match self.positions {
            Positions::Rotary { base, .. } if !(base > 1.0 && base.is_finite()) => {
                Err(Error::config("positions.base", format!("expected a number above 1, got {base}")))
            }
            // A gigabyte of angles.
            Positions::Rotary { max, .. } if max.saturating_mul(self.d_head()) >= 1 << 28 => {
                Err(Error::config("positions.max", format!("{max} positions of width {} are too many", self.d_head())))
            }
            _ => Ok(()),
        }
    }
}
