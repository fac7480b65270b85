//! The tokenizer in a GGUF file's metadata, as a `tokenizer.json`.

use super::gguf::Gguf;
use crate::Result;
use candle_core::quantized::gguf_file::Value;
use serde_json::{Map, json};

/// `token_type` of control tokens.
const CONTROL: i32 = 3;

/// The text of a `tokenizer.json` that splits as the file's byte-level BPE does.
pub(super) fn tokenizer_json(file: &Gguf) -> Result<String> {
    let key = "tokenizer.ggml.model";
    let model = file.require(key, Value::to_string)?;
    if model != "gpt2" {
        return Err(file.wrong(key, &format!("expected gpt2 (byte-level BPE), got {model}")));
    }
    let tokens = file.strings("tokenizer.ggml.tokens")?;
    let vocab: Map<_, _> = tokens.iter().zip(0_u32..).map(|(token, id)| (token.to_string(), id.into())).collect();
    if vocab.len() != tokens.len() {
        return Err(file.wrong("tokenizer.ggml.tokens", "a token occurs twice"));
    }
    let json = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": specials(file, &tokens)?,
        "normalizer": null,
        "pre_tokenizer": pre_tokenizer(file)?,
        "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
            "vocab": vocab, "merges": merges(file)?,
        },
    });
    Ok(json.to_string())
}

fn merges(file: &Gguf) -> Result<Vec<[&str; 2]>> {
    let key = "tokenizer.ggml.merges";
    let mut pairs = Vec::new();
    for merge in file.strings(key)? {
        let Some((a, b)) = merge.split_once(' ') else { return Err(file.wrong(key, &format!("{merge:?} is no pair"))) };
        pairs.push([a, b]);
    }
    Ok(pairs)
}

fn specials(file: &Gguf, tokens: &[&str]) -> Result<Vec<serde_json::Value>> {
    let key = "tokenizer.ggml.token_type";
    if file.value(key).is_none() {
        return Ok(Vec::new());
    }
    let kinds = file.require(key, |v| v.to_vec()?.iter().map(Value::to_i32).collect::<Result<Vec<_>, _>>())?;
    if kinds.len() != tokens.len() {
        return Err(file.wrong(key, &format!("{} entries for {} tokens", kinds.len(), tokens.len())));
    }
    let control = tokens.iter().zip(kinds).enumerate().filter(|(_, (_, kind))| *kind == CONTROL);
    Ok(control
        .map(|(id, (token, _))| {
            json!({
                "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect())
}

fn pre_tokenizer(file: &Gguf) -> Result<serde_json::Value> {
    let key = "tokenizer.ggml.pre";
    let kind = match file.value(key) {
        Some(_) => file.require(key, Value::to_string)?.as_str(),
        None => "gpt-2",
    };
    let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    match kind {
        "gpt-2" | "default" => Ok(bytes),
        "smollm" => Ok(json!({
            "type": "Sequence",
            "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes],
        })),
        other => Err(file.wrong(key, &format!("expected gpt-2 or smollm, got {other}"))),
    }
}
