//! The plans that are considered.

use crate::cost::{Attention, Plan, Platform, Recompute};
use crate::model::Transformer;
use crate::schedule::Schedule;
use serde::{Deserialize, Serialize};

/// What a plan is made for, and what may be chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// B, sequences in a step.
    pub global_batch: u32,
    /// Share of the memory a plan may fill; the rest is for the framework, fragments and communication buffers.
    pub usable_memory: f64,
    /// Attention kernel at hand.
    pub attention: Attention,
    /// Linear layers in eight bits.
    pub float8: bool,
    /// Everything in single precision.
    #[serde(default)]
    pub float32: bool,
    /// The framework reduces gradients while the backward pass runs.
    pub overlap_gradients: bool,
    /// The framework sends activations while kernels run.
    pub overlap_transfers: bool,
    /// Schedules that may be used with several stages.
    pub schedules: Vec<Schedule>,
    /// Recomputation that may be used.
    pub recompute: Vec<Recompute>,
    /// ZeRO stages that may be used.
    pub zero: Vec<u8>,
    /// Tensor degrees that may be used; empty = all that divide.
    pub tensor: Vec<u32>,
    /// Pipeline degrees that may be used; empty = all that divide.
    pub pipeline: Vec<u32>,
    /// Largest micro-batch.
    pub max_micro_batch: u32,
    /// Most model chunks on a device.
    pub max_chunks: u32,
    /// Sequences are split (context parallelism) only from this length on.
    pub context_from: u64,
}

impl Limits {
    /// Everything allowed: 92 % of the memory, gradients reduced beside the backward pass, transfers between kernels.
    pub fn new(global_batch: u32, attention: Attention) -> Self {
        Self {
            global_batch,
            usable_memory: 0.92,
            attention,
            float8: false,
            float32: false,
            overlap_gradients: true,
            overlap_transfers: false,
            schedules: vec![Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZbH1, Schedule::ZbV],
            recompute: vec![Recompute::None, Recompute::Selective, Recompute::Full],
            zero: vec![0, 1, 2, 3],
            tensor: Vec::new(),
            pipeline: Vec::new(),
            max_micro_batch: 64,
            max_chunks: 12,
            context_from: 8192,
        }
    }
}

/// Divisors of `n` in ascending order.
pub(super) fn divisors(n: u64) -> Vec<u32> {
    let mut low: Vec<u64> = (1..).take_while(|i| i * i <= n).filter(|i| n.is_multiple_of(*i)).collect();
    let high: Vec<u64> = low.iter().rev().map(|i| n / i).filter(|j| !low.contains(j)).collect();
    low.extend(high);
    low.into_iter().filter_map(|d| u32::try_from(d).ok()).collect()
}

fn allowed(list: &[u32], value: u32) -> bool {
    list.is_empty() || list.contains(&value)
}

/// What decides the time of a layer: plans that share it are priced together.
pub(super) fn layer_keys(model: &Transformer, limits: &Limits, devices: u64, node: u32) -> Vec<Plan> {
    let mut keys = Vec::new();
    let tensors = divisors(model.heads).into_iter().filter(|&t| {
        t <= node.max(8) && allowed(&limits.tensor, t) && devices.is_multiple_of(t.into()) && splits(model, t)
    });
    for tensor in tensors {
        for context in contexts(model, limits, devices / u64::from(tensor)) {
            for expert in experts(model, devices / u64::from(tensor) / u64::from(context)) {
                for micro_batch in divisors(u64::from(limits.global_batch)) {
                    if micro_batch > limits.max_micro_batch {
                        break;
                    }
                    let base = Plan {
                        tensor,
                        context,
                        expert,
                        micro_batch,
                        attention: limits.attention,
                        float8: limits.float8,
                        float32: limits.float32,
                        overlap_gradients: limits.overlap_gradients,
                        overlap_transfers: limits.overlap_transfers,
                        ..Plan::single(limits.global_batch)
                    };
                    for &recompute in &limits.recompute {
                        keys.push(Plan { recompute, ..base });
                        if tensor > 1 {
                            keys.push(Plan { recompute, sequence_parallel: true, ..base });
                        }
                    }
                }
            }
        }
    }
    keys
}

