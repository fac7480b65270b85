use std::path::{Path, PathBuf};

use super::Fingerprint;

/// What can go wrong with a tokenizer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The file system refused to read.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The file could not be written.
    #[error(transparent)]
    Write(Box<chandlery_nn::Error>),
    /// The file holds bytes that are not UTF-8.
    #[error("{}: not UTF-8 at byte {offset}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Position of the first wrong byte, counted from 0.
        offset: usize,
    },
    /// The file is cut off or no JSON, or not a tokenizer.
    #[error("{}: no tokenizer: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        problem: String,
    },
    /// A field of the file is wrong.
    #[error("{}: field `{field}`: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Its name, with the position for a list.
        field: String,
        /// Expected and got.
        problem: String,
    },
    /// Nothing to learn from.
    #[error("the training text holds {chars} characters, of which none occurs {min_count} times or more")]
    NothingToLearn {
        /// Characters read.
        chars: u64,
        /// Asked frequency.
        min_count: u64,
    },
    /// Fewer entries asked for than the fixed ones.
    #[error("a vocabulary of {got} entries was asked for, expected at least {least}")]
    VocabTooSmall {
        /// Asked for.
        got: usize,
        /// Specials and bytes.
        least: usize,
    },
    /// The tokenizers library failed.
    #[error("tokenizer: {0}")]
    Library(String),
    /// The tokenizer lacks a special token that the caller needs.
    #[error("the tokenizer has no special token {name}; add it with `SubwordTokenizer::with_specials`")]
    MissingSpecial {
        /// The token.
        name: String,
    },
    /// The model was trained with another tokenizer.
    #[error("{model} was trained with tokenizer {expected}, got {got}")]
    WrongTokenizer {
        /// The model or its file.
        model: String,
        /// The fingerprint stored with the model.
        expected: Fingerprint,
        /// The fingerprint of this tokenizer.
        got: Fingerprint,
    },
    /// The model has fewer entries than the tokenizer can produce.
    #[error("{model} has a vocabulary of {expected}, the tokenizer one of {got}")]
    VocabSize {
        /// The model or its file.
        model: String,
        /// The model's entries.
        expected: usize,
        /// The tokenizer's entries.
        got: usize,
    },
}

impl From<chandlery_nn::Error> for TokenizerError {
    fn from(e: chandlery_nn::Error) -> Self {
        Self::Write(Box::new(e))
    }
}

impl TokenizerError {
    pub(super) fn field(path: &Path, field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { path: path.to_owned(), field: field.into(), problem: problem.into() }
    }
}
