//! From a predicted step time to the quantity that was measured.

use crate::model::Transformer;

use super::row::{Case, Measured};

/// Flops of one step as the formula `id` counts them; unknown ids count three forward passes.
///
/// | id | flops |
/// |---|---|
/// | 72 | 72 B s L h^2 (1 + s/6h + V/12Lh) |
/// | 96 | 96 B s L h^2 (1 + s/6h + V/16Lh) |
/// | 72sel | 72 B s L h^2 (1 + s/3h + V/12Lh) |
pub fn step_flops(id: Option<&str>, model: &Transformer, batch: f64) -> f64 {
    let (l, h, s, v) = (model.layers as f64, model.hidden as f64, model.sequence as f64, model.vocabulary as f64);
    let form = |lead: f64, attention: f64, head: f64| {
        lead * batch * s * l * h * h * (1.0 + s / (attention * h) + v / (head * l * h))
    };
    match id {
        Some("72") if plain(model) => form(72.0, 6.0, 12.0),
        Some("96") if plain(model) => form(96.0, 6.0, 16.0),
        Some("72sel") if plain(model) => form(72.0, 3.0, 12.0),
        Some("96") => 4.0 * model.forward_flops(batch) - model.logits_flops(batch),
        _ => 3.0 * model.forward_flops(batch),
    }
}

/// Whether the formulas' assumptions hold: two feed-forward matrices of width 4h, as many key heads as query heads.
fn plain(model: &Transformer) -> bool {
    !model.gated && model.experts.is_none() && model.ffn() == 4 * model.hidden && model.kv() == model.heads
}

/// The predicted value of a measured quantity in its own unit, given seconds of a step; `None` for ratios between rows and
/// for units that do not belong to the quantity.
pub fn predicted(case: &Case, measured: &Measured, global_batch: u32, step_s: f64) -> Option<f64> {
    let batch = f64::from(global_batch);
    let devices = case.platform.devices as f64;
    let flops = step_flops(measured.formula.as_deref(), &case.model, batch);
    let tokens = batch * case.model.sequence as f64;
    let (name, unit) = (measured.quantity.as_str(), measured.unit.as_str());
    let of_device = |word: &str| word.contains("per_gpu") || word.contains("per_device");
    let per_device = of_device(name) || ["/gpu", "/device"].iter().any(|p| unit.to_lowercase().contains(p));
    let share = if per_device { devices } else { 1.0 };
    match name {
        "step_time" | "iteration_time" => Some(step_s / seconds(unit)?),
        "aggregate" => Some(flops / step_s / flop_unit(unit)?),
        n if n.starts_with("tflops") => Some(flops / step_s / devices / flop_unit(unit).unwrap_or(1e12)),
        n if n.starts_with("percent_of_peak") || n.contains("utilization") || n == "mfu" || n == "hfu" => {
            let peak = measured.peak.map_or(case.platform.peak, |p| p * 1e12);
            let whole = if unit == "%" || measured.value > 1.5 { 100.0 } else { 1.0 };
            Some(whole * flops / step_s / devices / peak)
        }
        n if n.contains("token") => Some(tokens / step_s / share / thousands(unit)),
        n if n.contains("sample") || n.contains("sequence") => Some(batch / step_s / share),
        _ => None,
    }
}

/// Seconds that a unit of time stands for; seconds where the row has no unit.
fn seconds(unit: &str) -> Option<f64> {
    match unit {
        "" | "s" | "sec" | "seconds" => Some(1.0),
        "ms" => Some(1e-3),
        "us" => Some(1e-6),
        "min" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    }
}

/// FLOP/s that a unit stands for, by its prefix.
fn flop_unit(unit: &str) -> Option<f64> {
    let prefix = unit.chars().next()?;
    let factor =
        [('G', 1e9), ('T', 1e12), ('P', 1e15), ('E', 1e18)].into_iter().find(|(letter, _)| *letter == prefix)?.1;
    unit[1..].to_uppercase().starts_with("F").then_some(factor)
}

/// A thousand where the unit says so, such as `ktokens/s`.
fn thousands(unit: &str) -> f64 {
    if unit.starts_with('k') { 1e3 } else { 1.0 }
}

/// Seconds of a step that a measured quantity implies; the inverse of [`predicted`].
pub fn implied_step(case: &Case, measured: &Measured, global_batch: u32) -> Option<f64> {
    let at_one = predicted(case, measured, global_batch, 1.0)?;
    let time = measured.quantity.contains("time");
    Some(if time { measured.value / at_one } else { at_one / measured.value })
}
