//! Texts from a decoder: batched, cached, controlled and reproducible.
//!
//! ```
//! use candle_core::{DType, Device};
//! use chandlery_lm::decoder::{Decoder, DecoderConfig};
//! use chandlery_lm::generate::{Options, Prompt, generate};
//! use chandlery_nn::ParamStore;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let cfg: DecoderConfig = serde_json::from_str(
//!     r#"{"vocab": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "positions": {"learned": {"max": 32}}}"#,
//! )?;
//! let store = ParamStore::new(1, DType::F32, &Device::Cpu);
//! Decoder::new(&cfg, &store.root())?;
//! let model = Decoder::new(&cfg, &store.frozen())?; // the same weights without a graph
//! let options = Options { top_k: 10, max_tokens: 5, samples: 3, ..Options::default() };
//! let texts = generate(&model, &[Prompt::new([1, 2, 3])], &options, &mut ())?;
//! assert_eq!(texts[0].len(), 3);
//! assert!(texts[0][0].mean_log_prob() >= texts[0][2].mean_log_prob());
//! # Ok(()) }
//! ```

mod draw;
mod history;
mod hooks;
mod options;
mod rows;
mod score;
#[cfg(test)]
mod tests;
mod words;

pub use hooks::{Allowed, Flow, Growing, Hooks, StopStrings};
pub use options::Options;
pub use score::log_probs;
pub use words::Words;

use crate::cache::KvCache;
use crate::decoder::{Decoder, Pass};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{self as ck, Key};
use rayon::prelude::*;
use rows::Row;
use std::ops::Range;

/// What a text starts from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// At least one token (or soft prompt).
    pub tokens: Vec<u32>,
    /// Learned positions of the tokens; [`Options::text_at`] says where the text begins. Unless given, the tokens end
    /// right before it.
    pub positions: Option<Vec<u32>>,
    /// The start without the conditions, for guidance; it ends right before the text.
    pub unconditional: Option<Vec<u32>>,
    /// Names the prompt's draws: they depend on seed, id and sample, not on the other prompts of the call.
    pub id: u64,
}

impl Prompt {
    /// A prompt with id 0.
    pub fn new(tokens: impl Into<Vec<u32>>) -> Self {
        Self { tokens: tokens.into(), positions: None, unconditional: None, id: 0 }
    }

    /// With this id.
    pub fn with_id(self, id: u64) -> Self {
        Self { id, ..self }
    }

    /// With these positions.
    pub fn with_positions(self, positions: Vec<u32>) -> Self {
        Self { positions: Some(positions), ..self }
    }

    /// With this start for the unconditional side of guidance.
    pub fn with_unconditional(self, tokens: impl Into<Vec<u32>>) -> Self {
        Self { unconditional: Some(tokens.into()), ..self }
    }
}

/// Why a text ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// With one of the stop tokens.
    StopToken,
    /// A hook said so.
    Hook,
    /// It has `max_tokens`.
    Length,
    /// The model's context is full (that of the longest prompt in the call).
    Context,
}

/// One generated text.
#[derive(Clone, Debug, PartialEq)]
pub struct Completion {
    /// Which of the prompt's samples.
    pub sample: usize,
    /// Tokens without the prompt, with the stop token if there is one.
    pub tokens: Vec<u32>,
    /// Log-probability of each token under the model itself, given the conditional prompt and without any control.
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish: Finish,
}

impl Completion {
    /// Tokens without the stop token.
    pub fn text_tokens(&self) -> &[u32] {
        let stop = usize::from(self.finish == Finish::StopToken);
        &self.tokens[..self.tokens.len() - stop]
    }

    /// Log-probability of the whole text.
    pub fn log_prob(&self) -> f64 {
        self.log_probs.iter().map(|&l| f64::from(l)).sum()
    }

    /// Log-probability per token.
    pub fn mean_log_prob(&self) -> f64 {
        self.log_prob() / self.log_probs.len().max(1) as f64
    }
}

