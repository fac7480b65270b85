//! Price and memory of one plan for a chain of units.

use serde::Serialize;

use crate::cost::Platform;
use crate::memory::MemoryParts;
use crate::schedule::{Pipeline, Schedule, order, replay};

use super::units::Unit;

/// Bytes the optimizer moves per number: weight and two moments in single precision, read and written.
const UPDATE_BYTES: f64 = 24.0;

/// Bytes of the number of a row.
const ID_BYTES: f64 = 8.0;

/// Where the tables of rows live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Tables {
    /// The network has none.
    None,
    /// Every copy of the model has all of them.
    Replicated,
    /// Dealt out evenly over the copies; ids and looked-up sums travel by all-to-all.
    Split,
}

/// A spread of a network's training step: data x pipeline devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct NetworkPlan {
    /// d, copies of the model that see different samples.
    pub data: u32,
    /// p, stages of the pipeline (1F1B).
    pub pipeline: u32,
    /// b, samples in a micro-batch.
    pub micro_batch: u32,
    /// B, samples in a step over all copies.
    pub global_batch: u32,
    /// ZeRO stage over the copies, tables apart.
    pub zero: u8,
    /// Tables of rows.
    pub tables: Tables,
}

impl NetworkPlan {
    /// m, micro-batches a copy runs in a step.
    pub fn micro_batches(&self) -> u32 {
        self.global_batch / self.data.max(1) / self.micro_batch.max(1)
    }
}

impl std::fmt::Display for NetworkPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "d{} p{} b{} m{}", self.data, self.pipeline, self.micro_batch, self.micro_batches())?;
        if self.zero > 0 {
            write!(f, " zero-{}", self.zero)?;
        }
        match self.tables {
            Tables::None => Ok(()),
            Tables::Replicated => f.write_str(" tables-replicated"),
            Tables::Split => f.write_str(" tables-split"),
        }
    }
}

/// A plan with its price.
#[derive(Clone, Debug)]
pub(super) struct Priced {
    pub(super) plan: NetworkPlan,
    /// Units of each stage.
    pub(super) cut: Vec<usize>,
    pub(super) step: f64,
    pub(super) parts: Vec<(&'static str, f64)>,
    pub(super) memory: Vec<MemoryParts>,
    pub(super) pipeline: Pipeline,
    /// Bytes over (above 0) or under the usable memory on the fullest device.
    pub(super) over: f64,
}

/// What all plans of a search share.
pub(super) struct Pricer<'a> {
    pub(super) platform: &'a Platform,
    pub(super) usable: f64,
    pub(super) float32: bool,
    pub(super) overlap: bool,
}

/// Sums over the units of a stage.
#[derive(Clone, Copy, Default)]
struct Stage {
    matrix: f64,
    other: f64,
    launch: f64,
    dense: f64,
    rows: f64,
    touched: f64,
    ids: f64,
    looked_up: f64,
    kept: f64,
    largest: f64,
}

impl Stage {
    fn of(units: &[Unit]) -> Self {
        units.iter().fold(Self::default(), |s, u| Self {
            matrix: s.matrix + u.matrix,
            other: s.other + u.other,
            launch: s.launch + u.launch,
            dense: s.dense + u.dense,
            rows: s.rows + u.rows,
            touched: s.touched + u.touched,
            ids: s.ids + u.ids,
            looked_up: s.looked_up + u.looked_up,
            kept: s.kept + u.kept,
            largest: s.largest.max(u.dense),
        })
    }
}

