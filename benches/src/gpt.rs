//! The transformer of the workload `gpt-step-f32` and one training step on it.

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery::kernels::optim::{self, Adam, Norm, Rule, Slot, Step};
use chandlery::kernels::{self as ck, Activation, CrossEntropy, Key, Mask};
use chandlery::nn::{Embedding, Init, LayerNorm, Linear, Mlp, ParamStore, Scope};

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

struct Block {
    ln1: LayerNorm,
    qkv: Linear,
    out: Linear,
    ln2: LayerNorm,
    mlp: Mlp,
}

/// Pre-norm transformer with learned positions and an untied head without bias.
pub struct Gpt {
    tokens: Embedding,
    positions: Embedding,
    blocks: Vec<Block>,
    norm: LayerNorm,
    head: Linear,
    shape: Shape,
}

impl Block {
    fn new(s: &Scope, d: usize) -> Result<Self> {
        let act = Activation::GeluTanh;
        let mlp = Mlp { up: Linear::new(&s.pp("up"), d, 4 * d, true)?, down: Linear::new(&s.pp("down"), 4 * d, d, true)?, act };
        Ok(Self {
            ln1: LayerNorm::new(&s.pp("ln1"), d, 1e-5)?,
            qkv: Linear::new(&s.pp("qkv"), d, 3 * d, true)?,
            out: Linear::new(&s.pp("out"), d, d, true)?,
            ln2: LayerNorm::new(&s.pp("ln2"), d, 1e-5)?,
            mlp,
        })
    }

    fn forward(&self, x: &Tensor, heads: usize) -> Result<Tensor> {
        let qkv = self.qkv.forward(&self.ln1.forward(x)?)?;
        let scale = 1.0 / ((x.dim(2)? / heads) as f64).sqrt();
        let x = (x + self.out.forward(&ck::attention_qkv(&qkv, heads, heads, &Mask::causal(), scale)?)?)?;
        &x + self.mlp.forward(&self.ln2.forward(&x)?)?
    }
}

impl Gpt {
    pub fn new(s: &Scope, shape: Shape) -> Result<Self> {
        let normal = Init::Normal { std: 0.02 };
        Ok(Self {
            tokens: Embedding::new(&s.pp("tokens"), shape.vocab, shape.d, normal)?,
            positions: Embedding::new(&s.pp("positions"), shape.t, shape.d, normal)?,
            blocks: (0..shape.layers).map(|i| Block::new(&s.pp(i), shape.d)).collect::<Result<_>>()?,
            norm: LayerNorm::new(&s.pp("norm"), shape.d, 1e-5)?,
            head: Linear::new(&s.pp("head"), shape.d, shape.vocab, false)?,
            shape,
        })
    }

    pub fn loss(&self, ids: &Tensor, targets: &Tensor) -> Result<Tensor> {
        let mut x = self.tokens.forward(ids)?.broadcast_add(&self.positions.weight)?;
        for block in &self.blocks {
            x = block.forward(&x, self.shape.heads)?;
        }
        let x = self.norm.forward(&x)?.reshape(((), self.shape.d))?;
        ck::linear_cross_entropy(&x, &self.head.weight, None, &targets.flatten_all()?, &CrossEntropy::default())
    }
}

/// Model, optimiser state and a batch of random tokens.
pub struct Trainer {
    model: Gpt,
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
        let model = Gpt::new(&store.root(), shape)?;
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
        let loss = self.model.loss(&self.ids, &self.targets)?;
        let grads = loss.backward()?;
        let missing = || candle_core::Error::Msg("a parameter has no gradient".to_string());
        let grads = self.params.iter().map(|(p, _)| grads.get(p).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let norm = optim::global_norm(&grads, Norm::L2)?;
        let slots: Vec<Slot<'_>> = self
            .params
            .iter()
            .zip(grads)
            .map(|((param, state), grad)| Slot { param, grad, state })
            .collect();
        let step = Step { t: self.t, lr: 1e-4, grad_scale: optim::clip_factor(norm, 1.0) };
        optim::update_all(&Adam::default(), step, &slots)?;
        f64::from(loss.to_scalar::<f32>()?).is_finite().then_some(norm).ok_or_else(missing)
    }
}
