//! Placeholder.

pub mod poetry;
