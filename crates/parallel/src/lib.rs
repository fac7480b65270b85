//! Parallel training planned by arithmetic.
//!
//! One distributed graph and one cluster object feed a cost model whose error on published measurements is printed with it,
//! a planner that explains itself, and a simulator of thousands of devices. Nothing in this crate knows a tensor: it is pure
//! arithmetic on shapes, bytes, floating-point operations and link constants.
//!
//! The two halves of the crate meet at two objects: [`cluster::Cluster`] (machines, devices, links, with the provenance of
//! every number) and [`model::ModelSpec`] (the shape of what is trained).

pub mod calibrate;
pub mod cli;
pub mod cluster;
pub mod completion;
pub mod cost;
pub mod graph;
pub mod memory;
pub mod model;
pub mod partition;
pub mod planner;
pub mod reshard;
pub mod schedule;
pub mod simulator;
pub mod validate;
