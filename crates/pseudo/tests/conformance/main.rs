//! Conformance with public reference implementations: every case of every file of each format in the folder
//! `CHANDLERY_VECTORS` (default `fixtures/golden`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod calibration;
mod cam;
mod snapmix;
mod thresholds;
mod vectors;
