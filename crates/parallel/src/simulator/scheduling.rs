//! A cluster that runs many jobs: gang scheduling of fixed sizes against elastic scheduling between a least and a most.
//!
//! *Efficiency* is useful device-hours over available device-hours within the observed window: work kept by jobs, in
//! device-hours at each job's full size, over devices times window, broken devices counted as available. Work that a
//! failure rolls back is not useful. Queueing delay is the time from submission to the first device, and a job that still
//! waits when the window ends counts its wait so far.

use super::error::{SimulatorError, check};
use super::random::Random;
use serde::Serialize;

/// How devices are given to jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Policy {
    /// All devices of a job or none, strictly in order of submission.
    GangInOrder,
    /// All or none; a later job may start before an earlier one that does not fit.
    GangFirstFit,
    /// Each job runs on a least to a most; in order of submission, what is left is dealt out in that order too.
    Elastic,
}

/// A synthetic trace and the cluster it is offered to. Times in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Trace {
    /// Devices of the cluster.
    pub devices: usize,
    /// Offered work over capacity.
    pub load: f64,
    /// Mean run time of a job at full size.
    pub run: f64,
    /// Standard deviation of the logarithm of the run time.
    pub spread: f64,
    /// Largest job, as a share of the cluster; sizes are powers of two up to it, the k-th half as likely as the one before
    /// to the power `skew`.
    pub largest: f64,
    /// How much rarer large jobs are: probability of size 2^k falls as 2^(-skew k).
    pub skew: f64,
    /// Least share of its full size on which an elastic job runs.
    pub least: f64,
    /// Elastic speed on a share x of the full size is x^scaling (1 = proportional, below 1 = small runs waste less).
    pub scaling: f64,
    /// Standing time when an elastic job changes its size.
    pub resize: f64,
    /// Mean time to failure of a device; infinite = none.
    pub mttf: f64,
    /// Work lost and standing time when a gang job loses a device: half a checkpoint interval, and the restart.
    pub rollback: f64,
    /// Restart time of a gang job.
    pub restart: f64,
    /// Time until a failed device is back.
    pub repair: f64,
    /// Observed window.
    pub horizon: f64,
    /// Seed of all draws.
    pub seed: u64,
}

/// What a policy made of a trace.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Result {
    /// Useful over available device-hours.
    pub efficiency: f64,
    /// Mean queueing delay, hours.
    pub queueing_hours: f64,
    /// Mean time from submission to completion of the jobs completed, hours.
    pub completion_hours: f64,
    /// Jobs submitted within the window.
    pub submitted: usize,
    /// Jobs completed within it.
    pub completed: usize,
    /// Failures of devices in use.
    pub failures: usize,
}

#[derive(Debug, Clone)]
struct Job {
    submitted: f64,
    full: usize,
    least: usize,
    /// Work left, in seconds at full size.
    left: f64,
    devices: usize,
    /// Speed on these devices over full speed.
    rate: f64,
    started: Option<f64>,
    /// Standing until then.
    until: f64,
}

impl Job {
    fn take(&mut self, devices: usize, scaling: f64) {
        self.devices = devices;
        self.rate = (devices as f64 / self.full as f64).powf(scaling);
    }

    fn end(&self, now: f64) -> f64 {
        self.until.max(now) + self.left / self.rate
    }
}

struct World<'a> {
    trace: &'a Trace,
    policy: Policy,
    now: f64,
    /// Jobs in the system in order of submission.
    jobs: Vec<Job>,
    /// No job from here on has devices.
    tail: usize,
    /// Devices not broken.
    healthy: usize,
    /// Times at which broken devices come back, ascending.
    repairs: std::collections::VecDeque<f64>,
    random: Random,
    useful: f64,
    waits: f64,
    completions: f64,
    result: Result,
}

