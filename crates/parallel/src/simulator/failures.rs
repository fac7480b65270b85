//! Failures over weeks: one long job on many devices, with checkpoints, restarts, in-job shrinking and spare devices.
//!
//! Every device fails on its own clock. A failure is hardware (the device is away for repair) or transient (it is back as
//! soon as the job has recovered). Time is in seconds.

use super::error::{SimulatorError, check};
use super::random::Random;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What the job does when a device fails.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub enum Recovery {
    /// All stop, wait until every place has a device, and go back to the last checkpoint.
    Restart,
    /// Survivors go on: the replica of the failed device leaves and comes back when it is whole; the others hold the
    /// state, so nothing is lost but the pause. With no whole replica left the job restarts from its checkpoint.
    Shrink {
        /// Devices of one replica.
        replica: usize,
        /// Pause at every change of membership.
        pause: f64,
    },
}

/// A job, its devices and how they fail.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct World {
    /// Devices the job wants.
    pub devices: usize,
    /// Further devices that stand by.
    pub spares: usize,
    /// Mean time to failure of one device.
    pub mttf: f64,
    /// Weibull shape of the time to failure; 1 = without memory.
    pub shape: f64,
    /// Share of failures that take the device away for repair.
    pub hardware: f64,
    /// Time of a repair.
    pub repair: f64,
    /// Time until a failure is noticed.
    pub detect: f64,
    /// Time to start again from a checkpoint, after noticing.
    pub restart: f64,
    /// Work between checkpoints; infinite = none after the start.
    pub interval: f64,
    /// Time of a checkpoint during which the job stands.
    pub checkpoint: f64,
    /// What happens on failure.
    pub recovery: Recovery,
    /// Simulated time.
    pub horizon: f64,
    /// Seed of all draws.
    pub seed: u64,
}

/// What came of it; times in seconds, summed over the horizon.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Outcome {
    /// Work done and kept, in seconds of the whole job at full size.
    pub useful: f64,
    /// `useful` over the horizon.
    pub goodput: f64,
    /// Work done and lost at rollbacks.
    pub lost: f64,
    /// Standing for checkpoints.
    pub checkpointing: f64,
    /// Standing for detection, restart, membership changes and missing devices.
    pub down: f64,
    /// Full-size work not done while running with fewer replicas.
    pub shrunk: f64,
    /// Failures of devices in use.
    pub failures: u64,
    /// Rollbacks to a checkpoint.
    pub rollbacks: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Event {
    Fails(usize),
    Arrives(usize),
    Repaired,
}

/// Heap entry: time as ordered bits (times are positive), sequence number, event.
type Entry = (Reverse<(u64, u64)>, usize, u8);

struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

impl Queue {
    fn push(&mut self, time: f64, event: Event) {
        let (slot, kind) = match event {
            Event::Fails(slot) => (slot, 0),
            Event::Arrives(slot) => (slot, 1),
            Event::Repaired => (0, 2),
        };
        self.sequence += 1;
        self.heap.push((Reverse((time.max(0.0).to_bits(), self.sequence)), slot, kind));
    }

    fn next_time(&self) -> f64 {
        self.heap.peek().map_or(f64::INFINITY, |(Reverse((bits, _)), ..)| f64::from_bits(*bits))
    }

