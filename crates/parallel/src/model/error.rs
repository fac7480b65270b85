//! What can be wrong with a description of a network.

/// A description that cannot be used; says what, expected, got and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The text is no TOML, lacks a field or has an unknown one.
    #[error("model description {place}: {message}")]
    Syntax {
        /// File or preset the text came from.
        place: String,
        /// The parser's message with line and column.
        message: String,
    },
    /// A number lies outside what the field can mean.
    #[error("model `{model}`, {field}: expected {expected}, got {got}")]
    Range {
        /// Name of the model.
        model: String,
        /// Path of the field, such as `gpt.layers`.
        field: String,
        /// The admitted values.
        expected: String,
        /// The value found.
        got: String,
    },
    /// One size must divide another and does not.
    #[error("model `{model}`: {whole_name} {whole} is not divisible by {part_name} {part}")]
    Indivisible {
        /// Name of the model.
        model: String,
        /// Field to be split, such as `gpt.hidden`.
        whole_name: String,
        /// Its value.
        whole: u64,
        /// Field that should divide it, such as `gpt.heads`.
        part_name: String,
        /// Its value.
        part: u64,
    },
    /// A count leaves the range of 64-bit integers.
    #[error("model `{model}`: {what} exceeds {limit}")]
    Overflow {
        /// Name of the model.
        model: String,
        /// The count, such as `parameters of a layer`.
        what: String,
        /// The range left.
        limit: &'static str,
    },
    /// No preset has this name.
    #[error("no model preset `{name}`; there are: {known}")]
    UnknownPreset {
        /// The name asked for.
        name: String,
        /// The names there are, separated by commas.
        known: String,
    },
}

/// A product of sizes, as an exact integer.
///
/// # Errors
/// `Overflow` beyond the range of `u64`.
pub(crate) fn product(model: &str, what: &str, factors: &[u64]) -> Result<u64, ModelError> {
    factors.iter().try_fold(1u64, |product, &f| product.checked_mul(f)).ok_or_else(|| overflow(model, what))
}

/// A sum of counts, as an exact integer.
///
/// # Errors
/// `Overflow` beyond the range of `u64`.
pub(crate) fn sum(model: &str, what: &str, terms: &[u64]) -> Result<u64, ModelError> {
    terms.iter().try_fold(0u64, |sum, &t| sum.checked_add(t)).ok_or_else(|| overflow(model, what))
}

fn overflow(model: &str, what: &str) -> ModelError {
    ModelError::Overflow { model: model.into(), what: what.into(), limit: "2^64 - 1" }
}

/// Checks that a size lies in `1..=limit`.
pub(crate) fn size(model: &str, field: &str, value: u64, limit: u64) -> Result<(), ModelError> {
    if (1..=limit).contains(&value) {
        return Ok(());
    }
    let expected = format!("a whole number from 1 to {limit}");
    Err(ModelError::Range { model: model.into(), field: field.into(), expected, got: value.to_string() })
}

/// Checks that a real number is finite and lies in `low..=high`.
pub(crate) fn real(model: &str, field: &str, value: f64, low: f64, high: f64) -> Result<(), ModelError> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    let expected = format!("a number from {low} to {high}");
    Err(ModelError::Range { model: model.into(), field: field.into(), expected, got: value.to_string() })
}

/// Checks that `part` divides `whole`; both are positive.
pub(crate) fn divides(model: &str, whole: (&str, u64), part: (&str, u64)) -> Result<(), ModelError> {
    if part.1 != 0 && whole.1.is_multiple_of(part.1) {
        return Ok(());
    }
    Err(ModelError::Indivisible {
        model: model.into(),
        whole_name: whole.0.into(),
        whole: whole.1,
        part_name: part.0.into(),
        part: part.1,
    })
}
