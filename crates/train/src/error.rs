//! Errors at the edge of this crate.

use std::path::PathBuf;

/// What can go wrong in a training run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor operation failed.
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
    /// A parameter file or store failed.
    #[error(transparent)]
    Store(Box<chandlery_nn::Error>),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A value of the configuration is out of range or a key is unknown.
    #[error("config: {key}: {what}")]
    Config {
        /// Dotted path of the key.
        key: String,
        /// What is wrong with it.
        what: String,
    },
    /// Parameters and parameter groups do not fit together.
    #[error("parameter {name}: {what}")]
    Parameter {
        /// Name of the parameter.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// A file of the run directory is cut short, changed, or of another run or program.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// Another process trains in this run directory.
    #[error("{path}: another process trains in this run directory")]
    Locked {
        /// The run directory.
        path: PathBuf,
    },
    /// A new run was asked for where one exists.
    #[error("{path} already holds a run; resume it or choose another folder")]
    Exists {
        /// The run directory.
        path: PathBuf,
    },
    /// A run was to be resumed where there is none.
    #[error("{path} holds no run to resume")]
    NoRun {
        /// The folder.
        path: PathBuf,
    },
    /// A run was to be resumed with another configuration or other data.
    #[error("the run was started differently: {}; resume with the same settings, or accept the change explicitly", .what.join("; "))]
    Changed {
        /// Each difference: key, old value, new value.
        what: Vec<String>,
    },
    /// A loss or gradient is NaN or infinite.
    #[error("step {step}, group {group}: {what} is {value}")]
    NotFinite {
        /// The step.
        step: u64,
        /// The parameter group.
        group: String,
        /// `loss` or `gradient norm`, with the parameter where one can be named.
        what: String,
        /// The value.
        value: f64,
    },
    /// A loss or gradient norm is far above its recent values.
    #[error("step {step}, group {group}: {what} {value} lies {z:.1} standard deviations above the recent mean")]
    Spike {
        /// The step.
        step: u64,
        /// The parameter group.
        group: String,
        /// `loss` or `gradient norm`.
        what: &'static str,
        /// The value.
        value: f64,
        /// Its z-score.
        z: f64,
    },
    /// Going back to a checkpoint did not help.
    #[error("step {step}: went back to a checkpoint {rewinds} times and failed again: {cause}")]
    TooManyRewinds {
        /// The step of the last failure.
        step: u64,
        /// How often the run went back.
        rewinds: u64,
        /// The last failure.
        cause: Box<Error>,
    },
    /// Parameters that are to be trained received no gradient.
    #[error("no gradient reached {} in the first {steps} steps; freeze them or list them in reach.allow", .names.join(", "))]
    Unreached {
        /// Their names.
        names: Vec<String>,
        /// How many steps were watched.
        steps: u64,
    },
    /// The source failed or panicked while it made a batch.
    #[error("step {step}, micro-batch {micro}: making the batch failed: {what}")]
    Source {
        /// The step the batch was for.
        step: u64,
        /// The micro-batch within the step.
        micro: usize,
        /// The source's error or panic message.
        what: String,
    },
    /// The task used the loop wrongly.
    #[error("step {step}: {what}")]
    Misuse {
        /// The step.
        step: u64,
        /// What was wrong.
        what: String,
    },
    /// An error of the task's own.
    #[error("{0}")]
    Task(Box<dyn std::error::Error + Send + Sync>),
    /// Ctrl-C cannot be caught.
    #[error("cannot catch interrupts: {0}")]
    Interrupt(#[from] ctrlc::Error),
}

/// Results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<chandlery_nn::Error> for Error {
    fn from(e: chandlery_nn::Error) -> Self {
        Self::Store(Box::new(e))
    }
}

impl Error {
    /// Wraps an error of a task or source.
    pub fn task(e: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Task(e.into())
    }

    /// Wraps an I/O error with its file.
    pub fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { path, source }
    }

    pub(crate) fn config(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Config { key: key.into(), what: what.into() }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, what: impl ToString) -> Self {
        Self::Damaged { path: path.into(), what: what.to_string() }
    }
}
