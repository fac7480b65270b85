//! `plan measure`: the predicted step of a language model beside its real one on this machine.

use crate::args::Measure;
use crate::engine::Shared;
use crate::{Result, say};
use candle_core::{DType, Device, Tensor, Var};
use chandlery::kernels::optim::{self, Adam, Norm, Rule, Slot, Step};
use chandlery::kernels::{CrossEntropy, Key};
use chandlery::lm::decoder::{Decoder, DecoderConfig, FeedForward, Pass, Positions, RotaryStyle};
use chandlery::nn::ParamStore;
use chandlery::parallel::cli;
use chandlery::parallel::cost::{Attention, Plan, Platform, Prediction, Timing, predict};
use chandlery::parallel::model::Transformer;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Steps before those that are timed: caches and allocator become warm.
const WARM: usize = 2;

/// Trains on random tokens and prints the median step beside the prediction: one copy of the model on each device of the
/// cluster, here a rank with its share of the cores, their gradients summed through shared memory.
pub fn measure(args: &Measure) -> Result<()> {
    let spec = cli::model(&args.model)?;
    let shape =
        spec.transformer().ok_or_else(|| format!("{} is no language model; only those are measured", spec.name))?;
    let cluster = cli::cluster(&args.cluster)?;
    let platform = Platform::of(&cluster, 0)?;
    let prediction = predicted(shape, &platform, args.batch)?;
    let ranks = usize::try_from(platform.devices)?;
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or((cores / ranks).max(1), usize::from);
    let mut seconds = train(shape, args.batch as usize, ranks, threads, args.steps.into())?;
    seconds.sort_by(f64::total_cmp);
    let (measured, step) = (seconds[seconds.len() / 2], prediction.step_s);
    let tokens = f64::from(args.batch) * shape.sequence as f64;
    say(format!("{}, batch {}, on {} x {}", spec.name, args.batch, platform.devices, platform.device));
    say(format!("measured   {measured:>9.4} s a step, {:>7.0} tokens/s", tokens / measured));
    say(format!(
        "           median of {}, fastest {:.4}, slowest {:.4} s",
        seconds.len(),
        seconds[0],
        seconds[seconds.len() - 1]
    ));
    say(format!("           ranks: {ranks}, threads of each: {threads}"));
    say(format!(
        "predicted  {step:>9.4} s a step, {:>7.0} tokens/s: {:+.1} %",
        tokens / step,
        100.0 * (step / measured - 1.0)
    ));
    for (name, s) in prediction.parts.named().into_iter().filter(|(_, s)| *s > 0.0) {
        say(format!("  {name:<20} {s:>9.4} s"));
    }
    Ok(())
}

/// Seconds of `steps` steps, all ranks together.
fn train(shape: &Transformer, batch: usize, ranks: usize, threads: usize, steps: usize) -> Result<Vec<f64>> {
    let params = usize::try_from(shape.params("model")?)?;
    let (shared, barrier, stop) = (Shared::new(ranks, params), Barrier::new(ranks), AtomicBool::new(false));
    let rank = |rank: usize| -> Result<Vec<f64>> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let trainer = Trainer::new(shape, batch / ranks);
        // Ranks meet in every step: all of them go on, or none.
        stop.fetch_or(pool.is_err() || trainer.is_err(), Ordering::SeqCst);
        barrier.wait();
        let (pool, mut trainer) = (pool?, trainer?);
        pool.install(|| {
            let mut all = Vec::with_capacity(steps + WARM);
            for t in 1..=steps + WARM {
                if stop.load(Ordering::SeqCst) {
                    return Err("another rank failed".into());
                }
                let start = Instant::now();
                let result = trainer.step(t as u64);
                shared.all_reduce(rank);
                stop.fetch_or(result.is_err(), Ordering::SeqCst);
                barrier.wait();
                result?;
                all.push(start.elapsed().as_secs_f64());
            }
            Ok(all.split_off(WARM))
        })
    };
    std::thread::scope(|scope| {
        let start = |r: usize| {
            let rank = &rank;
            scope.spawn(move || rank(r))
        };
        let handles: Vec<_> = (0..ranks).map(start).collect();
        let all: Result<Vec<Vec<f64>>> =
            handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err("a rank panicked".into()))).collect();
        // The ranks leave a step together, so the first one's clock is everyone's.
        Ok(all?.swap_remove(0))
    })
}

