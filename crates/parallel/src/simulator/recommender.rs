//! Click-through training on mixed fleets: CPU workers read and look up, GPUs run the dense network.
//!
//! Two views of the same pipeline: *capacity* (throughput = that of the slowest stage) and *events* (servers, buffers of
//! limited size, service times that vary). The second shows what the first leaves out: waiting and staleness.

use super::error::{SimulatorError, check};
use super::random::Random;
use crate::model::Recommender;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// Seconds per batch of each kind of work on one server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Reading and sparse lookup and update, one CPU worker.
    pub sparse_worker: f64,
    /// Dense network, one CPU worker.
    pub dense_worker: f64,
    /// Reading and sparse work on the host of one GPU.
    pub sparse_host: f64,
    /// Dense network, one GPU.
    pub dense_gpu: f64,
    /// Moving a batch between CPU pool and one GPU's host.
    pub transfer: f64,
}

/// What machines do per second, to derive [`Rates`] from a model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Machines {
    /// Seconds to read and decode one sample, one CPU worker.
    pub read: f64,
    /// Bytes of scattered table rows that one CPU worker reads or writes per second.
    pub gather: f64,
    /// Dense flops per second of one CPU worker.
    pub worker_flops: f64,
    /// Dense flops per second of one GPU.
    pub gpu_flops: f64,
    /// CPU workers in the host per GPU.
    pub host_workers: f64,
    /// Bytes per second into one GPU's host.
    pub link: f64,
}

/// Batches per second of each way to train.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Throughput {
    /// Each CPU worker does all.
    pub cpu_only: f64,
    /// Each GPU's host does the sparse part, then the GPU the dense part, one after the other.
    pub gpu_only: f64,
    /// CPU pool and GPUs at once.
    pub pipeline: f64,
    /// What holds the pipeline back.
    pub bound: Bound,
}

/// The slowest stage of the pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Bound {
    /// Reading and lookup.
    Sparse,
    /// Links.
    Transfer,
    /// Dense network.
    Dense,
}

impl Rates {
    /// Seconds per batch of `batch` samples of a model; forward and backward (dense three times the forward flops, tables
    /// read once and written once), 4-byte numbers.
    ///
    /// # Errors
    /// `Range` for machines with numbers that are not positive.
    pub fn of(model: &Recommender, batch: f64, machines: &Machines) -> Result<Self, SimulatorError> {
        check("batch", batch, 1.0, 1e9)?;
        for (field, value) in [
            ("gather", machines.gather),
            ("worker_flops", machines.worker_flops),
            ("gpu_flops", machines.gpu_flops),
            ("host_workers", machines.host_workers),
            ("link", machines.link),
        ] {
            check(field, value, 1e-9, 1e30)?;
        }
        check("read", machines.read, 0.0, 1e9)?;
        let sparse = batch * machines.read + 2.0 * model.lookup_bytes(batch, 4.0) / machines.gather;
        let dense = 3.0 * model.dense_flops(batch);
        Ok(Self {
            sparse_worker: sparse,
            dense_worker: dense / machines.worker_flops,
            sparse_host: sparse / machines.host_workers,
            dense_gpu: dense / machines.gpu_flops,
            transfer: 2.0 * model.boundary_bytes(batch, 4.0) / machines.link,
        })
    }

    /// Capacities with `workers` CPU workers and `gpus` GPUs.
    ///
    /// # Errors
    /// `Range` for a fleet without servers or times that are not positive.
    pub fn throughput(&self, workers: f64, gpus: f64) -> Result<Throughput, SimulatorError> {
        check("workers", workers, 1e-9, 1e9)?;
        check("gpus", gpus, 1e-9, 1e9)?;
        for (field, value) in [
            ("sparse_worker", self.sparse_worker),
            ("dense_worker", self.dense_worker),
            ("sparse_host", self.sparse_host),
            ("dense_gpu", self.dense_gpu),
        ] {
            check(field, value, 1e-12, 1e12)?;
        }
        check("transfer", self.transfer, 0.0, 1e12)?;
        let stages = [
            (Bound::Sparse, workers / self.sparse_worker),
            (Bound::Transfer, gpus / self.transfer),
            (Bound::Dense, gpus / self.dense_gpu),
        ];
        let slowest = stages.iter().fold(stages[0], |a, &b| if b.1 < a.1 { b } else { a });
        Ok(Throughput {
            cpu_only: workers / (self.sparse_worker + self.dense_worker),
            gpu_only: gpus / (self.sparse_host + self.dense_gpu),
            pipeline: slowest.1,
            bound: slowest.0,
        })
    }
}

/// What the published speed-ups imply when a CPU-only step takes 1: times of the four kinds of work.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Implied {
    /// Sparse part on the CPU pool of the pipeline.
    pub sparse_pool: f64,
    /// Dense part on the GPUs.
    pub dense_gpu: f64,
    /// Sparse part on the GPUs' hosts.
    pub sparse_host: f64,
    /// Dense part on the CPU pool.
    pub dense_pool: f64,
}