    fn pop(&mut self) -> Option<Event> {
        self.heap.pop().map(|(_, slot, kind)| match kind {
            0 => Event::Fails(slot),
            1 => Event::Arrives(slot),
            _ => Event::Repaired,
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Working; so much work is left until the next checkpoint.
    Working(f64),
    /// Writing a checkpoint until then.
    Saving(f64),
    /// Standing until then, if all needed devices are there.
    Standing(f64),
}

struct Job<'a> {
    world: &'a World,
    random: Random,
    queue: Queue,
    now: f64,
    phase: Phase,
    /// Places without a working device.
    absent: usize,
    /// Whole replicas, and missing devices of each.
    missing: Vec<usize>,
    whole: usize,
    pool: usize,
    /// Places without a device that wait for one.
    waiting: Vec<usize>,
    unsaved: f64,
    rolled_back: bool,
    outcome: Outcome,
}

/// Runs the world until its horizon.
///
/// # Errors
/// `Range` for a setting that no world can have.
pub fn run(world: &World) -> Result<Outcome, SimulatorError> {
    world.validate()?;
    let mut job = Job::new(world);
    while job.now < world.horizon {
        let end = job.queue.next_time().min(job.phase_end()).min(world.horizon);
        job.advance(end);
        if job.now >= world.horizon {
            break;
        }
        if job.queue.next_time() <= job.now {
            if let Some(event) = job.queue.pop() {
                job.handle(event);
            }
        } else {
            job.phase_over();
        }
    }
    job.outcome.goodput = job.outcome.useful / world.horizon;
    Ok(job.outcome)
}

impl World {
    /// Checks every setting.
    ///
    /// # Errors
    /// `Range` naming it.
    pub fn validate(&self) -> Result<(), SimulatorError> {
        check("devices", self.devices as f64, 1.0, 1e7)?;
        check("spares", self.spares as f64, 0.0, 1e7)?;
        check("mttf", self.mttf, 1e-3, 1e15)?;
        check("shape", self.shape, 0.1, 10.0)?;
        check("hardware", self.hardware, 0.0, 1.0)?;
        for (field, time) in [
            ("repair", self.repair),
            ("detect", self.detect),
            ("restart", self.restart),
            ("checkpoint", self.checkpoint),
        ] {
            check(field, time, 0.0, 1e12)?;
        }
        if self.interval != f64::INFINITY {
            check("interval", self.interval, 1e-3, 1e12)?;
        }
        check("horizon", self.horizon, 1e-3, 1e12)?;
        check("expected failures", self.devices as f64 * self.horizon / self.mttf, 0.0, 1e9)?;
        if let Recovery::Shrink { replica, pause } = self.recovery {
            check("pause", pause, 0.0, 1e12)?;
            let whole = replica > 0 && self.devices.is_multiple_of(replica);
            check("devices modulo replica", if whole { 0.0 } else { 1.0 }, 0.0, 0.0)?;
        }
        Ok(())
    }

    fn replica(&self) -> usize {
        match self.recovery {
            Recovery::Restart => self.devices,
            Recovery::Shrink { replica, .. } => replica,
        }
    }
}

impl<'a> Job<'a> {
    fn new(world: &'a World) -> Self {
        let replicas = world.devices / world.replica();
        let mut job = Self {
            world,
            random: Random::new(world.seed, "failures"),
            queue: Queue { heap: BinaryHeap::with_capacity(world.devices + 1), sequence: 0 },
            now: 0.0,
            phase: Phase::Working(world.interval),
            absent: 0,
            missing: vec![0; replicas],
            whole: replicas,
            pool: world.spares,
            waiting: Vec::new(),
            unsaved: 0.0,
            rolled_back: false,
            outcome: Outcome::default(),
        };
        (0..world.devices).for_each(|slot| job.arm(slot));
        job
    }

    fn arm(&mut self, slot: usize) {
        let life = self.random.weibull(self.world.shape, self.world.mttf);
        self.queue.push(self.now + life, Event::Fails(slot));
    }

    /// Share of full speed at which the job works now.
    fn speed(&self) -> f64 {
        self.whole as f64 / self.missing.len() as f64
    }

    fn phase_end(&self) -> f64 {
        match self.phase {
            Phase::Working(left) => self.now + left / self.speed().max(f64::MIN_POSITIVE),
            Phase::Saving(until) => until,
            Phase::Standing(_) if self.stuck() => f64::INFINITY,
            Phase::Standing(until) => until.max(self.now),
        }
    }

    /// Whether devices are missing without which the job cannot go on.
    fn stuck(&self) -> bool {
        if self.rolled_back && matches!(self.world.recovery, Recovery::Restart) {
            self.absent > 0
        } else {
            self.whole == 0
        }
    }

    fn advance(&mut self, to: f64) {
        let passed = (to - self.now).max(0.0);
        match &mut self.phase {
            Phase::Working(left) => {
                let speed = self.whole as f64 / self.missing.len() as f64;
                let done = passed * speed;
                *left = (*left - done).max(0.0);
                self.unsaved += done;
                self.outcome.useful += done;
                self.outcome.shrunk += passed - done;
            }
            Phase::Saving(_) => self.outcome.checkpointing += passed,
            Phase::Standing(_) => self.outcome.down += passed,
        }
        self.now = to;
    }

    fn phase_over(&mut self) {
        self.phase = match self.phase {
            Phase::Working(_) => Phase::Saving(self.now + self.world.checkpoint),
            Phase::Saving(_) => {
                self.unsaved = 0.0;
                Phase::Working(self.world.interval)
            }
            Phase::Standing(_) => {
                self.rolled_back = false;
                Phase::Working((self.world.interval - self.unsaved).max(0.0))
            }
        };
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Fails(slot) => self.fail(slot),
            Event::Arrives(slot) => self.arrive(slot),
            Event::Repaired => match self.waiting.pop() {
                Some(slot) => self.arrive(slot),
                None => self.pool += 1,
            },
        }
    }

    fn fail(&mut self, slot: usize) {
        self.outcome.failures += 1;
        self.absent += 1;
        let group = slot / self.world.replica();
        self.whole -= usize::from(self.missing[group] == 0);
        self.missing[group] += 1;
        if self.random.uniform() < self.world.hardware {
            self.queue.push(self.now + self.world.repair, Event::Repaired);
            if self.pool > 0 {
                self.pool -= 1;
                self.queue.push(self.now + self.world.detect, Event::Arrives(slot));
            } else {
                self.waiting.push(slot);
            }
        } else {
            self.queue.push(self.now + self.world.detect, Event::Arrives(slot));
        }
        match self.world.recovery {
            Recovery::Shrink { pause, .. } if self.whole > 0 => self.stand(self.world.detect + pause),
            _ => self.roll_back(),
        }
    }

    /// Goes back to the last checkpoint.
    fn roll_back(&mut self) {
        self.outcome.lost += self.unsaved;
        self.outcome.useful -= self.unsaved;
        self.outcome.rollbacks += 1;
        self.unsaved = 0.0;
        self.rolled_back = true;
        self.stand(self.world.detect + self.world.restart);
    }

    /// Stands for at least this long from now; an interrupted checkpoint is repeated later.
    fn stand(&mut self, time: f64) {
        let until = match self.phase {
            Phase::Standing(until) => until.max(self.now + time),
            _ => self.now + time,
        };
        self.phase = Phase::Standing(until);
    }

    fn arrive(&mut self, slot: usize) {
        self.absent -= 1;
        let group = slot / self.world.replica();
        self.missing[group] -= 1;
        self.whole += usize::from(self.missing[group] == 0);
        self.arm(slot);
        match self.world.recovery {
            Recovery::Shrink { pause, .. } if self.missing[group] == 0 && !self.rolled_back => self.stand(pause),
            Recovery::Restart if self.absent == 0 => self.stand(self.world.restart),
            _ => {}
        }
    }
}

/// Young's interval between checkpoints, sqrt(2 C M): checkpoint time C, mean time between failures of the job M.
pub fn young(checkpoint: f64, mtbf: f64) -> f64 {
    (2.0 * checkpoint * mtbf).sqrt()
}

/// Daly's exact goodput for failures without memory, rollback to the last checkpoint and a recovery that can itself be
/// interrupted: tau / (M e^(R/M) (e^((tau + C)/M) - 1)).
pub fn daly_goodput(interval: f64, checkpoint: f64, recovery: f64, mtbf: f64) -> f64 {
    interval / (mtbf * (recovery / mtbf).exp() * (((interval + checkpoint) / mtbf).exp_m1()))
}

/// The interval that makes [`daly_goodput`] largest, by golden section.
pub fn best_interval(checkpoint: f64, recovery: f64, mtbf: f64) -> f64 {
    let value = |log: f64| daly_goodput(log.exp(), checkpoint, recovery, mtbf);
    let (mut low, mut high) = ((1e-3f64).ln(), (100.0 * mtbf).ln());
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    for _ in 0..200 {
        let (a, b) = (high - ratio * (high - low), low + ratio * (high - low));
        if value(a) > value(b) { high = b } else { low = a }
    }
    (0.5 * (low + high)).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World {
            devices: 1024,
            spares: 1_000,
            mttf: 1024.0 * 8.0 * 3600.0,
            shape: 1.0,
            hardware: 0.5,
            repair: 86_400.0,
            detect: 30.0,
            restart: 270.0,
            interval: 1800.0,
            checkpoint: 60.0,
            recovery: Recovery::Restart,
            horizon: 400.0 * 86_400.0,
            seed: 3,
        }
    }

