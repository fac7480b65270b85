//! Simulations of thousands of devices, seeded and deterministic.
//!
//! - [`weak_scaling`]: step times of one model on growing clusters, from the cost model;
//! - [`recommender`]: a CPU/GPU pipeline for click-through models, as capacities and as events;
//! - [`failures`]: one long job over weeks of device failures; [`campaign`]: failed jobs under a mix of failures;
//! - [`scheduling`]: many jobs on one cluster, gang against elastic;
//! - [`figure`]: charts of their results as SVG.

pub mod campaign;
mod error;
pub mod failures;
pub mod figure;
mod random;
pub mod recommender;
pub mod scheduling;
pub mod weak_scaling;

pub use error::SimulatorError;
pub use random::Random;
