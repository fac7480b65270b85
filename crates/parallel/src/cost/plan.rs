//! How a model is spread over devices.

use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// What is computed again in the backward pass instead of being kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Recompute {
    /// Nothing.
    None,
    /// The attention core (scores, softmax, weighted sum).
    Selective,
    /// Every layer from its input.
    Full,
}

/// How the attention core is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Attention {
    /// Scores written to memory, fused softmax kernels.
    Unfused,
    /// Tiled kernel that never writes the scores (FlashAttention).
    Flash,
}

/// A spread of one training step over devices. Degrees multiply to the number of devices: `data * tensor * pipeline *
/// context`; `expert` divides `data * context`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// d, copies of the model that see different sequences.
    pub data: u32,
    /// t, devices that split every layer's matrices.
    pub tensor: u32,
    /// p, stages of the pipeline.
    pub pipeline: u32,
    /// v, model chunks on each device (interleaving; 2 for ZB-V).
    pub chunks: u32,
    /// Devices that split each sequence (ring attention).
    pub context: u32,
    /// Devices that split the experts.
    pub expert: u32,
    /// ZeRO stage: 0 nothing, 1 optimizer state, 2 and gradients, 3 and weights are sharded over `data * context`.
    pub zero: u8,
    /// Norms, dropout and residuals are split over the tensor group too.
    pub sequence_parallel: bool,
    /// Under sequence parallelism, keep the gathered inputs of the matrix products (and whole layer inputs under full
    /// recomputation) instead of gathering them again in the backward pass.
    pub keep_gathered: bool,
    /// b, sequences in a micro-batch.
    pub micro_batch: u32,
    /// B, sequences in a step, over all copies.
    pub global_batch: u32,
    /// Recomputation.
    pub recompute: Recompute,
    /// Order of the pipeline (ignored with one stage).
    pub schedule: Schedule,
    /// Attention kernel.
    pub attention: Attention,
    /// Linear layers multiply eight-bit numbers (at twice the half-precision peak).
    pub float8: bool,
    /// Everything is kept and computed in single precision, as processors do.
    #[serde(default)]
    pub float32: bool,
    /// Gradients are reduced (and ZeRO-3 weights gathered) while the backward pass runs.
    pub overlap_gradients: bool,
    /// Pipeline transfers run beside the computation instead of between its kernels.
    pub overlap_transfers: bool,
}

impl Plan {
    /// One device, one sequence at a time.
    pub fn single(global_batch: u32) -> Self {
        Self {
            data: 1,
            tensor: 1,
            pipeline: 1,
            chunks: 1,
            context: 1,
            expert: 1,
            zero: 0,
            sequence_parallel: false,
            keep_gathered: false,
            micro_batch: 1,
            global_batch,
            recompute: Recompute::None,
            schedule: Schedule::OneFOneB,
            attention: Attention::Unfused,
            float8: false,
            float32: false,
            overlap_gradients: false,
            overlap_transfers: false,
        }
    }

    /// Bytes of a weight or an activation.
    pub fn word(&self) -> f64 {
        if self.float32 { 4.0 } else { 2.0 }
    }

    /// Devices used.
    pub fn devices(&self) -> u64 {
        [self.data, self.tensor, self.pipeline, self.context].iter().fold(1u64, |n, &d| n.saturating_mul(d.into()))
    }

    /// m, micro-batches each pipeline runs in a step; 0 when the batch does not divide.
    pub fn micro_batches(&self) -> u32 {
        let per = u64::from(self.data) * u64::from(self.micro_batch);
        let whole = u64::from(self.global_batch);
        if per == 0 || !whole.is_multiple_of(per) { 0 } else { (whole / per) as u32 }
    }

    /// Virtual stages, p·v (the largest `u32` where the product is larger).
    pub fn virtual_stages(&self) -> u32 {
        self.pipeline.saturating_mul(self.chunks)
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "d{} t{} p{}", self.data, self.tensor, self.pipeline)?;
        for (letter, degree) in [("v", self.chunks), ("c", self.context), ("e", self.expert)] {
            if degree > 1 {
                write!(f, " {letter}{degree}")?;
            }
        }
        write!(f, " b{} m{}", self.micro_batch, self.micro_batches())?;
        if self.zero > 0 {
            write!(f, " zero-{}", self.zero)?;
        }
        if self.sequence_parallel {
            f.write_str(" sp")?;
        }
        let recompute = match self.recompute {
            Recompute::None => "keep-all",
            Recompute::Selective => "recompute-attention",
            Recompute::Full => "recompute-all",
        };
        write!(f, " {recompute}")?;
        if self.pipeline > 1 { write!(f, " {}", self.schedule) } else { Ok(()) }
    }
}