/// Runs a trace under a policy.
///
/// # Errors
/// `Range` for a setting out of range.
pub fn run(trace: &Trace, policy: Policy) -> std::result::Result<Result, SimulatorError> {
    trace.validate()?;
    let arrivals = trace.arrivals();
    let mut world = World::new(trace, policy);
    let mut next_failure = world.draw_failure();
    let mut coming = arrivals.into_iter().peekable();
    while world.now < trace.horizon {
        let arrival = coming.peek().map_or(f64::INFINITY, |job| job.submitted);
        let (end, ending) = world.next_end();
        let repair = world.repairs.front().copied().unwrap_or(f64::INFINITY);
        let next = arrival.min(end).min(repair).min(next_failure).min(trace.horizon);
        world.advance(next);
        if next >= trace.horizon {
            break;
        }
        if next == end {
            world.complete(ending);
        } else if next == arrival {
            world.jobs.extend(coming.next());
            world.result.submitted += 1;
        } else if next == repair {
            world.repairs.pop_front();
            world.healthy += 1;
        } else {
            world.fail();
            next_failure = world.draw_failure();
        }
        world.allocate();
    }
    Ok(world.finish())
}

impl Trace {
    /// Checks every setting.
    ///
    /// # Errors
    /// `Range` naming it.
    pub fn validate(&self) -> std::result::Result<(), SimulatorError> {
        check("devices", self.devices as f64, 1.0, 1e7)?;
        check("load", self.load, 1e-6, 100.0)?;
        check("run", self.run, 1e-3, 1e12)?;
        check("spread", self.spread, 0.0, 4.0)?;
        check("largest", self.largest, 0.0, 1.0)?;
        check("skew", self.skew, -4.0, 4.0)?;
        check("least", self.least, 1e-6, 1.0)?;
        check("scaling", self.scaling, 0.1, 1.0)?;
        for (field, time) in
            [("resize", self.resize), ("rollback", self.rollback), ("restart", self.restart), ("repair", self.repair)]
        {
            check(field, time, 0.0, 1e12)?;
        }
        if self.mttf != f64::INFINITY {
            check("mttf", self.mttf, 1.0, 1e15)?;
        }
        check("horizon", self.horizon, 1e-3, 1e12)?;
        check("expected jobs", self.expected_jobs(), 0.0, 1e6)
    }

    fn sizes(&self) -> Vec<(usize, f64)> {
        let most = ((self.devices as f64 * self.largest) as usize).max(1);
        let powers = (0..).map(|k| 1usize << k).take_while(|&n| n <= most);
        powers.enumerate().map(|(k, n)| (n, 2f64.powf(-self.skew * k as f64))).collect()
    }

    fn expected_jobs(&self) -> f64 {
        let sizes = self.sizes();
        let weight: f64 = sizes.iter().map(|(_, w)| w).sum();
        let mean = sizes.iter().map(|&(n, w)| n as f64 * w).sum::<f64>() / weight;
        self.load * self.devices as f64 * self.horizon / (mean * self.run)
    }

    fn arrivals(&self) -> Vec<Job> {
        let mut random = Random::new(self.seed, "trace");
        let gap = self.horizon / self.expected_jobs();
        let sizes = self.sizes();
        let weights: Vec<f64> = sizes.iter().map(|&(_, w)| w).collect();
        let mut time = 0.0;
        let mut jobs = Vec::new();
        loop {
            time += random.exponential(gap);
            if time >= self.horizon {
                return jobs;
            }
            let full = sizes[random.weighted(&weights)].0;
            let least = ((full as f64 * self.least).ceil() as usize).clamp(1, full);
            let left = random.log_normal(self.run, self.spread);
            jobs.push(Job { submitted: time, full, least, left, devices: 0, rate: 0.0, started: None, until: 0.0 });
        }
    }
}

impl<'a> World<'a> {
    fn new(trace: &'a Trace, policy: Policy) -> Self {
        Self {
            trace,
            policy,
            now: 0.0,
            jobs: Vec::new(),
            tail: 0,
            healthy: trace.devices,
            repairs: std::collections::VecDeque::new(),
            random: Random::new(trace.seed, "device failures"),
            useful: 0.0,
            waits: 0.0,
            completions: 0.0,
            result: Result::default(),
        }
    }

