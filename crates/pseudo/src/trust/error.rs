//! What can be wrong with the numbers given.

/// Numbers that do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two lists that belong together differ in length.
    #[error("{what}: expected {expected}, got {got}")]
    Length {
        /// The list.
        what: &'static str,
        /// Entries expected.
        expected: usize,
        /// Entries found.
        got: usize,
    },
    /// A label that is no class.
    #[error("label {label} of example {row} is not one of {n_classes} classes")]
    Label {
        /// The example.
        row: usize,
        /// Its label.
        label: u32,
        /// Number of classes.
        n_classes: usize,
    },
}

impl Error {
    /// Fails unless `got` is `expected`.
    pub(crate) fn unless(what: &'static str, expected: usize, got: usize) -> Result<(), Self> {
        if expected == got { Ok(()) } else { Err(Self::Length { what, expected, got }) }
    }
}
