//! Poems from a trained model.

use super::config::{Lead, PoetConfig};
use crate::Result;
use candle_core::{DType, Device};
use chandlery::lm::control::{Attributes, encode_request};
use chandlery::lm::decoder::Decoder;
use chandlery::lm::generate::{Options, Prompt, Words, generate};
use chandlery::lm::tokenizer::Tokenizer;
use chandlery::nn::{ParamStore, Strictness};
use std::path::{Path, PathBuf};

/// How requests are enforced.
#[derive(Clone, Copy, Debug)]
pub struct How {
    /// Guidance, 0 for none.
    pub guidance: f64,
    /// Whether keywords are led to, where the settings say how.
    pub lead: bool,
}

/// Model and tokenizer, ready to write.
pub struct Writer<'a> {
    pub model: &'a Decoder,
    pub tokenizer: &'a Tokenizer,
    pub config: &'a PoetConfig,
}

impl Writer<'_> {
    /// One text for each request; request `i` draws from `seed` and `i` alone.
    pub fn write(&self, requests: &[Attributes], how: How, seed: u64) -> Result<Vec<String>> {
        let guidance = how.guidance;
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
        let batch = self.config.eval.batch;
        for (chunk, asked) in prompts.chunks(batch).zip(requests.chunks(batch)) {
            let done = match self.config.lead.filter(|_| how.lead) {
                Some(lead) => generate(self.model, chunk, &options, &mut self.words(asked, lead)?)?,
                None => generate(self.model, chunk, &options, &mut ())?,
            };
            texts.extend(done.iter().flatten().map(|c| self.tokenizer.decode(c.text_tokens())));
        }
        Ok(texts)
    }

    /// The keywords of these requests as tokens.
    fn words(&self, requests: &[Attributes], lead: Lead) -> Result<Words> {
        let tokens = |attrs: &Attributes| -> Result<Vec<Vec<u32>>> {
            Ok(attrs.keywords.iter().map(|word| self.tokenizer.encode(word)).collect::<Result<_, _>>()?)
        };
        let of_prompts = requests.iter().map(tokens).collect::<Result<_>>()?;
        Ok(Words::new(of_prompts, lead.start as f32, lead.growth as f32).spent(lead.spent as f32))
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
