//! What can be wrong with a simulated world.

/// A setting that no simulation can run with; says what, expected and got.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// A number outside its range.
    #[error("simulation, {field}: expected {expected}, got {got}")]
    Range {
        /// The setting.
        field: &'static str,
        /// Admitted values.
        expected: String,
        /// The value found.
        got: f64,
    },
    /// The model does not fit the plan or the machines.
    #[error(transparent)]
    Cost(#[from] crate::cost::CostError),
    /// The cluster is not known or too small.
    #[error(transparent)]
    Cluster(#[from] crate::cluster::ClusterError),
    /// The model is not known or impossible.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// The model is of a family that this simulation does not know.
    #[error("simulation of model `{model}`: expected a {expected}")]
    Family {
        /// Name of the model.
        model: String,
        /// The family needed.
        expected: &'static str,
    },
}

/// Checks that a setting is finite and lies in `low..=high`.
pub(super) fn check(field: &'static str, value: f64, low: f64, high: f64) -> Result<(), SimulatorError> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    Err(SimulatorError::Range { field, expected: format!("a number from {low} to {high}"), got: value })
}
