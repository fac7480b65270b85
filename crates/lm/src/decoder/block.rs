//! One pre-norm block: attention and feed-forward, each added to the residual stream.

use super::config::{DecoderConfig, Positions};
use crate::cache::KvCache;
use candle_core::{D, Result, Tensor};
use chandlery_kernels::{self as ck, Mask, RopeStyle, RopeTable};
use chandlery_nn::{Dropout, Init, Linear, Mlp, Mode, Norm, Scope};
use std::sync::Arc;

/// Standard deviation of initial weights at width `d`: `sqrt(2 / (5 d))` (Nguyen and Salazar, arXiv 1910.05895). GPT-2's
/// fixed 0.02 is the same at width 1000 and leaves the attention of narrow models flat for long.
pub(super) fn initial_std(d: usize) -> f64 {
    (2.0 / (5.0 * d as f64)).sqrt()
}

/// Angles that all blocks share.
#[derive(Clone, Debug)]
pub(super) struct Rotary {
    table: Arc<RopeTable>,
    style: RopeStyle,
}

impl Rotary {
    pub fn new(cfg: &DecoderConfig) -> Result<Option<Self>> {
        match cfg.positions {
            Positions::Learned { .. } => Ok(None),
            Positions::Rotary { max, base, style } => {
                let table = Arc::new(RopeTable::new(cfg.d_head(), max, base)?);
                Ok(Some(Self { table, style: style.into() }))
            }
        }
    }
}

/// What all blocks of a pass share.
pub(super) struct Shared<'a> {
    pub mask: Mask,
    pub cache: Option<&'a KvCache>,
    pub dropout: Dropout,
}

#[derive(Clone, Debug)]
struct Attention {
    /// d to (heads + 2 kv_heads) d_head: queries, keys, values.
    qkv: Linear,
    /// heads d_head to d.
    out: Linear,
    heads: usize,
    kv_heads: usize,
    d_head: usize,
    rotary: Option<Rotary>,
}

impl Attention {
    fn new(cfg: &DecoderConfig, scope: &Scope, rotary: Option<Rotary>) -> Result<Self> {
        let (heads, kv_heads, d_head) = (cfg.n_heads, cfg.kv_heads(), cfg.d_head());
        let linear = |name: &str, i, o, std| {
            let bias = cfg.attention_bias.then_some(Init::ZEROS);
            Linear::with_init(&scope.pp(name), i, o, bias, Init::Normal { std })
        };
        let qkv = linear("qkv", cfg.d_model, (heads + 2 * kv_heads) * d_head, initial_std(cfg.d_model))?;
        let values = qkv.weight.detach().narrow(0, (heads + kv_heads) * d_head, kv_heads * d_head)?;
        let out = Linear {
            weight: scope
                .pp("out")
                .param_from("weight", (cfg.d_model, heads * d_head), |_, _, _| copying(&values, cfg))?,
            bias: cfg.attention_bias.then(|| scope.pp("out").param("bias", cfg.d_model, Init::ZEROS)).transpose()?,
        };
        Ok(Self { qkv, out, heads, kv_heads, d_head, rotary })
    }

    fn forward(&self, x: &Tensor, layer: usize, shared: &Shared<'_>) -> Result<Tensor> {
        let mut qkv = self.qkv.forward(x)?;
        if let Some(Rotary { table, style }) = &self.rotary {
            let first = shared.cache.map_or(0, KvCache::len);
            qkv = ck::rope_qkv(&qkv, self.heads, self.kv_heads, table, first, *style)?;
        }
        let seen = match shared.cache {
            Some(cache) => self.cached(&qkv, layer, cache, &shared.mask)?,
            None => ck::attention_qkv(&qkv, self.heads, self.kv_heads, &shared.mask, self.scale())?,
        };
        self.out.forward(&seen)
    }

    /// Attention to the cache's keys and values and these, which are stored there.
    fn cached(&self, qkv: &Tensor, layer: usize, cache: &KvCache, mask: &Mask) -> Result<Tensor> {
        let (b, t, _) = qkv.dims3()?;
        let (h, g, d) = (self.heads, self.kv_heads, self.d_head);
        // [b, t, n d] -> [b, n, t, d]
        let part = |first: usize, n: usize| {
            qkv.narrow(D::Minus1, first * d, n * d)?.reshape((b, t, n, d))?.transpose(1, 2)?.contiguous()
        };
        let (k, v) = cache.put(layer, &part(h, g)?, &part(h + g, g)?)?;
        let seen = ck::attention(&part(0, h)?, &k, &v, mask, self.scale())?;
        seen.transpose(1, 2)?.reshape((b, t, h * d)) // [b, h, t, d] -> [b, t, h d]
    }