/// Generates `options.samples` texts for each prompt, the likeliest per token first.
///
/// All rows run as one batch, with guidance as one batch of twice the rows; a row's draws depend on the seed, its
/// prompt's id and its sample alone. Give it a model on [`ParamStore::frozen`](chandlery_nn::ParamStore::frozen).
///
/// # Errors
/// If an option is out of range, a prompt is empty or too long, guidance lacks an unconditional start, a hook allows
/// nothing, or the model yields NaN.
pub fn generate(
    model: &Decoder,
    prompts: &[Prompt],
    options: &Options,
    hooks: &mut dyn Hooks,
) -> Result<Vec<Vec<Completion>>> {
    options.validate()?;
    check(model, prompts, options)?;
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut run = Run::start(model, prompts, options)?;
    while run.step(hooks)? {}
    Ok(run.completions(prompts.len()))
}

fn check(model: &Decoder, prompts: &[Prompt], options: &Options) -> Result<()> {
    if let Some(text_at) = options.text_at {
        let (end, context) = (text_at + options.max_tokens, model.config().context());
        if end > context {
            let what = format!("texts from {text_at} to {end} leave the model's context of {context}");
            return Err(Error::config("text_at", what));
        }
    }
    for (i, prompt) in prompts.iter().enumerate() {
        if let Some(positions) = &prompt.positions {
            let (have, tokens) = (positions.len(), prompt.tokens.len());
            if have != tokens || options.text_at.is_none() {
                let what = format!("expected {tokens} positions and `text_at`, got {have} and {:?}", options.text_at);
                return Err(Error::Prompt { index: i, what });
            }
        }
        let sides = [Some(&prompt.tokens), prompt.unconditional.as_ref()];
        if options.guidance != 0.0 && prompt.unconditional.is_none() {
            return Err(Error::Prompt { index: i, what: "guidance needs an unconditional start".into() });
        }
        for side in sides.into_iter().flatten() {
            let (n, context) = (side.len(), model.config().context());
            if n == 0 || n > context {
                let what = format!("expected 1 to {context} tokens (the model's context), got {n}");
                return Err(Error::Prompt { index: i, what });
            }
        }
    }
    Ok(())
}

/// Tokens of one side of a prompt, and their positions where they are given.
type Side<'a> = (&'a [u32], Option<&'a [u32]>);

/// Positions of these columns where texts are to begin at a given one. Prompts are padded on the left to `longest`, so
/// that all rows are alike but for the positions that a prompt brings along.
fn positions(options: &Options, sides: &[Side<'_>], longest: usize, columns: Range<usize>) -> Result<Option<Tensor>> {
    let Some(text_at) = options.text_at else { return Ok(None) };
    let n = columns.len();
    let mut all = Vec::with_capacity(sides.len() * n);
    for (tokens, given) in sides {
        let of_column =
            |column: usize| match given.and_then(|given| given.get((column + tokens.len()).checked_sub(longest)?)) {
                Some(&position) => position,
                None => (text_at + column).saturating_sub(longest) as u32,
            };
        all.extend(columns.clone().map(of_column));
    }
    Ok(Some(Tensor::from_vec(all, (sides.len(), n), &Device::Cpu)?))
}

/// A batch under way. Rows of the batch: the live rows, then with guidance their unconditional sides.
struct Run<'a> {
    model: &'a Decoder,
    options: &'a Options,
    cache: KvCache,
    /// Length of the longest prompt: texts begin at this column.
    longest: usize,
    rows: Vec<Row>,
    done: Vec<Row>,
    /// Next-token logits of the batch, [rows, vocab] or twice the rows.
    logits: Tensor,
}

