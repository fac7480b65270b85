//! What a plan must satisfy before it has a price.

use crate::model::Transformer;
use crate::schedule::Schedule;

use super::error::CostError;
use super::plan::{Plan, Recompute};
use super::platform::Platform;

/// Checks that `plan` can run `model` on `platform` with `cut[k]` layers on virtual stage `k`. Memory is checked apart.
///
/// # Errors
/// The first constraint violated.
pub fn check(model: &Transformer, plan: &Plan, platform: &Platform, cut: &[u32]) -> Result<(), CostError> {
    degrees(plan)?;
    divides("heads", model.heads, "the tensor degree", plan.tensor)?;
    if model.kv() >= u64::from(plan.tensor) {
        divides("key/value heads", model.kv(), "the tensor degree", plan.tensor)?;
    }
    divides("the inner width", model.ffn(), "the tensor degree", plan.tensor)?;
    divides("the sequence", model.sequence, "the context degree", plan.context)?;
    divides(
        "the global batch",
        u64::from(plan.global_batch),
        "data degree x micro-batch",
        plan.data * plan.micro_batch,
    )?;
    experts(model, plan)?;
    schedule(plan)?;
    layers(model, plan, cut)?;
    devices(plan, platform)
}

fn degrees(plan: &Plan) -> Result<(), CostError> {
    let all = [
        ("the data degree", plan.data),
        ("the tensor degree", plan.tensor),
        ("the pipeline degree", plan.pipeline),
        ("the chunks of a stage", plan.chunks),
        ("the context degree", plan.context),
        ("the expert degree", plan.expert),
        ("the micro-batch", plan.micro_batch),
        ("the global batch", plan.global_batch),
    ];
    for (what, value) in all {
        if !(1..=1 << 20).contains(&value) {
            return Err(CostError::Range { what, got: value.into(), expected: "1 to 1048576".into() });
        }
    }
    if u64::from(plan.data) * u64::from(plan.micro_batch) > u64::from(plan.global_batch) {
        let expected = format!("at most the global batch {}", plan.global_batch);
        let got = u64::from(plan.data) * u64::from(plan.micro_batch);
        return Err(CostError::Range { what: "data degree x micro-batch", got, expected });
    }
    if plan.zero > 3 {
        return Err(CostError::Range { what: "the ZeRO stage", got: plan.zero.into(), expected: "0 to 3".into() });
    }
    Ok(())
}

fn experts(model: &Transformer, plan: &Plan) -> Result<(), CostError> {
    let Some(experts) = &model.experts else {
        return if plan.expert == 1 {
            Ok(())
        } else {
            Err(CostError::Contradiction(format!("the expert degree is {} but the model has no experts", plan.expert)))
        };
    };
    divides("experts", experts.count, "the expert degree", plan.expert)?;
    divides("the experts' inner width", model.expert_ffn(), "the tensor degree", plan.tensor)?;
    divides(
        "data degree x context degree",
        u64::from(plan.data) * u64::from(plan.context),
        "the expert degree",
        plan.expert,
    )
}

fn schedule(plan: &Plan) -> Result<(), CostError> {
    let m = u64::from(plan.micro_batches());
    let contradiction = |text: String| Err(CostError::Contradiction(text));
    match plan.schedule {
        Schedule::Interleaved => {
            divides("the number of micro-batches", m, "the pipeline degree (interleaving)", plan.pipeline)?
        }
        Schedule::ZbV if plan.chunks != 2 => {
            return contradiction(format!("zbv runs 2 chunks on a device, not {}", plan.chunks));
        }
        Schedule::ZbV => {}
        _ if plan.chunks != 1 => {
            return contradiction(format!("{} runs 1 chunk on a device, not {}", plan.schedule, plan.chunks));
        }
        _ => {}
    }
    if plan.recompute == Recompute::Full && matches!(plan.schedule, Schedule::ZbH1 | Schedule::ZbV) && plan.pipeline > 1
    {
        return contradiction(
            "zero-bubble schedules keep activations until the weight gradient; full recomputation frees them".into(),
        );
    }
    if plan.sequence_parallel && plan.tensor == 1 {
        return contradiction("sequence parallelism splits over the tensor group, which has one rank".into());
    }
    Ok(())
}

fn layers(model: &Transformer, plan: &Plan, cut: &[u32]) -> Result<(), CostError> {
    let virtual_stages = u64::from(plan.pipeline) * u64::from(plan.chunks);
    let total: u64 = cut.iter().map(|&n| u64::from(n)).sum();
    if cut.len() as u64 != virtual_stages || total != model.layers {
        let what = "layers in the cut";
        return Err(CostError::Range {
            what,
            got: total,
            expected: format!("{} over {virtual_stages} virtual stages", model.layers),
        });
    }
    if cut.contains(&0) {
        let expected = format!("at most the {} layers", model.layers);
        return Err(CostError::Range { what: "pipeline degree x chunks", got: virtual_stages, expected });
    }
    Ok(())
}

fn devices(plan: &Plan, platform: &Platform) -> Result<(), CostError> {
    if plan.devices() > platform.devices {
        let expected = format!("at most {} ({})", platform.devices, platform.device);
        return Err(CostError::Range { what: "devices of the plan", got: plan.devices(), expected });
    }
    if plan.devices() > u64::from(platform.node) && !platform.has_network() {
        return Err(CostError::Contradiction(format!(
            "the plan needs {} devices, but machines have no network",
            plan.devices()
        )));
    }
    Ok(())
}

fn divides(whole_name: &'static str, whole: u64, part_name: &'static str, part: u32) -> Result<(), CostError> {
    let part = u64::from(part);
    if part != 0 && whole.is_multiple_of(part) {
        return Ok(());
    }
    let near = |distance: u64| [part.saturating_sub(distance), part.saturating_add(distance)];
    let nearest = (1..=whole.max(part)).flat_map(near).find(|&d| d != 0 && whole.is_multiple_of(d)).unwrap_or(1);
    Err(CostError::Indivisible { whole_name, whole, part_name, part, nearest })
}
