//! Weak scaling: the same work per device on growing clusters, timed by the cost model.
//!
//! Copies of the model are added (data parallelism); tensor and pipeline degrees and the micro-batches of each copy stay.
//! Efficiency is throughput per device over that of a single copy.

use super::error::{SimulatorError, check};
use crate::cluster::Cluster;
use crate::cost::{Attention, Plan, Platform, Recompute, Timing, even_cut, predict};
use crate::memory::stage_memory;
use crate::model::ModelSpec;
use crate::schedule::Schedule;
use serde::Serialize;

/// How each copy of the model is spread and fed.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Copy {
    /// t.
    pub tensor: u32,
    /// p.
    pub pipeline: u32,
    /// Sequences in a micro-batch.
    pub micro_batch: u32,
    /// Micro-batches of a copy in a step.
    pub micro_batches: u32,
    /// ZeRO stage.
    pub zero: u8,
    /// Gradients are reduced while the backward pass runs.
    pub overlap: bool,
}

/// Factors on assumed constants; 1 leaves them.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Variation {
    /// Network bandwidth.
    pub network: f64,
    /// Bandwidth inside a machine.
    pub machine: f64,
    /// Share of the matrix peak reached.
    pub matrix: f64,
}

impl Default for Variation {
    fn default() -> Self {
        Self { network: 1.0, machine: 1.0, matrix: 1.0 }
    }
}

/// One cluster size.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Point {
    /// Devices.
    pub devices: u64,
    /// Predicted seconds of a step.
    pub step_s: f64,
    /// Throughput per device over that of one copy.
    pub efficiency: f64,
    /// Bytes on the fullest device over its memory; above 1 the copy does not fit.
    pub memory: f64,
}

/// Predicts weak scaling of `model` on clusters of machines of the preset `machine`, with each number of copies.
///
/// # Errors
/// Models that are no transformers, unknown presets, plans that do not fit, factors out of range.
pub fn run(
    model: &ModelSpec,
    machine: &str,
    copy: &Copy,
    copies: &[u32],
    variation: &Variation,
) -> Result<Vec<Point>, SimulatorError> {
    for (field, factor) in
        [("network", variation.network), ("machine", variation.machine), ("matrix", variation.matrix)]
    {
        check(field, factor, 0.01, 100.0)?;
    }
    let alone = step(model, machine, copy, 1, variation)?;
    let at = |&n: &u32| {
        let (devices, step_s, memory) = step(model, machine, copy, n, variation)?;
        Ok(Point { devices, step_s, efficiency: alone.1 / step_s, memory })
    };
    copies.iter().map(at).collect()
}

/// Devices, seconds of a step, share of memory used with `copies` copies.
fn step(
    model: &ModelSpec,
    machine: &str,
    copy: &Copy,
    copies: u32,
    variation: &Variation,
) -> Result<(u64, f64, f64), SimulatorError> {
    let family = || SimulatorError::Family { model: model.name.clone(), expected: "transformer" };
    let shape = model.transformer().ok_or_else(family)?;
    let sequences = u64::from(copies) * u64::from(copy.micro_batch) * u64::from(copy.micro_batches);
    check("sequences in a step", sequences as f64, 1.0, f64::from(u32::MAX))?;
    let plan = Plan {
        data: copies,
        tensor: copy.tensor,
        pipeline: copy.pipeline,
        micro_batch: copy.micro_batch,
        global_batch: sequences as u32,
        zero: copy.zero,
        recompute: Recompute::Full,
        schedule: Schedule::OneFOneB,
        attention: Attention::Unfused,
        overlap_gradients: copy.overlap,
        ..Plan::single(sequences as u32)
    };
    let cluster = Cluster::preset(machine)?.with_devices(plan.devices())?;
    let mut platform = Platform::of(&cluster, 0)?;
    platform.constants.outer *= variation.network;
    platform.constants.inner *= variation.machine;
    platform.constants.matrix = (platform.constants.matrix * variation.matrix).min(1.0);
    let cut = even_cut(shape.layers, plan.virtual_stages());
    let predicted = predict(shape, &plan, &platform, &cut, Timing::Closed)?;
    let fullest = stage_memory(shape, &plan, &cut).iter().map(|m| m.total()).fold(0.0, f64::max);
    Ok((plan.devices(), predicted.step_s, fullest / platform.memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> Copy {
        Copy { tensor: 8, pipeline: 24, micro_batch: 1, micro_batches: 48, zero: 0, overlap: false }
    }

    fn ernie(copy: &Copy, copies: &[u32], variation: &Variation) -> Vec<Point> {
        run(&ModelSpec::preset("ernie-260b").unwrap(), "ascend910", copy, copies, variation).unwrap()
    }

    #[test]
    fn the_published_91_7_percent_lies_within_the_bracket_at_1920_devices() {
        let low = ernie(&copy(), &[10], &Variation::default())[0];
        let high = ernie(&Copy { micro_batches: 96, ..copy() }, &[10], &Variation::default())[0];
        assert_eq!(low.devices, 1920);
        assert!(low.efficiency < 0.917 && 0.917 < high.efficiency, "{} to {}", low.efficiency, high.efficiency);
        assert!(low.memory < 1.0, "{}", low.memory);
    }

    #[test]
    fn one_copy_is_the_reference_and_efficiency_falls_with_copies() {
        let points = ernie(&copy(), &[1, 2, 5, 10, 20], &Variation::default());
        assert_eq!(points[0].efficiency, 1.0);
        assert!(points.windows(2).all(|w| w[1].efficiency <= w[0].efficiency + 1e-12));
    }

    #[test]
    fn a_faster_network_and_more_micro_batches_raise_it() {
        let base = ernie(&copy(), &[10], &Variation::default())[0].efficiency;
        let fast = ernie(&copy(), &[10], &Variation { network: 2.0, ..Variation::default() })[0].efficiency;
        let longer = ernie(&Copy { micro_batches: 192, ..copy() }, &[10], &Variation::default())[0].efficiency;
        assert!(fast > base && longer > base, "{base} {fast} {longer}");
    }

    #[test]
    fn what_cannot_be_is_said() {
        let resnet = ModelSpec::preset("resnet-50").unwrap();
        let error = run(&resnet, "ascend910", &copy(), &[1], &Variation::default()).unwrap_err().to_string();
        assert!(error.contains("expected a transformer"), "{error}");
        let spec = ModelSpec::preset("ernie-260b").unwrap();
        assert!(run(&spec, "abacus", &copy(), &[1], &Variation::default()).is_err());
        assert!(run(&spec, "ascend910", &copy(), &[1], &Variation { network: 0.0, ..Variation::default() }).is_err());
        assert!(run(&spec, "ascend910", &Copy { tensor: 7, ..copy() }, &[1], &Variation::default()).is_err());
    }
}
