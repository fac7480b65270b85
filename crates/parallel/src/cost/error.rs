//! Why a plan has no price.

use crate::schedule::ScheduleError;

/// A plan that cannot run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CostError {
    /// A degree does not divide what it splits.
    #[error("{whole_name} {whole} is not divisible by {part_name} {part}; the nearest that fits is {nearest}")]
    Indivisible {
        /// What is split.
        whole_name: &'static str,
        /// Its size.
        whole: u64,
        /// The degree.
        part_name: &'static str,
        /// Its value.
        part: u64,
        /// The nearest degree that divides.
        nearest: u64,
    },
    /// A degree or size outside its range.
    #[error("{what} is {got}; expected {expected}")]
    Range {
        /// The degree or size.
        what: &'static str,
        /// What was given.
        got: u64,
        /// What is possible.
        expected: String,
    },
    /// Two choices that exclude each other.
    #[error("{0}")]
    Contradiction(String),
    /// The pipeline cannot be scheduled.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
}
