//! Pipelines over machines of different types: device groups in order, each stage inside one group.

use crate::cost::{Plan, Platform, Timing, predict_mixed};
use crate::memory::stage_memory;
use crate::model::Transformer;
use crate::schedule::Schedule;

use super::cut::{StageCost, best_cut};
use super::score::Prepared;
use super::search::Priced;
use super::space::{Limits, divisors, layer_keys};

/// Plans replayed.
pub(super) const REPLAYED: usize = 48;

/// A pipeline over groups: `stages[g]` of its stages run on group `g`.
#[derive(Clone, Debug)]
struct Spread {
    plan: Plan,
    stages: Vec<u32>,
    score: f64,
}

/// The best pipeline over all groups of devices, in the order given: 1F1B, uneven cut by dynamic programming with each
/// stage's own speed and memory. Returns it with the group of each stage, how many spreads were examined, and a bound below
/// all of them (all layers at the speed of all stages together, memory and the ends of the network left out).
pub(super) fn search(
    model: &Transformer,
    groups: &[Platform],
    limits: &Limits,
) -> (Option<(Priced, Vec<usize>)>, u64, f64) {
    let mut spreads = spreads(model, groups, limits);
    let examined = spreads.len() as u64;
    let work = |s: &Spread| {
        let m = f64::from(s.plan.micro_batches());
        s.score * m / (m + f64::from(s.plan.pipeline) - 1.0)
    };
    let bound = spreads.iter().map(work).fold(f64::INFINITY, f64::min);
    spreads.sort_by(|a, b| a.score.total_cmp(&b.score).then(a.plan.cmp(&b.plan)));
    let mut best: Option<(Priced, Vec<usize>)> = None;
    for spread in spreads.iter().take(REPLAYED) {
        let Some((priced, of)) = price(model, groups, limits, spread) else { continue };
        if best.as_ref().is_none_or(|(b, _)| priced.prediction.step_s < b.prediction.step_s) {
            best = Some((priced, of));
        }
    }
    (best, examined, bound)
}

fn spreads(model: &Transformer, groups: &[Platform], limits: &Limits) -> Vec<Spread> {
    let node = groups.iter().map(|g| g.node).min().unwrap_or(1);
    let devices: u64 = groups.iter().map(|g| g.devices).sum();
    let mut found = Vec::new();
    for key in layer_keys(model, limits, devices, node) {
        if key.context > 1 || key.expert > 1 {
            continue;
        }
        for data in divisors(u64::from(limits.global_batch) / u64::from(key.micro_batch)) {
            let one = u64::from(data) * u64::from(key.tensor);
            let stages: Vec<u32> = groups.iter().map(|g| (g.devices / one) as u32).collect();
            let pipeline: u32 = stages.iter().sum();
            let whole = groups.iter().all(|g| g.devices.is_multiple_of(one));
            if !whole || pipeline < 2 || u64::from(pipeline) > model.layers {
                continue;
            }
            for &zero in limits.zero.iter().filter(|&&z| z == 0 || data > 1) {
                let plan = Plan { data, pipeline, zero, schedule: Schedule::OneFOneB, ..key };
                let score = balanced(model, groups, limits, &plan, &stages);
                found.push(Spread { plan, stages: stages.clone(), score });
            }
        }
    }
    found
}

/// Seconds if layers could be cut at will: total speed of all stages.
fn balanced(model: &Transformer, groups: &[Platform], limits: &Limits, plan: &Plan, stages: &[u32]) -> f64 {
    let speed: f64 = groups
        .iter()
        .zip(stages)
        .map(|(g, &n)| f64::from(n) / Prepared::new(model, plan, g, limits.usable_memory).layer_and_ends().0)
        .sum();
    let m = f64::from(plan.micro_batches());
    model.layers as f64 / speed * (m + f64::from(plan.pipeline) - 1.0)
}

fn price(model: &Transformer, groups: &[Platform], limits: &Limits, spread: &Spread) -> Option<(Priced, Vec<usize>)> {
    let plan = &spread.plan;
    let of: Vec<usize> =
        spread.stages.iter().enumerate().flat_map(|(g, &n)| std::iter::repeat_n(g, n as usize)).collect();
    let prepared: Vec<Prepared<'_>> =
        groups.iter().map(|g| Prepared::new(model, plan, g, limits.usable_memory)).collect();
    let stage = |(d, &g): (usize, &usize)| {
        let (layer, first, last) = prepared[g].layer_and_ends();
        let fixed = if d == 0 { first } else { 0.0 } + if d + 1 == of.len() { last } else { 0.0 };
        StageCost { layer, fixed, room: prepared[g].room(plan, d as u32) }
    };
    let stages: Vec<StageCost> = of.iter().enumerate().map(stage).collect();
    let cut = best_cut(model.layers, &stages, f64::from(plan.micro_batches()))?;
    let fits = stage_memory(model, plan, &cut)
        .iter()
        .zip(&of)
        .all(|(m, &g)| m.total() <= limits.usable_memory * groups[g].memory);
    if !fits {
        return None;
    }
    // Every stage sees the whole pipeline's devices when it is checked.
    let all: u64 = groups.iter().map(|g| g.devices).sum();
    let widened: Vec<Platform> = groups.iter().map(|g| Platform { devices: all, ..g.clone() }).collect();
    let platforms: Vec<&Platform> = of.iter().map(|&g| &widened[g]).collect();
    let prediction = predict_mixed(model, plan, &platforms, &cut, Timing::Replay).ok()?;
    Some((Priced { plan: *plan, cut, prediction }, of))
}
