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

/// The predicted value of a measured quantity, given seconds of a step; `None` for ratios between rows.
pub fn predicted(case: &Case, measured: &Measured, global_batch: u32, step_s: f64) -> Option<f64> {
    let batch = f64::from(global_batch);
    let devices = case.platform.devices as f64;
    let flops = step_flops(measured.formula.as_deref(), &case.model, batch);
    let tokens = batch * case.model.sequence as f64;
    let name = measured.quantity.as_str();
    let per_device = name.contains("per_gpu") || name.contains("per_device") || measured.unit.contains("/GPU");
    let share = if per_device { devices } else { 1.0 };
    match name {
        "step_time" | "iteration_time" if measured.unit == "ms" => Some(step_s * 1e3),
        "step_time" | "iteration_time" => Some(step_s),
        "aggregate" => Some(flops / step_s / 1e15),
        n if n.starts_with("tflops") => Some(flops / step_s / devices / 1e12),
        n if n.starts_with("percent_of_peak") || n.contains("utilization") || n == "mfu" => {
            Some(100.0 * flops / step_s / devices / case.platform.peak)
        }
        n if n.contains("token") => Some(tokens / step_s / share),
        n if n.contains("sample") || n.contains("sequence") => Some(batch / step_s / share),
        _ => None,
    }
}

/// Seconds of a step that a measured quantity implies; the inverse of [`predicted`].
pub fn implied_step(case: &Case, measured: &Measured, global_batch: u32) -> Option<f64> {
    let at_one = predicted(case, measured, global_batch, 1.0)?;
    let time = measured.quantity.contains("time");
    Some(if time { measured.value / at_one } else { at_one / measured.value })
}
