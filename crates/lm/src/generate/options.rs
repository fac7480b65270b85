//! How tokens are chosen.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of [`generate`](super::generate); the default samples from the model's own distribution.
///
/// The order is fixed: guidance, [`Hooks::shape`](super::Hooks::shape), penalties, [`Hooks::allowed`](super::Hooks::allowed), repeated n-grams, temperature,
/// `top_k`, `top_p`, `min_p`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// Logits are divided by it; 0 always takes the likeliest token.
    pub temperature: f64,
    /// Only this many of the likeliest tokens; 0 = all.
    pub top_k: usize,
    /// Only the likeliest tokens that together reach this probability (Holtzman et al., arXiv 1904.09751); 1 = all.
    pub top_p: f64,
    /// Only tokens at least this fraction as likely as the likeliest (arXiv 2407.01082); 0 = all.
    pub min_p: f64,
    /// Logits of tokens of prompt or text are divided by it where positive and multiplied where negative (Keskar et
    /// al., arXiv 1909.05858); 1 = off.
    pub repetition_penalty: f64,
    /// Taken off the logit of a token once for each time it was generated.
    pub frequency_penalty: f64,
    /// Taken off the logit of a token that was generated.
    pub presence_penalty: f64,
    /// No run of this many tokens occurs twice in prompt and text, unless nothing else is allowed; 0 = off.
    pub no_repeat_ngram: usize,
    /// `g` in `(1 + g) conditional - g unconditional` (Ho and Salimans, arXiv 2207.12598; on logits Sanchez et al.,
    /// arXiv 2306.17806); 0 = off.
    pub guidance: f64,
    /// Longest text, in tokens.
    pub max_tokens: usize,
    /// Tokens that end a text; they are kept as its last token.
    pub stop_tokens: Vec<u32>,
    /// Texts for each prompt.
    pub samples: usize,
    /// Seed of all draws.
    pub seed: u64,
    /// With learned positions: the position of every text's first token, before which the prompts end. For models that
    /// were trained so; without it a prompt starts at position 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text_at: Option<usize>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            no_repeat_ngram: 0,
            guidance: 0.0,
            max_tokens: 128,
            stop_tokens: Vec::new(),
            samples: 1,
            seed: 0,
            text_at: None,
        }
    }
}

impl Options {
    /// Always the likeliest token.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// If one is out of its range; the message names it.
    pub fn validate(&self) -> Result<()> {
        let any = f64::MIN..=f64::MAX;
        let numbers = [
            ("temperature", self.temperature, 0.0..=f64::MAX),
            ("top_p", self.top_p, f64::MIN_POSITIVE..=1.0),
            ("min_p", self.min_p, 0.0..=1.0),
            ("repetition_penalty", self.repetition_penalty, f64::MIN_POSITIVE..=f64::MAX),
            ("frequency_penalty", self.frequency_penalty, any.clone()),
            ("presence_penalty", self.presence_penalty, any.clone()),
            ("guidance", self.guidance, any),
        ];
        for (field, value, range) in numbers {
            if !range.contains(&value) {
                let (low, high) = (range.start(), range.end());
                return Err(Error::config(field, format!("expected {low:e} to {high:e}, got {value}")));
            }
        }
        for (field, value) in [("max_tokens", self.max_tokens), ("samples", self.samples)] {
            if value == 0 {
                return Err(Error::config(field, "expected at least 1, got 0"));
            }
        }
        Ok(())
    }
}
