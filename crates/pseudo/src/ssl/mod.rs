//! Semi-supervised training: pseudo-labels, thresholds and weights of each method, mixing, losses.
//!
//! A [`Weighting`] says which pseudo-labels count; [`mix`] makes new images and labels of two; [`SemiSupervised`] puts
//! both into a step of [`chandlery_train::fit`]. [`SslConfig::named`] knows the published methods. How each equation of
//! PEPL is read stands in `docs/methods/pepl.md`.

mod adaptive;
mod batch;
mod config;
mod flexmatch;
mod freematch;
pub mod mix;
mod record;
mod softmatch;
mod targets;
mod task;
mod teacher;
#[cfg(test)]
mod tests;
mod threshold;
mod weighting;

pub use adaptive::{AdaptiveConfig, SelfAdaptive};
pub use batch::{Labelled, SslBatch, Unlabelled};
pub use config::{GuessMode, METHODS, MixView, PairMask, Pairs, PseudoLabels, SslConfig, TeacherConfig};
pub use flexmatch::{FlexMatch, FlexMatchConfig};
pub use freematch::{FreeMatch, FreeMatchConfig, fairness};
pub use record::{EpochSummary, MixAudit, Record};
pub use softmatch::{Align, SoftMatch, SoftMatchConfig};
pub use task::{GROUP, SemiSupervised};
pub use threshold::{Threshold, ThresholdConfig};
pub use weighting::{Observation, Verdict, Weighting, WeightingConfig};
