//! Placeholder.
mod report;

fn main() {}