/// The times that give exactly the speed-ups `over_gpu` and `over_cpu`, with the dense stage taking the share
/// `dense_share` (up to 1) of the pipeline's step and the sparse stage all of it, or the other way round.
///
/// CPU-only: sparse + dense on the pool = 1. Pipeline: max(sparse pool, dense GPU) = 1 / over_cpu. GPU-only: sparse host
/// + dense GPU = over_gpu / over_cpu.
pub fn implied(over_gpu: f64, over_cpu: f64, dense_share: f64, sparse_share: f64) -> Implied {
    let step = 1.0 / over_cpu;
    let (sparse_pool, dense_gpu) = (step * sparse_share, step * dense_share);
    Implied { sparse_pool, dense_gpu, sparse_host: over_gpu * step - dense_gpu, dense_pool: 1.0 - sparse_pool }
}

/// A pipeline for event simulation: servers and mean seconds per batch of each stage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Line {
    /// (servers, seconds) of each stage.
    pub stages: Vec<(usize, f64)>,
    /// Batches that may wait in front of each stage but the first.
    pub buffer: usize,
    /// Standard deviation of the logarithm of service times; 0 = constant.
    pub spread: f64,
    /// Batches to train.
    pub batches: usize,
    /// Seed of all draws.
    pub seed: u64,
}

/// What the events gave.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Flow {
    /// Batches per second after the first tenth.
    pub throughput: f64,
    /// Mean number of updates by other batches between a batch's lookup and its own update.
    pub staleness: f64,
    /// Largest such number.
    pub worst_staleness: usize,
    /// Most batches in flight at once.
    pub in_flight: usize,
}

#[derive(Debug, Clone, Copy)]
struct Batch {
    updates_at_start: usize,
}

struct Stage {
    idle: usize,
    waiting: VecDeque<Batch>,
    blocked: VecDeque<Batch>,
}

struct Events<'a> {
    line: &'a Line,
    stages: Vec<Stage>,
    heap: BinaryHeap<(Reverse<(u64, u64)>, usize)>,
    running: std::collections::HashMap<u64, Batch>,
    sequence: u64,
    random: Random,
    now: f64,
    started: usize,
    done: usize,
}

/// Runs a line until all its batches have passed.
///
/// # Errors
/// `Range` for lines without servers, times that are not positive, or more than 10^8 batches.
pub fn flow(line: &Line) -> Result<Flow, SimulatorError> {
    check("stages", line.stages.len() as f64, 1.0, 100.0)?;
    for &(servers, seconds) in &line.stages {
        check("servers of a stage", servers as f64, 1.0, 1e6)?;
        check("seconds of a stage", seconds, 0.0, 1e9)?;
    }
    check("buffer", line.buffer as f64, 1.0, 1e6)?;
    check("spread", line.spread, 0.0, 4.0)?;
    check("batches", line.batches as f64, 10.0, 1e8)?;
    let mut events = Events::new(line);
    events.settle();
    let (mut staleness, mut worst, mut in_flight, mut warm) = (0usize, 0, 0, 0.0);
    let warm_up = line.batches / 10;
    while let Some((Reverse((time, sequence)), stage)) = events.heap.pop() {
        events.now = f64::from_bits(time);
        in_flight = in_flight.max(events.started - events.done);
        if let Some(batch) = events.finish(stage, sequence) {
            let stale = events.done - batch.updates_at_start;
            staleness += stale;
            worst = worst.max(stale);
            events.done += 1;
            if events.done == warm_up {
                warm = events.now;
            }
        }
        events.settle();
    }
    Ok(Flow {
        throughput: (line.batches - warm_up) as f64 / (events.now - warm).max(f64::MIN_POSITIVE),
        staleness: staleness as f64 / line.batches as f64,
        worst_staleness: worst,
        in_flight,
    })
}

impl<'a> Events<'a> {
    fn new(line: &'a Line) -> Self {
        let stage =
            |&(servers, _): &(usize, f64)| Stage { idle: servers, waiting: VecDeque::new(), blocked: VecDeque::new() };
        Self {
            line,
            stages: line.stages.iter().map(stage).collect(),
            heap: BinaryHeap::new(),
            running: std::collections::HashMap::new(),
            sequence: 0,
            random: Random::new(line.seed, "line"),
            now: 0.0,
            started: 0,
            done: 0,
        }
    }

    /// A server of `stage` is done; gives the batch if that was the last stage.
    fn finish(&mut self, stage: usize, sequence: u64) -> Option<Batch> {
        let batch = self.running.remove(&sequence)?;
        if stage + 1 == self.stages.len() {
            self.stages[stage].idle += 1;
            return Some(batch);
        }
        self.stages[stage].blocked.push_back(batch);
        None
    }

    /// Moves batches on as far as buffers and servers allow, last stage first.
    fn settle(&mut self) {
        for stage in (0..self.stages.len()).rev() {
            loop {
                while stage > 0 && self.stages[stage].waiting.len() < self.line.buffer {
                    let Some(batch) = self.stages[stage - 1].blocked.pop_front() else { break };
                    self.stages[stage - 1].idle += 1;
                    self.stages[stage].waiting.push_back(batch);
                }
                if self.stages[stage].idle == 0 {
                    break;
                }
                let Some(batch) = self.next_batch(stage) else { break };
                self.start(stage, batch);
            }
        }
    }

