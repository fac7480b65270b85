//! The transformer of the workload `gpt-step-f32`: training steps and generation.

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery::kernels::optim::{self, Adam, Norm, Rule, Slot, Step};
use chandlery::kernels::{self, CrossEntropy, Key};
use chandlery::lm::decoder::{Decoder, DecoderConfig, FeedForward, Pass, Positions};
use chandlery::lm::generate::{Options, Prompt, generate};
use chandlery::nn::ParamStore;

/// Sizes of the model and the batch.
#[derive(Clone, Copy)]
pub struct Shape {
    pub layers: usize,
    pub d: usize,
    pub heads: usize,
    pub vocab: usize,
    pub batch: usize,
    pub t: usize,
}

/// The sizes that the workload is defined by.
pub const GPT_STEP: Shape = Shape { layers: 6, d: 384, heads: 6, vocab: 8000, batch: 8, t: 256 };

/// Pre-norm transformer with learned positions, biases and an untied head without bias.
fn config(shape: Shape) -> DecoderConfig {
    DecoderConfig {
        vocab: shape.vocab,
        d_model: shape.d,
        n_layers: shape.layers,
        n_heads: shape.heads,
        n_kv_heads: None,
        ffn: None,
        positions: Positions::Learned { max: shape.t },
        norm: Default::default(),
        norm_eps: 1e-5,
        activation: FeedForward::GeluTanh,
        tied: false,
        attention_bias: true,
        mlp_bias: true,
        head_bias: false,
        dropout: 0.0,
        prompt_heads: 0,
        soft_rows: 0,
    }
}

fn lm_error(e: chandlery::lm::Error) -> candle_core::Error {
    candle_core::Error::Msg(e.to_string())
}

/// Prompt and new tokens of the workloads `generate-*`.
pub const GENERATE: (usize, usize) = (32, 128);

/// Writes texts with the model of `gpt-step-f32`, sampling from the 50 likeliest tokens.
pub struct Writer {
    model: Decoder,
    prompts: Vec<Prompt>,
}

impl Writer {
    pub fn new(batch: usize) -> Result<Self> {
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        Decoder::new(&config(GPT_STEP), &store.root()).map_err(lm_error)?;
        let model = Decoder::new(&config(GPT_STEP), &store.frozen()).map_err(lm_error)?;
        let key = Key::new(0).named("prompt");
        let tokens = |row: usize| (0..GENERATE.0).map(move |i| (key.at(row as u64).u64(i as u64) % 8000) as u32);
        let prompts = (0..batch).map(|row| Prompt::new(tokens(row).collect::<Vec<_>>()).with_id(row as u64)).collect();
        Ok(Self { model, prompts })
    }

    /// One call.
    pub fn write(&self) -> Result<()> {
        let options = Options { top_k: 50, max_tokens: GENERATE.1, ..Options::default() };
        let texts = generate(&self.model, &self.prompts, &options, &mut ()).map_err(lm_error)?;
        let n: usize = texts.iter().flatten().map(|text| text.tokens.len()).sum();
        if n == self.prompts.len() * GENERATE.1 { Ok(()) } else { candle_core::bail!("expected full texts, got {n}") }
    }
}

/// Model, optimiser state and a batch of random tokens.
pub struct Trainer {
    model: Decoder,
    params: Vec<(Var, Vec<Var>)>,
    ids: Tensor,
    targets: Tensor,
    t: u64,
}

fn random_ids(shape: Shape, name: &str) -> Result<Tensor> {
    let key = Key::new(0).named(name);
    let n = (shape.batch * shape.t) as u64;
    let ids: Vec<u32> = (0..n).map(|i| (key.u64(i) % shape.vocab as u64) as u32).collect();
    Tensor::from_vec(ids, (shape.batch, shape.t), &Device::Cpu)
}

impl Trainer {
    pub fn new(shape: Shape) -> Result<Self> {
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        let model = Decoder::new(&config(shape), &store.root()).map_err(lm_error)?;
        let with_state = |(_, var): (String, Var)| {
            let zeros = |(_, dims)| Var::zeros(dims, DType::F32, &Device::Cpu);
            let state = Adam::default().state(var.dims()).into_iter().map(zeros).collect::<Result<Vec<_>>>()?;
            Ok((var, state))
        };
        let params = store.named_vars().into_iter().map(with_state).collect::<Result<_>>()?;
        Ok(Self { model, params, ids: random_ids(shape, "ids")?, targets: random_ids(shape, "targets")?, t: 0 })
    }

    /// Forward, loss, backward, clipping to norm 1 and AdamW.
    pub fn step(&mut self) -> Result<f64> {
        self.t += 1;
        let hidden = self.model.hidden(&self.ids, Pass::train(Key::new(0)))?;
        let loss = self.model.loss(&hidden, &self.targets, &CrossEntropy::default())?;
        let grads = kernels::backward(&loss)?;
        let missing = || candle_core::Error::Msg("a parameter has no gradient".to_string());
        let grads = self.params.iter().map(|(p, _)| grads.get(p).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let norm = optim::global_norm(&grads, Norm::L2)?;
        let slots: Vec<Slot<'_>> =
            self.params.iter().zip(grads).map(|((param, state), grad)| Slot { param, grad, state }).collect();
        let step = Step { t: self.t, lr: 1e-4, grad_scale: optim::clip_factor(norm, 1.0) };
        optim::update_all(&Adam::default(), step, &slots)?;
        f64::from(loss.to_scalar::<f32>()?).is_finite().then_some(norm).ok_or_else(missing)
    }
}
