//! Titan's controllable language model: attributes before the text, some of them left out at random, so that one set of
//! weights writes with any of them, with none, and guided (arXiv 2112.12731, 3.2.3; `docs/methods/controllable-lm.md`).
//!
//! ```
//! use chandlery_kernels::Key;
//! use chandlery_lm::control::{Attributes, ControlConfig, IGNORE, encode_request, encode_sample};
//! use chandlery_lm::tokenizer::{CharTokenizer, Tokenizer};
//! # fn main() -> Result<(), chandlery_lm::control::ControlError> {
//! let tokenizer: Tokenizer = CharTokenizer::train(["床前明月光"], 1, "约字0123456789").map(Into::into)?;
//! let config = ControlConfig { p_uncond: 0.0, p_attr: 0.0, ..ControlConfig::default() };
//! let attrs = Attributes { topic: Some("月".to_owned()), ..Attributes::default() };
//! let sample = encode_sample(&tokenizer, &attrs, "床前", Key::new(1).at(0), &config)?;
//! assert_eq!(sample.ids[..4], encode_request(&tokenizer, &attrs, &config)?.ids); // [BOS] [t] 月 [/t]
//! assert_eq!(sample.targets[..3], [IGNORE; 3]);
//! assert_eq!(tokenizer.decode(&sample.targets[3..]), "床前");
//! # Ok(()) }
//! ```

mod attributes;
mod batch;
mod bucket;
mod config;
mod drops;
mod error;
mod pack;
mod places;
mod prompt;
mod sample;
mod wording;

pub use attributes::Attributes;
pub use batch::{Batch, collate, pack};
pub use bucket::{BatchSize, bucket, waste};
pub use config::{ControlConfig, Overlong, PAPER_GENRES, SOFT_PROMPTS};
pub use error::ControlError;
pub use places::Places;
pub use prompt::{Prompt, Start};
pub use sample::{IGNORE, Sample, encode_ids, encode_request, encode_sample};
pub use wording::Wording;
