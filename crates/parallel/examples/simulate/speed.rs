//! How long the large simulations take.

use super::Report;
use chandlery_parallel::simulator::failures::{Recovery, World, run as weeks};
use chandlery_parallel::simulator::scheduling::{Policy, Trace, run as schedule};
use std::error::Error;
use std::time::Instant;

const DAY: f64 = 86_400.0;

pub fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    let world = World {
        devices: 10_000,
        spares: 200,
        mttf: 10_000.0 * 1800.0,
        shape: 0.8,
        hardware: 0.6,
        repair: DAY,
        detect: 60.0,
        restart: 600.0,
        interval: 900.0,
        checkpoint: 30.0,
        recovery: Recovery::Shrink { replica: 100, pause: 30.0 },
        horizon: 30.0 * DAY,
        seed: 1,
    };
    let start = Instant::now();
    let outcome = weeks(&world)?;
    let what = format!("one job, a failure every half hour ({} failures)", outcome.failures);
    rows.push(vec![what, format!("{:.3}", start.elapsed().as_secs_f64())]);
    let trace = Trace {
        devices: 10_000,
        load: 0.9,
        run: 4.0 * 3600.0,
        spread: 1.2,
        largest: 0.25,
        skew: 0.7,
        least: 0.25,
        scaling: 1.0,
        resize: 60.0,
        mttf: 50_000.0 * 3600.0,
        rollback: 1800.0,
        restart: 600.0,
        repair: DAY,
        horizon: 30.0 * DAY,
        seed: 1,
    };
    for policy in [Policy::GangInOrder, Policy::GangFirstFit, Policy::Elastic] {
        let start = Instant::now();
        let r = schedule(&trace, policy)?;
        let what = format!("{policy:?}, {} jobs, {} failures", r.submitted, r.failures);
        rows.push(vec![what, format!("{:.3}", start.elapsed().as_secs_f64())]);
    }
    report.table("Seconds to simulate 10,000 devices over 30 days", &["simulation", "seconds"], &rows);
    Ok(())
}
