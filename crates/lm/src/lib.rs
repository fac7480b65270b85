//! Transformer language models: a decoder of any size, a key-value cache, generation and published weights; and poems
//! with attributes to train one on.

pub mod cache;
pub mod control;
pub mod decoder;
mod error;
pub mod generate;
pub mod poetry;
pub mod pretrained;
pub mod tokenizer;

pub use error::{Error, Result};
