//! `config.json` of a published model.

use super::names::{GPT2, LLAMA, Mapping};
use super::source::{format, io};
use crate::Result;
use crate::decoder::{DecoderConfig, FeedForward, Positions, RotaryStyle};
use chandlery_nn::NormKind;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// What a published model says about itself.
#[derive(Debug)]
pub(super) struct Description {
    pub config: DecoderConfig,
    pub mapping: Mapping,
    pub bos: Option<u32>,
    pub eos: Vec<u32>,
}

#[derive(Deserialize)]
struct Common {
    model_type: String,
    bos_token_id: Option<u32>,
    eos_token_id: Option<Ids>,
}

/// One id or several.
#[derive(Deserialize)]
#[serde(untagged)]
enum Ids {
    One(u32),
    Many(Vec<u32>),
}

/// Fields of the hub's GPT-2.
#[derive(Deserialize)]
struct Gpt2 {
    vocab_size: usize,
    n_embd: usize,
    n_layer: usize,
    n_head: usize,
    n_positions: usize,
    n_inner: Option<usize>,
    #[serde(default = "eps")]
    layer_norm_epsilon: f64,
    #[serde(default = "gelu_new")]
    activation_function: String,
    #[serde(default = "yes")]
    tie_word_embeddings: bool,
}

/// Fields of the hub's Llama.
#[derive(Deserialize)]
struct Llama {
    vocab_size: usize,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    #[serde(default = "rms_eps")]
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    rope_scaling: Option<Value>,
    rope_parameters: Option<Rope>,
    #[serde(default = "silu")]
    hidden_act: String,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
}

/// Where newer files keep the angles.
#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
}

fn eps() -> f64 {
    1e-5
}

fn rms_eps() -> f64 {
    1e-6
}

fn yes() -> bool {
    true
}

fn gelu_new() -> String {
    "gelu_new".into()
}

fn silu() -> String {
    "silu".into()
}

/// Reads a `config.json` of `model_type` gpt2 or llama.
pub(super) fn read(path: &Path) -> Result<Description> {
    let text = std::fs::read(path).map_err(io(path))?;
    let json: Value = serde_json::from_slice(&text).map_err(|e| format(path, e.to_string()))?;
    let common: Common = fields(path, &json)?;
    let (config, mapping) = match common.model_type.as_str() {
        "gpt2" => (gpt2(path, &fields(path, &json)?)?, Mapping { names: GPT2, transposed: true }),
        "llama" => (llama(path, &fields(path, &json)?)?, Mapping { names: LLAMA, transposed: false }),
        other => return Err(format(path, format!("model_type: expected gpt2 or llama, got {other}"))),
    };
    config.validate().map_err(|e| format(path, e.to_string()))?;
    let eos = match common.eos_token_id {
        None => Vec::new(),
        Some(Ids::One(id)) => vec![id],
        Some(Ids::Many(ids)) => ids,
    };
    Ok(Description { config, mapping, bos: common.bos_token_id, eos })
}

fn fields<T: for<'de> Deserialize<'de>>(path: &Path, json: &Value) -> Result<T> {
    T::deserialize(json).map_err(|e| format(path, e.to_string()))
}

fn gpt2(path: &Path, c: &Gpt2) -> Result<DecoderConfig> {
    let activation = match c.activation_function.as_str() {
        "gelu_new" | "gelu_pytorch_tanh" => FeedForward::GeluTanh,
        "gelu" => FeedForward::GeluErf,
        other => return Err(format(path, format!("activation_function: {other} is not supported"))),
    };
    Ok(DecoderConfig {
        vocab: c.vocab_size,
        d_model: c.n_embd,
        n_layers: c.n_layer,
        n_heads: c.n_head,
        n_kv_heads: None,
        ffn: c.n_inner,
        positions: Positions::Learned { max: c.n_positions },
        norm: NormKind::Layer,
        norm_eps: c.layer_norm_epsilon,
        activation,
        tied: c.tie_word_embeddings,
        attention_bias: true,
        mlp_bias: true,
        head_bias: false,
        dropout: 0.0,
        prompt_heads: 0,
        soft_rows: 0,
    })
}

fn llama(path: &Path, c: &Llama) -> Result<DecoderConfig> {
    let unsupported = |field: &str, what: String| Err(format(path, format!("{field}: {what} is not supported")));
    if c.hidden_act != "silu" {
        return unsupported("hidden_act", c.hidden_act.clone());
    }
    if let Some(scaling) = c.rope_scaling.as_ref().filter(|scaling| !scaling.is_null()) {
        return unsupported("rope_scaling", scaling.to_string());
    }
    let rope = c.rope_parameters.as_ref();
    if let Some(kind) = rope.and_then(|r| r.rope_type.clone()).filter(|kind| kind != "default") {
        return unsupported("rope_parameters.rope_type", kind);
    }
    if let Some(width) = c.head_dim.filter(|width| width.checked_mul(c.num_attention_heads) != Some(c.hidden_size)) {
        return unsupported("head_dim", format!("a width of {width} other than hidden_size / num_attention_heads"));
    }
    let base = c.rope_theta.or(rope.and_then(|r| r.rope_theta)).unwrap_or(10_000.0);
    Ok(DecoderConfig {
        vocab: c.vocab_size,
        d_model: c.hidden_size,
        n_layers: c.num_hidden_layers,
        n_heads: c.num_attention_heads,
        n_kv_heads: c.num_key_value_heads,
        ffn: Some(c.intermediate_size),
        positions: Positions::Rotary { max: c.max_position_embeddings, base, style: RotaryStyle::Halves },
        norm: NormKind::Rms,
        norm_eps: c.rms_norm_eps,
        activation: FeedForward::SwiGlu,
        tied: c.tie_word_embeddings,
        attention_bias: c.attention_bias,
        mlp_bias: c.mlp_bias,
        head_bias: false,
        dropout: 0.0,
        prompt_heads: 0,
        soft_rows: 0,
    })
}
