//! Search over the homogeneous plans: every plan scored, the promising ones replayed, until no other can be better.

use std::collections::BTreeMap;

use crate::cost::{Plan, Platform, Prediction, Timing, even_cut, predict};
use crate::memory::stage_memory;
use crate::model::Transformer;
use crate::schedule::Schedule;

use super::cut::{StageCost, all_cuts, balanced, best_cut, few_cuts};
use super::score::{Prepared, Score};
use super::space::{Limits, layer_keys, plans_of};

/// Cuts tried one by one when there are at most so many.
pub(super) const ALL_CUTS: usize = 400;
/// Plans replayed before the bound decides.
const FIRST: usize = 24;
/// Operations replayed at most.
const OPERATIONS: u64 = 4_000_000;

/// A scored plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) plan: Plan,
    pub(super) score: Score,
}

/// A plan with its cut, replayed.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub(super) plan: Plan,
    pub(super) cut: Vec<u32>,
    pub(super) prediction: Prediction,
}

/// The choices by which alternatives are told apart.
pub(super) const CHOICES: [&str; 8] = [
    "tensor degree",
    "pipeline degree",
    "micro-batch",
    "recomputation",
    "ZeRO stage",
    "schedule",
    "sequence parallelism",
    "context degree",
];

/// The value of each choice, as a sort key and in words.
pub(super) fn choice(plan: &Plan, which: usize) -> (u32, String) {
    let number = |n: u32| (n, n.to_string());
    match which {
        0 => number(plan.tensor),
        1 => number(plan.pipeline),
        2 => number(plan.micro_batch),
        3 => (plan.recompute as u32, format!("{:?}", plan.recompute).to_lowercase()),
        4 => number(plan.zero.into()),
        5 if plan.pipeline == 1 => (99, "none".into()),
        5 => (plan.schedule as u32, plan.schedule.to_string()),
        6 => (u32::from(plan.sequence_parallel), if plan.sequence_parallel { "on" } else { "off" }.into()),
        _ => number(plan.context),
    }
}

/// The best plan with one choice fixed: that fits, and that needs least memory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fixed {
    pub(super) fits: Option<Candidate>,
    pub(super) leanest: Option<Candidate>,
}

/// Everything the scoring pass found.
#[derive(Default)]
pub(super) struct Scored {
    pub(super) examined: u64,
    /// Plans that fit.
    pub(super) feasible: Vec<Candidate>,
    /// Best that fits not, if memory did not count.
    pub(super) fastest_unfit: Option<Candidate>,
    /// Plan that needs least memory.
    pub(super) leanest: Option<Candidate>,
    pub(super) fixed: BTreeMap<(usize, u32), Fixed>,
}

impl Scored {
    fn add(&mut self, candidate: Candidate) {
        self.examined += 1;
        let fits = candidate.score.over <= 0.0;
        let faster = |old: &Option<Candidate>| old.is_none_or(|o| before(&candidate, &o));
        let leaner = |old: &Option<Candidate>| old.is_none_or(|o| candidate.score.over < o.score.over);
        if leaner(&self.leanest) {
            self.leanest = Some(candidate);
        }
        if !fits && faster(&self.fastest_unfit) {
            self.fastest_unfit = Some(candidate);
        }
        for which in 0..CHOICES.len() {
            let fixed = self.fixed.entry((which, key(&candidate.plan, which))).or_default();
            if fits && faster(&fixed.fits) {
                fixed.fits = Some(candidate);
            }
            if leaner(&fixed.leanest) {
                fixed.leanest = Some(candidate);
            }
        }
        if fits {
            self.feasible.push(candidate);
        }
    }
}

/// The sort key of [`choice`] without its words.
fn key(plan: &Plan, which: usize) -> u32 {
    match which {
        0 => plan.tensor,
        1 => plan.pipeline,
        2 => plan.micro_batch,
        3 => plan.recompute as u32,
        4 => plan.zero.into(),
        5 if plan.pipeline == 1 => 99,
        5 => plan.schedule as u32,
        6 => u32::from(plan.sequence_parallel),
        _ => plan.context,
    }
}

/// Faster first; equal times by the plan's own order, so that the answer never depends on chance.
fn before(a: &Candidate, b: &Candidate) -> bool {
    (a.score.step, &a.plan) < (b.score.step, &b.plan)
}

/// Scores every plan of the space on `devices` devices.
pub(super) fn score_all(model: &Transformer, platform: &Platform, limits: &Limits, devices: u64) -> Scored {
    let mut scored = Scored::default();
    for key in layer_keys(model, limits, devices, platform.node) {
        let prepared = Prepared::new(model, &key, platform, limits.usable_memory);
        plans_of(&key, model, limits, devices, |plan| {
            let score = prepared.score(&plan);
            if score.step.is_finite() {
                scored.add(Candidate { plan, score });
            }
        });
    }
    scored
}

/// What the replays proved.
pub(super) struct Found {
    pub(super) best: Priced,
    pub(super) replayed: u64,
    /// No plan of the space takes less.
    pub(super) bound: f64,
}