    fn scaling(&self) -> f64 {
        if self.policy == Policy::Elastic { self.trace.scaling } else { 1.0 }
    }

    /// Next failure of any healthy device.
    fn draw_failure(&mut self) -> f64 {
        if self.trace.mttf == f64::INFINITY || self.healthy == 0 {
            return f64::INFINITY;
        }
        self.now + self.random.exponential(self.trace.mttf / self.trace.devices as f64)
    }

    fn next_end(&self) -> (f64, usize) {
        let running = self.jobs[..self.tail].iter().enumerate().filter(|(_, job)| job.devices > 0);
        let ends = running.map(|(i, job)| (job.end(self.now), i));
        ends.min_by(|a, b| a.0.total_cmp(&b.0)).unwrap_or((f64::INFINITY, 0))
    }

    fn advance(&mut self, to: f64) {
        for job in self.jobs[..self.tail].iter_mut().filter(|job| job.devices > 0) {
            let worked = (to - job.until.max(self.now)).max(0.0) * job.rate;
            let worked = worked.min(job.left);
            job.left -= worked;
            self.useful += worked * job.full as f64;
        }
        self.now = to;
    }

    fn complete(&mut self, index: usize) {
        let job = self.jobs.remove(index);
        self.tail -= 1;
        self.useful += job.left * job.full as f64;
        self.completions += self.now - job.submitted;
        self.result.completed += 1;
    }

    /// A device fails: one of those in use with the probability of use.
    fn fail(&mut self) {
        let mut place = (self.random.uniform() * self.trace.devices as f64) as usize;
        if place >= self.healthy {
            return;
        }
        let scaling = self.scaling();
        self.healthy -= 1;
        self.repairs.push_back(self.now + self.trace.repair);
        for job in &mut self.jobs {
            if place >= job.devices {
                place -= job.devices;
                continue;
            }
            self.result.failures += 1;
            if self.policy == Policy::Elastic {
                let rest = job.devices - 1;
                job.take(if rest < job.least { 0 } else { rest }, scaling);
                job.until = self.now + self.trace.resize;
            } else {
                self.useful -= self.trace.rollback * job.full as f64;
                job.left += self.trace.rollback;
                job.take(0, scaling);
            }
            return;
        }
    }

    fn allocate(&mut self) {
        match self.policy {
            Policy::GangInOrder => self.gang(true),
            Policy::GangFirstFit => self.gang(false),
            Policy::Elastic => self.elastic(),
        }
    }

    fn gang(&mut self, in_order: bool) {
        let used: usize = self.jobs[..self.tail].iter().map(|job| job.devices).sum();
        let mut free = self.healthy.saturating_sub(used);
        for (i, job) in self.jobs.iter_mut().enumerate().filter(|(_, job)| job.devices == 0) {
            if free == 0 {
                break;
            }
            if job.full > free {
                if in_order {
                    break;
                }
                continue;
            }
            free -= job.full;
            job.take(job.full, 1.0);
            self.tail = self.tail.max(i + 1);
            let again = job.started.is_some();
            let started = *job.started.get_or_insert(self.now);
            job.until = self.now + if again { self.trace.restart } else { 0.0 };
            self.waits += if again { 0.0 } else { started - job.submitted };
        }
    }

    /// Least sizes in order of submission as long as they fit, then the rest up to full size in the same order. A job
    /// shrinks only to let another start, and grows only by a quarter of its full size or to it.
    fn elastic(&mut self) {
        let scaling = self.scaling();
        let mut left = self.healthy;
        let mut admitted = 0;
        for job in &self.jobs {
            if job.least > left {
                break;
            }
            left -= job.least;
            admitted += 1;
        }
        self.tail = self.tail.max(admitted);
        for (i, job) in self.jobs[..self.tail].iter_mut().enumerate() {
            let mut target = 0;
            if i < admitted {
                let extra = left.min(job.full - job.least);
                left -= extra;
                target = job.least + extra;
                if target > job.devices && job.devices > 0 && target < job.full && 4 * (target - job.devices) < job.full
                {
                    left += target - job.devices;
                    target = job.devices;
                }
            }
            if target == job.devices {
                continue;
            }
            let again = job.started.is_some();
            if !again {
                self.waits += self.now - job.submitted;
                job.started = Some(self.now);
            }
            job.until = if again { self.now + self.trace.resize } else { self.now };
            job.take(target, scaling);
        }
    }

