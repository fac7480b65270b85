use crate::tokenizer::TokenizerError;

/// What can go wrong while attributes and text become samples.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The tokenizer refused or lacks a special token.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A tensor could not be made.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// There is no text to learn.
    #[error("the text is empty")]
    EmptyText,
    /// An attribute is given, but without a value.
    #[error("attribute `{name}` is empty; leave it out instead")]
    EmptyAttribute {
        /// Its name.
        name: String,
    },
    /// A genre that the configuration does not list.
    #[error("genre `{got}` is unknown, expected one of [{}]", known.join(", "))]
    UnknownGenre {
        /// The genre asked for.
        got: String,
        /// Those of the configuration.
        known: Vec<String>,
    },
    /// A field of the configuration is out of range.
    #[error("control config: `{field}`: {problem}")]
    Config {
        /// The field.
        field: &'static str,
        /// Expected and got.
        problem: String,
    },
    /// A sample does not fit the context.
    #[error("the sample has {prompt} prompt and {text} text tokens, expected at most {max_len} together")]
    TooLong {
        /// Tokens before the text, that of the start included.
        prompt: usize,
        /// Tokens of the text.
        text: usize,
        /// Longest sequence allowed.
        max_len: usize,
    },
    /// One sample is larger than what a batch or row may hold.
    #[error("sample {index} has {len} tokens, expected at most {limit}")]
    Oversized {
        /// Its position.
        index: usize,
        /// Its tokens.
        len: usize,
        /// The limit.
        limit: usize,
    },
    /// A batch of nothing.
    #[error("a batch needs at least one sample and one token in each")]
    EmptyBatch,
}

impl ControlError {
    pub(super) fn config(field: &'static str, problem: impl Into<String>) -> Self {
        Self::Config { field, problem: problem.into() }
    }
}
