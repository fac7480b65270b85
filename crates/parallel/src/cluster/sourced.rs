//! A number that says where it comes from.

use serde::{Deserialize, Serialize};

/// How far a number can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confidence {
    /// The file gave a bare number.
    Unstated,
    /// A guess.
    Low,
    /// Plausible and consistent, source not at hand.
    Medium,
    /// Stated by the named source or by several consistent ones.
    High,
    /// Measured on the machine itself.
    Measured,
}

/// A number with its source; the unit is part of the field's name. In JSON either a bare number (confidence `unstated`) or
/// `{"value": 312, "source": "data sheet", "confidence": "high"}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "SourcedJson")]
pub struct Sourced {
    /// The number.
    pub value: f64,
    /// Where it was read or how it was measured.
    pub source: String,
    /// How far to trust it.
    pub confidence: Confidence,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SourcedJson {
    Bare(f64),
    Full(SourcedFull),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SourcedFull {
    value: f64,
    source: String,
    #[serde(default = "unstated")]
    confidence: Confidence,
}

fn unstated() -> Confidence {
    Confidence::Unstated
}

impl From<SourcedJson> for Sourced {
    fn from(json: SourcedJson) -> Self {
        match json {
            SourcedJson::Bare(value) => Self::new(value, "stated in the file without a source", Confidence::Unstated),
            SourcedJson::Full(f) => Self { value: f.value, source: f.source, confidence: f.confidence },
        }
    }
}

impl Sourced {
    /// A number with its source and confidence.
    pub fn new(value: f64, source: impl Into<String>, confidence: Confidence) -> Self {
        Self { value, source: source.into(), confidence }
    }

    /// A number measured on this machine.
    pub fn measured(value: f64, how: impl Into<String>) -> Self {
        Self::new(value, how, Confidence::Measured)
    }
}
