//! A causal transformer of any size: pre-norm blocks, learned or rotary positions, layer or RMS norm, GELU or SwiGLU,
//! grouped queries, tied or untied head.
//!
//! Parameters: `embed.weight`, `positions.weight` (learned), `soft_prompts.weight` (where there are soft rows),
//! `blocks.N.{attn_norm,mlp_norm}.*`, `blocks.N.attn.{qkv,out}.*`, `blocks.N.mlp.{up,gate,down}.*`, `norm.*`, `head.*`.

mod block;
mod config;
mod pass;
#[cfg(test)]
mod tests;

pub use config::{DecoderConfig, FeedForward, Positions, RotaryStyle};
pub use pass::Pass;

use crate::cache::KvCache;
use block::{Block, Rotary, Shared, initial_std};
use candle_core::{DType, Device, Result, Tensor, bail};
use chandlery_kernels::{self as ck, CrossEntropy, Mask};
use chandlery_nn::{Dropout, Embedding, Init, Norm, Scope};

/// A decoder transformer.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use chandlery_kernels::CrossEntropy;
/// use chandlery_lm::decoder::{Decoder, DecoderConfig, Pass};
/// use chandlery_nn::ParamStore;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cfg: DecoderConfig = serde_json::from_str(
///     r#"{"vocab": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "positions": {"rotary": {"max": 32}}}"#,
/// )?;
/// let store = ParamStore::new(1, DType::F32, &Device::Cpu);
/// let model = Decoder::new(&cfg, &store.root())?;
/// let ids = Tensor::new(&[[1u32, 2, 3], [4, 5, 6]], &Device::Cpu)?; // [b, t]
/// let hidden = model.hidden(&ids, Pass::eval())?; // [b, t, d]
/// assert_eq!(model.logits(&hidden)?.dims(), [2, 3, 50]);
/// model.loss(&hidden, &ids, &CrossEntropy::default())?.backward()?;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Decoder {
    cfg: DecoderConfig,
    embed: Embedding,
    positions: Option<Embedding>,
    soft: Option<Embedding>,
    blocks: Vec<Block>,
    norm: Norm,
    /// [vocab, d]; the embeddings where tied.
    head: Tensor,
    head_bias: Option<Tensor>,
}

impl Decoder {
    /// A model on the parameters of `scope`, which are made where they do not exist: normal with deviation
    /// `sqrt(2 / (5 d_model))`, projections into the residual stream divided by `sqrt(2 n_layers)`.
    ///
    /// # Errors
    /// If the configuration is not valid or a parameter exists with another shape.
    pub fn new(cfg: &DecoderConfig, scope: &Scope) -> crate::Result<Self> {
        cfg.validate()?;
        let (d, init) = (cfg.d_model, Init::Normal { std: initial_std(cfg.d_model) });
        let table = |name: &str, rows: usize| Embedding::new(&scope.pp(name), rows, d, init);
        let embed = table("embed", cfg.vocab)?;
        let positions = match cfg.positions {
            Positions::Learned { max } => Some(table("positions", max)?),
            Positions::Rotary { .. } => None,
        };
        let soft = (cfg.soft_rows > 0).then(|| table("soft_prompts", cfg.soft_rows)).transpose()?;
        let rotary = Rotary::new(cfg)?;
        let block = |i: usize| Block::new(cfg, &scope.pp("blocks").pp(i), rotary.clone());
        let blocks = (0..cfg.n_layers).map(block).collect::<Result<Vec<_>>>()?;
        let norm = Norm::new(cfg.norm, &scope.pp("norm"), d, cfg.norm_eps)?;
        let head = if cfg.tied { embed.weight.clone() } else { table("head", cfg.vocab)?.weight };
        let bias = || scope.pp("head").param("bias", cfg.vocab, Init::ZEROS);
        let head_bias = cfg.head_bias.then(bias).transpose()?;
        Ok(Self { cfg: cfg.clone(), embed, positions, soft, blocks, norm, head, head_bias })
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.cfg
    }

    /// Type of the parameters.
    pub fn dtype(&self) -> DType {
        self.head.dtype()
    }

    /// Where the parameters are.
    pub fn device(&self) -> &Device {
        self.head.device()
    }

    /// States after the final norm, [b, t, d], of tokens `ids`, u32 [b, t].
    ///
    /// With a cache the tokens follow those in it; gradients then reach this pass's tokens only.
    ///
    /// # Errors
    /// If an id is not below `vocab + soft_rows`, the sequence is longer than the context, or an option does not fit.
    pub fn hidden(&self, ids: &Tensor, pass: Pass<'_>) -> Result<Tensor> {
        let (b, t) = ids.dims2().map_err(|e| e.context("decoder: ids must be [b, t]"))?;
        let Pass { mode, dropout, mut cache, .. } = pass;
        self.check_length(t, cache.as_deref())?;
        if let Some(cache) = cache.as_deref_mut() {
            if cache.batch() != b {
                bail!("decoder: {b} rows of tokens, but the cache has {}", cache.batch());
            }
            if pass.keys.is_some() || pass.segments.is_some() {
                bail!("decoder: with a cache, padding is given to the cache and rows are one segment");
            }
            cache.reserve(t)?;
        }
        let dropout = Dropout { p: dropout.unwrap_or(self.cfg.dropout) };
        let mut mask = mask(pass.keys, pass.segments, cache.as_deref(), t)?;
        mask.pairs = self.prompt_pairs(pass.prompt, cache.as_deref(), (b, t))?;
        let shared = Shared { mask, cache: cache.as_deref(), dropout };
        let mut x = dropout.forward(&self.embed(ids, pass.positions, shared.cache)?, mode.named("embed"))?;
        for (i, block) in self.blocks.iter().enumerate() {
            x = block.forward(&x, i, mode, &shared).map_err(|e| e.context(format!("block {i}")))?;
        }
        if let Some(cache) = cache {
            cache.advance(t);
        }
        self.norm.forward(&x)
    }