    fn scale(&self) -> f64 {
        1.0 / (self.d_head as f64).sqrt()
    }
}

/// Start of the output projection: the transpose of the value projection, as small as [`residual_std`] asks for. A head
/// then begins by copying what it looks at, in all directions alike, where independent weights begin by scrambling it
/// (after the observation of Trockman and Kolter, arXiv 2305.09828, that trained products of the two lie near multiples
/// of the identity).
fn copying(values: &Tensor, cfg: &DecoderConfig) -> Result<Tensor> {
    let (heads, kv_heads, d_head) = (cfg.n_heads, cfg.kv_heads(), cfg.d_head());
    // [kv_heads d_head, d] -> [kv_heads, 1, d_head, d] -> [heads d_head, d] -> [d, heads d_head]
    let of_heads = values.reshape((kv_heads, 1, d_head, cfg.d_model))?.repeat((1, heads / kv_heads, 1, 1))?;
    let out = of_heads.reshape((heads * d_head, cfg.d_model))?.t()?.contiguous()?;
    out * (residual_std(cfg) / initial_std(cfg.d_model))
}

/// Projections into the residual stream start smaller, so that its variance does not grow with depth.
fn residual_std(cfg: &DecoderConfig) -> f64 {
    initial_std(cfg.d_model) / (2.0 * cfg.n_layers as f64).sqrt()
}

#[derive(Clone, Debug)]
enum Feed {
    Plain(Mlp),
    Gated { gate: Linear, up: Linear, down: Linear },
}

impl Feed {
    fn new(cfg: &DecoderConfig, scope: &Scope) -> Result<Self> {
        let (d, width, std) = (cfg.d_model, cfg.width(), initial_std(cfg.d_model));
        let linear = |name: &str, i, o, std| {
            Linear::with_init(&scope.pp(name), i, o, cfg.mlp_bias.then_some(Init::ZEROS), Init::Normal { std })
        };
        let (up, down) = (linear("up", d, width, std)?, linear("down", width, d, residual_std(cfg))?);
        Ok(match cfg.activation.pointwise() {
            Some(act) => Self::Plain(Mlp { up, down, act }),
            None => Self::Gated { gate: linear("gate", d, width, std)?, up, down },
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain(mlp) => mlp.forward(x),
            Self::Gated { gate, up, down } => down.forward(&ck::swiglu(&gate.forward(x)?, &up.forward(x)?)?),
        }
    }
}

/// Attention and feed-forward.
#[derive(Clone, Debug)]
pub(super) struct Block {
    attn_norm: Norm,
    attn: Attention,
    mlp_norm: Norm,
    mlp: Feed,
}

impl Block {
    pub fn new(cfg: &DecoderConfig, scope: &Scope, rotary: Option<Rotary>) -> Result<Self> {
        let norm = |name: &str| Norm::new(cfg.norm, &scope.pp(name), cfg.d_model, cfg.norm_eps);
        Ok(Self {
            attn_norm: norm("attn_norm")?,
            attn: Attention::new(cfg, &scope.pp("attn"), rotary)?,
            mlp_norm: norm("mlp_norm")?,
            mlp: Feed::new(cfg, &scope.pp("mlp"))?,
        })
    }

    /// [b, t, d] to [b, t, d].
    pub fn forward(&self, x: &Tensor, layer: usize, mode: Mode, shared: &Shared<'_>) -> Result<Tensor> {
        let mode = mode.named("block").at(layer);
        let seen = self.attn.forward(&self.attn_norm.forward(x)?, layer, shared).map_err(|e| e.context("attn"))?;
        let x = (x + shared.dropout.forward(&seen, mode.named("attn"))?)?;
        let fed = self.mlp.forward(&self.mlp_norm.forward(&x)?).map_err(|e| e.context("mlp"))?;
        &x + shared.dropout.forward(&fed, mode.named("mlp"))?
    }
}
