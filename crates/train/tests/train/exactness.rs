//! Same seed, same bits; accumulation equals one batch; averages are what they are said to be.

use crate::toy::*;
use candle_core::{DType, Device, Tensor};
use chandlery_nn::{Linear, ParamStore};
use chandlery_train::*;
use std::sync::{Arc, Barrier, Mutex};

#[test]
fn same_seed_writes_the_same_events() {
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let other = FitConfig { seed: 1, ..config() };
    for (dir, config) in dirs.iter().zip([config(), config(), other]) {
        train(dir.path(), &config).unwrap();
    }
    let text = |i: usize| std::fs::read(dirs[i].path().join("events.jsonl")).unwrap();
    assert_same_result(dirs[0].path(), dirs[1].path(), 20);
    assert_ne!(text(0), text(2));
}

/// Summed loss over the visible tokens of each item; item i has 1 + i % 5 of them.
struct Tokens {
    layer: Linear,
}

impl Task for Tokens {
    type Batch = (Tensor, Tensor); // [b, 5, 2] and [b, 5]

    fn step(&mut self, (x, keep): &Self::Batch, cx: &mut StepCx<'_>) -> Result<()> {
        let y = self.layer.forward(x)?.squeeze(2)?; // [b, 5]
        let n = keep.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()? as usize;
        cx.update("main", Loss::sum((y - 1.0)?.sqr()?.mul(keep)?.sum_all()?, n))
    }
}

fn token_batch(items: &[usize], dtype: DType) -> Result<(Tensor, Tensor)> {
    let n = items.len();
    let x: Vec<f64> = items.iter().flat_map(|i| (0..10).map(move |j| ((i * 10 + j) as f64).sin())).collect();
    let keep: Vec<f64> = items.iter().flat_map(|i| (0..5).map(move |t| f64::from(t <= i % 5))).collect();
    let x = Tensor::from_vec(x, (n, 5, 2), &Device::Cpu)?.to_dtype(dtype)?;
    Ok((x, Tensor::from_vec(keep, (n, 5), &Device::Cpu)?.to_dtype(dtype)?))
}

fn accumulated(dtype: DType, batch: usize, accumulate: usize) -> Vec<f64> {
    trained(dtype, batch, accumulate, Box::new(Alone))
}

fn trained(dtype: DType, batch: usize, accumulate: usize, reducer: Box<dyn Reducer>) -> Vec<f64> {
    let dir = tempfile::tempdir().unwrap();
    let store = ParamStore::new(1, dtype, &Device::Cpu);
    let mut task = Tokens { layer: Linear::new(&store.root(), 2, 1, true).unwrap() };
    let source = from_fn(36, move |items: &[usize], _: BatchAt| token_batch(items, dtype));
    let mut config = FitConfig { accumulate, ..plain(9, batch) };
    // Gradient descent shows a wrong scale, which Adam would hide.
    let group = GroupConfig { rule: RuleConfig::Sgd { momentum: 0.9, nesterov: false }, ..GroupConfig::default() };
    config.groups.insert("main".into(), GroupConfig { lr: 0.1, clip_norm: 0.5, ..group });
    fit(&mut task, &store, &source, &config, Run::create(dir.path()).reducer(reducer)).unwrap();
    let values = |(_, var): (String, candle_core::Var)| {
        var.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
    };
    store.named_vars().into_iter().flat_map(values).collect()
}

#[test]
fn unequal_micro_batches_equal_one_batch() {
    for (dtype, tolerance) in [(DType::F32, 1e-6), (DType::F64, 1e-13)] {
        let whole = accumulated(dtype, 12, 1);
        for (batch, accumulate) in [(6, 2), (4, 3), (1, 12)] {
            let parts = accumulated(dtype, batch, accumulate);
            let apart: f64 = whole.iter().zip(&parts).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            let size = whole.iter().map(|a| a.abs()).fold(0.0, f64::max);
            assert!(apart / size <= tolerance, "{dtype:?} {accumulate} parts: {}", apart / size);
        }
    }
}

