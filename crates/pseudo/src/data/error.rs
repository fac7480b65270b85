use std::path::{Path, PathBuf};

use crate::image::ImageError;

/// What can go wrong between a folder of data and a batch.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// An image of the data set.
    #[error("{name}: {source}")]
    Image {
        /// The item's name.
        name: String,
        /// What is wrong with it.
        source: ImageError,
    },
    /// A line of a text file.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// Expected and got.
        problem: String,
    },
    /// A whole file or folder that is not what it should be.
    #[error("{}: {problem}", path.display())]
    Layout {
        /// File or folder.
        path: PathBuf,
        /// Expected and got.
        problem: String,
    },
    /// Labels for files that are not there.
    #[error("{}: {missing} of {total} rows name files that do not exist, first {examples}", path.display())]
    Missing {
        /// The list.
        path: PathBuf,
        /// Rows without a file.
        missing: usize,
        /// All rows.
        total: usize,
        /// The first few names.
        examples: String,
    },
    /// A label that stands for no class.
    #[error("{name}: label {label}, expected one of {n_classes} classes")]
    Label {
        /// The item's name.
        name: String,
        /// The label.
        label: usize,
        /// Number of classes.
        n_classes: usize,
    },
    /// A split that this data set does not allow.
    #[error("split: {0}")]
    Split(String),
    /// One image in two folds that must not share any.
    #[error("{n} images come again in another fold, first {examples}; remove one copy of each, or set `duplicates`")]
    Duplicates {
        /// Groups of equal files.
        n: usize,
        /// The first few pairs.
        examples: String,
    },
    /// More damaged images than the policy takes.
    #[error("{bad} of {total} images cannot be used, first {examples}")]
    TooManyBad {
        /// Images that cannot be used.
        bad: usize,
        /// All images.
        total: usize,
        /// The first few, with reasons.
        examples: String,
    },
    /// An item that is not in the data set.
    #[error("item {item}: expected one of {len} items")]
    Item {
        /// The index asked for.
        item: usize,
        /// Number of items.
        len: usize,
    },
    /// A file could not be written whole.
    #[error(transparent)]
    Write(#[from] chandlery_nn::Error),
}

impl DataError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }

    pub(super) fn layout(path: &Path, problem: impl Into<String>) -> Self {
        Self::Layout { path: path.to_owned(), problem: problem.into() }
    }

    pub(super) fn line(path: &Path, line: usize, problem: impl Into<String>) -> Self {
        Self::Line { path: path.to_owned(), line, problem: problem.into() }
    }
}

/// The first few of `names` for a message.
pub(super) fn examples<T: std::fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 5;
    let mut names = names.into_iter();
    let shown: Vec<String> = names.by_ref().take(SHOWN).map(|n| n.to_string()).collect();
    let more = if names.next().is_some() { ", .." } else { "" };
    format!("{}{more}", shown.join(", "))
}
