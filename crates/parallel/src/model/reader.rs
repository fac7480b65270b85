//! Recurrent span readers: embedding, question and passage encoders, attention, pointer.

use super::error::{ModelError, size};
use super::transformer::MAX_SIZE;
use serde::{Deserialize, Serialize};

/// Shape of a bidirectional-attention reader.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reader {
    /// Entries of the vocabulary.
    pub vocabulary: u64,
    /// Width of a word vector.
    pub embedding: u64,
    /// Width of one direction of a recurrent layer.
    pub hidden: u64,
    /// Tokens of the question.
    pub question: u64,
    /// Tokens of all passages together.
    pub passage: u64,
    /// Recurrent layers over the fused passage.
    pub fusion_layers: u64,
}

impl Reader {
    /// Checks every field.
    ///
    /// # Errors
    /// Sizes of zero or too large.
    pub fn validate(&self, model: &str) -> Result<(), ModelError> {
        for (field, value) in [
            ("reader.vocabulary", self.vocabulary),
            ("reader.embedding", self.embedding),
            ("reader.hidden", self.hidden),
            ("reader.question", self.question),
            ("reader.passage", self.passage),
        ] {
            size(model, field, value, MAX_SIZE)?;
        }
        size(model, "reader.fusion_layers", self.fusion_layers, 1000)
    }

    /// Inputs of each bidirectional recurrent layer: encoder (shared by question and passage), then fusion layers.
    pub fn recurrent_inputs(&self) -> Vec<u64> {
        let first = [self.embedding, 8 * self.hidden];
        let rest = std::iter::repeat_n(2 * self.hidden, self.fusion_layers.saturating_sub(1) as usize);
        first.into_iter().chain(rest).collect()
    }

    /// Parameters of a bidirectional four-gate layer over `input` features.
    pub fn recurrent_params(&self, input: u64) -> u64 {
        8 * self.hidden * (input + self.hidden + 1)
    }

    /// All parameters: table, recurrent layers, attention scale (2h), two pointer vectors (2h each).
    pub fn params(&self) -> u64 {
        let recurrent: u64 = self.recurrent_inputs().iter().map(|&i| self.recurrent_params(i)).sum();
        self.vocabulary * self.embedding + recurrent + 6 * self.hidden
    }

    /// Forward flops for `batch` questions with their passages.
    pub fn forward_flops(&self, batch: f64) -> f64 {
        let (q, p, d) = (self.question as f64, self.passage as f64, 2.0 * self.hidden as f64);
        let tokens = |i: usize| if i == 0 { q + p } else { p };
        let recurrent: f64 = (self.recurrent_inputs().iter().enumerate())
            .map(|(i, &input)| 2.0 * tokens(i) * self.recurrent_params(input) as f64)
            .sum();
        batch * (recurrent + 8.0 * q * p * d + 4.0 * p * d)
    }
}