    fn next_batch(&mut self, stage: usize) -> Option<Batch> {
        if stage > 0 {
            return self.stages[stage].waiting.pop_front();
        }
        (self.started < self.line.batches).then(|| {
            self.started += 1;
            Batch { updates_at_start: self.done }
        })
    }

    fn start(&mut self, stage: usize, batch: Batch) {
        self.stages[stage].idle -= 1;
        let mean = self.line.stages[stage].1;
        let time = if self.line.spread > 0.0 { self.random.log_normal(mean, self.line.spread) } else { mean };
        self.sequence += 1;
        self.running.insert(self.sequence, batch);
        self.heap.push((Reverse(((self.now + time).to_bits(), self.sequence)), stage));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ModelSpec, Network};

    fn line() -> Line {
        Line { stages: vec![(6, 1.0), (1, 0.01), (2, 0.4)], buffer: 4, spread: 0.0, batches: 5_000, seed: 1 }
    }

    #[test]
    fn constant_times_reach_the_capacity_exactly() {
        for (workers, gpus) in [(3, 2), (5, 2), (6, 1), (6, 4)] {
            let stages = vec![(workers, 1.0), (1, 0.01), (gpus, 0.4)];
            let capacity = (workers as f64).min(gpus as f64 / 0.4).min(100.0);
            let got = flow(&Line { stages, ..line() }).unwrap().throughput;
            assert!((got / capacity - 1.0).abs() < 0.01, "{workers}:{gpus} {got} against {capacity}");
        }
    }

    #[test]
    fn a_single_exponential_like_stage_is_unhindered_by_its_own_spread() {
        let got = flow(&Line { stages: vec![(3, 2.0)], spread: 1.0, batches: 60_000, ..line() }).unwrap().throughput;
        assert!((got / 1.5 - 1.0).abs() < 0.03, "{got}");
    }

    #[test]
    fn larger_buffers_recover_what_variation_costs_and_raise_staleness() {
        let at = |buffer| {
            flow(&Line { stages: vec![(5, 1.0), (2, 0.4)], spread: 0.8, buffer, batches: 30_000, seed: 2 }).unwrap()
        };
        let (small, large) = (at(1), at(32));
        assert!(small.throughput < large.throughput && large.throughput < 5.01, "{small:?} {large:?}");
        assert!(small.staleness < large.staleness && large.in_flight <= 5 + 32 + 2, "{small:?} {large:?}");
    }

    #[test]
    fn the_published_speed_ups_need_a_pool_faster_than_the_gpu_hosts() {
        let i = implied(2.1, 3.3, 1.0, 1.0);
        assert!((i.sparse_host - 1.1 / 3.3).abs() < 1e-12 && (i.dense_pool - 2.3 / 3.3).abs() < 1e-12);
        let rates = Rates {
            sparse_worker: i.sparse_pool,
            dense_worker: i.dense_pool,
            sparse_host: i.sparse_host,
            dense_gpu: i.dense_gpu,
            transfer: 0.0,
        };
        let t = rates.throughput(1.0, 1.0).unwrap();
        assert!((t.pipeline / t.gpu_only - 2.1).abs() < 1e-12 && (t.pipeline / t.cpu_only - 3.3).abs() < 1e-12);
    }

    #[test]
    fn more_workers_help_until_the_dense_stage_binds() {
        let spec = ModelSpec::preset("ctr-wide").unwrap();
        let Network::Recommender(model) = &spec.network else { panic!("a recommender") };
        let machines =
            Machines { read: 1e-5, gather: 1e9, worker_flops: 2e10, gpu_flops: 5e12, host_workers: 10.0, link: 1e10 };
        let rates = Rates::of(model, 512.0, &machines).unwrap();
        let at = |workers| rates.throughput(workers, 1.0).unwrap();
        assert_eq!(at(1.0).bound, Bound::Sparse);
        assert_ne!(at(1e4).bound, Bound::Sparse);
        assert!(at(1e4).pipeline == at(2e4).pipeline);
    }

    #[test]
    fn impossible_fleets_and_lines_are_named() {
        let rates = Rates { sparse_worker: 1.0, dense_worker: 1.0, sparse_host: 1.0, dense_gpu: 1.0, transfer: 0.0 };
        assert!(rates.throughput(0.0, 1.0).unwrap_err().to_string().contains("workers"));
        assert!(Rates { dense_gpu: -1.0, ..rates }.throughput(1.0, 1.0).unwrap_err().to_string().contains("dense_gpu"));
        assert!(
            flow(&Line { stages: vec![(0, 1.0)], ..line() }).unwrap_err().to_string().contains("servers of a stage")
        );
        assert!(flow(&Line { buffer: 0, ..line() }).unwrap_err().to_string().contains("buffer"));
    }
}
