//! Plans for networks that are no transformers: ResNet, readers, recommenders.
//!
//! The captured graph is a chain of units; a plan is data x pipeline degrees, micro-batch, ZeRO stage and, for recommenders,
//! where the tables live. There are few such plans, so every one is cut exactly and replayed: the answer is the best of the
//! space. Their operators are not split over devices (convolutions and recurrent layers of these sizes gain nothing by it).

mod price;
mod text;
mod units;

pub use price::{NetworkPlan, Tables};

use std::collections::BTreeMap;

use serde::Serialize;

use super::answer::{Search, Sensitivity};
use super::error::{Misfit, PlanError};
use super::space::{Limits, divisors};
use crate::cluster::Cluster;
use crate::cost::Platform;
use crate::graph::{GraphError, capture};
use crate::memory::MemoryParts;
use crate::model::ModelSpec;
use crate::schedule::Pipeline;
use price::{Priced, Pricer};
use units::{Speed, Unit, units};

const GIB: f64 = (1u64 << 30) as f64;
/// Micro-batches tried: the share of a copy, its half, and so on.
const HALVINGS: u32 = 14;
/// Change of a constant for the numerical derivative.
const NUDGE: f64 = 0.01;

/// A plan that explains itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkAnswer {
    /// Model.
    pub model: String,
    /// Parameters of the model.
    pub params: u64,
    /// Cluster.
    pub cluster: String,
    /// Device type.
    pub device: String,
    /// Devices of a machine.
    pub machine: u32,
    /// The plan.
    pub plan: NetworkPlan,
    /// First operator of each stage.
    pub stages: Vec<String>,
    /// Seconds of a step.
    pub step_s: f64,
    /// Seconds by part, on the busiest device.
    pub parts: Vec<(&'static str, f64)>,
    /// Memory of each pipeline device.
    pub memory: Vec<MemoryParts>,
    /// Usable bytes of a device.
    pub usable: f64,
    /// Model flops (forward and backward) over peak.
    pub utilization: f64,
    /// What the search did.
    pub search: Search,
    /// What binds.
    pub binding: String,
    /// The best plan for every other value of every choice.
    pub alternatives: Vec<NetworkAlternative>,
    /// Percent change of the step for one percent change of a constant.
    pub sensitivity: Vec<Sensitivity>,
    /// For replay and timeline.
    #[serde(skip)]
    pub pipeline: Pipeline,
}

/// The best plan with one choice made otherwise.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NetworkAlternative {
    /// Which choice.
    pub choice: &'static str,
    /// Its other value.
    pub value: String,
    /// The plan.
    pub plan: NetworkPlan,
    /// Its step, seconds; absent when it does not fit.
    pub step_s: Option<f64>,
    /// Why it was rejected.
    pub why: String,
}

impl NetworkAnswer {
    /// Samples per second over all devices.
    pub fn samples_per_second(&self) -> f64 {
        f64::from(self.plan.global_batch) / self.step_s
    }

    /// JSON, keys in the order of the fields.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(self)
    }
}

/// Plans any network on a cluster of one device type.
///
/// # Errors
/// A description at fault, devices of several types, nothing that divides, or nothing that fits.
pub fn plan_network(model: &ModelSpec, cluster: &Cluster, limits: &Limits) -> Result<NetworkAnswer, PlanError> {
    model.validate()?;
    cluster.check()?;
    let groups = super::groups(cluster)?;
    let [platform] = groups.as_slice() else {
        return Err(PlanError::SeveralTypes { model: model.name.clone(), types: groups.len() });
    };
    let chains = chains(model, platform, limits)?;
    let all = price_all(platform, limits, &chains);
    let examined = all.len() as u64;
    let Some(leanest) = all.iter().min_by(|a, b| a.over.total_cmp(&b.over).then(a.plan.cmp(&b.plan))) else {
        return Err(nothing_divides(model, platform, limits));
    };
    let fits = |p: &&Priced| p.over <= 0.0;
    let best = all.iter().filter(fits).min_by(|a, b| faster(a, b));
    let Some(best) = best else { return Err(does_not_fit(model, platform, limits, leanest)) };
    let search = Search {
        examined,
        feasible: all.iter().filter(fits).count() as u64,
        replayed: examined,
        bound_s: best.step,
        gap: 0.0,
    };
    let chain = &chains[&best.plan.micro_batch];
    let mut at = 0;
    let stages = best.cut.iter().map(|n| {
        at += n;
        chain[at - n].name.clone()
    });
    let flops = 3.0 * model.forward_flops(f64::from(limits.global_batch));
    let peak = if limits.float32 { platform.vector } else { platform.peak };
    Ok(NetworkAnswer {
        model: model.name.clone(),
        params: model.params()?,
        cluster: cluster.name.clone(),
        device: platform.device.clone(),
        machine: platform.node,
        plan: best.plan,
        stages: stages.collect(),
        step_s: best.step,
        parts: best.parts.clone(),
        memory: best.memory.clone(),
        usable: limits.usable_memory * platform.memory,
        utilization: flops / best.step / (peak * platform.devices as f64),
        search,
        binding: binding(&all, best),
        alternatives: alternatives(&all, best),
        sensitivity: sensitivity(model, platform, limits, best),
        pipeline: best.pipeline.clone(),
    })
}

