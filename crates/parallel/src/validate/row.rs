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
    /// Peak that a percentage refers to, TFLOP/s; the device's own when absent.
    pub peak: Option<f64>,
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

    /// A whole number; `24.0` counts as one.
    fn maybe(&mut self, block: &str, name: &str) -> Result<Option<u64>, String> {
        let whole = |v: &Value| {
            let float = v.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9.0e15).contains(f));
            v.as_u64().or(float.map(|f| f as u64))
        };
        match self.raw(block, name) {
            Some(v) => whole(&v).map(Some).ok_or_else(|| format!("{block}.{name} is {v}; expected a whole number")),
            None => Ok(None),
        }
    }

    fn number(&mut self, block: &str, name: &str, default: Option<u64>) -> Result<u64, String> {
        self.maybe(block, name)?.or(default).ok_or_else(|| format!("{block}.{name} is missing"))
    }

    /// A number that the source may leave open: `usual` then, with a note.
    fn usual(&mut self, name: &str, usual: u64) -> Result<u64, String> {
        let stated = self.maybe("model", name)?;
        if stated.is_none() {
            self.assumed.push(format!("{name} {usual} (not stated)"));
        }
        Ok(stated.unwrap_or(usual))
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
    let devices = devices(&mut fields)?;
    let cluster = Cluster::preset(hardware).and_then(|c| c.with_devices(devices)).map_err(|e| e.to_string())?;
    let platform = Platform::of(&cluster, 0).map_err(|e| e.to_string())?;
    let plans = plans(&mut fields, hardware, &model, devices)?;
    if let Some(plan) = plans.iter().find(|p| p.devices() != devices) {
        return Err(format!("degrees multiply to {}, the row states {devices} devices", plan.devices()));
    }
    if plans.is_empty() {
        return Err("no micro-batch divides the batch of a copy".into());
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

/// Devices of the row: stated, or the product of the degrees.
fn devices(fields: &mut Fields<'_>) -> Result<u64, String> {
    for name in ["gpus", "devices"] {
        let stated = &fields.row[name];
        if !stated.is_null() {
            let bad = || format!("{name} is {stated}; expected a whole number from 1");
            return stated.as_u64().filter(|n| *n > 0).ok_or_else(bad);
        }
    }
    let mut product = 1u64;
    for name in ["tensor", "pipeline", "context", "data"] {
        product = product.saturating_mul(fields.number("parallel", name, Some(1))?);
    }
    fields.assumed.push(format!("{product} devices, the product of the degrees"));
    Ok(product)
}

fn model(fields: &mut Fields<'_>) -> Result<Transformer, String> {
    let hidden = fields.number("model", "hidden", None)?;
    let ffn = fields.number("model", "ffn_hidden", Some(hidden.saturating_mul(4)))?;
    let mut shape = Transformer {
        layers: fields.number("model", "layers", None)?,
        hidden,
        ffn_hidden: Some(ffn),
        heads: fields.usual("heads", (hidden / 128).max(1))?,
        kv_heads: None,
        sequence: fields.usual("sequence", 2048)?,
        vocabulary: fields.usual("vocabulary", 51_200)?,
        gated: false,
        tied_head: true,
        learned_positions: true,
        biases: true,
        experts: None,
    };
    for name in ["kv_heads", "query_groups", "num_query_groups", "key_value_heads"] {
        if let Some(kv) = fields.maybe("model", name)? {
            shape.kv_heads = Some(kv);
        }
    }
    if let Some(count) = fields.maybe("model", "experts")?.filter(|&n| n > 1) {
        let other = fields.number("model", "active_experts", Some(1))?;
        let active = fields.number("model", "experts_per_token", Some(other))?;
        let every = fields.number("model", "expert_interval", Some(1))?;
        shape.experts = Some(crate::model::Experts {
            count,
            active,
            every,
            ffn_hidden: fields.maybe("model", "expert_ffn_hidden")?,
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

fn plans(fields: &mut Fields<'_>, hardware: &str, model: &Transformer, devices: u64) -> Result<Vec<Plan>, String> {
    let zero = fields.number("parallel", "zero_stage", Some(0))?;
    let zero =
        u8::try_from(zero).ok().filter(|z| *z <= 3).ok_or_else(|| format!("zero_stage {zero}; expected 0 to 3"))?;
    let (tensor, pipeline, context) = (fields.degree("tensor")?, fields.degree("pipeline")?, fields.degree("context")?);
    let data = data(fields, devices, [tensor, pipeline, context])?;
    let reduction = fields.text("gradient_reduction");
    if reduction.is_empty() && data > 1 {
        let how = if zero == 3 { "overlapped" } else { "after the backward pass" };
        fields.assumed.push(format!("gradients reduced {how}"));
    }
    let (order, precision) = (fields.text("schedule"), fields.text("precision"));
    let chunks = chunks(fields, &order, pipeline, model)?;
    let mut plan = Plan {
        data,
        tensor,
        pipeline,
        chunks: 1,
        context,
        expert: fields.degree("expert")?,
        zero,
        sequence_parallel: fields.flag("parallel", "sequence_parallel").unwrap_or(false),
        keep_gathered: false,
        micro_batch: 1,
        global_batch: global_batch(fields, model, data)?,
        recompute: recompute(&fields.text("recompute")),
        schedule: Schedule::OneFOneB,
        attention: attention(fields, hardware),
        float8: float8(&precision),
        float32: precision.contains("fp32") || precision.contains("float32"),
        overlap_gradients: reduction.contains("overlap") || (reduction.is_empty() && zero == 3),
        overlap_transfers: false,
    };
    plan.sequence_parallel &= plan.tensor > 1;
    let sizes = micro_batches(fields, &plan)?;
    let one = |micro_batch: u32, chunks: u32| Plan { micro_batch, chunks, schedule: schedule(&order, chunks), ..plan };
    Ok(sizes.iter().flat_map(|&b| chunks.iter().map(move |&v| (b, v))).map(|(b, v)| one(b, v)).collect())
}

/// Copies of the model: stated, or what the other degrees leave of the devices.
fn data(fields: &mut Fields<'_>, devices: u64, others: [u32; 3]) -> Result<u32, String> {
    if let Some(stated) = fields.maybe("parallel", "data")? {
        return u32::try_from(stated).map_err(|_| format!("parallel.data {stated} is too large"));
    }
    let used = others.iter().fold(1u64, |n, &d| n.saturating_mul(d.into())).max(1);
    let rest = u32::try_from(devices / used).map_err(|_| format!("{devices} devices are too many"))?.max(1);
    fields.assumed.push(format!("data {rest} (what the other degrees leave)"));
    Ok(rest)
}

/// Sequences of a step: stated, or tokens of a step over the sequence, or micro-batches times copies.
fn global_batch(fields: &mut Fields<'_>, model: &Transformer, data: u32) -> Result<u32, String> {
    let mut stated = fields.maybe("parallel", "global_batch")?;
    if stated.is_none() {
        let tokens = fields.maybe("parallel", "global_batch_tokens")?;
        stated = tokens.map(|t| t / model.sequence.max(1));
    }
    if stated.is_none() {
        let each = fields.maybe("parallel", "micro_batch").ok().flatten();
        let product = |count: u64| each.map(|b| b.saturating_mul(count).saturating_mul(data.into()));
        stated = fields.maybe("parallel", "micro_batches")?.and_then(product);
        if let Some(batch) = stated {
            fields.assumed.push(format!("global_batch {batch} (micro_batch x micro_batches x data)"));
        }
    }
    let batch = stated.ok_or("parallel.global_batch is missing")?;
    u32::try_from(batch).map_err(|_| format!("parallel.global_batch {batch} is too large"))
}

/// Model chunks on a stage: stated, or for an interleaved schedule every number up to 8 that the layers allow.
fn chunks(fields: &mut Fields<'_>, order: &str, pipeline: u32, model: &Transformer) -> Result<Vec<u32>, String> {
    if let Some(stated) = fields.maybe("parallel", "chunks_per_stage")? {
        return Ok(vec![
            u32::try_from(stated).map_err(|_| format!("parallel.chunks_per_stage {stated} is too large"))?,
        ]);
    }
    if !order.contains("interleav") || pipeline < 2 {
        return Ok(vec![1]);
    }
    fields.assumed.push("the fastest number of chunks a stage".into());
    let most = (model.layers / u64::from(pipeline)).clamp(1, 8) as u32;
    Ok((2..=most.max(2)).collect())
}

/// The micro-batch, or every one the row suggests to try that divides the batch.
fn micro_batches(fields: &mut Fields<'_>, plan: &Plan) -> Result<Vec<u32>, String> {
    let fits = |b: &u32| *b > 0 && plan.global_batch.is_multiple_of(plan.data.saturating_mul(*b).max(1));
    match fields.raw("parallel", "micro_batch") {
        Some(Value::Number(n)) => {
            let whole = n.as_f64().filter(|f| f.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(f));
            whole.map(|b| vec![b as u32]).ok_or_else(|| format!("parallel.micro_batch is {n}; expected a whole number"))
        }
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
            peak: m["peak"].as_f64().filter(|p| *p > 0.0),
        })
    };
    row["measured"].as_array().into_iter().flatten().filter_map(one).collect()
}
