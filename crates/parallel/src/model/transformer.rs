//! Decoder transformers, dense or with experts: sizes and exact counts.

use super::error::{ModelError, divides, product, real, size, sum};
use serde::{Deserialize, Serialize};

/// Largest hidden size, vocabulary or sequence accepted (2^24); far above anything built.
pub const MAX_SIZE: u64 = 1 << 24;
/// Largest number of layers accepted.
pub const MAX_LAYERS: u64 = 100_000;

/// Shape of a decoder transformer; symbols as in `docs/notation.md`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transformer {
    /// L, number of layers.
    pub layers: u64,
    /// h, width of the residual stream.
    pub hidden: u64,
    /// f, inner width of the feed-forward part; 4h when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_hidden: Option<u64>,
    /// a, number of query heads; divides `hidden`.
    pub heads: u64,
    /// Key/value heads of grouped-query attention; `heads` when absent; divides `heads`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_heads: Option<u64>,
    /// s, tokens in a sequence.
    pub sequence: u64,
    /// V, entries of the vocabulary.
    pub vocabulary: u64,
    /// Three-matrix gated feed-forward (SwiGLU) instead of two matrices.
    #[serde(default)]
    pub gated: bool,
    /// The output layer shares the embedding's weights.
    #[serde(default = "yes")]
    pub tied_head: bool,
    /// Learned position vectors, `sequence` x `hidden`.
    #[serde(default = "yes")]
    pub learned_positions: bool,
    /// Biases in linear layers and norms.
    #[serde(default = "yes")]
    pub biases: bool,
    /// Mixture of experts in place of some feed-forward parts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
}

/// Mixture-of-experts feed-forward parts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experts {
    /// Number of experts in a layer that has them.
    pub count: u64,
    /// k, experts that each token visits.
    pub active: u64,
    /// Every n-th layer has experts (1 = all layers); the last of each n.
    #[serde(default = "one")]
    pub every: u64,
    /// Inner width of one expert; the dense width when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ffn_hidden: Option<u64>,
    /// Slots per expert over the even share (1.0 = exactly the even share).
    #[serde(default = "one_real")]
    pub capacity_factor: f64,
    /// Experts that every token visits besides the routed ones.
    #[serde(default)]
    pub shared: u64,
}

fn yes() -> bool {
    true
}

fn one() -> u64 {
    1
}

fn one_real() -> f64 {
    1.0
}

impl Transformer {
    /// f, inner width of the dense feed-forward part.
    pub fn ffn(&self) -> u64 {
        self.ffn_hidden.unwrap_or(self.hidden.saturating_mul(4))
    }

    /// Key/value heads.
    pub fn kv(&self) -> u64 {
        self.kv_heads.unwrap_or(self.heads)
    }

    /// Width of one head.
    pub fn head_dim(&self) -> u64 {
        self.hidden / self.heads.max(1)
    }

    /// Whether layer `index` (from 0) has experts.
    pub fn has_experts(&self, index: u64) -> bool {
        self.experts.as_ref().is_some_and(|e| (index + 1).is_multiple_of(e.every.max(1)))
    }

    /// Number of layers with experts.
    pub fn expert_layers(&self) -> u64 {
        self.experts.as_ref().map_or(0, |e| self.layers / e.every.max(1))
    }

    /// Inner width of one expert.
    pub fn expert_ffn(&self) -> u64 {
        self.experts.as_ref().and_then(|e| e.ffn_hidden).unwrap_or_else(|| self.ffn())
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Sizes of zero or beyond [`MAX_SIZE`]; heads that do not divide the width or the key/value heads; more active
    /// experts than there are; parameters beyond 64 bits.
    pub fn validate(&self, model: &str) -> Result<(), ModelError> {
        size(model, "gpt.layers", self.layers, MAX_LAYERS)?;
        for (field, value) in [
            ("gpt.hidden", self.hidden),
            ("gpt.ffn_hidden", self.ffn()),
            ("gpt.heads", self.heads),
            ("gpt.kv_heads", self.kv()),
            ("gpt.sequence", self.sequence),
            ("gpt.vocabulary", self.vocabulary),
        ] {
            size(model, field, value, MAX_SIZE)?;
        }
        divides(model, ("gpt.hidden", self.hidden), ("gpt.heads", self.heads))?;
        divides(model, ("gpt.heads", self.heads), ("gpt.kv_heads", self.kv()))?;
        if let Some(experts) = &self.experts {
            experts.validate(model, self.layers)?;
        }
        self.params(model).map(|_| ())
    }

    /// Parameters of attention in one layer: Q, K, V and output projections.
    pub fn attention_params(&self) -> u64 {
        let (h, kv) = (self.hidden, self.kv() * self.head_dim());
        let biases = if self.biases { 2 * h + 2 * kv } else { 0 };
        2 * h * h + 2 * h * kv + biases
    }

    /// Parameters of a feed-forward part of inner width `f`.
    pub fn ffn_params(&self, f: u64) -> u64 {
        let h = self.hidden;
        let up = if self.gated { 2 } else { 1 };
        let biases = if self.biases { up * f + h } else { 0 };
        (up + 1) * h * f + biases
    }

    /// Parameters of the two norms of a layer.
    pub fn norm_params(&self) -> u64 {
        2 * self.hidden * if self.biases { 2 } else { 1 }
    }

    /// Parameters of layer `index`, all experts and the router included.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn layer_params(&self, model: &str, index: u64) -> Result<u64, ModelError> {
        let rest = self.attention_params() + self.norm_params();
        let Some(experts) = self.experts.as_ref().filter(|_| self.has_experts(index)) else {
            return Ok(rest + self.ffn_params(self.ffn()));
        };
        let all = product(
            model,
            "parameters of the experts",
            &[experts.count + experts.shared, self.ffn_params(self.expert_ffn())],
        )?;
        sum(model, "parameters of a layer", &[rest, all, self.hidden * experts.count])
    }

