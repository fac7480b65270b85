//! Failed jobs: a campaign of many long jobs under a mix of failures, with and without fault tolerance.
//!
//! A job that meets a failure it cannot survive has failed for its user: it must be looked at and submitted again.
//! Without fault tolerance every failure ends a job. With it, infrastructure failures are survived when they are
//! recognised and the budget of restarts is not used up; errors of the program itself come back after any restart.

use super::error::{SimulatorError, check};
use super::random::Random;
use serde::Serialize;

/// A campaign of jobs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Campaign {
    /// Jobs.
    pub jobs: usize,
    /// Mean device-hours of a job.
    pub device_hours: f64,
    /// Standard deviation of the logarithm of a job's device-hours.
    pub spread: f64,
    /// Mean device-hours between failures of any kind.
    pub mean_between: f64,
    /// Share of failures that the program or its user caused.
    pub own: f64,
    /// Share of infrastructure failures that are recognised and survived.
    pub coverage: f64,
    /// Restarts that a job may use.
    pub budget: u32,
    /// Seed of all draws.
    pub seed: u64,
}

/// Failed jobs of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Failed {
    /// Without fault tolerance.
    pub without: usize,
    /// With it.
    pub with: usize,
    /// 1 - with / without: the share of failed jobs that is gone.
    pub reduction: f64,
    /// Half width of the 95 % interval of `reduction`, jobs taken as independent.
    pub half_width: f64,
}

/// Runs the same jobs with the same failures twice.
///
/// # Errors
/// `Range` for a setting out of range.
pub fn run(campaign: &Campaign) -> Result<Failed, SimulatorError> {
    campaign.validate()?;
    let mut random = Random::new(campaign.seed, "campaign");
    let (mut without, mut with) = (0, 0);
    for _ in 0..campaign.jobs {
        let (meets_any, fails) = job(campaign, &mut random);
        without += usize::from(meets_any);
        with += usize::from(fails);
    }
    let base = without.max(1) as f64;
    let kept = with as f64 / base;
    let half_width = 1.96 * (kept * (1.0 - kept) / base).sqrt();
    Ok(Failed { without, with, reduction: 1.0 - kept, half_width })
}

/// Whether a job meets any failure, and whether one of them ends it in spite of fault tolerance.
fn job(campaign: &Campaign, random: &mut Random) -> (bool, bool) {
    let work = random.log_normal(campaign.device_hours, campaign.spread);
    let mut done = 0.0;
    let mut met = false;
    let mut restarts = 0;
    loop {
        done += random.exponential(campaign.mean_between);
        if done >= work {
            return (met, false);
        }
        met = true;
        let own = random.uniform() < campaign.own;
        let survived = !own && random.uniform() < campaign.coverage && restarts < campaign.budget;
        if !survived {
            return (true, true);
        }
        restarts += 1;
    }
}

/// The reduction in closed form for an unlimited budget and jobs of one size: of the failed jobs, those that meet only
/// survivable failures. With x = work / mean between failures and u the share that ends a job:
/// 1 - (1 - e^(-u x)) / (1 - e^(-x)).
pub fn exact_reduction(campaign: &Campaign) -> f64 {
    let x = campaign.device_hours / campaign.mean_between;
    let ends = 1.0 - (1.0 - campaign.own) * campaign.coverage;
    1.0 - (-ends * x).exp_m1() / (-x).exp_m1()
}

impl Campaign {
    fn validate(&self) -> Result<(), SimulatorError> {
        check("jobs", self.jobs as f64, 1.0, 1e9)?;
        check("device_hours", self.device_hours, 1e-9, 1e12)?;
        check("spread", self.spread, 0.0, 5.0)?;
        check("mean_between", self.mean_between, 1e-9, 1e15)?;
        check("failures of a mean job", self.device_hours / self.mean_between, 0.0, 1e6)?;
        check("own", self.own, 0.0, 1.0)?;
        check("coverage", self.coverage, 0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign() -> Campaign {
        Campaign {
            jobs: 40_000,
            device_hours: 10_000.0,
            spread: 0.0,
            mean_between: 20_000.0,
            own: 0.6,
            coverage: 0.9,
            budget: u32::MAX,
            seed: 1,
        }
    }

    #[test]
    fn equal_jobs_meet_the_closed_form() {
        for own in [0.0, 0.3, 0.6, 1.0] {
            for device_hours in [1_000.0, 10_000.0, 80_000.0] {
                let c = Campaign { own, device_hours, ..campaign() };
                let got = run(&c).unwrap();
                let exact = exact_reduction(&c);
                assert!((got.reduction - exact).abs() < 3.0 * got.half_width.max(0.002), "{got:?} against {exact}");
            }
        }
    }

    #[test]
    fn a_budget_of_zero_saves_no_job() {
        assert_eq!(run(&Campaign { budget: 0, ..campaign() }).unwrap().reduction, 0.0);
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let error = run(&Campaign { own: 1.1, ..campaign() }).unwrap_err().to_string();
        assert_eq!(error, "simulation, own: expected a number from 0 to 1, got 1.1");
    }
}
