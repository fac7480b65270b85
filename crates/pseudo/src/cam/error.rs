//! Errors of activation maps, their measures and pictures.

use std::path::PathBuf;

/// What can go wrong between a model's activations and a picture of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sizes that do not belong together.
    #[error("{what}: expected {expected}, got {got}")]
    Shape {
        /// Which input.
        what: &'static str,
        /// What would have fitted.
        expected: String,
        /// What came.
        got: String,
    },
    /// A value that is not a finite number: no map is made of it.
    #[error("{what}: value {value} at {index} is not finite")]
    NonFinite {
        /// Which input or result.
        what: &'static str,
        /// Position in row-major order.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A setting out of its range.
    #[error("{what}: expected {expected}, got {got}")]
    Setting {
        /// Which setting.
        what: &'static str,
        /// Its range.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A method that needs what the caller did not give.
    #[error("{method} needs {what}")]
    Missing {
        /// The method's name.
        method: &'static str,
        /// What it needs.
        what: &'static str,
    },
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A file could not be written.
    #[error(transparent)]
    File(#[from] chandlery_nn::Error),
    /// A picture could not be read or encoded.
    #[error("{path}: {source}")]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the decoder or encoder said.
        source: image::ImageError,
    },
}

/// Results of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Refuses `got` where it is not `expected`.
pub(super) fn expect(what: &'static str, expected: &[usize], got: &[usize]) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Shape { what, expected: format!("{expected:?}"), got: format!("{got:?}") })
}