/// Two ranks that meet in memory.
struct Pair {
    rank: usize,
    barrier: Arc<Barrier>,
    given: Arc<Mutex<[Vec<Tensor>; 2]>>,
    totals: Arc<Mutex<[Vec<f64>; 2]>>,
}

impl Reducer for Pair {
    fn ranks(&self) -> usize {
        2
    }
    fn rank(&self) -> usize {
        self.rank
    }
    fn sum(&mut self, _: &str, grads: &mut [Tensor], totals: &mut [f64]) -> Result<()> {
        self.given.lock().unwrap()[self.rank] = grads.to_vec();
        self.totals.lock().unwrap()[self.rank] = totals.to_vec();
        self.barrier.wait();
        let (given, all) = (self.given.lock().unwrap().clone(), self.totals.lock().unwrap().clone());
        for (at, grad) in grads.iter_mut().enumerate() {
            *grad = (&given[0][at] + &given[1][at])?;
        }
        totals.iter_mut().enumerate().for_each(|(at, total)| *total = all[0][at] + all[1][at]);
        self.barrier.wait();
        Ok(())
    }
}

#[test]
fn two_ranks_equal_one_process() {
    let (barrier, given, totals) = (Arc::new(Barrier::new(2)), Arc::default(), Arc::default());
    let pair =
        |rank| Pair { rank, barrier: Arc::clone(&barrier), given: Arc::clone(&given), totals: Arc::clone(&totals) };
    let start = |rank| {
        let reducer = Box::new(pair(rank));
        std::thread::spawn(move || trained(DType::F64, 3, 2, reducer))
    };
    let [first, second] = [start(0), start(1)].map(|thread| thread.join().unwrap());
    assert_eq!(first, second);
    let alone = accumulated(DType::F64, 12, 1);
    assert!(alone.iter().zip(&first).all(|(a, b)| (a - b).abs() < 1e-13), "{alone:?} {first:?}");
}

#[test]
fn ema_is_the_average_of_the_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let (mut toy, seen) = (Toy::new(0), std::sync::Arc::new(std::sync::Mutex::new(vec![])));
    let (log, store) = (seen.clone(), toy.store.clone());
    let values = move || -> Vec<f32> { store.get("up.weight").unwrap().flatten_all().unwrap().to_vec1().unwrap() };
    let now = values.clone();
    toy.hook = Box::new(move |_| log.lock().unwrap().push(now()));
    let ema = EmaConfig { decay: 0.75, warmup: false, evaluate: true };
    let config = FitConfig { ema: Some(ema), eval_every: 1, ..plain(3, 5) };
    fit_toy(&mut toy, &source(None), &config, Run::create(dir.path())).unwrap();
    let mut params = seen.lock().unwrap().clone();
    params.push(values());
    let mut expected = params[0].clone();
    for step in &params[1..] {
        expected.iter_mut().zip(step).for_each(|(a, p)| *a = 0.75 * *a + 0.25 * p);
    }
    let tensors = chandlery_nn::load_tensors(&dir.path().join("ckpt/step-3/ema.safetensors")).unwrap();
    let saved: Vec<f32> = tensors["up.weight"].flatten_all().unwrap().to_vec1().unwrap();
    assert!(expected.iter().zip(&saved).all(|(a, b)| (a - b).abs() < 1e-6));

    // The last evaluation saw the averages, and training went on with the parameters.
    let saved = chandlery_nn::load_tensors(&dir.path().join("ckpt/step-3/params.safetensors")).unwrap();
    assert_eq!(saved["up.weight"].flatten_all().unwrap().to_vec1::<f32>().unwrap(), values());
    toy.store.load(&dir.path().join("ckpt/step-3/ema.safetensors"), chandlery_nn::Strictness::Exact).unwrap();
    let mut meters = Meters::default();
    (0..2).for_each(|i| toy.eval(&source(None).eval_batch(i).unwrap(), &mut meters).unwrap());
    assert_eq!(events(dir.path()).last().unwrap()["error"].as_f64(), meters.mean("error"));
}