    /// Parameters of embeddings (tokens, positions), the final norm and an untied output layer: (first, last).
    ///
    /// A pipeline keeps the first with its first stage and the last with its last; a tied output layer still needs a
    /// copy of the token table there, which is not counted.
    pub fn edge_params(&self) -> (u64, u64) {
        let table = self.vocabulary * self.hidden;
        let positions = if self.learned_positions { self.sequence * self.hidden } else { 0 };
        let norm = self.hidden * if self.biases { 2 } else { 1 };
        (table + positions, norm + if self.tied_head { 0 } else { table })
    }

    /// All parameters.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn params(&self, model: &str) -> Result<u64, ModelError> {
        let with = self.expert_layers();
        let dense = Transformer { experts: None, ..self.clone() }.layer_params(model, 0)?;
        let dense = product(model, "parameters", &[self.layers - with.min(self.layers), dense])?;
        let every = self.experts.as_ref().map_or(1, |e| e.every);
        let expert = if with == 0 { 0 } else { self.layer_params(model, every - 1)? };
        let (first, last) = self.edge_params();
        sum(model, "parameters", &[dense, product(model, "parameters", &[with, expert])?, first, last])
    }

    /// Forward flops of attention in one layer for `tokens` tokens: projections, scores, weighted sum
    /// (full square of scores; the causal half is not deducted, as the published figures do not).
    pub fn attention_flops(&self, tokens: f64) -> f64 {
        let (h, kv) = (self.hidden as f64, (self.kv() * self.head_dim()) as f64);
        2.0 * tokens * (2.0 * h * h + 2.0 * h * kv) + self.attention_core_flops(tokens)
    }

    /// Forward flops of scores and weighted sum alone, 4·tokens·s·h: what selective recomputation repeats.
    pub fn attention_core_flops(&self, tokens: f64) -> f64 {
        4.0 * tokens * self.sequence as f64 * self.hidden as f64
    }

    /// Forward flops of a feed-forward part of inner width `f` for `tokens` tokens.
    pub fn ffn_flops(&self, f: u64, tokens: f64) -> f64 {
        let matrices = if self.gated { 3.0 } else { 2.0 };
        2.0 * tokens * matrices * self.hidden as f64 * f as f64
    }

    /// Forward flops of layer `index` for `batch` sequences. Experts count the tokens routed to them times the
    /// capacity factor, since empty slots are computed too.
    pub fn layer_flops(&self, batch: f64, index: u64) -> f64 {
        let tokens = batch * self.sequence as f64;
        let attention = self.attention_flops(tokens);
        let Some(experts) = self.experts.as_ref().filter(|_| self.has_experts(index)) else {
            return attention + self.ffn_flops(self.ffn(), tokens);
        };
        let visits = experts.active as f64 * experts.capacity_factor + experts.shared as f64;
        let router = 2.0 * tokens * self.hidden as f64 * experts.count as f64;
        attention + router + visits * self.ffn_flops(self.expert_ffn(), tokens)
    }

    /// Forward flops of the output layer for `batch` sequences, 2·b·s·h·V.
    pub fn logits_flops(&self, batch: f64) -> f64 {
        2.0 * batch * self.sequence as f64 * self.hidden as f64 * self.vocabulary as f64
    }

    /// Forward flops of the whole network for `batch` sequences.
    pub fn forward_flops(&self, batch: f64) -> f64 {
        let with = self.expert_layers();
        let every = self.experts.as_ref().map_or(1, |e| e.every.max(1));
        let expert = if with == 0 { 0.0 } else { with as f64 * self.layer_flops(batch, every - 1) };
        let dense = Transformer { experts: None, ..self.clone() }.layer_flops(batch, 0);
        expert + (self.layers - with.min(self.layers)) as f64 * dense + self.logits_flops(batch)
    }
}

impl Experts {
    fn validate(&self, model: &str, layers: u64) -> Result<(), ModelError> {
        size(model, "gpt.experts.count", self.count, 1 << 20)?;
        size(model, "gpt.experts.active", self.active, self.count)?;
        size(model, "gpt.experts.every", self.every, layers)?;
        if let Some(f) = self.ffn_hidden {
            size(model, "gpt.experts.ffn_hidden", f, MAX_SIZE)?;
        }
        size(model, "gpt.experts.shared + 1", self.shared.saturating_add(1), 1 << 20)?;
        real(model, "gpt.experts.capacity_factor", self.capacity_factor, 0.1, 100.0)
    }
}
