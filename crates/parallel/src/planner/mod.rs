//! The planner: how to spread a transformer ([`plan`]) or another network ([`plan_network`]) over a cluster.
//!
//! Every plan of the space ([`Limits`]) is priced in closed form; the most promising are replayed exactly, then every plan
//! whose lower bound is below the best replay, until none is left: the answer is the best of the space, or says how far from
//! it it may be. Stages are cut by dynamic programming. The same input gives the same answer, bit for bit.

mod answer;
mod cut;
mod error;
mod explain;
mod mixed;
mod network;
mod picture;
mod placement;
mod score;
mod search;
mod space;
mod text;

pub use answer::{Alternative, Answer, Search, Sensitivity};
pub use cut::{StageCost, all_cuts, balanced, best_cut};
pub use error::{Misfit, PlanError};
pub use network::{NetworkAlternative, NetworkAnswer, NetworkPlan, Tables, plan_network};
pub use placement::{Placement, Traffic, place};
pub use space::Limits;

use crate::cluster::Cluster;
use crate::cost::{Platform, even_cut};
use crate::memory::stage_memory;
use crate::model::{ModelSpec, Transformer};
use search::{Priced, Scored};

const GIB: f64 = (1u64 << 30) as f64;
/// Devices up to which ranks are placed.
const PLACED: u64 = 16_384;

/// Plans `model` on `cluster`.
///
/// # Errors
/// A description at fault, a network that is no transformer, nothing that divides, or nothing that fits (with the smallest
/// change that would).
pub fn plan(model: &ModelSpec, cluster: &Cluster, limits: &Limits) -> Result<Answer, PlanError> {
    model.validate()?;
    cluster.check()?;
    let shape = model.transformer().ok_or_else(|| PlanError::NotTransformer(model.name.clone()))?;
    let groups = groups(cluster)?;
    match groups.as_slice() {
        [one] => plan_alike(model, shape, cluster, one, limits),
        _ => plan_mixed(model, shape, cluster, &groups, limits),
    }
}

/// Prices every plan of the space on the first machine group without replaying any; how many there are. For measuring.
///
/// # Errors
/// A description at fault or a network that is no transformer.
pub fn score_space(model: &ModelSpec, cluster: &Cluster, limits: &Limits) -> Result<u64, PlanError> {
    let shape = model.transformer().ok_or_else(|| PlanError::NotTransformer(model.name.clone()))?;
    let platform = Platform::of(cluster, 0)?;
    Ok(search::score_all(shape, &platform, limits, platform.devices).examined)
}

/// Platforms by device type; machine groups of the same type and links count as one.
fn groups(cluster: &Cluster) -> Result<Vec<Platform>, PlanError> {
    let mut list: Vec<Platform> = Vec::new();
    for index in 0..cluster.machines.len() {
        let next = Platform::of(cluster, index)?;
        let same = |p: &&mut Platform| Platform { devices: next.devices, ..(**p).clone() } == next;
        match list.iter_mut().find(same) {
            Some(p) => p.devices += next.devices,
            None => list.push(next),
        }
    }
    Ok(list)
}

fn plan_alike(
    model: &ModelSpec,
    shape: &Transformer,
    cluster: &Cluster,
    platform: &Platform,
    limits: &Limits,
) -> Result<Answer, PlanError> {
    let scored = search::score_all(shape, platform, limits, platform.devices);
    if scored.examined == 0 {
        return Err(nothing_divides(model, shape, platform, limits));
    }
    let Some(found) = search::replay_best(shape, platform, limits, &scored.feasible) else {
        return Err(does_not_fit(model, shape, platform, limits, &scored));
    };
    let search = Search {
        examined: scored.examined,
        feasible: scored.feasible.len() as u64,
        replayed: found.replayed,
        bound_s: found.bound,
        gap: found.best.prediction.step_s / found.bound - 1.0,
    };
    let binding = explain::binding(&scored, &found.best.prediction);
    let alternatives = explain::alternatives(shape, platform, limits, &scored, &found.best);
    answer(model, shape, cluster, &[platform], limits, found.best, search, binding, alternatives)
}