    #[test]
    fn restarts_meet_dalys_exact_formula() {
        for interval in [600.0, 1800.0, 7200.0] {
            let got = run(&World { interval, ..world() }).unwrap().goodput;
            let exact = daly_goodput(interval, 60.0, 300.0, 8.0 * 3600.0);
            assert!((got / exact - 1.0).abs() < 0.02, "interval {interval}: {got} against {exact}");
        }
    }

    #[test]
    fn youngs_interval_is_near_the_best() {
        let best = best_interval(60.0, 300.0, 28_800.0);
        assert!((young(60.0, 28_800.0) / best - 1.0).abs() < 0.05, "{best}");
    }

    #[test]
    fn all_time_is_accounted_for() {
        let shrink = Recovery::Shrink { replica: 128, pause: 10.0 };
        for recovery in [Recovery::Restart, shrink] {
            let w = World { recovery, spares: 2, mttf: 1024.0 * 1800.0, ..world() };
            let o = run(&w).unwrap();
            let sum = o.useful + o.lost + o.checkpointing + o.down + o.shrunk;
            assert!((sum / w.horizon - 1.0).abs() < 1e-9, "{sum} {o:?}");
        }
    }

    #[test]
    fn without_failures_only_checkpoints_cost() {
        let o = run(&World { mttf: 1e15, ..world() }).unwrap();
        assert_eq!((o.failures, o.lost, o.down), (0, 0.0, 0.0));
        assert!((o.goodput - 1800.0 / 1860.0).abs() < 1e-4);
    }