fn faster(a: &Priced, b: &Priced) -> std::cmp::Ordering {
    a.step.total_cmp(&b.step).then(a.plan.cmp(&b.plan))
}

/// The chain of units for every micro-batch that some plan uses.
fn chains(model: &ModelSpec, platform: &Platform, limits: &Limits) -> Result<BTreeMap<u32, Vec<Unit>>, PlanError> {
    let mut chains = BTreeMap::new();
    for (data, _) in degrees(platform, limits) {
        for b in micro_batches(limits.global_batch / data) {
            if let std::collections::btree_map::Entry::Vacant(slot) = chains.entry(b) {
                slot.insert(chain(model, platform, limits, b)?);
            }
        }
    }
    Ok(chains)
}

fn chain(model: &ModelSpec, platform: &Platform, limits: &Limits, b: u32) -> Result<Vec<Unit>, PlanError> {
    let graph = capture(model, u64::from(b)).map_err(|e: GraphError| PlanError::Capture(e.to_string()))?;
    Ok(units(&graph, &Speed { platform, float32: limits.float32 }))
}

/// Data and pipeline degrees whose product is the number of devices and that divide the batch.
fn degrees(platform: &Platform, limits: &Limits) -> Vec<(u32, u32)> {
    let allowed = |p: &u32| limits.pipeline.is_empty() || limits.pipeline.contains(p);
    let pair = |p: u32| Some((u32::try_from(platform.devices / u64::from(p)).ok()?, p));
    let divides = |(d, _): &(u32, u32)| limits.global_batch.is_multiple_of(*d);
    divisors(platform.devices).into_iter().filter(|p| *p <= 64 && allowed(p)).filter_map(pair).filter(divides).collect()
}

/// The share of a copy, its half, and so on.
fn micro_batches(share: u32) -> impl Iterator<Item = u32> {
    (0..HALVINGS).map_while(move |k| (share >> k > 0 && share.is_multiple_of(1 << k)).then_some(share >> k))
}

fn price_all(platform: &Platform, limits: &Limits, chains: &BTreeMap<u32, Vec<Unit>>) -> Vec<Priced> {
    let pricer = Pricer {
        platform,
        usable: limits.usable_memory * platform.memory,
        float32: limits.float32,
        overlap: limits.overlap_gradients,
    };
    let mut all = Vec::new();
    for (data, pipeline) in degrees(platform, limits) {
        for micro_batch in micro_batches(limits.global_batch / data) {
            let units = &chains[&micro_batch];
            let tables: &[Tables] = match units.iter().any(|u| u.looked_up > 0.0) {
                false => &[Tables::None],
                true if data > 1 => &[Tables::Replicated, Tables::Split],
                true => &[Tables::Replicated],
            };
            for &zero in limits.zero.iter().filter(|&&z| z == 0 || data > 1) {
                for &tables in tables {
                    let plan =
                        NetworkPlan { data, pipeline, micro_batch, global_batch: limits.global_batch, zero, tables };
                    all.extend(pricer.price(&plan, units));
                }
            }
        }
    }
    all
}

/// The choices by which alternatives are told apart.
const CHOICES: [&str; 4] = ["pipeline degree", "micro-batch", "ZeRO stage", "tables"];

fn value(plan: &NetworkPlan, which: usize) -> (u32, String) {
    match which {
        0 => (plan.pipeline, plan.pipeline.to_string()),
        1 => (plan.micro_batch, plan.micro_batch.to_string()),
        2 => (plan.zero.into(), plan.zero.to_string()),
        _ => (plan.tables as u32, format!("{:?}", plan.tables).to_lowercase()),
    }
}

fn alternatives(all: &[Priced], best: &Priced) -> Vec<NetworkAlternative> {
    let mut list = Vec::new();
    for (which, &choice) in CHOICES.iter().enumerate() {
        let mut groups: BTreeMap<u32, Vec<&Priced>> = BTreeMap::new();
        all.iter().for_each(|p| groups.entry(value(&p.plan, which).0).or_default().push(p));
        for group in groups.into_values() {
            let fitting = group.iter().filter(|p| p.over <= 0.0).min_by(|a, b| faster(a, b));
            let lean = group.iter().min_by(|a, b| a.over.total_cmp(&b.over).then(a.plan.cmp(&b.plan)));
            let (Some(one), fits) = (fitting.or(lean), fitting.is_some()) else { continue };
            if value(&one.plan, which).0 == value(&best.plan, which).0 {
                continue;
            }
            let why = if fits { slower(best, one) } else { format!("does not fit: {:.1} GiB over", one.over / GIB) };
            let step_s = fits.then_some(one.step);
            list.push(NetworkAlternative { choice, value: value(&one.plan, which).1, plan: one.plan, step_s, why });
        }
    }
    list
}

