//! Time of one training step.

use crate::model::Transformer;
use crate::schedule::{Pipeline, Schedule, even_makespan, order, replay};
use serde::Serialize;

use super::error::CostError;
use super::layer::{LayerShape, PartTime};
use super::plan::Plan;
use super::platform::Platform;

/// Bytes the optimizer moves per parameter: master weight, first and second moment read and written. Beside them the gradient
/// is read for the norm and for the update, and a half-precision copy of the weight is written.
const UPDATE_BYTES: f64 = 24.0;

/// Seconds of a step by what they are spent on, on the busiest device. They add up to the step exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct StepParts {
    /// Matrix products of forward and backward.
    pub matrix: f64,
    /// Elementwise kernels of forward and backward.
    pub memory: f64,
    /// Everything computed a second time.
    pub recompute: f64,
    /// Tensor-group collectives.
    pub tensor: f64,
    /// Expert all-to-alls and exposed context rings.
    pub expert_context: f64,
    /// Pipeline transfers between kernels.
    pub transfer: f64,
    /// Kernel launches that the device waits for.
    pub launch: f64,
    /// Waiting for other stages.
    pub bubble: f64,
    /// Gradient reduction and weight gathering that computation does not hide.
    pub data: f64,
    /// Optimizer.
    pub optimizer: f64,
}

impl StepParts {
    /// The step.
    pub fn total(&self) -> f64 {
        self.named().iter().map(|(_, s)| s).sum()
    }

    /// Names and seconds, in the order of printing.
    pub fn named(&self) -> [(&'static str, f64); 10] {
        [
            ("matrix products", self.matrix),
            ("elementwise", self.memory),
            ("recomputation", self.recompute),
            ("tensor collectives", self.tensor),
            ("expert and context", self.expert_context),
            ("pipeline transfers", self.transfer),
            ("kernel launches", self.launch),
            ("pipeline bubble", self.bubble),
            ("data parallel", self.data),
            ("optimizer", self.optimizer),
        ]
    }
}

/// A predicted step.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Seconds of a step.
    pub step_s: f64,
    /// By part, on the busiest device.
    pub parts: StepParts,
    /// Busiest device of the pipeline.
    pub busiest: usize,
    /// Time of the two gradients of virtual stages and their transfers, for replay and timeline.
    #[serde(skip)]
    pub pipeline: Pipeline,
}

/// How many layers each virtual stage has.
pub type Cut = Vec<u32>;

/// Layers as evenly as they go: the first virtual stages take one more. No stages, no cut.
pub fn even_cut(layers: u64, virtual_stages: u32) -> Cut {
    if virtual_stages == 0 {
        return Vec::new();
    }
    let (each, rest) = (layers / u64::from(virtual_stages), layers % u64::from(virtual_stages));
    (0..virtual_stages).map(|k| (each + u64::from(u64::from(k) < rest)) as u32).collect()
}

/// How exactly the pipeline is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// Closed form: exact for even stages, within the spread of the stages otherwise. For searching.
    Closed,
    /// Discrete-event replay.
    Replay,
}

/// Predicts one step of `model` under `plan` on `platform`, virtual stage `k` holding `cut[k]` layers.
///
/// # Errors
/// A plan that does not fit the model or the machines; see [`super::check`].
pub fn predict(
    model: &Transformer,
    plan: &Plan,
    platform: &Platform,
    cut: &[u32],
    timing: Timing,
) -> Result<Prediction, CostError> {
    predict_mixed(model, plan, &[platform], cut, timing)
}

/// The same where pipeline device `d` runs on `platforms[d]` (or all on the only one).
///
/// # Errors
/// As [`predict`]; no platform, or neither one nor as many as stages.
pub fn predict_mixed(
    model: &Transformer,
    plan: &Plan,
    platforms: &[&Platform],
    cut: &[u32],
    timing: Timing,
) -> Result<Prediction, CostError> {
    if platforms.len() != 1 && platforms.len() != plan.pipeline as usize {
        let expected = format!("1 or {}", plan.pipeline);
        return Err(CostError::Range { what: "platforms", got: platforms.len() as u64, expected });
    }
    for platform in platforms {
        super::check::check(model, plan, platform, cut)?;
    }
    let stages = stage_times(model, plan, platforms, cut);
    let hop = platforms.iter().map(|p| hop_seconds(model, plan, p)).fold(0.0, f64::max);
    let gather = gather_excess(model, plan, platforms, cut, &stages);
    let pipeline = build(plan, &stages, hop, &gather);
    let tail = Tail::new(model, plan, platforms, cut, &stages);
    let (busiest, makespan) = makespan(&pipeline, timing)?;
    let parts = parts(plan, &stages, hop, &gather, &tail, busiest, makespan);
    Ok(Prediction { step_s: parts.total(), parts, busiest, pipeline })
}

