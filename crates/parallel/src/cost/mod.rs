//! The cost model: seconds of a training step from shapes, a plan and a platform.
//!
//! Computation is a roofline with a saturating rate ([`layer`](self)), communication the classical collectives on wires with
//! latency and bandwidth ([`collective`]), the pipeline an exact replay of its schedule ([`crate::schedule`]). The seven
//! [`Constants`] have a physical meaning each and are calibrated on published measurements; every prediction against every
//! published row is printed by [`crate::validate`]. Equations: `docs/methods/adaptive-parallelism.md`.

mod check;
pub mod collective;
mod error;
mod layer;
mod plan;
mod platform;
mod step;

pub use check::check;
pub use collective::Group;
pub use error::CostError;
pub use layer::{PartTime, Seconds};
pub use plan::{Attention, Plan, Recompute};
pub use platform::{Constants, Platform};
pub use step::{Cut, Prediction, StepParts, Timing, even_cut, predict, predict_mixed};

pub(crate) use layer::VECTOR_OPS;
pub(crate) use step::{Rates, Tail, device_of, hop_seconds, stage_gather};
