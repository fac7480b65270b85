//! A small regression network with dropout, a buffer, state of its own, and data that can be made bad.

use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{Key, Stream, gelu_tanh};
use chandlery_nn::{Buffer, Dropout, Init, Linear, Mode, ParamStore, Scope};
use chandlery_train::*;
use serde_json::json;
use std::path::Path;

pub struct Net {
    up: Linear,
    down: Linear,
    /// Running mean of the targets, [1, 1]; a small part of it is added in evaluation.
    mean: Buffer,
}

impl Net {
    fn new(scope: &Scope) -> candle_core::Result<Self> {
        let (up, down) = (Linear::new(&scope.pp("up"), 3, 16, true)?, Linear::new(&scope.pp("down"), 16, 1, true)?);
        Ok(Self { up, down, mean: scope.buffer("mean", (1, 1), Init::ZEROS)? })
    }

    /// Takes in the targets [b, 1] of a training batch.
    fn note(&self, y: &Tensor) -> candle_core::Result<()> {
        self.mean.set(&((self.mean.get() * 0.9)? + (y.mean_keepdim(0)? * 0.1)?)?)
    }

    /// [b, 3] to [b, 1].
    pub fn forward(&self, x: &Tensor, mode: Mode) -> candle_core::Result<Tensor> {
        self.down.forward(&Dropout { p: 0.2 }.forward(&gelu_tanh(&self.up.forward(x)?)?, mode)?)
    }
}

