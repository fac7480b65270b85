//! Memory of one pipeline device under a plan.

use crate::cost::{Attention, HALF, Plan, Recompute};
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
    let t = f64::from(plan.tensor);
    let attention = (model.attention_params() as f64) / t + model.norm_params() as f64;
    let dense_layer = attention + model.ffn_params(model.ffn()) as f64 / t;
    let (expert_dense, expert_own) = expert_layer(model, plan, attention);
    let every = model.experts.as_ref().map_or(u64::MAX, |e| e.every.max(1));
    let mut first = 0u64;
    let mut stages: Vec<StageWeights> = cut
        .iter()
        .map(|&n| {
            let end = first + u64::from(n);
            let with = (end / every - first / every) as f64;
            first = end;
            StageWeights {
                dense: (f64::from(n) - with) * dense_layer + with * expert_dense,
                experts: with * expert_own,
                largest: if with > 0.0 { expert_dense + expert_own } else { dense_layer },
            }
        })
        .collect();
    ends(model, t, &mut stages);
    stages
}

/// Dense and own expert parameters of a layer with experts on one device.
fn expert_layer(model: &Transformer, plan: &Plan, attention: f64) -> (f64, f64) {
    let Some(e) = &model.experts else { return (0.0, 0.0) };
    let one = model.ffn_params(model.expert_ffn()) as f64 / f64::from(plan.tensor);
    let router = (model.hidden * e.count) as f64;
    (attention + router + e.shared as f64 * one, e.count as f64 / f64::from(plan.expert) * one)
}

/// Embedding on the first stage, final norm and output table on the last; a tied table is kept on both.
fn ends(model: &Transformer, t: f64, stages: &mut [StageWeights]) {
    if model.vocabulary <= 1 {
        return;
    }
    let (first, last) = model.edge_params();
    let several = stages.len() > 1;
    if let Some(s) = stages.first_mut() {
        s.dense += first as f64 / t;
    }
    if let Some(s) = stages.last_mut() {
        s.dense += last as f64 / t;
        if model.tied_head && several {
            s.dense += (model.vocabulary * model.hidden) as f64 / t;
        }
    }
}

/// Bytes of one layer's activations for one micro-batch: (kept, everything a backward pass through it touches).
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
            (visits + e.shared as f64) * inner + 2.0 * visits * HALF * h / split
        }
    };
    let gathered = if plan.keep_gathered && plan.sequence_parallel { 2.0 * HALF * h } else { 0.0 };
    let rest = tokens * (10.0 * h / split + gathered + (4.0 * h + 4.0 * kv) / t + ffn);
    let core = match plan.attention {
        Attention::Unfused => 5.0 * model.heads as f64 * tokens * model.sequence as f64 / t,
        Attention::Flash => 4.0 * model.heads as f64 * tokens / t,
    };
    let kept = match plan.recompute {
        Recompute::None => rest + core,
        Recompute::Selective => rest,
        Recompute::Full if plan.keep_gathered => HALF * tokens * h,
        Recompute::Full => HALF * tokens * h / split,
    };
    (kept, rest + core)
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

/// Memory of each pipeline device.
pub fn stage_memory(model: &Transformer, plan: &Plan, cut: &[u32]) -> Vec<MemoryParts> {
    let weights = stage_weights(model, plan, cut);
    let mut devices = vec![MemoryParts::default(); plan.pipeline as usize];
    let (dense, expert) = (layer_activations(model, plan, false), layer_activations(model, plan, true));
    let has_experts = model.experts.is_some();
    let layer = if has_experts { expert } else { dense };
    for (d, device) in devices.iter_mut().enumerate() {
        let mine: Vec<usize> = (0..cut.len()).filter(|&k| stage_device(plan, k) == d).collect();
        states(device, plan, &mine, &weights);
        let layers: f64 = mine.iter().map(|&k| f64::from(cut[k])).sum();
        let kept = mixed(model, dense.0, expert.0) * layers / mine.len().max(1) as f64;
        device.activations = kept * in_flight(plan, d as u32);
        device.working += working(plan, layer);
    }
    logits(model, plan, cut.len(), &mut devices);
    devices
}

/// Average over dense and expert layers.
fn mixed(model: &Transformer, dense: f64, expert: f64) -> f64 {
    let share = model.expert_layers() as f64 / model.layers.max(1) as f64;
    dense * (1.0 - share) + expert * share
}

fn stage_device(plan: &Plan, k: usize) -> usize {
    let p = plan.pipeline as usize;
    if plan.schedule == Schedule::ZbV && k >= p { 2 * p - 1 - k } else { k % p }
}

/// Weights, gradients, optimizer after ZeRO; the gradient of a layer before it is added to the others; two layers that
/// ZeRO-3 has gathered.
fn states(device: &mut MemoryParts, plan: &Plan, mine: &[usize], weights: &[StageWeights]) {
    let all = f64::from(plan.data * plan.context);
    let of_experts = (all / f64::from(plan.expert)).max(1.0);
    for &k in mine {
        let w = &weights[k];
        let sharded = |from: u8| {
            if plan.zero >= from { w.dense / all + w.experts / of_experts } else { w.dense + w.experts }
        };
        device.weights += 2.0 * sharded(3);
        device.gradients += 2.0 * sharded(2);
        device.optimizer += 12.0 * sharded(1);
        let gathered = if plan.zero == 3 && all > 1.0 { 4.0 * w.largest } else { 0.0 };
        let produced = 2.0 * w.largest;
        device.working = device.working.max(gathered + produced);
    }
}

/// A backward pass through one layer holds what it recomputed and the gradients of it.
fn working(plan: &Plan, layer: (f64, f64)) -> f64 {
    let (kept, all) = layer;
    let again = if plan.recompute == Recompute::None { 0.0 } else { all - kept };
    again + all
}

/// The last stage holds one micro-batch of logits in half and single precision while the loss runs.
fn logits(model: &Transformer, plan: &Plan, stages: usize, devices: &mut [MemoryParts]) {
    if model.vocabulary <= 1 || stages == 0 {
        return;
    }
    let tokens = f64::from(plan.micro_batch) * model.sequence as f64 / f64::from(plan.context);
    let bytes = 6.0 * tokens * model.vocabulary as f64 / f64::from(plan.tensor);
    let last = &mut devices[stage_device(plan, stages - 1)];
    last.working = last.working.max(bytes);
}
