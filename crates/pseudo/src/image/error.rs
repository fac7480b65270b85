use std::path::{Path, PathBuf};

use super::Format;

/// What can go wrong between an image's bytes and a tensor.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// No byte at all.
    #[error("empty: expected an image, got 0 bytes")]
    Empty,
    /// The content is of no format that is read, whatever the name says.
    #[error("expected the content of a JPEG, PNG or WebP image, got bytes that begin {start}")]
    UnknownFormat {
        /// The first bytes in hexadecimal.
        start: String,
    },
    /// The content breaks its own format.
    #[error("damaged {format} image: {problem}")]
    Damaged {
        /// The format that the content begins as.
        format: Format,
        /// What the decoder said.
        problem: String,
    },
    /// The content ends too early.
    #[error("{format} image ends before its last pixel")]
    Truncated {
        /// The format that the content begins as.
        format: Format,
    },
    /// A sound image that is refused for its size, by its header and before any pixel is decoded.
    #[error("{width} x {height} pixels: expected a side of at least {min_side} and at most {max_pixels} pixels in all")]
    Size {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// The least side allowed.
        min_side: usize,
        /// The most pixels allowed.
        max_pixels: usize,
    },
    /// A file that is refused for its length, unread.
    #[error("{bytes} bytes: expected at most {max_bytes}")]
    Length {
        /// The file's length.
        bytes: u64,
        /// The longest allowed.
        max_bytes: u64,
    },
    /// A sound image with more than 8 bits a sample where the policy refuses them.
    #[error("{bits} bits a sample: expected 8 (`sixteen_bit = \"convert\"` reduces them)")]
    Depth {
        /// Bits a sample.
        bits: u8,
    },
    /// Pixels that do not fit their size.
    #[error("{what}: expected {expected} bytes, got {got}")]
    Shape {
        /// Which buffer.
        what: String,
        /// Bytes that the size asks for.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// A setting out of its range.
    #[error("`{setting}`: expected {expected}, got {got}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What is allowed.
        expected: &'static str,
        /// What was given.
        got: String,
    },
    /// A cache that is damaged or holds other images.
    #[error("{}: {problem}; remove the file to have it made again", path.display())]
    Cache {
        /// The file.
        path: PathBuf,
        /// Expected and got.
        problem: String,
    },
}

impl ImageError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    pub(super) fn damaged(format: Format, problem: impl std::fmt::Display) -> Self {
        Self::Damaged { format, problem: problem.to_string() }
    }
}
