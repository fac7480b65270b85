//! Published names of parameters and ours.

use super::source::{Source, format, read_finite};
use crate::decoder::DecoderConfig;
use crate::{Error, Result};
use candle_core::Tensor;
use chandlery_nn::{Init, NormKind, ParamStore};
use std::collections::BTreeSet;

/// Our module and theirs; several of theirs are stacked. `#` stands for the layer.
type Names = &'static [(&'static str, &'static [&'static str])];

/// The hub's GPT-2; its linear layers are stored as [in, out].
pub(super) const GPT2: Names = &[
    ("embed", &["wte"]),
    ("positions", &["wpe"]),
    ("blocks.#.attn_norm", &["h.#.ln_1"]),
    ("blocks.#.attn.qkv", &["h.#.attn.c_attn"]),
    ("blocks.#.attn.out", &["h.#.attn.c_proj"]),
    ("blocks.#.mlp_norm", &["h.#.ln_2"]),
    ("blocks.#.mlp.up", &["h.#.mlp.c_fc"]),
    ("blocks.#.mlp.down", &["h.#.mlp.c_proj"]),
    ("norm", &["ln_f"]),
    ("head", &["lm_head"]),
];

/// The hub's Llama.
pub(super) const LLAMA: Names = &[
    ("embed", &["model.embed_tokens"]),
    ("blocks.#.attn_norm", &["model.layers.#.input_layernorm"]),
    (
        "blocks.#.attn.qkv",
        &["model.layers.#.self_attn.q_proj", "model.layers.#.self_attn.k_proj", "model.layers.#.self_attn.v_proj"],
    ),
    ("blocks.#.attn.out", &["model.layers.#.self_attn.o_proj"]),
    ("blocks.#.mlp_norm", &["model.layers.#.post_attention_layernorm"]),
    ("blocks.#.mlp.gate", &["model.layers.#.mlp.gate_proj"]),
    ("blocks.#.mlp.up", &["model.layers.#.mlp.up_proj"]),
    ("blocks.#.mlp.down", &["model.layers.#.mlp.down_proj"]),
    ("norm", &["model.norm"]),
    ("head", &["lm_head"]),
];

/// Llama in GGUF.
pub(super) const GGUF_LLAMA: Names = &[
    ("embed", &["token_embd"]),
    ("blocks.#.attn_norm", &["blk.#.attn_norm"]),
    ("blocks.#.attn.qkv", &["blk.#.attn_q", "blk.#.attn_k", "blk.#.attn_v"]),
    ("blocks.#.attn.out", &["blk.#.attn_output"]),
    ("blocks.#.mlp_norm", &["blk.#.ffn_norm"]),
    ("blocks.#.mlp.gate", &["blk.#.ffn_gate"]),
    ("blocks.#.mlp.up", &["blk.#.ffn_up"]),
    ("blocks.#.mlp.down", &["blk.#.ffn_down"]),
    ("norm", &["output_norm"]),
    ("head", &["output"]),
];

/// GPT-2 in GGUF.
pub(super) const GGUF_GPT2: Names = &[
    ("embed", &["token_embd"]),
    ("positions", &["position_embd"]),
    ("blocks.#.attn_norm", &["blk.#.attn_norm"]),
    ("blocks.#.attn.qkv", &["blk.#.attn_qkv"]),
    ("blocks.#.attn.out", &["blk.#.attn_output"]),
    ("blocks.#.mlp_norm", &["blk.#.ffn_norm"]),
    ("blocks.#.mlp.up", &["blk.#.ffn_up"]),
    ("blocks.#.mlp.down", &["blk.#.ffn_down"]),
    ("norm", &["output_norm"]),
    ("head", &["output"]),
];

/// Endings of tensors that are no parameters: masks and angles that can be computed.
const COMPUTED: [&str; 3] = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];

/// How a file's tensors become ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mapping {
    pub names: Names,
    /// Linear layers are stored as [in, out].
    pub transposed: bool,
}

