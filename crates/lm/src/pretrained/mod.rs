//! Published weights: GPT-2 and Llama models in safetensors (one file or several) and GGUF, from a file, a folder or the
//! hub.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use chandlery_lm::decoder::Decoder;
//! use chandlery_lm::pretrained::Checkpoint;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let checkpoint = Checkpoint::open("SmolLM2-135M-Instruct.Q4_1.gguf".as_ref())?;
//! let store = checkpoint.load(DType::F32, &Device::Cpu)?;
//! let model = Decoder::new(checkpoint.config(), &store.frozen())?; // .root() to train on
//! let tokenizer = checkpoint.tokenizer()?;
//! # Ok(()) }
//! ```
//!
//! Everything in a header is checked against the file's length before memory is set aside for it.

mod config;
mod gguf;
#[cfg(feature = "hub")]
pub mod hub;
mod metadata;
mod names;
mod shards;
mod source;
#[cfg(test)]
mod tests;
mod vocabulary;

use crate::Result;
use crate::decoder::{Decoder, DecoderConfig};
use candle_core::{DType, Device};
use chandlery_nn::ParamStore;
use config::Description;
use gguf::Gguf;
use shards::Shards;
use source::{Source, format};
use std::path::{Path, PathBuf};
use tokenizers::Tokenizer;

/// A published model whose header has been read.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    described: Description,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    Shards(Shards),
    Gguf(Gguf),
}

impl Checkpoint {
    /// A `.gguf` file, or a folder with `config.json` and `model.safetensors` (or its index and parts).
    ///
    /// # Errors
    /// If a file is missing, damaged or of another kind of model; the message names file and field.
    pub fn open(path: &Path) -> Result<Self> {
        let (described, weights) = if path.is_dir() {
            (config::read(&path.join("config.json"))?, Weights::Shards(Shards::in_folder(path)?))
        } else {
            let file = Gguf::open(path)?;
            (metadata::read(&file)?, Weights::Gguf(file))
        };
        Ok(Self { path: path.to_path_buf(), described, weights })
    }

    /// The model's shape.
    pub fn config(&self) -> &DecoderConfig {
        &self.described.config
    }

    /// Token that starts a text, where the file names one; whether to use it is the model's custom.
    pub fn start_token(&self) -> Option<u32> {
        self.described.bos
    }

    /// Tokens that end a text.
    pub fn stop_tokens(&self) -> &[u32] {
        &self.described.eos
    }

    /// All parameters, under our names and converted to `dtype`.
    ///
    /// # Errors
    /// If a tensor is missing, superfluous, of another shape, damaged or not finite.
    pub fn load(&self, dtype: DType, device: &Device) -> Result<ParamStore> {
        let source: &dyn Source = match &self.weights {
            Weights::Shards(shards) => shards,
            Weights::Gguf(file) => file,
        };
        let store = ParamStore::new(0, dtype, device);
        let Description { config, mapping, .. } = &self.described;
        mapping.load(source, config, &store)?;
        // Without leave to make parameters, so that a shape other than the configuration's is an error.
        Decoder::new(config, &store.frozen()).map_err(|e| format(&self.path, e.to_string()))?;
        Ok(store)
    }

    /// The tokenizer: `tokenizer.json` of the folder or the GGUF file's own.
    ///
    /// # Errors
    /// If it is missing, damaged or has more tokens than the model.
    pub fn tokenizer(&self) -> Result<Tokenizer> {
        let (path, tokenizer) = match &self.weights {
            Weights::Gguf(file) => (self.path.clone(), vocabulary::tokenizer_json(file)?.parse::<Tokenizer>()),
            Weights::Shards(_) => {
                let path = self.path.join("tokenizer.json");
                let text = std::fs::read(&path).map_err(source::io(&path))?;
                let tokenizer = Tokenizer::from_bytes(&text);
                (path, tokenizer)
            }
        };
        let tokenizer = tokenizer.map_err(|e| format(&path, format!("tokenizer: {e}")))?;
        let ids = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        let vocab = self.config().vocab;
        if ids > vocab {
            return Err(format(&path, format!("tokenizer has {ids} tokens, the model {vocab}: not this model's")));
        }
        Ok(tokenizer)
    }
}
