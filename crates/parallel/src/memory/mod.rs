//! Memory of each device, by part, in bytes.
//!
//! Activation forms after Korthikanti et al. (arXiv 2205.05198), states after Rajbhandari et al. (ZeRO). What the forms leave
//! out (allocator fragments, communication buffers, the framework's context) is the caller's reserve.

mod formula;
mod stage;

pub use formula::{activations_full, activations_none, activations_selective_parallel, in_flight, states_18_bytes};
pub(crate) use stage::{Activations, LayerWeights, Load};
pub use stage::{MemoryParts, StageWeights, stage_memory, stage_weights};