impl Pricer<'_> {
    fn word(&self) -> f64 {
        if self.float32 { 4.0 } else { 2.0 }
    }

    /// Seconds of both all-to-alls of a micro-batch where tables are split: ids out, sums back, gradients of the sums out.
    fn exchange(&self, plan: &NetworkPlan, stage: &Stage) -> f64 {
        if plan.tables != Tables::Split || plan.data == 1 {
            return 0.0;
        }
        let (sums, ids) = (stage.looked_up * self.word(), ID_BYTES * stage.ids);
        let group = self.platform.group(plan.data, 1, sums);
        2.0 * group.all_to_all(sums) + group.all_to_all(ids)
    }

    fn transfer(&self, plan: &NetworkPlan, numbers: f64) -> f64 {
        if plan.pipeline == 1 { 0.0 } else { self.platform.hop(plan.data, numbers).time(numbers * self.word()) }
    }

    fn memory(&self, plan: &NetworkPlan, stage: &Stage, d: u32) -> MemoryParts {
        let (copies, word) = (f64::from(plan.data), self.word());
        let shard = |from: u8| if plan.zero >= from { copies } else { 1.0 };
        let own_rows = if plan.tables == Tables::Split { stage.rows / copies } else { stage.rows };
        let touched = stage.touched * f64::from(plan.micro_batches());
        let in_flight = f64::from((plan.pipeline - d).min(plan.micro_batches()));
        let states = if self.float32 { 8.0 } else { 12.0 };
        let gathered = if plan.zero == 3 && copies > 1.0 { 2.0 * word * stage.largest } else { 0.0 };
        MemoryParts {
            weights: word * (stage.dense / shard(3) + own_rows),
            // Gradients of rows exist for rows that were looked up.
            gradients: word * (stage.dense / shard(2) + touched.min(own_rows)),
            optimizer: states * (stage.dense / shard(1) + own_rows),
            activations: word * stage.kept * in_flight,
            working: gathered + word * stage.largest,
        }
    }

    /// Seconds after the pipeline: gradients of dense parameters and of rows, then the optimizer.
    fn tail(&self, plan: &NetworkPlan, stage: &Stage, units: usize) -> (f64, f64) {
        let (copies, word) = (f64::from(plan.data), self.word());
        let mut reduce = 0.0;
        if plan.data > 1 {
            let bytes = word * stage.dense;
            let group = self.platform.group(plan.data, 1, bytes);
            reduce = match plan.zero {
                0 => group.all_reduce(bytes),
                1 | 2 => 2.0 * group.half(bytes),
                _ => 3.0 * group.half(bytes),
            };
            if plan.tables == Tables::Replicated && stage.rows > 0.0 {
                // Either the whole tables are reduced, or every copy fetches the rows that the others touched.
                let touched = word * stage.touched * f64::from(plan.micro_batches()) * copies;
                reduce += group.all_reduce(word * stage.rows).min(group.half(touched));
            }
        }
        let window = 2.0 * (stage.matrix + stage.other);
        let slow = reduce * self.platform.constants.overlap_slowdown;
        let hidden = (slow - window).max(reduce / units.max(1) as f64);
        let data = if self.overlap { hidden.min(reduce) } else { reduce };
        let all_rows = stage.touched * f64::from(plan.micro_batches());
        let rows = if plan.tables == Tables::Split { all_rows } else { all_rows * copies }.min(stage.rows);
        let shards = if plan.zero > 0 { copies } else { 1.0 };
        let moved = (UPDATE_BYTES + 2.0 * word) * (stage.dense / shards + rows);
        (data, moved / (self.platform.memory_rate * self.platform.constants.memory))
    }

    /// The cut into `plan.pipeline` stages that minimises what a 1F1B pipeline takes at least, max over stages of (work before plus
    /// micro-batches x own work), among those that fit; without regard to memory where none fits. Exact, by dynamic
    /// programming over (stage, units placed).
    fn cut(&self, plan: &NetworkPlan, units: &[Unit], fitting: bool) -> Option<Vec<usize>> {
        let (n, p, m) = (units.len(), plan.pipeline as usize, f64::from(plan.micro_batches()));
        if p > n {
            return None;
        }
        let work: Vec<f64> = std::iter::once(0.0)
            .chain(units.iter().scan(0.0, |sum, u| {
                *sum += u.forward() + u.backward();
                Some(*sum)
            }))
            .collect();
        let mut best = vec![vec![(f64::INFINITY, 0usize); n + 1]; p + 1];
        best[0][0].0 = 0.0;
        for s in 0..p {
            for end in s + 1..=n - (p - 1 - s) {
                for begin in s..end {
                    let before = best[s][begin].0;
                    let bound = before.max(work[begin] + m * (work[end] - work[begin]));
                    if bound < best[s + 1][end].0 && (!fitting || self.fits(plan, &units[begin..end], s as u32)) {
                        best[s + 1][end] = (bound, begin);
                    }
                }
            }
        }
        if !best[p][n].0.is_finite() {
            return None;
        }
        let (mut cut, mut end) = (vec![0; p], n);
        for s in (0..p).rev() {
            let begin = best[s + 1][end].1;
            cut[s] = end - begin;
            end = begin;
        }
        Some(cut)
    }

    fn fits(&self, plan: &NetworkPlan, units: &[Unit], d: u32) -> bool {
        self.memory(plan, &Stage::of(units), d).total() <= self.usable
    }

    /// Replays the plan with its best cut; `None` where there are fewer units than stages or too many operations.
    pub(super) fn price(&self, plan: &NetworkPlan, units: &[Unit]) -> Option<Priced> {
        let cut = self.cut(plan, units, true).or_else(|| self.cut(plan, units, false))?;
        let m = f64::from(plan.micro_batches());
        let (mut begin, mut stages, mut transfers) = (0, Vec::new(), Vec::new());
        for &len in &cut {
            stages.push(Stage::of(&units[begin..begin + len]));
            begin += len;
            transfers.push(if begin < units.len() { self.transfer(plan, units[begin - 1].out) } else { 0.0 });
        }
        let busy = |s: &Stage| s.matrix + s.other + s.launch;
        let before = |k: usize| if k > 0 { transfers[k - 1] } else { 0.0 };
        let forward: Vec<f64> = (0..stages.len())
            .map(|k| busy(&stages[k]) + transfers[k] + self.exchange(plan, &stages[k]) * 0.5)
            .collect();
        let backward: Vec<f64> = (0..stages.len())
            .map(|k| 2.0 * busy(&stages[k]) + before(k) + self.exchange(plan, &stages[k]) * 0.5)
            .collect();
        let pipeline = Pipeline {
            schedule: if plan.pipeline == 1 { Schedule::GPipe } else { Schedule::OneFOneB },
            stages: plan.pipeline,
            chunks: 1,
            micro_batches: plan.micro_batches(),
            backward_weight: vec![0.0; forward.len()],
            forward,
            backward_input: backward,
            transfer: 0.0,
        };
        let per = |k: usize| pipeline.forward[k] + pipeline.backward_input[k];
        let busiest = (0..stages.len()).fold(0, |b, k| if per(k) > per(b) { k } else { b });
        let makespan = match plan.pipeline {
            1 => m * per(0),
            _ => replay(&pipeline, &order(&pipeline).ok()?).ok()?.makespan,
        };
        let tails = stages.iter().zip(&cut).map(|(s, &n)| self.tail(plan, s, n));
        let (data, optimizer) = tails.fold((0.0f64, 0.0f64), |a, b| (a.0.max(b.0), a.1.max(b.1)));
        let s = &stages[busiest];
        let parts = vec![
            ("matrix products", 3.0 * m * s.matrix),
            ("other kernels", 3.0 * m * s.other),
            ("kernel launches", 3.0 * m * s.launch),
            ("pipeline transfers", m * (transfers[busiest] + before(busiest))),
            ("table exchange", m * self.exchange(plan, s)),
            ("pipeline bubble", (makespan - m * per(busiest)).max(0.0)),
            ("data parallel", data),
            ("optimizer", optimizer),
        ];
        let memory: Vec<MemoryParts> = stages.iter().enumerate().map(|(d, s)| self.memory(plan, s, d as u32)).collect();
        let over = memory.iter().map(|m| m.total() - self.usable).fold(f64::NEG_INFINITY, f64::max);
        let step = parts.iter().map(|p| p.1).sum();
        Some(Priced { plan: *plan, cut, step, parts, memory, pipeline, over })
    }
}
