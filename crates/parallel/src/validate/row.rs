//! One published row: what was run, and what was measured.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::cost::{Attention, Plan, Platform, Recompute};
use crate::model::Transformer;
use crate::schedule::Schedule;

/// A row that was understood.
#[derive(Clone, Debug)]
pub struct Case {
    /// Shape.
    pub model: Transformer,
    /// Plans to consider: one, or one for each micro-batch where the source does not state it.
    pub plans: Vec<Plan>,
    /// Machines.
    pub platform: Platform,
    /// What was measured, in the order of the row.
    pub measured: Vec<Measured>,
    /// What the source does not state and was assumed.
    pub assumed: Vec<String>,
}

/// A measured quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Name in the file.
    pub quantity: String,
    /// Unit in the file.
    pub unit: String,
    /// Value in that unit.
    pub value: f64,
    /// Which flops were counted.
    pub formula: Option<String>,
}

/// Reader of one row's fields: value, else assumption, else default with a note.
struct Fields<'a> {
    row: &'a Value,
    assumed: Vec<String>,
}

impl Fields<'_> {
    /// The field, or the row's suggested assumption for it.
    fn raw(&mut self, block: &str, name: &str) -> Option<Value> {
        let stated = self.row[block].get(name).filter(|v| !v.is_null());
        if let Some(v) = stated {
            return Some(v.clone());
        }
        let suggested = self.row["assumptions"].get(name).filter(|v| !v.is_null())?.clone();
        self.assumed.push(format!("{name} {suggested} (suggested with the row)"));
        Some(suggested)
    }

    fn number(&mut self, block: &str, name: &str, default: Option<u64>) -> Result<u64, String> {
        match self.raw(block, name) {
            Some(v) => v.as_u64().ok_or_else(|| format!("{block}.{name} is {v}; expected a whole number")),
            None => match default {
                Some(d) => Ok(d),
                None => Err(format!("{block}.{name} is missing")),
            },
        }
    }

    fn degree(&mut self, name: &str) -> Result<u32, String> {
        let value = self.number("parallel", name, Some(1))?;
        u32::try_from(value).map_err(|_| format!("parallel.{name} {value} is too large"))
    }

    fn text(&mut self, name: &str) -> String {
        self.raw("parallel", name).and_then(|v| v.as_str().map(str::to_lowercase)).unwrap_or_default()
    }

    fn flag(&mut self, block: &str, name: &str) -> Option<bool> {
        self.raw(block, name).and_then(|v| v.as_bool())
    }
}

/// Reads a row.
///
/// # Errors
/// Why the row cannot be predicted, in words; the report prints it.
pub fn read(row: &Value) -> Result<Case, String> {
    let mut fields = Fields { row, assumed: Vec::new() };
    let model = model(&mut fields)?;
    model.validate(row["id"].as_str().unwrap_or("row")).map_err(|e| e.to_string())?;
    let hardware = row["hardware"].as_str().ok_or("hardware is missing")?;
    let devices = row["gpus"].as_u64().ok_or("gpus is missing")?;
    let cluster = Cluster::preset(hardware).and_then(|c| c.with_devices(devices)).map_err(|e| e.to_string())?;
    let platform = Platform::of(&cluster, 0).map_err(|e| e.to_string())?;
    let plans = plans(&mut fields, hardware)?;
    if let Some(plan) = plans.iter().find(|p| p.devices() != devices) {
        return Err(format!("degrees multiply to {}, the row states {devices} devices", plan.devices()));
    }
    if let Some(plan) = plans.iter().find(|p| u64::from(p.virtual_stages()) > model.layers) {
        return Err(format!("{} virtual stages for {} layers", plan.virtual_stages(), model.layers));
    }
    let measured = measured(row);
    if let Some(m) = measured.iter().find(|m| m.value.is_nan() || m.value <= 0.0) {
        return Err(format!("measured {} is {}; expected a positive number", m.quantity, m.value));
    }
    Ok(Case { model, plans, platform, measured, assumed: fields.assumed })
}

fn model(fields: &mut Fields<'_>) -> Result<Transformer, String> {
    let hidden = fields.number("model", "hidden", None)?;
    let ffn = fields.number("model", "ffn_hidden", Some(hidden.saturating_mul(4)))?;
    let mut shape = Transformer {
        layers: fields.number("model", "layers", None)?,
        hidden,
        ffn_hidden: Some(ffn),
        heads: fields.number("model", "heads", None)?,
        kv_heads: None,
        sequence: fields.number("model", "sequence", None)?,
        vocabulary: fields.number("model", "vocabulary", None)?,
        gated: false,
        tied_head: true,
        learned_positions: true,
        biases: true,
        experts: None,
    };
    for name in ["kv_heads", "query_groups", "num_query_groups", "key_value_heads"] {
        if let Some(kv) = fields.raw("model", name).and_then(|v| v.as_u64()) {
            shape.kv_heads = Some(kv);
        }
    }
    if let Some(count) = fields.raw("model", "experts").and_then(|v| v.as_u64()).filter(|&n| n > 1) {
        let active = fields.number("model", "experts_per_token", Some(1))?;
        let every = fields.number("model", "expert_interval", Some(1))?;
        shape.experts = Some(crate::model::Experts {
            count,
            active,
            every,
            ffn_hidden: fields.raw("model", "expert_ffn_hidden").and_then(|v| v.as_u64()),
            capacity_factor: 1.0,
            shared: fields.number("model", "shared_experts", Some(0))?,
        });
    }
    let gated = fields.flag("model", "gated");
    feed_forward(fields, &mut shape, gated);
    Ok(shape)
}

