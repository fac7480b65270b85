//! The command line's front ends as functions: arguments in, text out. The binary parses, calls, prints.

mod plan;
mod validate;

pub use plan::{PlanArgs, PlanOutput, cluster, default_batch, model, plan};
pub use validate::{ValidateArgs, validate};

use crate::planner::PlanError;
use crate::schedule::ScheduleError;
use crate::validate::ValidateError;

/// A command that failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CliError {
    /// A file that cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// The path.
        path: String,
        /// The system's reason.
        why: String,
    },
    /// An argument with a value it cannot have.
    #[error("{argument}: {why}")]
    Argument {
        /// The argument.
        argument: &'static str,
        /// What is wrong, and what is possible.
        why: String,
    },
    /// No plan.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// No table.
    #[error(transparent)]
    Validate(#[from] ValidateError),
    /// A timeline that cannot be drawn.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// A result that JSON cannot hold.
    #[error("cannot write JSON: {0}")]
    Json(String),
}

/// The text of a file.
fn read(path: &str) -> Result<String, CliError> {
    std::fs::read_to_string(path).map_err(|e| CliError::File { path: path.into(), why: e.to_string() })
}

#[cfg(test)]
mod tests;