/// The largest number of devices, at most those there are, for which some plan's degrees divide.
pub(super) fn most_devices(model: &Transformer, limits: &Limits, platform: &Platform) -> u64 {
    let tensors = divisors(model.heads);
    let tensors =
        tensors.iter().filter(|&&t| t <= platform.node.max(8) && allowed(&limits.tensor, t) && splits(model, t));
    let copies = divisors(u64::from(limits.global_batch));
    let mut most = 0;
    for &t in tensors {
        for p in (1..=model.layers).filter(|&p| u32::try_from(p).is_ok_and(|p| allowed(&limits.pipeline, p))) {
            let products = copies.iter().map(|&d| u64::from(d) * u64::from(t) * p);
            most = products.filter(|&n| n <= platform.devices).fold(most, u64::max);
        }
    }
    most
}

/// Whether the tensor degree divides everything it must.
fn splits(model: &Transformer, t: u32) -> bool {
    let t = u64::from(t);
    let kv = model.kv();
    let expert = model.experts.is_none() || model.expert_ffn().is_multiple_of(t);
    (kv.is_multiple_of(t) || t > kv) && model.ffn().is_multiple_of(t) && expert
}

fn contexts(model: &Transformer, limits: &Limits, devices: u64) -> Vec<u32> {
    let long = |c: &u32| {
        *c == 1 || (model.sequence >= limits.context_from && model.sequence / u64::from(*c) >= limits.context_from / 8)
    };
    let powers = (0..10).map(|i| 1u32 << i);
    powers
        .filter(|c| model.sequence.is_multiple_of(u64::from(*c)) && devices.is_multiple_of(u64::from(*c)) && long(c))
        .collect()
}

fn experts(model: &Transformer, devices: u64) -> Vec<u32> {
    match &model.experts {
        None => vec![1],
        Some(e) => divisors(e.count).into_iter().filter(|&n| devices.is_multiple_of(u64::from(n))).collect(),
    }
}

/// Calls `visit` with every plan that shares the layers of `key` and uses all `devices`.
pub(super) fn plans_of(key: &Plan, model: &Transformer, limits: &Limits, devices: u64, mut visit: impl FnMut(Plan)) {
    let rest = devices / u64::from(key.tensor) / u64::from(key.context);
    for pipeline in divisors(rest) {
        if u64::from(pipeline) > model.layers || !allowed(&limits.pipeline, pipeline) {
            continue;
        }
        let Ok(data) = u32::try_from(rest / u64::from(pipeline)) else { continue };
        let per = u64::from(data) * u64::from(key.micro_batch);
        let replicas = u64::from(data) * u64::from(key.context);
        if !u64::from(limits.global_batch).is_multiple_of(per) || !replicas.is_multiple_of(u64::from(key.expert)) {
            continue;
        }
        let plan = Plan { pipeline, data, ..*key };
        for &zero in limits.zero.iter().filter(|&&z| z == 0 || replicas > 1) {
            schedules(&Plan { zero, ..plan }, model, limits, &mut visit);
        }
    }
}

fn schedules(plan: &Plan, model: &Transformer, limits: &Limits, visit: &mut impl FnMut(Plan)) {
    if plan.pipeline == 1 {
        return visit(*plan);
    }
    for &schedule in &limits.schedules {
        match schedule {
            Schedule::Interleaved => {
                let most = (model.layers / u64::from(plan.pipeline)).min(u64::from(limits.max_chunks)) as u32;
                if plan.micro_batches().is_multiple_of(plan.pipeline) {
                    (2..=most).for_each(|chunks| visit(Plan { schedule, chunks, ..*plan }));
                }
            }
            Schedule::ZbV if model.layers < 2 * u64::from(plan.pipeline) => {}
            Schedule::ZbH1 | Schedule::ZbV if plan.recompute == Recompute::Full => {}
            Schedule::ZbV => visit(Plan { schedule, chunks: 2, ..*plan }),
            _ => visit(Plan { schedule, ..*plan }),
        }
    }
}
