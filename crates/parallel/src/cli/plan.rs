//! `plan`.

use super::{CliError, read};
use crate::cluster::{Cluster, DeviceKind};
use crate::cost::Attention;
use crate::model::{ModelSpec, Network};
use crate::planner::{self, Limits, PlanError};

/// Arguments of `plan`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlanArgs {
    /// Model preset, or path of a TOML description.
    pub model: String,
    /// Cluster preset (`a100-1024`), or path of a JSON description.
    pub cluster: String,
    /// Sequences in a step; a usual number for the model's size when absent.
    pub global_batch: Option<u32>,
    /// Tensor degrees allowed; empty = all.
    pub tensor: Vec<u32>,
    /// Pipeline degrees allowed; empty = all.
    pub pipeline: Vec<u32>,
    /// Attention that writes its scores, instead of a tiled kernel.
    pub unfused_attention: bool,
}

/// What `plan` made: print `text`, save the rest where asked.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanOutput {
    /// Plan and explanation.
    pub text: String,
    /// The same for machines.
    pub json: String,
    /// The pipeline's timeline.
    pub timeline_svg: String,
    /// The device map.
    pub map_svg: String,
    /// All of it as a page.
    pub html: String,
}

/// Plans a model on a cluster.
///
/// # Errors
/// Descriptions at fault, or no plan.
pub fn plan(args: &PlanArgs) -> Result<PlanOutput, CliError> {
    let model = model(&args.model)?;
    let cluster = cluster(&args.cluster)?;
    let limits = limits(args, &model, &cluster)?;
    if model.transformer().is_none() {
        let answer = planner::plan_network(&model, &cluster, &limits)?;
        return Ok(PlanOutput {
            text: answer.to_text(),
            json: answer.to_json().map_err(|e| CliError::Json(e.to_string()))?,
            timeline_svg: answer.timeline_svg()?,
            map_svg: answer.map_svg(),
            html: answer.to_html()?,
        });
    }
    let answer = planner::plan(&model, &cluster, &limits)?;
    Ok(PlanOutput {
        text: answer.to_text(),
        json: answer.to_json().map_err(|e| CliError::Json(e.to_string()))?,
        timeline_svg: answer.timeline_svg()?,
        map_svg: answer.map_svg(),
        html: answer.to_html()?,
    })
}

fn is_file(name: &str) -> bool {
    name.contains('/') || name.ends_with(".toml") || name.ends_with(".json")
}

/// A model: a preset, or a file.
///
/// # Errors
/// A name that is not known, a file that cannot be read or describes no model.
pub fn model(name: &str) -> Result<ModelSpec, CliError> {
    let spec = if is_file(name) { ModelSpec::parse(&read(name)?, name) } else { ModelSpec::preset(name) };
    spec.map_err(|e| PlanError::from(e).into())
}

/// A cluster: a preset, or a file.
///
/// # Errors
/// As [`model`].
pub fn cluster(name: &str) -> Result<Cluster, CliError> {
    let cluster = if is_file(name) { Cluster::from_json(&read(name)?) } else { Cluster::preset(name) };
    cluster.map_err(|e| PlanError::from(e).into())
}

fn limits(args: &PlanArgs, model: &ModelSpec, cluster: &Cluster) -> Result<Limits, CliError> {
    let params = model.params().map_err(PlanError::from)?;
    let devices = cluster.device_count() as u64;
    let batch = args.global_batch.unwrap_or_else(|| match &model.network {
        Network::Gpt(shape) => default_batch(params, shape.sequence),
        Network::Resnet(_) | Network::Reader(_) => samples(devices, 32),
        Network::Recommender(_) => samples(devices, 2048),
    });
    if !(1..=1 << 20).contains(&batch) {
        return Err(CliError::Argument { argument: "global batch", why: format!("{batch}; expected 1 to 1048576") });
    }
    let all = |kind: DeviceKind| cluster.device_types.iter().all(|d| d.kind == kind);
    let (processors, tiled) = (all(DeviceKind::Cpu), all(DeviceKind::Gpu) || all(DeviceKind::Cpu));
    let attention = if tiled && !args.unfused_attention { Attention::Flash } else { Attention::Unfused };
    let (tensor, pipeline) = (args.tensor.clone(), args.pipeline.clone());
    Ok(Limits { tensor, pipeline, float32: processors, ..Limits::new(batch, attention) })
}

/// `each` samples a device: 32 images or questions, as in the runs that introduced ResNet and BiDAF; 2,048 clicks, as in the
/// public DLRM benchmark.
fn samples(devices: u64, each: u64) -> u32 {
    u32::try_from(devices.saturating_mul(each)).unwrap_or(u32::MAX).min(1 << 20)
}

/// A usual batch in sequences: half a million tokens for 125 M parameters, growing with their fourth root (3.1 M for 175 B,
/// as in Brown et al. 2020, table 2.1), rounded to a multiple of a power of two.
pub fn default_batch(params: u64, sequence: u64) -> u32 {
    let tokens = 0.5e6 * (params as f64 / 125e6).powf(0.25);
    let batch = (tokens / sequence as f64).clamp(1.0, 1e6);
    let unit = 2f64.powi((batch / 4.0).log2().floor().max(0.0) as i32);
    ((batch / unit).round().max(1.0) * unit) as u32
}
