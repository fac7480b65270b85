//! Class activation maps, their measures and their pictures.
//!
//! [`explain`] turns a [`Method`] into maps for a model opened at one layer ([`Probe`]). Where the rest of the model is a
//! mean over places and a linear map, [`closed_form`] does it on plain slices without a model.

mod activation;
mod closed;
mod eigen;
mod error;
mod map;
pub mod measure;
mod method;
mod passes;
pub mod picture;
mod probe;
mod target;

pub use activation::{Activations, Head, Slope};
pub use closed::{ablation_weights, closed_form, closed_forms, slope_map, slope_weights};
pub use error::{Error, Result};
pub use map::{Corners, Map, resize_bilinear};
pub(crate) use map::{Tap, taps};
pub use method::{Fill, Method, Settings};
pub use probe::{Forward, Layout, Probe, explain, explain_all};
pub use target::{by_logit, rivals};
