//! What can be wrong with a graph, a mesh or a layout.

/// A graph, mesh or layout that cannot be; says what, expected, got and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// The model description that was to be captured is impossible.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// Text that is no graph description.
    #[error("graph description {place}: {message}")]
    Syntax {
        /// File the text came from.
        place: String,
        /// The parser's message.
        message: String,
    },
    /// Two tensors or two operators share a name.
    #[error("{what} `{name}` is defined twice")]
    Duplicate {
        /// `tensor`, `operator` or `producer of tensor`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that nothing bears.
    #[error("operator `{operator}` uses tensor `{tensor}`, which does not exist")]
    UnknownTensor {
        /// The operator.
        operator: String,
        /// The name used.
        tensor: String,
    },
    /// Operators wait for each other.
    #[error("operators form a cycle: {}", path.join(" -> "))]
    Cycle {
        /// Operators along the cycle; the first is repeated at the end.
        path: Vec<String>,
    },
    /// Operands do not fit the operator.
    #[error("operator `{operator}` ({kind}): expected {expected}, got {got}")]
    Operand {
        /// The operator.
        operator: String,
        /// Its kind.
        kind: &'static str,
        /// What its operands must be.
        expected: String,
        /// What they are.
        got: String,
    },
    /// A tensor has a dimension of size zero or too many elements.
    #[error("tensor `{tensor}` of shape {shape:?}: {problem}")]
    Size {
        /// The tensor.
        tensor: String,
        /// Its shape.
        shape: Vec<u64>,
        /// What is wrong.
        problem: &'static str,
    },
    /// A process mesh that is none.
    #[error("mesh of shape {shape:?} over {ranks} ranks: {problem}")]
    Mesh {
        /// Sizes of the mesh dimensions.
        shape: Vec<usize>,
        /// Number of ranks listed.
        ranks: usize,
        /// What is wrong.
        problem: String,
    },
    /// Placements or a mapping of dimensions that do not fit the tensor or the mesh.
    #[error("placement of {what}: expected {expected}, got {got}")]
    Placement {
        /// Tensor or operator concerned.
        what: String,
        /// What would be admitted.
        expected: String,
        /// What was found.
        got: String,
    },
}
