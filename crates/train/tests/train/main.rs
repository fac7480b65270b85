//! The loop as a whole, on a small network.

mod bad_input;
mod exactness;
mod optimisation;
mod policies;
mod resume;
mod toy;
