//! Settings of the recipe.

use crate::Result;
use chandlery::lm::control::ControlConfig;
use chandlery::lm::decoder::{DecoderConfig, FeedForward, Positions};
use chandlery::lm::generate::Options;
use chandlery::train::FitConfig;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Everything that decides a run; written into its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PoetConfig {
    /// Always `poet`.
    pub recipe: String,
    /// Tokens of a training row, into which several poems are packed.
    pub row: usize,
    /// Which poems.
    pub data: DataConfig,
    /// Shape of the model.
    pub model: ModelConfig,
    /// How attributes are written and left out.
    pub control: ControlConfig,
    /// The training loop.
    pub fit: FitConfig,
    /// How text is drawn.
    pub sample: Options,
    /// How keywords are led to, beside the prompt; not at all without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lead: Option<Lead>,
    /// The evaluation.
    pub eval: EvalConfig,
}

/// Strength of [`Words`](chandlery::lm::generate::Words).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lead {
    /// Added to the logits of a keyword's next character at the start of a text.
    pub start: f64,
    /// What every further character adds to that.
    pub growth: f64,
    /// Taken from the logits of a keyword's characters once it stands.
    #[serde(default)]
    pub spent: f64,
}

/// Which poems.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A JSONL file of poems or the folder of the fetched package; the embedded poems without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// At most this many poems, evenly picked; 0 = all.
    pub limit: usize,
    /// Characters that occur less often are written as bytes.
    pub min_count: u64,
    /// At most this many keywords a poem; 0 = the catalogue's usual number.
    pub keywords: usize,
}

/// Shape of the model; the vocabulary comes from the data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// Width of the residual stream.
    pub d_model: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Number of heads.
    pub n_heads: usize,
    /// Of these, how many see the prompt only.
    #[serde(default)]
    pub prompt_heads: usize,
    /// Number of learned positions.
    pub context: usize,
    /// Whether the head uses the token embeddings.
    #[serde(default)]
    pub tied: bool,
    /// Dropout.
    #[serde(default)]
    pub dropout: f64,
}

/// The evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvalConfig {
    /// Requests per attribute.
    pub requests: usize,
    /// Requests per attribute in the evaluation that ends a training; 0 = as many as in every other.
    #[serde(default)]
    pub after_training: usize,
    /// Guidance of the guided arm.
    pub guidance: f64,
    /// Texts generated at a time.
    pub batch: usize,
}

impl EvalConfig {
    /// The evaluation that ends a training.
    pub fn first(&self) -> Self {
        let requests = if self.after_training == 0 { self.requests } else { self.after_training };
        Self { requests, ..self.clone() }
    }
}

impl PoetConfig {
    /// Checks every section.
    ///
    /// # Errors
    /// If a value is out of range; the message names its key.
    pub fn validate(&self) -> Result<()> {
        let positive = [
            ("row", self.row),
            ("eval.requests", self.eval.requests),
            ("eval.batch", self.eval.batch),
            ("model.context", self.model.context),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, value)| *value == 0) {
            return Err(format!("settings: {key}: expected at least 1, got 0").into());
        }
        if self.row > self.model.context {
            let (row, context) = (self.row, self.model.context);
            return Err(format!("settings: row: {row} is longer than model.context {context}").into());
        }
        let text_at = self.control.places.as_ref().map_or(0, |places| places.text);
        let (longest, context) = (self.sample.max_tokens, self.model.context);
        if text_at + longest > context {
            return Err(format!(
                "settings: control.places.text {text_at} and sample.max_tokens {longest} leave model.context {context}"
            )
            .into());
        }
        if let Some(lead) = self.lead
            && ![lead.start, lead.growth, lead.spent].iter().all(|v| v.is_finite())
        {
            return Err("settings: lead: expected finite numbers".into());
        }
        self.control.validate().map_err(|e| format!("settings: control: {e}"))?;
        self.fit.validate()?;
        self.sample.validate().map_err(|e| format!("settings: sample: {e}"))?;
        self.decoder(1).validate().map_err(|e| format!("settings: model: {e}").into())
    }

    /// The model's configuration for a vocabulary of `vocab` tokens.
    pub fn decoder(&self, vocab: usize) -> DecoderConfig {
        let m = &self.model;
        DecoderConfig {
            vocab,
            d_model: m.d_model,
            n_layers: m.n_layers,
            n_heads: m.n_heads,
            n_kv_heads: None,
            ffn: None,
            positions: Positions::Learned { max: m.context },
            norm: Default::default(),
            norm_eps: 1e-5,
            activation: FeedForward::GeluTanh,
            tied: m.tied,
            attention_bias: true,
            mlp_bias: true,
            head_bias: false,
            dropout: m.dropout,
            prompt_heads: m.prompt_heads,
            soft_rows: self.control.soft_rows(),
        }
    }
}