/// One copy of the model on each device, everything kept, in single precision.
fn predicted(shape: &Transformer, platform: &Platform, batch: u32) -> Result<Prediction> {
    let data = u32::try_from(platform.devices)?;
    if !batch.is_multiple_of(data) {
        return Err(format!("a batch of {batch} is not divisible by {data} devices").into());
    }
    let plan =
        Plan { data, micro_batch: batch / data, attention: Attention::Flash, float32: true, ..Plan::single(batch) };
    Ok(predict(shape, &plan, platform, &[u32::try_from(shape.layers)?], Timing::Replay)?)
}

fn config(shape: &Transformer) -> Result<DecoderConfig> {
    if shape.experts.is_some() {
        return Err("this project trains no mixture of experts; measure a dense model".into());
    }
    let size = |n: u64| usize::try_from(n);
    let max = size(shape.sequence)?;
    let rotary = Positions::Rotary { max, base: 10_000.0, style: RotaryStyle::Halves };
    Ok(DecoderConfig {
        vocab: size(shape.vocabulary)?,
        d_model: size(shape.hidden)?,
        n_layers: size(shape.layers)?,
        n_heads: size(shape.heads)?,
        n_kv_heads: Some(size(shape.kv())?),
        ffn: Some(size(shape.ffn())?),
        positions: if shape.learned_positions { Positions::Learned { max } } else { rotary },
        norm: Default::default(),
        norm_eps: 1e-5,
        activation: if shape.gated { FeedForward::SwiGlu } else { FeedForward::GeluTanh },
        tied: shape.tied_head,
        attention_bias: shape.biases,
        mlp_bias: shape.biases,
        head_bias: false,
        dropout: 0.0,
        prompt_heads: 0,
        soft_rows: 0,
    })
}

/// A model with the state of its optimizer, and one batch.
struct Trainer {
    model: Decoder,
    params: Vec<(Var, Vec<Var>)>,
    ids: Tensor,
    targets: Tensor,
}

impl Trainer {
    fn new(shape: &Transformer, batch: usize) -> Result<Self> {
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        let model = Decoder::new(&config(shape)?, &store.root())?;
        let mut params = Vec::new();
        for (_, var) in store.named_vars() {
            let zeros = |(_, dims)| Var::zeros(dims, DType::F32, &Device::Cpu);
            let state = Adam::default().state(var.dims()).into_iter().map(zeros).collect::<candle_core::Result<_>>()?;
            params.push((var, state));
        }
        let length = usize::try_from(shape.sequence)?;
        let tokens = |name: &str| -> Result<Tensor> {
            let key = Key::new(0).named(name);
            let ids: Vec<u32> = (0..(batch * length) as u64).map(|i| (key.u64(i) % shape.vocabulary) as u32).collect();
            Ok(Tensor::from_vec(ids, (batch, length), &Device::Cpu)?)
        };
        Ok(Self { model, params, ids: tokens("ids")?, targets: tokens("targets")? })
    }

    /// Forward, loss, backward, clipping and AdamW.
    fn step(&mut self, t: u64) -> Result<()> {
        let hidden = self.model.hidden(&self.ids, Pass::train(Key::new(0)))?;
        let grads = self.model.loss(&hidden, &self.targets, &CrossEntropy::default())?.backward()?;
        let of = |var: &Var| grads.get(var).ok_or("a parameter has no gradient");
        let list = self.params.iter().map(|(var, _)| of(var)).collect::<Result<Vec<_>, _>>()?;
        let scale = optim::clip_factor(optim::global_norm(&list, Norm::L2)?, 1.0);
        let slots: Vec<Slot<'_>> =
            self.params.iter().zip(list).map(|((param, state), grad)| Slot { param, grad, state }).collect();
        optim::update_all(&Adam::default(), Step { t, lr: 1e-4, grad_scale: scale }, &slots)?;
        Ok(())
    }
}