/// Times of the parts of a network on one platform, for one micro-batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rates {
    pub(crate) dense: PartTime,
    pub(crate) expert: PartTime,
    pub(crate) embedding: PartTime,
    pub(crate) head: PartTime,
}

impl Rates {
    pub(crate) fn new(model: &Transformer, plan: &Plan, platform: &Platform) -> Self {
        let shape = LayerShape::new(model, plan, platform);
        let dense = shape.layer(false);
        let expert = if model.experts.is_some() { shape.layer(true) } else { dense };
        Self { dense, expert, embedding: shape.embedding(), head: shape.head() }
    }

    /// `layers` layers of which `experts` have experts.
    pub(crate) fn layers(&self, layers: f64, experts: f64) -> PartTime {
        PartTime::default().plus(&self.dense, layers - experts).plus(&self.expert, experts)
    }
}

/// The platform of pipeline device `d`.
fn at<'a>(platforms: &[&'a Platform], d: usize) -> &'a Platform {
    platforms[d.min(platforms.len() - 1)]
}

/// Times of each virtual stage for one micro-batch.
fn stage_times(model: &Transformer, plan: &Plan, platforms: &[&Platform], cut: &[u32]) -> Vec<PartTime> {
    let rates: Vec<Rates> = platforms.iter().map(|p| Rates::new(model, plan, p)).collect();
    let every = model.experts.as_ref().map_or(u64::MAX, |e| e.every.max(1));
    let (mut first, last) = (0u64, cut.len() - 1);
    let mut stages = Vec::with_capacity(cut.len());
    for (k, &n) in cut.iter().enumerate() {
        let rates = &rates[device_of(plan, k).min(rates.len() - 1)];
        let end = first + u64::from(n);
        let mut stage = rates.layers(f64::from(n), (end / every - first / every) as f64);
        first = end;
        if k == 0 {
            stage = stage.plus(&rates.embedding, 1.0);
        }
        if k == last {
            stage = stage.plus(&rates.head, 1.0);
        }
        stages.push(stage);
    }
    stages
}

/// Seconds of one transfer between neighbouring stages: the tensor group splits the activation, each rank sends its part
/// over its own adapter, the receivers gather inside the machine.
pub(crate) fn hop_seconds(model: &Transformer, plan: &Plan, platform: &Platform) -> f64 {
    if plan.pipeline == 1 {
        return 0.0;
    }
    let bytes = LayerShape::new(model, plan, platform).stream_bytes();
    let t = f64::from(plan.tensor);
    let distance = plan.tensor.saturating_mul(plan.context).saturating_mul(plan.data);
    let sent = platform.hop(distance, bytes / t).time(bytes / t);
    if plan.tensor == 1 || plan.sequence_parallel {
        return sent;
    }
    sent + platform.group(plan.tensor, 1, bytes).half(bytes)
}

fn build(plan: &Plan, stages: &[PartTime], hop: f64, gather: &[f64]) -> Pipeline {
    let last = stages.len() - 1;
    let crossing = |k: usize| plan.schedule != Schedule::ZbV || k != plan.pipeline as usize;
    let blocking = if plan.overlap_transfers { 0.0 } else { hop };
    let send = |k: usize| if k < last && crossing(k + 1) { blocking } else { 0.0 };
    let back = |k: usize| if k > 0 && crossing(k) { blocking } else { 0.0 };
    let backward = |k: usize, s: &PartTime| s.backward.total() + s.recompute.total() + back(k) + gather[k] * 2.0 / 3.0;
    Pipeline {
        schedule: if plan.pipeline == 1 && plan.chunks == 1 { Schedule::GPipe } else { plan.schedule },
        stages: plan.pipeline,
        chunks: plan.chunks,
        micro_batches: plan.micro_batches(),
        forward: stages.iter().enumerate().map(|(k, s)| s.forward.total() + send(k) + gather[k] / 3.0).collect(),
        backward_input: stages.iter().enumerate().map(|(k, s)| backward(k, s) - s.weight).collect(),
        backward_weight: stages.iter().map(|s| s.weight).collect(),
        transfer: if plan.overlap_transfers { hop } else { 0.0 },
    }
}

