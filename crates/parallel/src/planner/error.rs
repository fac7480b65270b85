//! Why there is no plan.

use crate::cluster::ClusterError;
use crate::cost::CostError;
use crate::model::ModelError;

/// No plan.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The model description is at fault.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The cluster description is at fault.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A given plan has no price.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// This search spreads transformers; [`super::plan_network`] other networks.
    #[error("model `{0}` is no transformer; other networks are planned by `plan_network`")]
    NotTransformer(String),
    /// Networks other than transformers are planned on devices of one type.
    #[error(
        "model `{model}`: networks other than transformers are planned on devices of one type, the cluster has {types}; plan \
         each type apart"
    )]
    SeveralTypes {
        /// Model.
        model: String,
        /// Types of the cluster.
        types: usize,
    },
    /// The model has no graph at a micro-batch that was tried.
    #[error("cannot capture the model: {0}")]
    Capture(String),
    /// Nothing divides.
    #[error("no plan for `{model}` on {devices} devices with a batch of {batch}: {why}")]
    NothingDivides {
        /// Model.
        model: String,
        /// Devices.
        devices: u64,
        /// Global batch.
        batch: u32,
        /// The constraint, and what would satisfy it.
        why: String,
    },
    /// Every plan needs more memory than there is.
    #[error(transparent)]
    Memory(#[from] Box<Misfit>),
}

/// By how much a model misses, and the smallest change that would make it fit.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "`{model}` does not fit: the leanest plan ({plan}) needs {needed_gib:.1} GiB on a device, {usable_gib:.1} GiB of \
     {device} are usable, {over_gib:.1} GiB too many; largest part: {part}. Smallest change: {change}"
)]
pub struct Misfit {
    /// Model.
    pub model: String,
    /// The plan that needs least.
    pub plan: String,
    /// What it needs on its fullest device.
    pub needed_gib: f64,
    /// What may be used.
    pub usable_gib: f64,
    /// Device type.
    pub device: String,
    /// By how much it misses.
    pub over_gib: f64,
    /// The largest part of its memory.
    pub part: String,
    /// What would make it fit.
    pub change: String,
}
