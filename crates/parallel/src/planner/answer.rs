//! A plan that explains itself.

use serde::Serialize;

use crate::cost::{Constants, Plan, Prediction};
use crate::memory::MemoryParts;

use super::placement::Placement;
use super::space::Limits;

/// The answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Model.
    pub model: String,
    /// Parameters of the model.
    pub params: u64,
    /// Tokens of a sequence.
    pub sequence: u64,
    /// Cluster.
    pub cluster: String,
    /// Device type of each pipeline stage; one entry where all are alike.
    pub devices: Vec<String>,
    /// Devices of a machine (of the first type).
    pub machine: u32,
    /// What was asked.
    pub limits: Limits,
    /// The plan.
    pub plan: Plan,
    /// Layers of each virtual stage.
    pub cut: Vec<u32>,
    /// Predicted step.
    pub prediction: Prediction,
    /// Memory of each pipeline device.
    pub memory: Vec<MemoryParts>,
    /// Usable bytes of each pipeline device; one entry where all are alike.
    pub usable: Vec<f64>,
    /// Model flops (forward and backward, nothing twice) over peak.
    pub utilization: f64,
    /// What the search did and proved.
    pub search: Search,
    /// What binds.
    pub binding: String,
    /// Nearest rejected plans.
    pub alternatives: Vec<Alternative>,
    /// Percent change of the step for one percent change of a constant.
    pub sensitivity: Vec<Sensitivity>,
    /// Which rank runs where; absent above the size that is placed.
    pub placement: Option<Placement>,
    /// Constants used.
    pub constants: Constants,
}

/// What the search did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Search {
    /// Plans priced.
    pub examined: u64,
    /// Plans that fit.
    pub feasible: u64,
    /// Plans replayed exactly.
    pub replayed: u64,
    /// No plan of the space is faster than this, seconds.
    pub bound_s: f64,
    /// Step over bound minus one; 0 = proved best in the space.
    pub gap: f64,
}

/// The best plan with one choice made otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alternative {
    /// Which choice.
    pub choice: String,
    /// Its other value.
    pub value: String,
    /// The plan.
    pub plan: Plan,
    /// Its step, seconds; absent when it does not fit.
    pub step_s: Option<f64>,
    /// Why it was rejected.
    pub why: String,
}

/// How the step reacts to a constant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Sensitivity {
    /// The constant.
    pub constant: String,
    /// Its value.
    pub value: f64,
    /// d ln(step) / d ln(constant).
    pub elasticity: f64,
}

impl Answer {
    /// Tokens per second over all devices.
    pub fn tokens_per_second(&self) -> f64 {
        f64::from(self.limits.global_batch) * self.sequence as f64 / self.prediction.step_s
    }

    /// JSON, keys in the order of the fields.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}
