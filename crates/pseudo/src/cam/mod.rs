//! Class activation maps, their measures and their pictures.

mod error;
mod map;

pub use error::{Error, Result};
pub use map::{Corners, Map, resize_bilinear};
