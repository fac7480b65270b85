//! Memory of one pipeline device under a plan.

use crate::cost::{Attention, Plan, Recompute, device_of};
use crate::model::Transformer;
use crate::schedule::Schedule;
use serde::Serialize;

/// Parameters on one device of a virtual stage, after tensor and expert splitting.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StageWeights {
    /// Parameters reduced over all copies.
    pub dense: f64,
    /// Expert parameters, reduced over the copies of an expert.
    pub experts: f64,
    /// The largest layer's share, what ZeRO-3 gathers at once.
    pub largest: f64,
}

/// Bytes on one device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct MemoryParts {
    /// Half-precision weights.
    pub weights: f64,
    /// Gradients.
    pub gradients: f64,
    /// Single-precision master weights and two moments.
    pub optimizer: f64,
    /// Activations kept for the micro-batches in flight.
    pub activations: f64,
    /// One layer recomputed and its gradients, the logits, a layer's new weight gradient, weights gathered by ZeRO-3.
    pub working: f64,
}

impl MemoryParts {
    /// All parts.
    pub fn total(&self) -> f64 {
        self.weights + self.gradients + self.optimizer + self.activations + self.working
    }

    /// Names and bytes, in the order of printing.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("weights", self.weights),
            ("gradients", self.gradients),
            ("optimizer", self.optimizer),
            ("activations", self.activations),
            ("working", self.working),
        ]
    }
}

/// Parameters of each virtual stage on one device.
pub fn stage_weights(model: &Transformer, plan: &Plan, cut: &[u32]) -> Vec<StageWeights> {
    let one = LayerWeights::new(model, plan);
    let every = model.experts.as_ref().map_or(u64::MAX, |e| e.every.max(1));
    let mut first = 0u64;
    let mut stages: Vec<StageWeights> = cut
        .iter()
        .map(|&n| {
            let end = first + u64::from(n);
            let with = (end / every - first / every) as f64;
            first = end;
            one.layers(f64::from(n), with)
        })
        .collect();
    let several = stages.len() > 1;
    if let Some(s) = stages.first_mut() {
        s.dense += one.first;
    }
    if let Some(s) = stages.last_mut() {
        s.dense += if several { one.last } else { one.last_alone };
    }
    stages
}

/// Parameters of the parts of a network on one device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LayerWeights {
    dense: f64,
    expert: (f64, f64),
    /// Embedding.
    pub(crate) first: f64,
    /// Final norm and output table; a tied table is kept on the last stage too.
    pub(crate) last: f64,
    /// The same where one stage is first and last.
    pub(crate) last_alone: f64,
}

impl LayerWeights {
    pub(crate) fn new(model: &Transformer, plan: &Plan) -> Self {
        let t = f64::from(plan.tensor);
        let attention = (model.attention_params() as f64) / t + model.norm_params() as f64;
        let dense = attention + model.ffn_params(model.ffn()) as f64 / t;
        let expert = expert_layer(model, plan, attention);
        if model.vocabulary <= 1 {
            return Self { dense, expert, first: 0.0, last: 0.0, last_alone: 0.0 };
        }
        let (first, last) = model.edge_params();
        let tied = if model.tied_head { (model.vocabulary * model.hidden) as f64 } else { 0.0 };
        Self { dense, expert, first: first as f64 / t, last: (last as f64 + tied) / t, last_alone: last as f64 / t }
    }

    /// `layers` layers of which `with` have experts.
    pub(crate) fn layers(&self, layers: f64, with: f64) -> StageWeights {
        StageWeights {
            dense: (layers - with) * self.dense + with * self.expert.0,
            experts: with * self.expert.1,
            largest: if with > 0.0 { self.expert.0 + self.expert.1 } else { self.dense },
        }
    }
}

/// Dense and own expert parameters of a layer with experts on one device.
fn expert_layer(model: &Transformer, plan: &Plan, attention: f64) -> (f64, f64) {
    let Some(e) = &model.experts else { return (0.0, 0.0) };
    let one = model.ffn_params(model.expert_ffn()) as f64 / f64::from(plan.tensor);
    let router = (model.hidden * e.count) as f64;
    (attention + router + e.shared as f64 * one, e.count as f64 / f64::from(plan.expert) * one)
}

/// Bytes of one layer's activations for one micro-batch: (kept, everything a backward pass through it touches). The counts
/// are those of half precision; single precision doubles them.
fn layer_activations(model: &Transformer, plan: &Plan, with_experts: bool) -> (f64, f64) {
    let tokens = f64::from(plan.micro_batch) * model.sequence as f64 / f64::from(plan.context);
    let (h, t) = (model.hidden as f64, f64::from(plan.tensor));
    let split = if plan.sequence_parallel { t } else { 1.0 };
    let kv = (model.kv() * model.head_dim()) as f64;
    let passes = if model.gated { 6.0 } else { 4.0 };
    let ffn = match model.experts.as_ref().filter(|_| with_experts) {
        None => passes * model.ffn() as f64 / t,
        Some(e) => {
            let visits = e.active as f64 * e.capacity_factor;
            let inner = passes * model.expert_ffn() as f64 / t;
            (visits + e.shared as f64) * inner + 4.0 * visits * h / split
        }
    };
    let gathered = if plan.keep_gathered && plan.sequence_parallel { 4.0 * h } else { 0.0 };
    let rest = tokens * (10.0 * h / split + gathered + (4.0 * h + 4.0 * kv) / t + ffn);
    let core = match plan.attention {
        Attention::Unfused => 5.0 * model.heads as f64 * tokens * model.sequence as f64 / t,
        Attention::Flash => 4.0 * model.heads as f64 * tokens / t,
    };
    let kept = match plan.recompute {
        Recompute::None => rest + core,
        Recompute::Selective => rest,
        Recompute::Full if plan.keep_gathered => 2.0 * tokens * h,
        Recompute::Full => 2.0 * tokens * h / split,
    };
    let scale = plan.word() / 2.0;
    (scale * kept, scale * (rest + core))
}

