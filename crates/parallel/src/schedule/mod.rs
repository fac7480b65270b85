//! Pipeline schedules and their exact replay.
//!
//! A schedule is the fixed order of forward, backward and weight-gradient operations on each device. [`order`] lists it,
//! [`replay`] starts every operation as soon as its device is free and its inputs have arrived, which gives the makespan,
//! the bubble, the micro-batches in flight and the whole timeline exactly, for even and uneven stages alike.
//!
//! Sources: GPipe (Huang et al. 2019), 1F1B and interleaved 1F1B (Narayanan et al. 2021), ZB-H1 (Qi et al. 2024), ZB-V
//! (Qi et al. 2024, "Pipeline parallelism with controllable memory"): here a greedy order within the memory of 1F1B.

mod closed;
mod order;
mod replay;
mod vee;

pub use closed::even_makespan;
pub use order::{MAX_OPERATIONS, order};
pub use replay::{Span, Timeline, replay};

use serde::{Deserialize, Serialize};

/// The schedules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Schedule {
    /// All forwards, then all backwards.
    #[serde(rename = "gpipe")]
    GPipe,
    /// One forward, one backward.
    #[serde(rename = "1f1b")]
    OneFOneB,
    /// 1F1B over several model chunks on each device.
    #[serde(rename = "interleaved")]
    Interleaved,
    /// Zero bubble H1: the weight gradient is split off and fills part of the bubble; memory of 1F1B.
    #[serde(rename = "zb-h1")]
    ZbH1,
    /// Zero bubble V: two chunks on each device, going down and up again; memory of 1F1B.
    #[serde(rename = "zbv")]
    ZbV,
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::GPipe => "gpipe",
            Self::OneFOneB => "1f1b",
            Self::Interleaved => "interleaved",
            Self::ZbH1 => "zb-h1",
            Self::ZbV => "zbv",
        })
    }
}

/// The parts of a micro-batch's work on a virtual stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Work {
    /// Forward.
    F,
    /// Gradient of the input only.
    B,
    /// Gradient of the weights only.
    W,
    /// Both gradients, fused; the input gradient leaves at its end.
    BW,
}

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// What is computed.
    pub work: Work,
    /// Virtual stage, 0..stages*chunks.
    pub stage: u32,
    /// Micro-batch.
    pub micro: u32,
}

/// A pipeline and the times of its parts. Any unit; the results come in the same one.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// The schedule.
    pub schedule: Schedule,
    /// p, devices in the pipeline.
    pub stages: u32,
    /// v, model chunks on each device.
    pub chunks: u32,
    /// m, micro-batches in a step.
    pub micro_batches: u32,
    /// Time of one forward, per virtual stage.
    pub forward: Vec<f64>,
    /// Time of one input gradient, per virtual stage.
    pub backward_input: Vec<f64>,
    /// Time of one weight gradient, per virtual stage.
    pub backward_weight: Vec<f64>,
    /// From the end of an operation to the moment another device can use its result.
    pub transfer: f64,
}

impl Pipeline {
    /// Device on which virtual stage `stage` lives: round robin, or down and up again for ZB-V.
    pub fn device_of(&self, stage: u32) -> u32 {
        match self.schedule {
            Schedule::ZbV if stage >= self.stages => 2 * self.stages - 1 - stage,
            Schedule::ZbV => stage,
            _ => stage % self.stages,
        }
    }

    /// Number of virtual stages.
    pub fn virtual_stages(&self) -> u32 {
        self.stages * self.chunks
    }

    /// Time of `operation`.
    pub fn time(&self, operation: Operation) -> f64 {
        let k = operation.stage as usize;
        match operation.work {
            Work::F => self.forward[k],
            Work::B => self.backward_input[k],
            Work::W => self.backward_weight[k],
            Work::BW => self.backward_input[k] + self.backward_weight[k],
        }
    }

    /// Checks sizes and times.
    ///
    /// # Errors
    /// Anything a schedule cannot be built from.
    pub fn check(&self) -> Result<(), ScheduleError> {
        let (p, v, m) = (self.stages, self.chunks, self.micro_batches);
        if p == 0 || v == 0 || m == 0 {
            return Err(ScheduleError::Shape(format!(
                "{p} stages, {v} chunks, {m} micro-batches: all must be positive"
            )));
        }
        let operations = 3 * u64::from(p) * u64::from(v) * u64::from(m);
        if operations > MAX_OPERATIONS {
            return Err(ScheduleError::Shape(format!(
                "{operations} operations; at most {MAX_OPERATIONS} are replayed"
            )));
        }
        let chunks = match self.schedule {
            Schedule::Interleaved => v,
            Schedule::ZbV => 2,
            _ => 1,
        };
        if v != chunks {
            return Err(ScheduleError::Shape(format!("{} runs {chunks} chunks on a device, not {v}", self.schedule)));
        }
        if self.schedule == Schedule::Interleaved && !m.is_multiple_of(p) {
            return Err(ScheduleError::Shape(format!("interleaving needs a multiple of {p} micro-batches, not {m}")));
        }
        self.check_times()
    }

    fn check_times(&self) -> Result<(), ScheduleError> {
        let n = self.virtual_stages() as usize;
        let parts = [&self.forward, &self.backward_input, &self.backward_weight];
        if parts.iter().any(|t| t.len() != n) {
            return Err(ScheduleError::Shape(format!("times must be given for each of {n} virtual stages")));
        }
        let bad = parts.iter().flat_map(|t| t.iter()).chain([&self.transfer]).find(|t| !t.is_finite() || **t < 0.0);
        bad.map_or(Ok(()), |&t| Err(ScheduleError::Time(t)))
    }
}

/// A schedule that cannot be built or run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// Sizes that do not go together.
    #[error("pipeline: {0}")]
    Shape(String),
    /// A negative, infinite or undefined time.
    #[error("pipeline: an operation takes {0}; expected a finite time of at least 0")]
    Time(f64),
    /// The order waits for itself.
    #[error("pipeline: device {device} waits for ever at its operation {position}")]
    Deadlock {
        /// Device that cannot go on.
        device: usize,
        /// Position in its order.
        position: usize,
    },
}

#[cfg(test)]
mod tests;
