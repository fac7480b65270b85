//! Semi-supervised image classification: PEPL (arXiv 2409.03192) and its rivals, with every part usable alone.

pub mod cam;
pub mod data;
pub mod image;
pub mod models;
pub mod ssl;
pub mod trust;
pub mod weights;
