//! Redistribution of a tensor between any two layouts, on equal, overlapping, nested or disjoint groups of ranks.
//!
//! [`transfers`] intersects the boxes of source and target ranks and gives every missing element once from its nearest
//! owner. [`route`] finds the cheapest way: collectives along single mesh dimensions (all-gather, reduce-scatter,
//! all-reduce, all-to-all), messages between ranks, or a sequence of them.
//!
//! Pending sums: an element of a partial tensor is the sum over the pending mesh dimensions; a target that is not partial
//! receives every summand and adds. A partial target holds the value at coordinate 0 of its pending dimensions and zeros
//! elsewhere; where source and target have the same mesh and pending dimensions, summands stay apart.

mod links;
mod route;
mod transfers;

pub use links::{Link, Links};
pub use route::{Method, Route, Step, route};
pub use transfers::{Transfer, Transfers, transfers};

use crate::graph::GraphError;

/// Why a redistribution cannot be planned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReshardError {
    /// A layout that does not fit the tensor.
    #[error(transparent)]
    Layout(#[from] GraphError),
    /// A constant of the links that is no positive number.
    #[error("links: expected `{field}` to be finite and positive")]
    Links {
        /// The constant.
        field: &'static str,
    },
}

#[cfg(test)]
mod tests;