fn plan_mixed(
    model: &ModelSpec,
    shape: &Transformer,
    cluster: &Cluster,
    groups: &[Platform],
    limits: &Limits,
) -> Result<Answer, PlanError> {
    let (found, examined, bound) = mixed::search(shape, groups, limits);
    let alone: Vec<(usize, Answer)> = groups
        .iter()
        .enumerate()
        .filter_map(|(g, p)| Some((g, plan_alike(model, shape, cluster, p, limits).ok()?)))
        .collect();
    let best_alone = alone.into_iter().min_by(|a, b| a.1.prediction.step_s.total_cmp(&b.1.prediction.step_s));
    let Some((priced, of)) = found else {
        return best_alone.map(|a| a.1).ok_or_else(|| nothing_divides(model, shape, &groups[0], limits));
    };
    let mut alternatives = Vec::new();
    if let Some((g, other)) = best_alone {
        if other.prediction.step_s <= priced.prediction.step_s {
            return Ok(other);
        }
        let why = format!("{:.1} % slower", 100.0 * (other.prediction.step_s / priced.prediction.step_s - 1.0));
        alternatives.push(Alternative {
            choice: "devices".into(),
            value: format!("{} alone", groups[g].device),
            plan: other.plan,
            step_s: Some(other.prediction.step_s),
            why,
        });
    }
    let step = priced.prediction.step_s;
    let replayed = examined.min(mixed::REPLAYED as u64);
    let search = Search { examined, feasible: examined, replayed, bound_s: bound, gap: step / bound - 1.0 };
    let platforms: Vec<&Platform> = of.iter().map(|&g| &groups[g]).collect();
    let binding = "the slowest stage; layers follow the speed and memory of each device type".to_string();
    let all: u64 = groups.iter().map(|g| g.devices).sum();
    let widened: Vec<Platform> = platforms.iter().map(|p| Platform { devices: all, ..(*p).clone() }).collect();
    let platforms: Vec<&Platform> = widened.iter().collect();
    answer(model, shape, cluster, &platforms, limits, priced, search, binding, alternatives)
}

#[allow(clippy::too_many_arguments, reason = "assembles the answer from the parts of the search, in one place")]
fn answer(
    model: &ModelSpec,
    shape: &Transformer,
    cluster: &Cluster,
    platforms: &[&Platform],
    limits: &Limits,
    best: Priced,
    search: Search,
    binding: String,
    alternatives: Vec<Alternative>,
) -> Result<Answer, PlanError> {
    let peak: f64 = (0..best.plan.pipeline as usize).map(|d| platforms[d.min(platforms.len() - 1)].peak).sum::<f64>()
        * (best.plan.devices() / u64::from(best.plan.pipeline)) as f64;
    let flops = 3.0 * shape.forward_flops(f64::from(limits.global_batch));
    let place =
        (best.plan.devices() <= PLACED).then(|| placement::place(cluster, &Traffic::of(shape, &best.plan, &best.cut)));
    Ok(Answer {
        model: model.name.clone(),
        params: model.params()?,
        sequence: shape.sequence,
        cluster: cluster.name.clone(),
        devices: platforms.iter().map(|p| p.device.clone()).collect(),
        machine: platforms[0].node,
        limits: limits.clone(),
        memory: stage_memory(shape, &best.plan, &best.cut),
        usable: platforms.iter().map(|p| limits.usable_memory * p.memory).collect(),
        utilization: flops / best.prediction.step_s / peak,
        search,
        binding,
        alternatives,
        sensitivity: explain::sensitivity(shape, platforms, &best),
        placement: place,
        constants: platforms[0].constants,
        plan: best.plan,
        cut: best.cut,
        prediction: best.prediction,
    })
}

fn nothing_divides(model: &ModelSpec, shape: &Transformer, platform: &Platform, limits: &Limits) -> PlanError {
    let (devices, batch) = (platform.devices, limits.global_batch);
    let why = format!(
        "no product of degrees that divide {} heads, {} layers at most and the batch gives {devices}; {} devices work",
        shape.heads,
        shape.layers,
        space::most_devices(shape, limits, platform)
    );
    PlanError::NothingDivides { model: model.name.clone(), devices, batch, why }
}

/// How many times as many devices are tried.
const MORE: [u64; 8] = [2, 4, 8, 16, 32, 64, 128, 256];

fn does_not_fit(
    model: &ModelSpec,
    shape: &Transformer,
    platform: &Platform,
    limits: &Limits,
    scored: &Scored,
) -> PlanError {
    let usable = limits.usable_memory * platform.memory;
    let Some(lean) = scored.leanest else { return nothing_divides(model, shape, platform, limits) };
    let cut = even_cut(shape.layers, lean.plan.virtual_stages());
    let (part, bytes) = explain::fullest_part(&stage_memory(shape, &lean.plan, &cut));
    let needed = lean.score.over + usable;
    let fits = |n: &&u64| {
        let devices = platform.devices * **n;
        let wider = Platform { devices, ..platform.clone() };
        wider.has_network() && !search::score_all(shape, &wider, limits, devices).feasible.is_empty()
    };
    let memory = format!(
        "{:.1} GiB of memory a device instead of {:.1}",
        needed / limits.usable_memory / GIB,
        platform.memory / GIB
    );
    let change = match MORE.iter().find(fits) {
        Some(n) => format!("{} such devices instead of {}, or {memory}", platform.devices * n, platform.devices),
        None => memory,
    };
    PlanError::Memory(Box::new(Misfit {
        model: model.name.clone(),
        plan: lean.plan.to_string(),
        needed_gib: needed / GIB,
        usable_gib: usable / GIB,
        device: platform.device.clone(),
        over_gib: lean.score.over / GIB,
        part: format!("{part} {:.1} GiB", bytes / GIB),
        change,
    }))
}