    /// Which keys each head may see, u8 [b, h, 1, s], where some see the prompt only.
    fn prompt_pairs(
        &self,
        prompt: Option<&Tensor>,
        cache: Option<&KvCache>,
        (b, t): (usize, usize),
    ) -> Result<Option<Tensor>> {
        let (h, n) = (self.cfg.n_heads, self.cfg.prompt_heads);
        if n == 0 {
            return Ok(None);
        }
        let prompt = match (cache, prompt) {
            (Some(cache), _) => cache.prompt(t, self.device())?.broadcast_as((b, cache.n_keys(t)))?,
            (None, Some(prompt)) => prompt.clone(),
            (None, None) => bail!("decoder: {n} heads see the prompt only, so the pass must say where it is"),
        };
        let s = prompt.dim(1)?;
        let of_prompt = prompt.reshape((b, 1, 1, s))?.broadcast_as((b, n, 1, s))?;
        let all = of_prompt.ones_like()?.narrow(1, 0, 1)?.broadcast_as((b, h - n, 1, s))?;
        Tensor::cat(&[all, of_prompt], 1)?.contiguous().map(Some)
    }

    fn check_length(&self, t: usize, cache: Option<&KvCache>) -> Result<()> {
        let (all, context) = (t + cache.map_or(0, KvCache::len), self.cfg.context());
        if all > context {
            bail!("decoder: a sequence of {all} tokens is longer than the model's context of {context}");
        }
        Ok(())
    }

    /// Vectors of tokens and soft prompts, plus those of learned positions: [b, t, d].
    fn embed(&self, ids: &Tensor, positions: Option<&Tensor>, cache: Option<&KvCache>) -> Result<Tensor> {
        let (b, t) = ids.dims2()?;
        let x = match &self.soft {
            None => self.embed.forward(ids)?,
            Some(soft) => self.embed_both(ids, soft)?,
        };
        let Some(table) = &self.positions else {
            if positions.is_some() {
                bail!("decoder: rotary positions are relative, none can be given");
            }
            return Ok(x);
        };
        let all = match (positions, cache) {
            (Some(positions), _) => positions.clone(),
            (None, Some(cache)) => Tensor::from_vec(cache.positions(t), (b, t), &Device::Cpu)?,
            (None, None) => {
                let all: Vec<u32> = (0..b).flat_map(|_| 0..t as u32).collect();
                Tensor::from_vec(all, (b, t), &Device::Cpu)?
            }
        };
        x + table.forward(&all).map_err(|e| e.context("decoder: positions"))?
    }

    /// Ids below `vocab` are tokens, those from there on soft prompts. Both tables are always part of the graph, so
    /// that a batch without soft prompts gives them a gradient of zero.
    fn embed_both(&self, ids: &Tensor, soft: &Embedding) -> Result<Tensor> {
        let (b, t) = ids.dims2()?;
        let vocab = Tensor::new(self.cfg.vocab as u32, ids.device())?.broadcast_as((b, t))?;
        let is_soft = ids.ge(&vocab)?;
        let tokens = is_soft.where_cond(&ids.zeros_like()?, ids)?;
        let rows = (ids.maximum(&vocab)? - &vocab)?;
        let (tokens, prompts) = (self.embed.forward(&tokens)?, soft.forward(&rows)?);
        is_soft.unsqueeze(2)?.broadcast_as(tokens.shape())?.where_cond(&prompts, &tokens)
    }

    /// Scores of the next token, [.., vocab], from states [.., d].
    ///
    /// # Errors
    /// If the width is not the model's.
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        ck::linear(hidden, &self.head, self.head_bias.as_ref())
    }

    /// Cross entropy of `targets` (u32 or i64 [b, t]) against the predictions of `hidden` [b, t, d]; never holds all
    /// logits. Targets are the *next* tokens: shift before the call.
    ///
    /// # Errors
    /// If shapes differ or a target is neither below `vocab` nor the ignored index.
    pub fn loss(&self, hidden: &Tensor, targets: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
        let (b, t, d) = hidden.dims3()?;
        if targets.dims() != [b, t] {
            bail!("decoder: targets must be [{b}, {t}], got {:?}", targets.dims());
        }
        let (x, targets) = (hidden.reshape((b * t, d))?, targets.reshape(b * t)?);
        ck::linear_cross_entropy(&x, &self.head, self.head_bias.as_ref(), &targets, options)
    }
}

/// Causal, without padding and other segments.
fn mask(keys: Option<&Tensor>, segments: Option<&Tensor>, cache: Option<&KvCache>, t: usize) -> Result<Mask> {
    let mut mask = Mask::causal();
    mask.keys = keys.cloned();
    mask.segments = segments.map(|s| (s.clone(), s.clone()));
    if let Some(cache) = cache {
        mask.causal = Some(cache.len());
        mask.keys = cache.visible(t)?;
    }
    Ok(mask)
}
