//! What a GGUF file's metadata says about its model.

use super::config::Description;
use super::gguf::Gguf;
use super::names::{GGUF_GPT2, GGUF_LLAMA, Mapping};
use super::source::format;
use crate::Result;
use crate::decoder::{DecoderConfig, FeedForward, Positions, RotaryStyle};
use candle_core::quantized::gguf_file::Value;
use chandlery_nn::NormKind;

/// Reads the metadata of architecture gpt2 or llama.
pub(super) fn read(file: &Gguf) -> Result<Description> {
    let key = "general.architecture";
    let architecture = file.require(key, Value::to_string)?;
    let (config, names) = match architecture.as_str() {
        "gpt2" => (gpt2(file)?, GGUF_GPT2),
        "llama" => (llama(file)?, GGUF_LLAMA),
        other => return Err(file.wrong(key, &format!("expected gpt2 or llama, got {other}"))),
    };
    config.validate().map_err(|e| format(file.file(), format!("metadata {architecture}: {e}")))?;
    let id = |key: &str| file.value(key).and_then(|v| v.to_u32().ok());
    Ok(Description {
        config,
        mapping: Mapping { names, transposed: false },
        bos: id("tokenizer.ggml.bos_token_id"),
        eos: id("tokenizer.ggml.eos_token_id").into_iter().collect(),
    })
}

/// What both architectures have.
fn shape(file: &Gguf, architecture: &str, positions: Positions) -> Result<DecoderConfig> {
    let number = |key: &str| file.number(&format!("{architecture}.{key}"));
    let kv_heads = format!("{architecture}.attention.head_count_kv");
    Ok(DecoderConfig {
        vocab: file.strings("tokenizer.ggml.tokens")?.len(),
        d_model: number("embedding_length")?,
        n_layers: number("block_count")?,
        n_heads: number("attention.head_count")?,
        n_kv_heads: file.value(&kv_heads).is_some().then(|| file.number(&kv_heads)).transpose()?,
        ffn: Some(number("feed_forward_length")?),
        positions,
        norm: NormKind::Layer,
        norm_eps: 1e-5,
        activation: FeedForward::GeluTanh,
        tied: !file.has("output.weight"),
        attention_bias: true,
        mlp_bias: true,
        head_bias: false,
        dropout: 0.0,
        prompt_heads: 0,
        soft_rows: 0,
    })
}

fn gpt2(file: &Gguf) -> Result<DecoderConfig> {
    let positions = Positions::Learned { max: file.number("gpt2.context_length")? };
    let norm_eps = file.require("gpt2.attention.layer_norm_epsilon", Value::to_f32)?;
    Ok(DecoderConfig { norm_eps: norm_eps.into(), ..shape(file, "gpt2", positions)? })
}

fn llama(file: &Gguf) -> Result<DecoderConfig> {
    let base = match file.value("llama.rope.freq_base") {
        Some(_) => file.require("llama.rope.freq_base", Value::to_f32)?.into(),
        None => 10_000.0,
    };
    if let Some(kind) = file.value("llama.rope.scaling.type").and_then(|v| v.to_string().ok()).filter(|k| *k != "none")
    {
        return Err(file.wrong("llama.rope.scaling.type", &format!("{kind} is not supported")));
    }
    // Queries and keys are stored with their pairs side by side.
    let positions =
        Positions::Rotary { max: file.number("llama.context_length")?, base, style: RotaryStyle::Interleaved };
    let norm_eps = file.require("llama.attention.layer_norm_rms_epsilon", Value::to_f32)?;
    let config = DecoderConfig {
        norm: NormKind::Rms,
        norm_eps: norm_eps.into(),
        activation: FeedForward::SwiGlu,
        attention_bias: false,
        mlp_bias: false,
        ..shape(file, "llama", positions)?
    };
    let key = "llama.rope.dimension_count";
    match file.value(key).is_some().then(|| file.number(key)).transpose()? {
        Some(width) if width != config.d_head() => {
            Err(file.wrong(key, &format!("{width} of {} values of a head is not supported", config.d_head())))
        }
        _ => Ok(config),
    }
}
