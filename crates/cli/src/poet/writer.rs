//! Poems from a trained model.

use super::config::PoetConfig;
use crate::Result;
use candle_core::{DType, Device};
use chandlery::lm::control::{Attributes, encode_request};
use chandlery::lm::decoder::Decoder;
use chandlery::lm::generate::{Options, Prompt, generate};
use chandlery::lm::tokenizer::Tokenizer;
use chandlery::nn::{ParamStore, Strictness};
use std::path::{Path, PathBuf};

/// Model and tokenizer, ready to write.
pub struct Writer<'a> {
    pub model: &'a Decoder,
    pub tokenizer: &'a Tokenizer,
    pub config: &'a PoetConfig,
}

impl Writer<'_> {
    /// One text for each request, `guidance` 0 for none; request `i` draws from `seed` and `i` alone.
    pub fn write(&self, requests: &[Attributes], guidance: f64, seed: u64) -> Result<Vec<String>> {
        let control = &self.config.control;
        let unconditional = encode_request(self.tokenizer, &Attributes::default(), control)?.ids;
        let text_at = control.places.as_ref().map(|places| places.text);
        let prompt = |(i, attrs): (usize, &Attributes)| -> Result<Prompt> {
            let start = encode_request(self.tokenizer, attrs, control)?;
            let positions = text_at.map(|_| start.positions);
            let prompt = Prompt::new(start.ids).with_id(i as u64).with_unconditional(unconditional.clone());
            Ok(Prompt { positions, ..prompt })
        };
        let prompts = requests.iter().enumerate().map(prompt).collect::<Result<Vec<_>>>()?;
        let stop_tokens = vec![self.tokenizer.eos()?];
        let options = Options { guidance, seed, stop_tokens, text_at, samples: 1, ..self.config.sample.clone() };
        let mut texts = Vec::with_capacity(prompts.len());
        for chunk in prompts.chunks(self.config.eval.batch) {
            let done = generate(self.model, chunk, &options, &mut ())?;
            texts.extend(done.iter().flatten().map(|c| self.tokenizer.decode(c.text_tokens())));
        }
        Ok(texts)
    }
}

/// The weights that a run has to offer: its finished model, else its newest checkpoint.
fn weights(run: &Path) -> Result<PathBuf> {
    let finished = run.join("model.safetensors");
    if finished.is_file() {
        return Ok(finished);
    }
    let step = |entry: std::fs::DirEntry| -> Option<(u64, PathBuf)> {
        let number = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
        Some((number, entry.path().join("params.safetensors")))
    };
    let steps = std::fs::read_dir(run.join("ckpt")).into_iter().flatten().flatten().filter_map(step);
    match steps.max() {
        Some((_, path)) => Ok(path),
        None => {
            Err(format!("{}: no trained model here; train one with `cargo xtask train poet`", run.display()).into())
        }
    }
}

/// Loads the model of a run without a graph, with its number of parameters.
pub fn load_model(run: &Path, config: &PoetConfig, tokenizer: &Tokenizer) -> Result<(Decoder, usize)> {
    let store = ParamStore::new(config.fit.seed, DType::F32, &Device::Cpu);
    let shape = config.decoder(tokenizer.vocab_size());
    Decoder::new(&shape, &store.root())?;
    store.load(&weights(run)?, Strictness::Exact)?;
    Ok((Decoder::new(&shape, &store.frozen())?, store.n_params()))
}
