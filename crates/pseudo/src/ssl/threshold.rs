//! Pseudo-label and FixMatch: one threshold for all.

use super::weighting::{Observation, Verdict, Weighting, indicator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Settings of a fixed threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ThresholdConfig {
    /// Confidence from which a prediction counts (tau).
    pub threshold: f64,
}

impl Default for ThresholdConfig {
    fn default() -> Self {
        Self { threshold: 0.95 }
    }
}

/// `w = 1[max q >= tau]` (FixMatch, arXiv 2001.07685, eq. 4; Lee 2013 for pseudo-labels).
#[derive(Clone, Copy, Debug)]
pub struct Threshold(ThresholdConfig);

impl Threshold {
    /// Has no state.
    pub fn new(config: ThresholdConfig) -> Self {
        Self(config)
    }
}

impl Weighting for Threshold {
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict {
        Verdict::new(&batch.guesses(), |_, _, confidence| indicator(confidence >= self.0.threshold))
    }

    fn save(&self) -> serde_json::Result<Value> {
        Ok(Value::Null)
    }

    fn load(&mut self, state: Value) -> serde_json::Result<()> {
        serde_json::from_value(state)
    }
}