impl Mapping {
    /// Fills `store` with every parameter of a model of shape `cfg`; whatever else the file holds is an error.
    pub fn load(&self, source: &dyn Source, cfg: &DecoderConfig, store: &ParamStore) -> Result<()> {
        let present: BTreeSet<&str> = source.names().into_iter().collect();
        let prefix =
            ["transformer."].into_iter().find(|p| present.iter().any(|name| name.starts_with(p))).unwrap_or("");
        let mut used: BTreeSet<String> = BTreeSet::new();
        for (ours, theirs) in self.parameters(cfg) {
            let theirs: Vec<String> = theirs.iter().map(|name| with_prefix(&present, prefix, name)).collect();
            if let Some(name) = theirs.iter().find(|name| !present.contains(name.as_str())) {
                return Err(format(source.path(name), format!("tensor {name}: missing")));
            }
            put(store, &ours, &self.stack(source, &ours, &theirs)?)?;
            used.extend(theirs);
        }
        let known = |name: &&str| {
            used.contains(*name)
                || COMPUTED.iter().any(|end| name.ends_with(end))
                || (cfg.tied && ["lm_head.weight", "output.weight"].contains(name))
        };
        match present.iter().find(|name| !known(name)) {
            Some(name) => Err(format(source.path(name), format!("tensor {name}: not part of this kind of model"))),
            None => Ok(()),
        }
    }

    /// Our parameters, each with the tensors it is stacked from; one at a time, because the number of layers is not to
    /// be trusted.
    fn parameters(&self, cfg: &DecoderConfig) -> impl Iterator<Item = (String, Vec<String>)> {
        let modules = self.names.iter().filter(|(ours, _)| !(cfg.tied && *ours == "head"));
        modules.flat_map(|&(ours, theirs)| {
            let layers = if ours.contains('#') { cfg.n_layers } else { 1 };
            let endings: &[&str] = if has_bias(cfg, ours) { &["weight", "bias"] } else { &["weight"] };
            (0..layers).flat_map(move |layer| {
                endings.iter().map(move |ending| {
                    let full = |name: &str| format!("{}.{ending}", name.replace('#', &layer.to_string()));
                    (full(ours), theirs.iter().map(|name| full(name)).collect())
                })
            })
        })
    }

    fn stack(&self, source: &dyn Source, ours: &str, theirs: &[String]) -> Result<Tensor> {
        let linear = ours.ends_with("weight") && (ours.contains(".attn.") || ours.contains(".mlp."));
        let read = |name: &String| {
            let t = read_finite(source, name)?;
            Ok(if self.transposed && linear { t.t()?.contiguous()? } else { t })
        };
        let parts = theirs.iter().map(read).collect::<Result<Vec<_>>>()?;
        match &parts[..] {
            [one] => Ok(one.clone()),
            many => {
                Tensor::cat(many, 0).map_err(|e| format(source.path(&theirs[0]), format!("{}: {e}", theirs.join(", "))))
            }
        }
    }
}

/// The hub's GPT-2 files have a prefix or not; the head never has.
fn with_prefix(present: &BTreeSet<&str>, prefix: &str, name: &str) -> String {
    let full = format!("{prefix}{name}");
    if present.contains(full.as_str()) { full } else { name.to_string() }
}

fn has_bias(cfg: &DecoderConfig, module: &str) -> bool {
    match module {
        "embed" | "positions" => false,
        "head" => cfg.head_bias,
        name if name.ends_with("norm") => cfg.norm == NormKind::Layer,
        name if name.contains(".attn.") => cfg.attention_bias,
        _ => cfg.mlp_bias,
    }
}

/// Makes a parameter with this value.
fn put(store: &ParamStore, name: &str, value: &Tensor) -> Result<()> {
    store.root().param(name, value.shape(), Init::ZEROS)?;
    let var = store.get(name).ok_or_else(|| Error::config(name, "parameter was not made"))?;
    Ok(var.set(&value.to_device(store.device())?.to_dtype(store.dtype())?)?)
}