impl<'a> Run<'a> {
    /// Reads all prompts in one pass.
    fn start(model: &'a Decoder, prompts: &[Prompt], options: &'a Options) -> Result<Self> {
        let guided = options.guidance != 0.0;
        let mut starts: Vec<Side<'_>> = prompts.iter().map(|p| (&p.tokens[..], p.positions.as_deref())).collect();
        if guided {
            starts.extend(prompts.iter().map(|p| (p.unconditional.as_deref().unwrap_or_default(), None)));
        }
        let longest = starts.iter().map(|(tokens, _)| tokens.len()).max().unwrap_or(0);
        let pads: Vec<usize> = starts.iter().map(|(tokens, _)| longest - tokens.len()).collect();
        let padded = |(tokens, _): &Side<'_>| [&vec![0; longest - tokens.len()], *tokens].concat();
        let ids: Vec<u32> = starts.iter().flat_map(padded).collect();
        let (cfg, device) = (model.config(), model.device());
        // The last token is never fed back.
        let capacity = (longest + options.max_tokens - 1).min(cfg.context());
        let mut cache = KvCache::with_padding(cfg, &pads, capacity, model.dtype(), device)?;
        let ids = Tensor::from_vec(ids, (starts.len(), longest), device)?;
        let positions = positions(options, &starts, longest, 0..longest)?;
        let pass = Pass { positions: positions.as_ref(), ..Pass::eval() };
        let hidden = model.hidden(&ids, pass.with_cache(&mut cache))?;
        let logits = model.logits(&hidden.narrow(1, longest - 1, 1)?.squeeze(1)?.contiguous()?)?;
        let key = Key::new(options.seed).named("generate");
        let row = |i: usize, sample| Row::new(i, sample, &prompts[i], key);
        let rows = (0..prompts.len()).flat_map(|i| (0..options.samples).map(move |s| (i, s)));
        let rows = rows.map(|(i, sample)| row(i, sample)).collect();
        let mut run = Self { model, options, cache, longest, rows, done: Vec::new(), logits };
        if options.samples > 1 {
            let sides = 0..if guided { 2 } else { 1 };
            let of_side = |side| run.rows.iter().map(move |row: &Row| row.prompt + side * prompts.len());
            let take: Vec<usize> = sides.flat_map(of_side).collect();
            run.take(&take)?;
        }
        Ok(run)
    }

    /// Makes these rows of the batch the new batch.
    fn take(&mut self, rows: &[usize]) -> Result<()> {
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let index = Tensor::from_vec(index, rows.len(), self.logits.device())?;
        self.logits = self.logits.contiguous()?.index_select(&index, 0)?;
        self.cache = self.cache.select(rows)?;
        Ok(())
    }

    /// Chooses a token for every live row and feeds it; false once all rows have ended.
    fn step(&mut self, hooks: &mut dyn Hooks) -> Result<bool> {
        self.choose(hooks)?;
        self.end_rows_without_room();
        let live = self.rows.iter().filter(|row| row.finish.is_none()).count();
        if live == 0 {
            return Ok(false);
        }
        // Moving the cache costs about one step, so do it when a quarter of the work is gone.
        if 4 * live <= 3 * self.rows.len() {
            self.drop_ended()?;
        }
        self.feed()?;
        Ok(true)
    }

    fn choose(&mut self, hooks: &mut dyn Hooks) -> Result<()> {
        let (n, vocab) = (self.rows.len(), self.model.config().vocab);
        let logits = self.logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?;
        let own = ck::log_softmax(&logits.narrow(0, 0, n)?.contiguous()?, 1)?;
        let own = own.flatten_all()?.to_vec1::<f32>()?;
        let mut shaped = logits.flatten_all()?.to_vec1::<f32>()?;
        if self.options.guidance != 0.0 {
            guide(&mut shaped, n * vocab, self.options.guidance as f32);
        }
        for (row, logits) in self.rows.iter().zip(shaped.chunks_exact_mut(vocab)) {
            if row.finish.is_none() {
                hooks.shape(row.growing(), logits);
                row.history.shape(logits, self.options, hooks.allowed(row.growing()));
            }
        }
        let greedy = self.options.temperature == 0.0;
        if !greedy {
            shaped = probabilities(shaped, n, vocab, self.options.temperature)?;
        }
        let options = self.options;
        let choose = |(row, scores): (&mut Row, &[f32])| match row.finish {
            Some(_) => None,
            None if greedy => draw::likeliest(scores),
            None => draw::draw(scores, options, row.uniform()),
        };
        let tokens: Vec<Option<u32>> =
            self.rows.par_iter_mut().zip(shaped.par_chunks_exact(vocab)).map(choose).collect();
        for (i, (row, token)) in self.rows.iter_mut().zip(tokens).enumerate().filter(|(_, (r, _))| r.finish.is_none()) {
            let Some(token) = token else { return Err(row.stuck()) };
            row.push(token, own[i * vocab + token as usize], options, hooks);
        }
        Ok(())
    }

