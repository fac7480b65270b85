//! Errors at the edge of this crate.

use std::path::PathBuf;

/// What can go wrong around a language model; shapes inside a forward pass are `candle_core::Error`s.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// The parameter store or a file of parameters failed.
    #[error(transparent)]
    Params(#[from] chandlery_nn::Error),
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says, or is damaged.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The field and what is wrong with it.
        what: String,
    },
    /// A model could not be fetched.
    #[error("{model}, file {file:?}: {what}")]
    Hub {
        /// Owner and name.
        model: String,
        /// The file asked for.
        file: String,
        /// What went wrong.
        what: String,
    },
    /// A setting is out of its range.
    #[error("{field}: {what}")]
    Config {
        /// The setting, as a path into the configuration.
        field: String,
        /// What was found and what is allowed.
        what: String,
    },
    /// A prompt cannot be continued.
    #[error("prompt {index}: {what}")]
    Prompt {
        /// Its index in the call.
        index: usize,
        /// Why.
        what: String,
    },
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A setting out of its range.
    pub(crate) fn config(field: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { field: field.into(), what: what.into() }
    }
}