/// Replays the best scores first, then every plan whose bound lies below the best, until none is left or the work is spent.
pub(super) fn replay_best(
    model: &Transformer,
    platform: &Platform,
    limits: &Limits,
    feasible: &[Candidate],
) -> Option<Found> {
    let mut by_score: Vec<&Candidate> = feasible.iter().collect();
    let first = FIRST.min(by_score.len());
    if first < by_score.len() {
        by_score.select_nth_unstable_by(first, |a, b| order(a, b));
    }
    by_score[..first].sort_by(|a, b| order(a, b));
    let mut best: Option<Priced> = None;
    let (mut replayed, mut spent) = (0u64, 0u64);
    for candidate in &by_score[..first] {
        take(&mut best, price(model, platform, limits, &candidate.plan));
        replayed += 1;
        spent += operations(&candidate.plan);
    }
    let incumbent = best.as_ref().map_or(f64::INFINITY, |b| b.prediction.step_s);
    let mut rest: Vec<&Candidate> = by_score[first..].iter().copied().filter(|c| c.score.bound < incumbent).collect();
    rest.sort_by(|a, b| a.score.bound.total_cmp(&b.score.bound).then(a.plan.cmp(&b.plan)));
    let mut bound = f64::INFINITY;
    for candidate in rest {
        let now = best.as_ref().map_or(f64::INFINITY, |b| b.prediction.step_s);
        if candidate.score.bound >= now {
            break;
        }
        if spent > OPERATIONS {
            bound = candidate.score.bound;
            break;
        }
        take(&mut best, price(model, platform, limits, &candidate.plan));
        replayed += 1;
        spent += operations(&candidate.plan);
    }
    let best = best?;
    let bound = bound.min(best.prediction.step_s);
    Some(Found { best, replayed, bound })
}

fn order(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    a.score.step.total_cmp(&b.score.step).then(a.plan.cmp(&b.plan))
}

fn operations(plan: &Plan) -> u64 {
    3 * u64::from(plan.virtual_stages()) * u64::from(plan.micro_batches())
}

fn take(best: &mut Option<Priced>, new: Option<Priced>) {
    let Some(new) = new else { return };
    let better = best
        .as_ref()
        .is_none_or(|b| (new.prediction.step_s, &new.plan, &new.cut) < (b.prediction.step_s, &b.plan, &b.cut));
    if better {
        *best = Some(new);
    }
}

/// Replays a plan with the best of its cuts that fit: all cuts where they are few, else the even one and the best by
/// dynamic programming. `None` when none fits.
pub(super) fn price(model: &Transformer, platform: &Platform, limits: &Limits, plan: &Plan) -> Option<Priced> {
    let mut best = None;
    for cut in cuts(model, platform, limits, plan) {
        let usable = limits.usable_memory * platform.memory;
        if stage_memory(model, plan, &cut).iter().any(|d| d.total() > usable) {
            continue;
        }
        let Ok(prediction) = predict(model, plan, platform, &cut, Timing::Replay) else { continue };
        take(&mut best, Some(Priced { plan: *plan, cut, prediction }));
    }
    best
}

/// The cut that gives every device as much work as the others, embedding and head counted, its layers spread over its chunks.
fn balanced_chunks(model: &Transformer, platform: &Platform, limits: &Limits, plan: &Plan) -> Vec<u32> {
    let (p, v) = (plan.pipeline, plan.chunks);
    let (layer, first, last) = Prepared::new(model, plan, platform, limits.usable_memory).layer_and_ends();
    let ends = if plan.schedule == Schedule::ZbV { (first + last, 0.0) } else { (first, last) };
    let counts = balanced(model.layers, p, v, layer, ends);
    let mut cut = vec![0u32; plan.virtual_stages() as usize];
    for (d, n) in counts.into_iter().enumerate() {
        for chunk in 0..v {
            let vee = plan.schedule == Schedule::ZbV && chunk == 1;
            let stage = if vee { 2 * p as usize - 1 - d } else { chunk as usize * p as usize + d };
            cut[stage] = (n / u64::from(v) + u64::from(u64::from(chunk) < n % u64::from(v))) as u32;
        }
    }
    cut
}

fn cuts(model: &Transformer, platform: &Platform, limits: &Limits, plan: &Plan) -> Vec<Vec<u32>> {
    let even = even_cut(model.layers, plan.virtual_stages());
    if plan.pipeline == 1 {
        return vec![even];
    }
    if few_cuts(model.layers, plan.virtual_stages(), ALL_CUTS)
        && let Some(all) = u32::try_from(model.layers).ok().and_then(|l| all_cuts(l, plan.virtual_stages(), ALL_CUTS))
    {
        return all;
    }
    if plan.chunks > 1 {
        let cut = balanced_chunks(model, platform, limits, plan);
        return if cut == even { vec![even] } else { vec![even, cut] };
    }
    let prepared = Prepared::new(model, plan, platform, limits.usable_memory);
    let (layer, first, last) = prepared.layer_and_ends();
    let stage = |d: u32| StageCost {
        layer,
        fixed: if d == 0 { first } else { 0.0 } + if d + 1 == plan.pipeline { last } else { 0.0 },
        room: prepared.room(plan, d),
    };
    let stages: Vec<StageCost> = (0..plan.pipeline).map(stage).collect();
    let best = best_cut(model.layers, &stages, f64::from(plan.micro_batches()));
    [Some(even), best].into_iter().flatten().collect()
}