    fn end_rows_without_room(&mut self) {
        if self.cache.len() >= self.model.config().context() {
            self.rows.iter_mut().for_each(|row| row.finish = row.finish.or(Some(Finish::Context)));
        }
    }

    fn drop_ended(&mut self) -> Result<()> {
        let n = self.rows.len();
        let live: Vec<usize> = (0..n).filter(|&i| self.rows[i].finish.is_none()).collect();
        let mut take = live.clone();
        if self.options.guidance != 0.0 {
            take.extend(live.iter().map(|i| i + n));
        }
        self.cache = self.cache.select(&take)?;
        let (ended, live) = std::mem::take(&mut self.rows).into_iter().partition(|row| row.finish.is_some());
        self.rows = live;
        self.done.extend::<Vec<Row>>(ended);
        Ok(())
    }

    fn feed(&mut self) -> Result<()> {
        let mut ids: Vec<u32> = self.rows.iter().map(Row::last).collect();
        if self.options.guidance != 0.0 {
            ids.extend_from_within(..);
        }
        let n = ids.len();
        let ids = Tensor::from_vec(ids, (n, 1), self.model.device())?;
        let at = self.cache.len();
        let positions = positions(self.options, &vec![(&[][..], None); n], self.longest, at..at + 1)?;
        let pass = Pass { positions: positions.as_ref(), ..Pass::eval() };
        let hidden = self.model.hidden(&ids, pass.with_cache(&mut self.cache))?;
        self.logits = self.model.logits(&hidden.squeeze(1)?)?;
        Ok(())
    }

    /// Completions by prompt, the likeliest per token first.
    fn completions(self, prompts: usize) -> Vec<Vec<Completion>> {
        let mut all = vec![Vec::new(); prompts];
        for row in self.done.into_iter().chain(self.rows) {
            all[row.prompt].push(row.into_completion());
        }
        for texts in &mut all {
            texts.sort_by(|a: &Completion, b| {
                b.mean_log_prob().total_cmp(&a.mean_log_prob()).then(a.sample.cmp(&b.sample))
            });
        }
        all
    }
}

/// Logits that one thread takes at a time.
const CHUNK: usize = 1 << 14;

/// The first `n` values become `(1 + g) conditional - g unconditional`; the unconditional ones behind them go.
fn guide(logits: &mut Vec<f32>, n: usize, g: f32) {
    let (conditional, unconditional) = logits.split_at_mut(n);
    let pairs = conditional.par_chunks_mut(CHUNK).zip(unconditional.par_chunks(CHUNK));
    pairs.for_each(|(c, u)| c.iter_mut().zip(u).for_each(|(c, u)| *c = (1.0 + g) * *c - g * *u));
    logits.truncate(n);
}

/// Softmax of `logits / temperature` by row.
fn probabilities(mut logits: Vec<f32>, n: usize, vocab: usize, temperature: f64) -> Result<Vec<f32>> {
    if temperature != 1.0 {
        let by = (1.0 / temperature) as f32;
        logits.par_chunks_mut(CHUNK).for_each(|part| part.iter_mut().for_each(|x| *x *= by));
    }
    let logits = Tensor::from_vec(logits, (n, vocab), &Device::Cpu)?;
    Ok(ck::softmax(&logits, 1)?.flatten_all()?.to_vec1()?)
}