/// Where the row does not say whether the feed-forward part is gated, the parameter count decides.
fn feed_forward(fields: &mut Fields<'_>, shape: &mut Transformer, gated: Option<bool>) {
    let modern = |shape: &Transformer, gated: bool| {
        let tied_head = shape.tied_head && !gated;
        Transformer { gated, tied_head, learned_positions: !gated, biases: !gated, ..shape.clone() }
    };
    if let Some(g) = gated {
        *shape = modern(shape, g);
        return;
    }
    let Some(stated) = fields.row["model"]["params_billion"].as_f64() else { return };
    let miss = |s: &Transformer| {
        s.validate("row").and_then(|()| s.params("row")).map_or(f64::INFINITY, |n| (n as f64 / 1e9 / stated).ln().abs())
    };
    let candidate = modern(shape, true);
    if miss(&candidate) < miss(shape) * 0.5 && miss(shape) > 0.05 {
        fields.assumed.push("gated feed-forward and untied head (by the parameter count)".into());
        *shape = candidate;
    }
}

fn plans(fields: &mut Fields<'_>, hardware: &str) -> Result<Vec<Plan>, String> {
    let zero = fields.number("parallel", "zero_stage", Some(0))?;
    let zero = u8::try_from(zero).map_err(|_| format!("zero_stage {zero}"))?;
    let chunks = fields.degree("chunks_per_stage")?;
    let reduction = fields.text("gradient_reduction");
    let data = fields.degree("data")?;
    if reduction.is_empty() && data > 1 {
        let how = if zero == 3 { "overlapped" } else { "after the backward pass" };
        fields.assumed.push(format!("gradients reduced {how}"));
    }
    let mut plan = Plan {
        data,
        tensor: fields.degree("tensor")?,
        pipeline: fields.degree("pipeline")?,
        chunks,
        context: fields.degree("context")?,
        expert: fields.degree("expert")?,
        zero,
        sequence_parallel: fields.flag("parallel", "sequence_parallel").unwrap_or(false),
        keep_gathered: false,
        micro_batch: 1,
        global_batch: fields.degree("global_batch")?,
        recompute: recompute(&fields.text("recompute")),
        schedule: schedule(&fields.text("schedule"), chunks),
        attention: attention(fields, hardware),
        float8: float8(&fields.text("precision")),
        overlap_gradients: reduction.contains("overlap") || (reduction.is_empty() && zero == 3),
        overlap_transfers: false,
    };
    plan.sequence_parallel &= plan.tensor > 1;
    let sizes = micro_batches(fields, &plan)?;
    Ok(sizes.into_iter().map(|micro_batch| Plan { micro_batch, ..plan }).collect())
}

/// The micro-batch, or every one the row suggests to try that divides the batch.
fn micro_batches(fields: &mut Fields<'_>, plan: &Plan) -> Result<Vec<u32>, String> {
    let fits = |b: &u32| *b > 0 && plan.global_batch.is_multiple_of(plan.data.saturating_mul(*b).max(1));
    match fields.raw("parallel", "micro_batch") {
        Some(Value::Number(n)) => match n.as_u64().and_then(|n| u32::try_from(n).ok()) {
            Some(b) => Ok(vec![b]),
            None => Err(format!("parallel.micro_batch is {n}")),
        },
        Some(Value::String(words)) => {
            let sizes = words.split(|c: char| !c.is_ascii_digit()).filter_map(|w| w.parse().ok());
            Ok(sizes.filter(fits).collect())
        }
        _ => {
            fields.assumed.push("the fastest micro-batch that fits".into());
            Ok([1, 2, 4, 8, 16].into_iter().filter(fits).collect())
        }
    }
}

fn float8(precision: &str) -> bool {
    precision.contains("fp8") || precision.contains("float8")
}

fn recompute(text: &str) -> Recompute {
    match text {
        t if t.contains("full") => Recompute::Full,
        t if t.contains("select") || t.contains("attn") || t.contains("attention") => Recompute::Selective,
        _ => Recompute::None,
    }
}

fn schedule(text: &str, chunks: u32) -> Schedule {
    match text {
        t if t.contains("gpipe") => Schedule::GPipe,
        t if t.contains("zbv") || t.contains("zb-v") => Schedule::ZbV,
        t if t.contains("zb") || t.contains("zero bubble") || t.contains("zerobubble") => Schedule::ZbH1,
        t if t.contains("interleav") || chunks > 1 => Schedule::Interleaved,
        _ => Schedule::OneFOneB,
    }
}

/// Stated, or by the age of the device: tiled attention kernels came with the H100.
fn attention(fields: &mut Fields<'_>, hardware: &str) -> Attention {
    let stated = fields.text("attention");
    if stated.contains("flash") || stated.contains("sdpa") || stated.contains("fused") {
        return Attention::Flash;
    }
    if stated.is_empty() && (hardware.starts_with("h100") || hardware.starts_with("h200")) {
        fields.assumed.push("tiled attention (usual on this device)".into());
        return Attention::Flash;
    }
    Attention::Unfused
}

fn measured(row: &Value) -> Vec<Measured> {
    let text = |v: &Value| v.as_str().unwrap_or_default().to_string();
    let one = |m: &Value| {
        Some(Measured {
            quantity: text(&m["quantity"]),
            unit: text(&m["unit"]),
            value: m["value"].as_f64()?,
            formula: m["formula"].as_str().map(String::from),
        })
    };
    row["measured"].as_array().into_iter().flatten().filter_map(one).collect()
}
