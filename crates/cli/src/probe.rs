//! `cluster probe`: measures this machine with the kernels that train on it.

use crate::engine::Shared;
use crate::{Result, say};
use candle_core::{Device, Tensor};
use chandlery::kernels;
use chandlery::parallel::calibrate::{Moved, Product, Readings};
use std::hint::black_box;
use std::sync::Barrier;
use std::time::Instant;

/// Sides of the products: cubes, and the shapes of small language models ([tokens, out, in]).
const PRODUCTS: [[usize; 3]; 9] = [
    [64, 64, 64],
    [128, 128, 128],
    [256, 256, 256],
    [512, 512, 512],
    [1024, 1024, 1024],
    [2048, 192, 192],
    [2048, 768, 192],
    [2048, 1536, 384],
    [2048, 5504, 192],
];
/// Bytes of the arrays of the stream, far more than caches hold.
const STREAM: usize = 64 << 20;
/// Bytes of the all-reduced buffers.
const REDUCED: [usize; 5] = [1 << 10, 16 << 10, 256 << 10, 4 << 20, 32 << 20];
/// A measurement is repeated until it has taken this long, and at least three times; the best counts.
const SECONDS: f64 = 0.3;

/// Measures with `ranks` ranks at once (as many as cores when absent) and prints the machine as a cluster.
pub fn probe(ranks: Option<usize>) -> Result<()> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let ranks = ranks.unwrap_or(cores);
    if !(1..=cores).contains(&ranks) {
        return Err(format!("--ranks {ranks}: expected 1 to {cores}, the cores of this machine").into());
    }
    say(readings(ranks, cores / ranks)?.to_cluster()?.to_json()?);
    Ok(())
}

fn readings(ranks: usize, threads: usize) -> Result<Readings> {
    let team = Team { ranks, threads };
    let kernels = format!("chandlery's kernels (f32, {:?}, {threads} threads a rank)", kernels::isa());
    let reduced = if ranks > 1 { &REDUCED[..] } else { &[] };
    Ok(Readings {
        name: "this-cpu".into(),
        ranks: u32::try_from(ranks)?,
        kernels: kernels.to_lowercase(),
        products: PRODUCTS.iter().map(|&sides| product(team, sides)).collect::<Result<_>>()?,
        stream: stream(team)?,
        elementwise: elementwise(team)?,
        engine: "threads that share memory".into(),
        all_reduce: reduced.iter().map(|&bytes| all_reduce(team, bytes)).collect::<Result<_>>()?,
        memory: memory(),
    })
}

/// How the cores are shared.
#[derive(Clone, Copy)]
struct Team {
    ranks: usize,
    threads: usize,
}

impl Team {
    /// Runs `work` on every rank at once, again and again, and gives the mean over the ranks of their best seconds. `make`
    /// prepares what a rank works on.
    fn seconds<T: Send>(
        self,
        make: impl Fn(usize) -> Result<T> + Sync,
        work: impl Fn(&mut T) -> Result<()> + Sync,
    ) -> Result<f64> {
        let barrier = Barrier::new(self.ranks);
        let rank = |rank: usize| -> Result<f64> {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build();
            let ready = make(rank);
            barrier.wait();
            let (pool, mut subject) = (pool?, ready?);
            pool.install(|| best(|| work(&mut subject)))
        };
        let all: Vec<Result<f64>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..self.ranks)
                .map(|r| {
                    scope.spawn({
                        let rank = &rank;
                        move || rank(r)
                    })
                })
                .collect();
            handles.into_iter().map(|h| h.join().unwrap_or_else(|_| Err("a rank panicked".into()))).collect()
        });
        let seconds = all.into_iter().collect::<Result<Vec<f64>>>()?;
        Ok(seconds.iter().sum::<f64>() / seconds.len() as f64)
    }
}

/// The shortest of many runs, after one that does not count.
fn best(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    work()?;
    let (begin, mut shortest, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 3 || begin.elapsed().as_secs_f64() < SECONDS {
        let start = Instant::now();
        work()?;
        shortest = shortest.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(shortest.max(1e-9))
}

/// A tensor of small numbers, none of which is denormal.
fn numbers(shape: (usize, usize)) -> Result<Tensor> {
    let data: Vec<f32> = (0..shape.0 * shape.1).map(|i| (i % 251) as f32 / 251.0 - 0.4).collect();
    Ok(Tensor::from_vec(data, shape, &Device::Cpu)?)
}

fn product(team: Team, [m, n, k]: [usize; 3]) -> Result<Product> {
    let make = |_| Ok((numbers((m, k))?, numbers((n, k))?));
    let seconds = team.seconds(make, |(x, w)| {
        black_box(kernels::linear(x, w, None)?);
        Ok(())
    })?;
    Ok(Product { m: m as f64, n: n as f64, k: k as f64, seconds })
}

fn stream(team: Team) -> Result<Moved> {
    let make = |_| Ok((vec![1.0f32; STREAM / 4], vec![0.0f32; STREAM / 4]));
    let seconds = team.seconds(make, |(source, target)| {
        target.iter_mut().zip(source.iter()).for_each(|(t, s)| *t = 1.5 * s);
        black_box(&target);
        Ok(())
    })?;
    Ok(Moved { bytes: 2.0 * STREAM as f64, seconds })
}

/// Layer norm, softmax and GELU over 4,096 rows.
fn elementwise(team: Team) -> Result<Vec<Moved>> {
    let width = 768;
    let one = |work: &(dyn Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor> + Sync)| -> Result<Moved> {
        let make = |_| Ok((numbers((4096, width))?, Tensor::ones(width, candle_core::DType::F32, &Device::Cpu)?));
        let seconds = team.seconds(make, |(x, scale)| {
            black_box(work(x, scale)?);
            Ok(())
        })?;
        Ok(Moved { bytes: 2.0 * 4.0 * 4096.0 * width as f64, seconds })
    };
    Ok(vec![
        one(&|x, scale| kernels::layer_norm(x, scale, None, 1e-5))?,
        one(&|x, _| kernels::softmax(x, 1))?,
        one(&|x, _| kernels::gelu_tanh(x))?,
    ])
}

fn all_reduce(team: Team, bytes: usize) -> Result<Moved> {
    let shared = Shared::new(team.ranks, bytes / 4);
    // A fixed number of rounds: every rank must come to every barrier.
    let rounds = ((64 << 20) / bytes).clamp(5, 2000);
    let barrier = Barrier::new(team.ranks);
    let run = |rank: usize| -> f64 {
        shared.all_reduce(rank);
        barrier.wait();
        let start = Instant::now();
        (0..rounds).for_each(|_| shared.all_reduce(rank));
        start.elapsed().as_secs_f64() / rounds as f64
    };
    let seconds: Vec<f64> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..team.ranks)
            .map(|r| {
                scope.spawn({
                    let run = &run;
                    move || run(r)
                })
            })
            .collect();
        handles.into_iter().map(|h| h.join().unwrap_or(f64::NAN)).collect()
    });
    Ok(Moved { bytes: bytes as f64, seconds: seconds.iter().sum::<f64>() / seconds.len() as f64 })
}

/// Memory of the machine in bytes; a GiB where the system does not say.
fn memory() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("MemTotal:")).unwrap_or_default();
    let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
    kib.map_or((1u64 << 30) as f64, |kib| kib * 1024.0)
}