/// By how much, and which part grows most.
fn slower(best: &Priced, other: &Priced) -> String {
    let share = 100.0 * (other.step / best.step - 1.0);
    let rises = best.parts.iter().zip(&other.parts).map(|(a, b)| (a.0, b.1 - a.1));
    let (part, more) = rises.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0));
    if share < 0.05 { "as fast".into() } else { format!("{share:.1} % slower: {part} {more:+.4} s") }
}

/// The largest part of the step, and what memory keeps away.
fn binding(all: &[Priced], best: &Priced) -> String {
    let (part, seconds) = best.parts.iter().copied().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0));
    let largest = format!("{part}, {:.0} % of the step", 100.0 * seconds / best.step);
    let unfit = all.iter().filter(|p| p.over > 0.0 && p.step < best.step).min_by(|a, b| faster(a, b));
    match unfit {
        None => format!("{largest}; more memory would not help"),
        Some(p) => format!(
            "{largest}; memory: {:.1} GiB more on a device would allow [{}], {:.1} % faster",
            p.over / GIB,
            p.plan,
            100.0 * (1.0 - p.step / best.step)
        ),
    }
}

fn sensitivity(model: &ModelSpec, platform: &Platform, limits: &Limits, best: &Priced) -> Vec<Sensitivity> {
    let step = |changed: &Platform| {
        let pricer = Pricer {
            platform: changed,
            usable: limits.usable_memory * platform.memory,
            float32: limits.float32,
            overlap: limits.overlap_gradients,
        };
        let units = chain(model, changed, limits, best.plan.micro_batch).ok();
        units.and_then(|u| pricer.price(&best.plan, &u)).map_or(f64::NAN, |p| p.step)
    };
    let entry = |constant: &str, value: f64, change: &dyn Fn(f64) -> Platform| {
        let up = 1.0 + NUDGE;
        let elasticity = (step(&change(up)).ln() - step(&change(1.0 / up)).ln()) / (2.0 * up.ln());
        Sensitivity { constant: constant.into(), value, elasticity }
    };
    let c = platform.constants;
    let with = |f: &dyn Fn(&mut Platform)| {
        let mut p = platform.clone();
        f(&mut p);
        p
    };
    vec![
        entry("matrix rate, TFLOP/s reached", platform.peak * c.matrix / 1e12, &|f| with(&|p| p.constants.matrix *= f)),
        entry("memory bandwidth, GB/s", platform.memory_rate / 1e9, &|f| with(&|p| p.memory_rate *= f)),
        entry("links inside a machine, factor", c.inner, &|f| with(&|p| p.constants.inner *= f)),
        entry("network, factor", c.outer, &|f| with(&|p| p.constants.outer *= f)),
        entry("kernel launch, us", c.launch_s * 1e6, &|f| with(&|p| p.constants.launch_s *= f)),
    ]
}

fn nothing_divides(model: &ModelSpec, platform: &Platform, limits: &Limits) -> PlanError {
    let (devices, batch) = (platform.devices, limits.global_batch);
    let most = divisors(u64::from(batch)).into_iter().filter(|d| u64::from(*d) <= devices).max().unwrap_or(1);
    let why =
        format!("no data degree divides the batch, or there are fewer operators than stages; {most} devices work");
    PlanError::NothingDivides { model: model.name.clone(), devices, batch, why }
}

fn does_not_fit(model: &ModelSpec, platform: &Platform, limits: &Limits, lean: &Priced) -> PlanError {
    let usable = limits.usable_memory * platform.memory;
    let needed = lean.over + usable;
    let fullest = lean.memory.iter().max_by(|a, b| a.total().total_cmp(&b.total())).copied().unwrap_or_default();
    let parts = fullest.named();
    let (part, bytes) = parts.iter().max_by(|a, b| a.1.total_cmp(&b.1)).copied().unwrap_or(("nothing", 0.0));
    let memory = needed / limits.usable_memory / GIB;
    let mut change = format!("{memory:.1} GiB of memory a device instead of {:.1}", platform.memory / GIB);
    let fits = |n: &&u64| {
        let wider = Platform { devices: platform.devices * **n, ..platform.clone() };
        let chains = chains(model, &wider, limits).unwrap_or_default();
        wider.has_network() && price_all(&wider, limits, &chains).iter().any(|p| p.over <= 0.0)
    };
    if let Some(n) = [2u64, 4, 8, 16, 32, 64].iter().find(fits) {
        change = format!("{} such devices instead of {}, or {change}", platform.devices * n, platform.devices);
    }
    PlanError::Memory(Box::new(Misfit {
        model: model.name.clone(),
        plan: lean.plan.to_string(),
        needed_gib: needed / GIB,
        usable_gib: usable / GIB,
        device: platform.device.clone(),
        over_gib: lean.over / GIB,
        part: format!("{part} {:.1} GiB", bytes / GIB),
        change,
    }))
}

#[cfg(test)]
mod tests;
