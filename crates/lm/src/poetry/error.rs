use std::path::{Path, PathBuf};

/// What can go wrong while poems are read, packed or asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PoetryError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// The system's own error.
        source: std::io::Error,
    },
    /// The file holds bytes that are not UTF-8.
    #[error("{}:{line}: not UTF-8{hint}", path.display())]
    NotUtf8 {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// A guess at the real encoding, or empty.
        hint: &'static str,
    },
    /// A line is not a JSON object.
    #[error("{}:{line}: expected one JSON object a line, got {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// What the parser said.
        problem: String,
    },
    /// A field of a poem is missing, unknown, empty or of the wrong type.
    #[error("{}:{line}: field `{field}`: {problem}", path.display())]
    Field {
        /// The file.
        path: PathBuf,
        /// Line, counted from 1.
        line: usize,
        /// The field's name.
        field: String,
        /// Expected and got.
        problem: String,
    },
    /// Two poems carry one id.
    #[error("{}:{line}: field `id`: `{id}` was already used on line {first}", path.display())]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// Line of the second poem, counted from 1.
        line: usize,
        /// The id.
        id: String,
        /// Line of the first poem.
        first: usize,
    },
    /// A file without a single poem.
    #[error("{}: holds no poems", path.display())]
    NoPoems {
        /// The file.
        path: PathBuf,
    },
    /// A folder that is not the unpacked npm package.
    #[error("{}: not the chinese-poetry package, expected {expected} inside (`cargo xtask fetch chinese-poetry` brings it)", path.display())]
    NotPackage {
        /// The folder.
        path: PathBuf,
        /// The files that are missing.
        expected: &'static str,
    },
    /// A file of the package is damaged.
    #[error("{}: record {record}: {problem}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// Position in the file's array, counted from 0, or `none` where the array itself is damaged.
        record: String,
        /// What the parser said.
        problem: String,
    },
    /// A name that stands for no form.
    #[error("`{0}` is no form, expected one of 五绝 七绝 五律 七律 词 古风")]
    UnknownForm(String),
}

impl PoetryError {
    pub(super) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::Io { path, source }
    }
}
