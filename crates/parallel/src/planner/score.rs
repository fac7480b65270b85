//! Price of a plan in a fraction of a microsecond, and a bound below any of its cuts.

use crate::cost::{PartTime, Plan, Platform, Rates, Tail, hop_seconds, stage_gather};
use crate::memory::{Activations, LayerWeights, Load, StageWeights};
use crate::model::Transformer;
use crate::schedule::Schedule;

use super::cut::{balanced, few_cuts};
use super::search::ALL_CUTS;

/// What all plans with the same layers share.
pub(super) struct Prepared<'a> {
    model: &'a Transformer,
    platform: &'a Platform,
    rates: Rates,
    activations: Activations,
    weights: LayerWeights,
    /// Share of layers with experts.
    experts: f64,
    usable: f64,
}

/// Price of a plan with layers cut evenly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// Seconds of a step, closed form.
    pub(super) step: f64,
    /// No cut of this plan takes less.
    pub(super) bound: f64,
    /// Bytes over (above 0) or under the usable memory on the fullest device.
    pub(super) over: f64,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(model: &'a Transformer, key: &Plan, platform: &'a Platform, usable_memory: f64) -> Self {
        Self {
            model,
            platform,
            rates: Rates::new(model, key, platform),
            activations: Activations::new(model, key),
            weights: LayerWeights::new(model, key),
            experts: model.expert_layers() as f64 / model.layers as f64,
            usable: usable_memory * platform.memory,
        }
    }

    /// Scores `plan`, which shares the layers this was prepared for.
    pub(super) fn score(&self, plan: &Plan) -> Score {
        let even = Even::new(self.model.layers, plan);
        let hop = hop_seconds(self.model, plan, self.platform);
        let even_step = self.makespan(plan, &even, hop);
        let uneven = self.uneven(plan, hop);
        let step = uneven.map_or(even_step, |u| u.step.min(even_step));
        let tail = self.tail(plan, &even);
        let bound = uneven.map_or_else(|| self.bound(plan, &even, hop, step), |u| u.bound.min(even_step));
        let bound = bound + self.least_tail(plan);
        Score { step: step + tail, bound: bound.min(step + tail), over: self.fullest(plan, &even) - self.usable }
    }

    /// Time of `layers` average layers.
    fn layers(&self, layers: f64) -> PartTime {
        self.rates.layers(layers, layers * self.experts)
    }

    /// Seconds per micro-batch of pipeline device `d`, transfers included.
    fn busy(&self, plan: &Plan, even: &Even, hop: f64, d: u32) -> f64 {
        let layers = even.device_layers(d);
        let time = self.layers(layers);
        let mut all = time.forward.total() + time.backward.total() + time.recompute.total();
        if d == 0 {
            all += ends(&self.rates.embedding);
        }
        if d == even.last_device() {
            all += ends(&self.rates.head);
        }
        if !plan.overlap_transfers {
            all += hop * even.transfers(d);
        }
        all + self.gathers(plan, layers)
    }

    /// Seconds per micro-batch that ZeRO-3 gathers weights of a device's `layers` beyond the computation beside it.
    fn gathers(&self, plan: &Plan, layers: f64) -> f64 {
        if plan.zero < 3 {
            return 0.0;
        }
        let chunk = layers / f64::from(plan.chunks);
        let weights = self.weights.layers(chunk, chunk * self.experts);
        f64::from(plan.chunks) * stage_gather(plan, self.platform, &self.layers(chunk), &weights, chunk)
    }

    /// The busiest of the devices that differ, and what comes before it: exact for even stages.
    fn makespan(&self, plan: &Plan, even: &Even, hop: f64) -> f64 {
        let m = f64::from(plan.micro_batches());
        if plan.pipeline == 1 && plan.chunks == 1 {
            return m * self.busy(plan, even, hop, 0);
        }
        let fill = self.fill_share(plan);
        let way = |d: u32| {
            let before = self.layers(even.layers_before(d));
            let mut all = before.forward.total() + before.backward.total() + before.recompute.total();
            if d > 0 {
                all += ends(&self.rates.embedding) + 2.0 * hop * f64::from(d);
            }
            m * self.busy(plan, even, hop, d) + fill * all
        };
        [0, even.extra_device(), plan.pipeline - 1].into_iter().map(way).fold(0.0, f64::max)
    }

    /// Share of a stage's forward and backward that fill and drain cost: all of it in fused schedules, less the weight
    /// gradients that zero-bubble schedules put there.
    fn fill_share(&self, plan: &Plan) -> f64 {
        let moved = match plan.schedule {
            Schedule::ZbH1 => 2.0,
            Schedule::ZbV => 3.0,
            _ => return 1.0,
        };
        let layer = self.layers(1.0);
        let all = layer.forward.total() + layer.backward.total() + layer.recompute.total();
        (1.0 - moved * layer.weight / all).max(0.0)
    }

    /// Interleaved pipelines: the balanced cut. Device d cannot start before the stages of the first chunk before it, and ends
    /// before their backward passes: max over d of (m x work of d + stages before it). Where every cut is tried, the bound is
    /// that of the best real-valued one with a layer a stage at least.
    fn uneven(&self, plan: &Plan, hop: f64) -> Option<Uneven> {
        if plan.schedule != Schedule::Interleaved || plan.pipeline == 1 {
            return None;
        }
        let (p, v, m) = (f64::from(plan.pipeline), f64::from(plan.chunks), f64::from(plan.micro_batches()));
        let (layer, first, last) = self.layer_and_ends();
        let sent = if plan.overlap_transfers { 0.0 } else { hop };
        if few_cuts(self.model.layers, plan.virtual_stages(), ALL_CUTS) {
            let total = self.model.layers as f64 * layer + first + last;
            let before = layer * (p - 1.0) / 2.0 + (first + 2.0 * sent * (p - 1.0) / 2.0) * (p - 1.0) / p;
            let mean = m * total / p + m * sent * (2.0 * v - 2.0 / p) + before.min(layer * (p - 1.0) / 2.0);
            let coarse = m * (self.model.layers as f64 / p).ceil() * layer;
            return Some(Uneven { step: f64::INFINITY, bound: mean.max(coarse) });
        }
        let counts = balanced(self.model.layers, plan.pipeline, plan.chunks, layer, (first, last));
        let (mut before, mut most) = (0.0, 0.0f64);
        for (d, &n) in counts.iter().enumerate() {
            let end = if d == 0 { first } else { 0.0 } + if d + 1 == counts.len() { last } else { 0.0 };
            let ways = 2.0 * v - f64::from(u32::from(d == 0)) - f64::from(u32::from(d + 1 == counts.len()));
            most = most.max(m * (n as f64 * layer + end + sent * ways + self.gathers(plan, n as f64)) + before);
            // Earlier chunks take the layers that do not divide.
            before += n.div_ceil(u64::from(plan.chunks)) as f64 * layer + if d == 0 { first } else { 0.0 };
        }
        Some(Uneven { step: most, bound: most })
    }

    /// V schedules: without the drain, which weight gradients may fill. Else the best real-valued cut: stage s starts after the s before it and drains through them, so that with work
    /// t_1..t_p the makespan is at least max_s(t_1+..+t_{s-1} + m t_s), least when all are equal: total / (1-(1-1/m)^p).
    fn bound(&self, plan: &Plan, even: &Even, hop: f64, step: f64) -> f64 {
        let (p, m) = (f64::from(plan.pipeline), f64::from(plan.micro_batches()));
        if plan.pipeline == 1 && plan.chunks == 1 {
            return step;
        }
        let time = self.layers(self.model.layers as f64);
        let total = time.forward.total()
            + time.backward.total()
            + time.recompute.total()
            + ends(&self.rates.embedding)
            + ends(&self.rates.head);
        match plan.schedule {
            Schedule::ZbV => m * self.busy(plan, even, hop, plan.pipeline - 1).min(total / p),
            Schedule::ZbH1 => m * total / p,
            _ => {
                let layer = ends(&self.layers(1.0));
                let coarse = m * (self.model.layers as f64 / p).ceil() * layer;
                (total / (1.0 - (1.0 - 1.0 / m).powf(p))).max(coarse)
            }
        }
    }

    fn tail(&self, plan: &Plan, even: &Even) -> f64 {
        let (mut data, mut optimizer) = (0.0f64, 0.0f64);
        for d in [0, plan.pipeline - 1] {
            let load = self.load(plan, even, d);
            let time = self.layers(load.layers);
            let window = time.backward.compute() + time.recompute.compute();
            let layers = load.layers / f64::from(plan.chunks);
            let one = Tail::of(plan, self.platform, load.weights.dense, load.weights.experts, window, layers);
            data = data.max(one.data);
            optimizer = optimizer.max(one.optimizer);
        }
        data + optimizer
    }

    /// The tail of a device with an even share of the parameters and all the time in the world.
    fn least_tail(&self, plan: &Plan) -> f64 {
        let share = self.model.layers as f64 / f64::from(plan.pipeline);
        let weights = self.weights.layers(share, share * self.experts);
        let tail =
            Tail::of(plan, self.platform, weights.dense, weights.experts, f64::INFINITY, self.model.layers as f64);
        tail.data + tail.optimizer
    }

    fn load(&self, plan: &Plan, even: &Even, d: u32) -> Load {
        let layers = even.device_layers(d);
        let mut weights: StageWeights = self.weights.layers(layers, layers * self.experts);
        let alone = plan.pipeline == 1 && plan.chunks == 1;
        if d == 0 {
            weights.dense += self.weights.first;
        }
        if d == even.last_device() {
            weights.dense += if alone { self.weights.last_alone } else { self.weights.last };
        }
        Load { device: d, layers, weights, last: d == even.last_device() }
    }

    /// Bytes on the fullest device: the first keeps most micro-batches, the last the logits.
    fn fullest(&self, plan: &Plan, even: &Even) -> f64 {
        let of = |d: u32| self.activations.memory(plan, &self.load(plan, even, d)).total();
        of(0).max(of(plan.pipeline - 1))
    }

    /// Most layers that device `d` of the pipeline (one chunk) has room for.
    pub(super) fn room(&self, plan: &Plan, d: u32) -> u64 {
        let (mut low, mut high) = (0u64, self.model.layers);
        while low < high {
            let middle = (low + high).div_ceil(2);
            if self.fits(plan, d, middle) { low = middle } else { high = middle - 1 }
        }
        low
    }

    fn fits(&self, plan: &Plan, d: u32, layers: u64) -> bool {
        let n = layers as f64;
        let mut weights = self.weights.layers(n, n * self.experts);
        let last = d + 1 == plan.pipeline;
        if d == 0 {
            weights.dense += self.weights.first;
        }
        if last {
            weights.dense += if d == 0 { self.weights.last_alone } else { self.weights.last };
        }
        self.activations.memory(plan, &Load { device: d, layers: n, weights, last }).total() <= self.usable
    }

    /// Seconds per micro-batch of one layer, the embedding and the head.
    pub(super) fn layer_and_ends(&self) -> (f64, f64, f64) {
        (ends(&self.layers(1.0)), ends(&self.rates.embedding), ends(&self.rates.head))
    }
}

