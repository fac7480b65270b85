//! What can be wrong with a description of a cluster.

/// A cluster description that cannot be used, with the place and the value at fault.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// The text is not JSON, or a field is missing, unknown or of the wrong type.
    #[error("cluster description: {0}")]
    Parse(String),
    /// No preset or device of that name; nothing is substituted.
    #[error("unknown {what} `{name}` in {place}; known: {known}")]
    Unknown {
        /// What was looked up: device type, link, preset, switch.
        what: &'static str,
        /// The name looked up.
        name: String,
        /// Where it was referred to.
        place: String,
        /// The names there are.
        known: String,
    },
    /// Two things share an id.
    #[error("{what} `{id}` is defined twice")]
    Duplicate {
        /// What is defined twice.
        what: &'static str,
        /// The shared id.
        id: String,
    },
    /// A number outside its range (zero bandwidth, negative memory, infinite or missing value).
    #[error("{field} of {place} is {value}; expected {expected}")]
    OutOfRange {
        /// The field.
        field: &'static str,
        /// Whose field.
        place: String,
        /// The number given.
        value: f64,
        /// The range asked for.
        expected: &'static str,
    },
    /// A number the model needs is not given.
    #[error("{field} of {place} is missing")]
    Missing {
        /// The field.
        field: &'static str,
        /// Whose field.
        place: String,
    },
    /// The uplinks of the switches form a cycle.
    #[error("the uplinks of the switches form a cycle: {0}")]
    Cycle(String),
    /// Two statements of the file contradict each other.
    #[error("{place}: {what}")]
    Contradiction {
        /// Where.
        place: String,
        /// What contradicts what.
        what: String,
    },
    /// No device at all.
    #[error("cluster `{0}` has no device")]
    Empty(String),
    /// More devices than the model counts with.
    #[error("cluster `{name}` has {devices} devices; at most {max} are supported")]
    TooMany {
        /// The cluster.
        name: String,
        /// Devices described.
        devices: u64,
        /// The limit.
        max: u64,
    },
}
