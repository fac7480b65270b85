//! Training or evaluation.

use chandlery_kernels::Key;

/// How a forward pass runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Deterministic: no dropout.
    Eval,
    /// With dropout, drawn from this key; derive it from seed and step so that a resumed run draws the same.
    Train(Key),
}

impl Mode {
    /// The mode for a named part of the model.
    pub fn named(self, name: &str) -> Self {
        match self {
            Self::Eval => Self::Eval,
            Self::Train(key) => Self::Train(key.named(name)),
        }
    }

    /// The mode for the `index`-th of many parts.
    pub fn at(self, index: usize) -> Self {
        match self {
            Self::Eval => Self::Eval,
            Self::Train(key) => Self::Train(key.at(index as u64)),
        }
    }
}