/// Busiest device and makespan.
fn makespan(pipeline: &Pipeline, timing: Timing) -> Result<(usize, f64), CostError> {
    let m = f64::from(pipeline.micro_batches);
    let mut busy = vec![0.0f64; pipeline.stages as usize];
    let per = |k: usize| pipeline.forward[k] + pipeline.backward_input[k] + pipeline.backward_weight[k];
    for k in 0..pipeline.forward.len() {
        busy[pipeline.device_of(k as u32) as usize] += m * per(k);
    }
    let busiest = (0..busy.len()).fold(0, |best, d| if busy[d] > busy[best] { d } else { best });
    if pipeline.forward.len() == 1 {
        return Ok((0, busy[0]));
    }
    let makespan = match timing {
        Timing::Replay => replay(pipeline, &order(pipeline)?)?.makespan,
        Timing::Closed => closed(pipeline, busy[busiest]),
    };
    Ok((busiest, makespan.max(busy[busiest])))
}

/// The busiest device's work and the even pipeline's fill and drain.
fn closed(pipeline: &Pipeline, busiest: f64) -> f64 {
    let n = pipeline.forward.len() as f64;
    let mean = |times: &[f64]| times.iter().sum::<f64>() / n;
    let (f, b, w) = (mean(&pipeline.forward), mean(&pipeline.backward_input), mean(&pipeline.backward_weight));
    let (p, v, m) = (pipeline.stages, pipeline.chunks, pipeline.micro_batches);
    let even = even_makespan(pipeline.schedule, p, v, m, f, b, w);
    let work = f64::from(m) * f64::from(v) * (f + b + w);
    busiest + (even - work) + 2.0 * pipeline.transfer * (f64::from(p) - 1.0)
}

/// What follows the pipeline.
pub(crate) struct Tail {
    pub(crate) data: f64,
    pub(crate) optimizer: f64,
}

impl Tail {
    fn new(model: &Transformer, plan: &Plan, platforms: &[&Platform], cut: &[u32], stages: &[PartTime]) -> Self {
        let mut tail = Self { data: 0.0, optimizer: 0.0 };
        for (d, (weights, experts, window)) in device_weights(model, plan, cut, stages).into_iter().enumerate() {
            let one = Self::of(plan, at(platforms, d), weights, experts, window, f64::from(cut[0]));
            tail.data = tail.data.max(one.data);
            tail.optimizer = tail.optimizer.max(one.optimizer);
        }
        tail
    }

    /// Of a device with so many parameters, whose last backward pass takes `window` seconds over `layers` layers.
    pub(crate) fn of(plan: &Plan, platform: &Platform, weights: f64, experts: f64, window: f64, layers: f64) -> Self {
        let replicas = plan.data * plan.context;
        let shards = |n: u32| if plan.zero > 0 { f64::from(n.max(1)) } else { 1.0 };
        let words = if plan.float32 { 2.0 } else { 3.0 };
        let moved = (UPDATE_BYTES + words * plan.word())
            * (weights / shards(replicas) + experts / shards(replicas / plan.expert.max(1)));
        let reduce = reduction(plan, platform, plan.word() * weights, plan.word() * experts);
        let hidden = (reduce * platform.constants.overlap_slowdown - window).max(reduce / layers.max(1.0));
        Self {
            data: if plan.overlap_gradients { hidden } else { reduce },
            optimizer: moved / (platform.memory_rate * platform.constants.memory),
        }
    }
}

/// Seconds of the gradient reduction (and of the weight gathering after a sharded update): all-reduce, or reduce-scatter
/// and all-gather of the same bytes. ZeRO-3 gathers inside the step instead.
fn reduction(plan: &Plan, platform: &Platform, dense: f64, experts: f64) -> f64 {
    let replicas = plan.data * plan.context;
    let way = |size: u32, stride: u32, bytes: f64| {
        if size <= 1 || bytes <= 0.0 {
            return 0.0;
        }
        let group = platform.group(size, stride, bytes);
        match plan.zero {
            0 => group.all_reduce(bytes),
            1 | 2 => 2.0 * group.half(bytes),
            _ => 0.0,
        }
    };
    way(replicas, plan.tensor, dense) + way(replicas / plan.expert.max(1), plan.tensor * plan.expert, experts)
}