/// Score of an interleaved pipeline cut otherwise than evenly, and a bound below the cuts that are tried.
#[derive(Clone, Copy)]
struct Uneven {
    step: f64,
    bound: f64,
}

/// Forward, backward and recomputation together.
fn ends(part: &PartTime) -> f64 {
    part.forward.total() + part.backward.total() + part.recompute.total()
}

/// The even cut in closed form: the first `extra` virtual stages have one layer more than `each`.
struct Even {
    each: u64,
    extra: u64,
    pipeline: u32,
    chunks: u32,
    vee: bool,
}

impl Even {
    fn new(layers: u64, plan: &Plan) -> Self {
        let stages = u64::from(plan.virtual_stages());
        Self {
            each: layers / stages,
            extra: layers % stages,
            pipeline: plan.pipeline,
            chunks: plan.chunks,
            vee: plan.schedule == Schedule::ZbV,
        }
    }

    fn stage_layers(&self, k: u64) -> u64 {
        self.each + u64::from(k < self.extra)
    }

    fn device_layers(&self, d: u32) -> f64 {
        let (p, d) = (u64::from(self.pipeline), u64::from(d));
        if self.vee {
            return (self.stage_layers(d) + self.stage_layers(2 * p - 1 - d)) as f64;
        }
        let v = u64::from(self.chunks);
        // Chunks 0..full of this device have one layer more.
        let full = if self.extra > d { (self.extra - d).div_ceil(p).min(v) } else { 0 };
        (v * self.each + full) as f64
    }

    /// Layers of the virtual stages before stage `d` of the first chunk.
    fn layers_before(&self, d: u32) -> f64 {
        let d = u64::from(d);
        (d * self.each + d.min(self.extra)) as f64
    }

    fn last_device(&self) -> u32 {
        if self.vee { 0 } else { self.pipeline - 1 }
    }

    /// The last device with as many layers as the first.
    fn extra_device(&self) -> u32 {
        let p = u64::from(self.pipeline);
        (self.extra.min(p).max(1) - 1) as u32
    }

    /// Transfers that occupy device `d` per micro-batch, both directions.
    fn transfers(&self, d: u32) -> f64 {
        let (p, v) = (self.pipeline, self.chunks);
        if self.vee {
            return if d == 0 || d + 1 == p { 2.0 } else { 4.0 };
        }
        let all = 2.0 * f64::from(v);
        all - f64::from(u32::from(d == 0)) - f64::from(u32::from(d + 1 == p))
    }
}
