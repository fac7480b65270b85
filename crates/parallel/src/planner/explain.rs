//! Why this plan and not another.

use crate::cost::{Constants, Plan, Platform, Prediction, StepParts, Timing, predict_mixed};
use crate::memory::{MemoryParts, stage_memory};
use crate::model::Transformer;

use super::answer::{Alternative, Sensitivity};
use super::search::{CHOICES, Candidate, Priced, Scored, choice, price};
use super::space::Limits;

const GIB: f64 = (1u64 << 30) as f64;
/// Change of a constant for the numerical derivative.
const NUDGE: f64 = 0.01;

/// The best plan for every other value of every choice, nearest first within a choice.
pub(super) fn alternatives(
    model: &Transformer,
    platform: &Platform,
    limits: &Limits,
    scored: &Scored,
    best: &Priced,
) -> Vec<Alternative> {
    let mut list = Vec::new();
    for (&(which, value), fixed) in &scored.fixed {
        if choice(&best.plan, which).0 == value {
            continue;
        }
        let one = match (fixed.fits, fixed.leanest) {
            (Some(c), _) => slower(model, platform, limits, &c, best),
            (None, Some(c)) => Some((c.plan, None, too_large(model, &c.plan, c.score.over))),
            (None, None) => None,
        };
        if let Some((plan, step_s, why)) = one {
            let value = choice(&plan, which).1;
            list.push(Alternative { choice: CHOICES[which].into(), value, plan, step_s, why });
        }
    }
    list
}

fn slower(
    model: &Transformer,
    platform: &Platform,
    limits: &Limits,
    candidate: &Candidate,
    best: &Priced,
) -> Option<(Plan, Option<f64>, String)> {
    let priced = price(model, platform, limits, &candidate.plan)?;
    let (step, least) = (priced.prediction.step_s, best.prediction.step_s);
    let share = 100.0 * (step / least - 1.0);
    let (part, more) = largest_rise(&best.prediction.parts, &priced.prediction.parts);
    let why = if share < 0.05 { "as fast".into() } else { format!("{share:.1} % slower: {part} {:+.3} s", more) };
    Some((candidate.plan, Some(step), why))
}

/// The part of the step that grows most.
fn largest_rise(from: &StepParts, to: &StepParts) -> (&'static str, f64) {
    let rises = from.named().into_iter().zip(to.named()).map(|((name, a), (_, b))| (name, b - a));
    rises.max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0))
}

fn too_large(model: &Transformer, plan: &Plan, over: f64) -> String {
    let cut = crate::cost::even_cut(model.layers, plan.virtual_stages());
    let (part, bytes) = fullest_part(&stage_memory(model, plan, &cut));
    format!("does not fit: {:.1} GiB over, {part} take {:.1} GiB", over / GIB, bytes / GIB)
}

/// The largest part of the fullest device.
pub(super) fn fullest_part(memory: &[MemoryParts]) -> (&'static str, f64) {
    let fullest = memory.iter().max_by(|a, b| a.total().total_cmp(&b.total()));
    let parts = fullest.map(|m| m.named()).unwrap_or_default();
    parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0))
}

/// What would have to change for a faster plan.
pub(super) fn binding(scored: &Scored, prediction: &Prediction) -> String {
    let parts = prediction.parts.named();
    let (name, seconds) = parts.into_iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap_or(("nothing", 0.0));
    let share = 100.0 * seconds / prediction.step_s;
    let largest = format!("the largest part of the step is {name} ({share:.0} %)");
    match scored.fastest_unfit.filter(|c| c.score.step < prediction.step_s * 0.9995) {
        Some(c) => format!(
            "memory: {:.1} GiB more on each device would allow {} at about {:.4} s ({:.1} % faster); {largest}",
            c.score.over / GIB,
            c.plan,
            c.score.step,
            100.0 * (1.0 - c.score.step / prediction.step_s)
        ),
        None => format!("not memory: no plan that needs more is faster; {largest}"),
    }
}

/// Reaction of the step to each constant, the plan and its cut held.
pub(super) fn sensitivity(model: &Transformer, platforms: &[&Platform], best: &Priced) -> Vec<Sensitivity> {
    let Some(first) = platforms.first() else { return Vec::new() };
    let c = first.constants;
    let step = |change: &dyn Fn(&Platform) -> Platform| {
        let moved: Vec<Platform> = platforms.iter().map(|p| change(p)).collect();
        let all: Vec<&Platform> = moved.iter().collect();
        predict_mixed(model, &best.plan, &all, &best.cut, Timing::Replay).map_or(f64::NAN, |p| p.step_s)
    };
    let slope = |change: &dyn Fn(&Platform, f64) -> Platform| {
        let (up, down) = (1.0 + NUDGE, 1.0 / (1.0 + NUDGE));
        let rise = step(&|p| change(p, up)).ln() - step(&|p| change(p, down)).ln();
        rise / (2.0 * up.ln())
    };
    let constant = |set: fn(&mut Constants, f64)| {
        move |p: &Platform, f: f64| {
            let mut c = p.constants;
            set(&mut c, f);
            p.with(c)
        }
    };
    let entry = |name: &str, value: f64, elasticity: f64| Sensitivity { constant: name.into(), value, elasticity };
    vec![
        entry("matrix peak, TFLOP/s", first.peak / 1e12, slope(&|p, f| Platform { peak: p.peak * f, ..p.clone() })),
        entry("share of it reached", c.matrix, slope(&constant(|c, f| c.matrix *= f))),
        entry("side that halves the rate", c.half_size, slope(&constant(|c, f| c.half_size *= f))),
        entry(
            "memory bandwidth, GB/s",
            first.memory_rate / 1e9,
            slope(&|p, f| Platform { memory_rate: p.memory_rate * f, ..p.clone() }),
        ),
        entry("links inside a machine, factor", c.inner, slope(&constant(|c, f| c.inner *= f))),
        entry("network, factor", c.outer, slope(&constant(|c, f| c.outer *= f))),
        entry("slowdown of hidden collectives", c.overlap_slowdown, slope(&constant(|c, f| c.overlap_slowdown *= f))),
        entry("kernel launch, us", c.launch_s * 1e6, slope(&constant(|c, f| c.launch_s *= f))),
    ]
}
