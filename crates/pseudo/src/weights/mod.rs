//! Published weights: by name into a model, and from formats that candle does not read.

mod load;
mod pickle;
#[cfg(test)]
mod tests;
mod torch;

pub use load::load_pretrained;
pub use torch::{Converted, convert_torch, read_torch};