    #[test]
    fn shrinking_loses_nothing_and_beats_restarting() {
        let shrink = Recovery::Shrink { replica: 64, pause: 10.0 };
        let w = World { horizon: 60.0 * 86_400.0, spares: 0, ..world() };
        let (restart, shrunk) = (run(&w).unwrap(), run(&World { recovery: shrink, ..w }).unwrap());
        assert_eq!(shrunk.rollbacks, 0);
        assert!(shrunk.goodput > restart.goodput + 0.05, "{restart:?} {shrunk:?}");
    }

    #[test]
    fn spares_keep_a_restarting_job_from_waiting_for_repairs() {
        let w = World { horizon: 60.0 * 86_400.0, ..world() };
        let none = run(&World { spares: 0, ..w }).unwrap();
        let some = run(&World { spares: 16, ..w }).unwrap();
        assert!(some.goodput > none.goodput + 0.2, "{} {}", some.goodput, none.goodput);
    }

    #[test]
    fn the_same_seed_gives_the_same_outcome() {
        assert_eq!(run(&world()).unwrap(), run(&world()).unwrap());
        assert_ne!(run(&world()).unwrap(), run(&World { seed: 4, ..world() }).unwrap());
    }

    #[test]
    fn impossible_settings_are_named() {
        for (w, field) in [
            (World { devices: 0, ..world() }, "devices"),
            (World { mttf: f64::NAN, ..world() }, "mttf"),
            (World { hardware: 1.5, ..world() }, "hardware"),
            (World { horizon: -1.0, ..world() }, "horizon"),
            (World { recovery: Recovery::Shrink { replica: 100, pause: 1.0 }, ..world() }, "devices modulo replica"),
            (World { mttf: 1e-3, ..world() }, "expected failures"),
        ] {
            let error = run(&w).unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
        }
    }
}