    fn finish(mut self) -> Result {
        let waiting = self.jobs.iter().filter(|job| job.started.is_none());
        self.waits += waiting.map(|job| self.trace.horizon - job.submitted).sum::<f64>();
        let available = self.trace.devices as f64 * self.trace.horizon;
        self.result.efficiency = self.useful / available;
        self.result.queueing_hours = self.waits / 3600.0 / self.result.submitted.max(1) as f64;
        self.result.completion_hours = self.completions / 3600.0 / self.result.completed.max(1) as f64;
        self.result
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace() -> Trace {
        Trace {
            devices: 256,
            load: 0.8,
            run: 6.0 * 3600.0,
            spread: 1.0,
            largest: 0.5,
            skew: 0.5,
            least: 0.25,
            scaling: 1.0,
            resize: 60.0,
            mttf: f64::INFINITY,
            rollback: 900.0,
            restart: 300.0,
            repair: 86_400.0,
            horizon: 60.0 * 86_400.0,
            seed: 5,
        }
    }

    #[test]
    fn a_light_load_is_served_in_full_by_every_policy() {
        for policy in [Policy::GangInOrder, Policy::GangFirstFit, Policy::Elastic] {
            let r = run(&Trace { load: 0.1, ..trace() }, policy).unwrap();
            assert!((r.efficiency - 0.1).abs() < 0.02, "{policy:?} {r:?}");
            assert!(r.queueing_hours < 1.0, "{policy:?} {r:?}");
        }
    }

    #[test]
    fn under_overload_elastic_uses_more_than_gang_in_order() {
        let t = Trace { load: 2.0, largest: 1.0, skew: 0.0, ..trace() };
        let gang = run(&t, Policy::GangInOrder).unwrap();
        let elastic = run(&t, Policy::Elastic).unwrap();
        assert!(elastic.efficiency > 0.97 && gang.efficiency < 0.85, "{gang:?} {elastic:?}");
        assert!(gang.efficiency <= 1.0 && elastic.efficiency <= 1.0);
    }

    #[test]
    fn one_size_of_single_devices_makes_all_policies_alike() {
        let t = Trace { largest: 0.0, load: 0.7, devices: 32, ..trace() };
        let gang = run(&t, Policy::GangInOrder).unwrap();
        let elastic = run(&t, Policy::Elastic).unwrap();
        assert!((gang.efficiency - elastic.efficiency).abs() < 1e-9, "{gang:?} {elastic:?}");
    }

    #[test]
    fn failures_cost_gang_jobs_their_work() {
        let t = Trace { mttf: 20.0 * 86_400.0, ..trace() };
        let (calm, broken) = (run(&trace(), Policy::GangFirstFit).unwrap(), run(&t, Policy::GangFirstFit).unwrap());
        assert!(broken.failures > 100 && broken.efficiency < calm.efficiency, "{calm:?} {broken:?}");
        let elastic = run(&t, Policy::Elastic).unwrap();
        assert!(elastic.efficiency > broken.efficiency, "{elastic:?} {broken:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_result() {
        assert_eq!(run(&trace(), Policy::Elastic).unwrap(), run(&trace(), Policy::Elastic).unwrap());
    }

    #[test]
    fn settings_out_of_range_are_named() {
        for (t, field) in [
            (Trace { devices: 0, ..trace() }, "devices"),
            (Trace { load: f64::INFINITY, ..trace() }, "load"),
            (Trace { run: 1e-3, ..trace() }, "expected jobs"),
            (Trace { least: 0.0, ..trace() }, "least"),
        ] {
            let error = run(&t, Policy::Elastic).unwrap_err().to_string();
            assert!(error.contains(&format!("simulation, {field}:")), "{error}");
        }
    }
}