/// Weights of each pipeline device (dense, experts) and the seconds of its last backward pass.
fn device_weights(model: &Transformer, plan: &Plan, cut: &[u32], stages: &[PartTime]) -> Vec<(f64, f64, f64)> {
    let mut devices = vec![(0.0, 0.0, 0.0); plan.pipeline as usize];
    let ends = crate::memory::stage_weights(model, plan, cut);
    for (k, (stage, weights)) in stages.iter().zip(&ends).enumerate() {
        let device = &mut devices[device_of(plan, k)];
        device.0 += weights.dense;
        device.1 += weights.experts;
        device.2 += stage.backward.compute() + stage.recompute.compute();
    }
    devices
}

/// Pipeline device of virtual stage `k`.
pub(crate) fn device_of(plan: &Plan, k: usize) -> usize {
    let p = plan.pipeline as usize;
    if plan.schedule == Schedule::ZbV && k >= p { 2 * p - 1 - k } else { k % p }
}

/// ZeRO-3: seconds per micro-batch and virtual stage that gathering weights (forward and backward) and scattering
/// gradients take beyond the computation they run beside.
fn gather_excess(
    model: &Transformer,
    plan: &Plan,
    platforms: &[&Platform],
    cut: &[u32],
    stages: &[PartTime],
) -> Vec<f64> {
    if plan.zero < 3 || plan.data * plan.context <= 1 {
        return vec![0.0; stages.len()];
    }
    let weights = crate::memory::stage_weights(model, plan, cut);
    let excess = |(k, stage): (usize, &PartTime)| {
        let platform = at(platforms, device_of(plan, k));
        stage_gather(plan, platform, stage, &weights[k], f64::from(cut[k]))
    };
    stages.iter().enumerate().map(excess).collect()
}

/// The excess of one virtual stage of `layers` layers.
pub(crate) fn stage_gather(
    plan: &Plan,
    platform: &Platform,
    stage: &PartTime,
    weights: &crate::memory::StageWeights,
    layers: f64,
) -> f64 {
    let replicas = plan.data * plan.context;
    if plan.zero < 3 || replicas <= 1 {
        return 0.0;
    }
    let (dense, experts) = (plan.word() * weights.dense, plan.word() * weights.experts);
    let mut way = platform.group(replicas, plan.tensor, dense).half(dense);
    if experts > 0.0 && replicas / plan.expert > 1 {
        way += platform.group(replicas / plan.expert, plan.tensor * plan.expert, experts).half(experts);
    }
    if !plan.overlap_gradients {
        return 3.0 * way;
    }
    let slow = way * platform.constants.overlap_slowdown;
    let (forward, backward) = (stage.forward.compute(), stage.backward.compute() + stage.recompute.compute());
    // The first layer's weights and the last gradient have nothing to hide behind.
    let ends = 2.0 * way / layers.max(1.0);
    (slow - forward).max(0.0) + (2.0 * slow - backward).max(0.0) + ends
}

fn parts(
    plan: &Plan,
    stages: &[PartTime],
    hop: f64,
    gather: &[f64],
    tail: &Tail,
    busiest: usize,
    makespan: f64,
) -> StepParts {
    let m = f64::from(plan.micro_batches());
    let mine: Vec<usize> = (0..stages.len()).filter(|&k| device_of(plan, k) == busiest).collect();
    let mut parts = StepParts { data: tail.data, optimizer: tail.optimizer, ..StepParts::default() };
    let last = stages.len() - 1;
    for &k in &mine {
        let (s, both) = (&stages[k], stages[k].forward.plus(&stages[k].backward, 1.0));
        parts.matrix += m * both.matrix;
        parts.memory += m * both.memory;
        parts.recompute += m * s.recompute.compute();
        parts.tensor += m * (both.tensor + s.recompute.tensor);
        parts.expert_context += m * (both.expert + both.context + s.recompute.expert + s.recompute.context);
        parts.launch += m * both.launch;
        parts.data += m * gather[k];
        if !plan.overlap_transfers {
            let crossing = |k: usize| plan.schedule != Schedule::ZbV || k != plan.pipeline as usize;
            let ways = usize::from(k < last && crossing(k + 1)) + usize::from(k > 0 && crossing(k));
            parts.transfer += m * hop * ways as f64;
        }
    }
    let busy = parts.total() - tail.data - tail.optimizer;
    parts.bubble = (makespan - busy).max(0.0);
    parts
}
