//! The loop as a whole, on a small network.

#![allow(clippy::unwrap_used, reason = "clippy's exception for tests does not reach their helpers")]

mod bad_input;
mod exactness;
mod optimisation;
mod policies;
mod resume;
mod toy;
mod untrained;