/// Chunks' worth of micro-batches that device `d` keeps at most, by the order of the schedule.
fn in_flight(plan: &Plan, d: u32) -> f64 {
    let (p, v, m) = (plan.pipeline, plan.chunks, plan.micro_batches());
    let count = match plan.schedule {
        _ if p == 1 => 1,
        Schedule::GPipe => m,
        Schedule::OneFOneB => (p - d).min(m),
        Schedule::ZbH1 => p.min(m),
        Schedule::Interleaved => (2 * (p - d - 1) + (v - 1) * p + 1).min(m * v),
        Schedule::ZbV => (2 * p + 1).min(2 * m),
    };
    f64::from(count)
}

/// What one pipeline device holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Load {
    /// Its place in the pipeline.
    pub(crate) device: u32,
    /// Its layers, over all its chunks.
    pub(crate) layers: f64,
    /// Its parameters.
    pub(crate) weights: StageWeights,
    /// It computes the loss.
    pub(crate) last: bool,
}

/// Activations of the layers of a model under a plan, bytes per micro-batch: (kept, touched by a backward pass).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activations {
    kept: f64,
    layer: (f64, f64),
    logits: f64,
}

impl Activations {
    pub(crate) fn new(model: &Transformer, plan: &Plan) -> Self {
        let (dense, expert) = (layer_activations(model, plan, false), layer_activations(model, plan, true));
        let layer = if model.experts.is_some() { expert } else { dense };
        Self { kept: mixed(model, dense.0, expert.0), layer, logits: logits(model, plan) }
    }

    /// Memory of a device.
    pub(crate) fn memory(&self, plan: &Plan, load: &Load) -> MemoryParts {
        let mut parts = states(plan, &load.weights);
        parts.activations = self.kept * load.layers / f64::from(plan.chunks) * in_flight(plan, load.device);
        parts.working += working(plan, self.layer);
        if load.last {
            parts.working = parts.working.max(self.logits);
        }
        parts
    }
}

/// Memory of each pipeline device.
pub fn stage_memory(model: &Transformer, plan: &Plan, cut: &[u32]) -> Vec<MemoryParts> {
    let mut loads: Vec<Load> = (0..plan.pipeline).map(|device| Load { device, ..Load::default() }).collect();
    let last = cut.len().saturating_sub(1);
    for (k, (&layers, weights)) in cut.iter().zip(stage_weights(model, plan, cut)).enumerate() {
        let load = &mut loads[device_of(plan, k)];
        load.layers += f64::from(layers);
        load.weights.dense += weights.dense;
        load.weights.experts += weights.experts;
        load.weights.largest = load.weights.largest.max(weights.largest);
        load.last |= k == last;
    }
    let activations = Activations::new(model, plan);
    loads.iter().map(|load| activations.memory(plan, load)).collect()
}

/// Average over dense and expert layers.
fn mixed(model: &Transformer, dense: f64, expert: f64) -> f64 {
    let share = model.expert_layers() as f64 / model.layers.max(1) as f64;
    dense * (1.0 - share) + expert * share
}

/// Weights, gradients, optimizer after ZeRO; the gradient of a layer before it is added to the others; two layers that
/// ZeRO-3 has gathered.
fn states(plan: &Plan, w: &StageWeights) -> MemoryParts {
    let all = f64::from(plan.data) * f64::from(plan.context);
    let of_experts = (all / f64::from(plan.expert)).max(1.0);
    let sharded =
        |from: u8| if plan.zero >= from { w.dense / all + w.experts / of_experts } else { w.dense + w.experts };
    let word = plan.word();
    let gathered = if plan.zero == 3 && all > 1.0 { 2.0 * word * w.largest } else { 0.0 };
    MemoryParts {
        weights: word * sharded(3),
        gradients: word * sharded(2),
        // Two moments, and a single-precision copy of weights kept in half precision.
        optimizer: if plan.float32 { 8.0 } else { 12.0 } * sharded(1),
        activations: 0.0,
        working: gathered + word * w.largest,
    }
}

/// A backward pass through one layer holds what it recomputed and the gradients of it.
fn working(plan: &Plan, layer: (f64, f64)) -> f64 {
    let (kept, all) = layer;
    let again = if plan.recompute == Recompute::None { 0.0 } else { all - kept };
    again + all
}

/// One micro-batch of logits in half and single precision (twice in single), held by the last stage while the loss runs.
fn logits(model: &Transformer, plan: &Plan) -> f64 {
    if model.vocabulary <= 1 {
        return 0.0;
    }
    let tokens = f64::from(plan.micro_batch) * model.sequence as f64 / f64::from(plan.context);
    let bytes = if plan.float32 { 8.0 } else { 6.0 };
    bytes * tokens * model.vocabulary as f64 / f64::from(plan.tensor)
}