/// Called at the start of each micro-batch.
pub type Hook = Box<dyn FnMut(&StepCx<'_>) + Send>;

pub struct Toy {
    pub store: ParamStore,
    net: Net,
    frozen: Net,
    draws: Stream,
    last: Tensor,
    pub hook: Hook,
}

pub type Batch = (Tensor, Tensor);

impl Toy {
    pub fn new(seed: u64) -> Self {
        Self::with_frozen(seed, &[])
    }

    /// With these paths not trained.
    pub fn with_frozen(seed: u64, paths: &[&str]) -> Self {
        let store = ParamStore::new(seed, DType::F32, &Device::Cpu);
        paths.iter().for_each(|path| store.freeze(path));
        let net = Net::new(&store.root()).unwrap();
        let frozen = Net::new(&store.frozen()).unwrap();
        let draws = Stream::new(Key::new(seed).named("toy"));
        let last = Tensor::zeros(1, DType::F32, &Device::Cpu).unwrap();
        Self { store, net, frozen, draws, last, hook: Box::new(|_| {}) }
    }

    pub fn values(&self, name: &str) -> Vec<f32> {
        self.store.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }
}

impl Task for Toy {
    type Batch = Batch;

    fn step(&mut self, (x, y): &Batch, cx: &mut StepCx<'_>) -> Result<()> {
        (self.hook)(cx);
        let error = (self.net.forward(x, cx.mode())? - y)?.sqr()?.sum_all()?;
        self.net.note(y)?;
        cx.scalar("noise", self.draws.uniform());
        cx.scalar("first", x.get(0)?.get(0)?);
        self.last = error.detach().reshape(1)?;
        cx.update("main", Loss::sum(error, y.dim(0)?))
    }

    fn eval(&self, (x, y): &Batch, meters: &mut Meters) -> Result<()> {
        let said = self.frozen.forward(x, Mode::Eval)?.broadcast_add(&(self.frozen.mean.get() * 0.01)?)?;
        let error = (said - y)?.sqr()?.sum_all()?;
        meters.add("error", error.to_scalar::<f32>()?.into(), y.dim(0)?);
        Ok(())
    }

    fn save_extra(&self) -> Extra {
        let values = [("draws".to_string(), json!(self.draws.state()))].into();
        Extra { values, tensors: [("last".to_string(), self.last.clone())].into() }
    }

    fn load_extra(&mut self, extra: &Extra) -> Result<()> {
        let draws = extra.values.get("draws").and_then(|v| v.as_u64()).ok_or_else(|| Error::task("no draws"))?;
        self.draws = Stream::with_state(Key::new(0).named("toy"), draws);
        self.last = extra.tensors["last"].clone();
        Ok(())
    }
}

/// Features and target of one item.
fn item(i: usize, bad: Option<(usize, f32)>) -> ([f32; 3], f32) {
    let key = Key::new(99).at(i as u64);
    let x = [0, 1, 2].map(|j| key.normal(j) as f32);
    let y = match bad {
        Some((at, value)) if at == i => value,
        _ => x[0].sin() + x[1] * x[2],
    };
    (x, y)
}

pub fn batch(items: &[usize], bad: Option<(usize, f32)>) -> Result<Batch> {
    let (x, y): (Vec<_>, Vec<_>) = items.iter().map(|&i| item(i, bad)).unzip();
    let n = items.len();
    let y = Tensor::from_vec(y, (n, 1), &Device::Cpu)?;
    Ok((Tensor::from_vec(x.concat(), (n, 3), &Device::Cpu)?, y))
}

/// 50 items, of which item `bad.0` has the target `bad.1`, and two held-out batches.
pub fn source(bad: Option<(usize, f32)>) -> impl Source<Batch = Batch> {
    let eval = |i: usize| batch(&[1000 + 2 * i, 1001 + 2 * i], None);
    from_fn(50, move |items: &[usize], _: BatchAt| batch(items, bad)).with_eval(2, eval).with_fingerprint("toy")
}

/// A run with everything in it that has state.
pub fn config() -> FitConfig {
    FitConfig::from_toml(
        r#"
        steps = 20
        batch = 6
        accumulate = 2
        log_every = 1
        eval_every = 5
        save_every = 5
        best = { meter = "error" }
        ema = { decay = 0.9, warmup = true, evaluate = true }
        growth = { steps = 12, len_from = 8, len_to = 16, batch_from = 2 }
        guard = { spike = "skip", spike_z = 6.0, window = 5 }
        [groups.main]
        lr = 0.02
        weight_decay = 0.1
        schedule = { shape = "cosine", warmup = 4, floor = 0.1 }
        "#,
    )
    .unwrap()
}

/// A plain run: no growth, averages, evaluation or accumulation.
pub fn plain(steps: u64, batch: usize) -> FitConfig {
    let groups = [("main".to_string(), GroupConfig { lr: 0.02, ..GroupConfig::default() })].into();
    FitConfig { steps, batch, groups, log_every: 1, shuffle: false, ..FitConfig::default() }
}

/// Trains a fresh network, or resumes, in `dir`.
pub fn train(dir: &Path, config: &FitConfig) -> Result<(Toy, Outcome)> {
    let mut toy = Toy::new(0);
    let outcome = fit_toy(&mut toy, &source(None), config, Run::open(dir))?;
    Ok((toy, outcome))
}

/// The files that an uninterrupted run must reproduce bit for bit.
pub fn result_files(dir: &Path, step: u64) -> Vec<(String, Vec<u8>)> {
    let folder = format!("ckpt/step-{step}");
    let files = ["params.safetensors", "optim.safetensors", "ema.safetensors", "extra.safetensors", "state.json"];
    let files = files.iter().map(|f| format!("{folder}/{f}")).chain(["events.jsonl".into(), "eval.json".into()]);
    files.map(|f| (f.clone(), std::fs::read(dir.join(&f)).unwrap())).collect()
}

pub fn assert_same_result(a: &Path, b: &Path, step: u64) {
    for (left, right) in result_files(a, step).into_iter().zip(result_files(b, step)) {
        assert!(left.1 == right.1, "{} differs", left.0);
    }
}

pub fn events(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Trains the toy's own store.
pub fn fit_toy<S: Source<Batch = Batch>>(toy: &mut Toy, source: &S, config: &FitConfig, run: Run) -> Result<Outcome> {
    let store = toy.store.clone();
    fit(toy, &store, source, config, run)
}
