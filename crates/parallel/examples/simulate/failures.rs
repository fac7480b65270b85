//! One long job over weeks, and failed jobs under a mix of failures.

use super::{Report, chart, spread};
use chandlery_parallel::simulator::campaign::{Campaign, run as campaign};
use chandlery_parallel::simulator::failures::{Recovery, World, best_interval, daly_goodput, run as weeks, young};
use chandlery_parallel::simulator::figure::Series;
use std::error::Error;

const HOUR: f64 = 3600.0;
const DAY: f64 = 24.0 * HOUR;
/// Device-hours between interruptions: 16,384 devices x 54 days / 419 (Llama 3, as reported by clockwork.io).
const DEVICE_MTTF: f64 = 16_384.0 * 54.0 * 24.0 / 419.0 * HOUR;
const SEEDS: u64 = 5;

fn world(devices: usize) -> World {
    World {
        devices,
        spares: 0,
        mttf: DEVICE_MTTF,
        shape: 1.0,
        hardware: 0.6,
        repair: DAY,
        detect: 60.0,
        restart: 600.0,
        interval: HOUR,
        checkpoint: 60.0,
        recovery: Recovery::Restart,
        horizon: 30.0 * DAY,
        seed: 0,
    }
}

fn goodput(world: &World) -> Result<(f64, f64), Box<dyn Error>> {
    let mut values = Vec::new();
    for seed in 0..SEEDS {
        values.push(100.0 * weeks(&World { seed, ..*world })?.goodput);
    }
    Ok(spread(&values))
}

pub fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    intervals(report)?;
    policies(report)?;
    infant_mortality(report)?;
    mixes(report)
}

/// Goodput against the checkpoint interval, events and formula.
fn intervals(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for devices in [1_024, 10_240] {
        let mtbf = DEVICE_MTTF / devices as f64;
        let spares = devices / 20;
        let (mut events, mut formula) = (Vec::new(), Vec::new());
        for minutes in [5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 240.0, 480.0] {
            let w = World { interval: minutes * 60.0, spares, ..world(devices) };
            events.push((minutes, goodput(&w)?.0));
            formula.push((minutes, 100.0 * daly_goodput(w.interval, w.checkpoint, w.detect + w.restart, mtbf)));
        }
        let best = best_interval(60.0, 660.0, mtbf);
        rows.push(vec![
            devices.to_string(),
            format!("{:.1}", mtbf / HOUR),
            format!("{:.0}", young(60.0, mtbf) / 60.0),
            format!("{:.0}", best / 60.0),
            format!("{:.1}", 100.0 * daly_goodput(best, 60.0, 660.0, mtbf)),
            format!("{:.1}", goodput(&World { interval: best, spares, ..world(devices) })?.0),
        ]);
        lines.push(Series::marks(&format!("{devices} devices, events"), events));
        lines.push(Series::line(&format!("{devices} devices, Daly"), formula));
    }
    let head = [
        "devices",
        "hours between failures",
        "Young, min",
        "best (Daly), min",
        "goodput by formula, %",
        "by events, %",
    ];
    report.table("Checkpoint interval (restart, spares enough, checkpoint 60 s, recovery 660 s)", &head, &rows);
    let mut figure =
        chart("Goodput against checkpoint interval, 30 days", "minutes between checkpoints", "goodput, %", lines);
    figure.log_x = true;
    Ok(report.figure("failures-interval", &figure)?)
}

fn shrink() -> Recovery {
    Recovery::Shrink { replica: 128, pause: 30.0 }
}

/// Goodput of the ways to recover against the number of devices.
fn policies(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let sizes = [512usize, 1_024, 2_048, 4_096, 8_192, 10_240, 16_384, 32_768];
    let ways: [(&str, Recovery, f64); 4] = [
        ("restart, no spares", Recovery::Restart, 0.0),
        ("restart, 2 % spares", Recovery::Restart, 0.02),
        ("shrink in the job", shrink(), 0.0),
        ("shrink, 2 % spares", shrink(), 0.02),
    ];
    let mut rows: Vec<Vec<String>> = sizes.iter().map(|n| vec![n.to_string()]).collect();
    let mut lines = Vec::new();
    for (name, recovery, spares) in ways {
        let mut points = Vec::new();
        for (row, &devices) in rows.iter_mut().zip(&sizes) {
            let interval = young(60.0, DEVICE_MTTF / devices as f64);
            let spares = (devices as f64 * spares).ceil() as usize;
            let (mean, sd) = goodput(&World { recovery, spares, interval, ..world(devices) })?;
            points.push((devices as f64, mean));
            row.push(format!("{mean:.1} ± {sd:.1}"));
        }
        lines.push(Series::line(name, points));
    }
    let head = ["devices", ways[0].0, ways[1].0, ways[2].0, ways[3].0];
    report.table("Goodput over 30 days, % (mean and standard deviation of 5 seeds)", &head, &rows);
    let mut figure = chart("Goodput over 30 days by way of recovery", "devices", "goodput, %", lines);
    figure.log_x = true;
    Ok(report.figure("failures-policies", &figure)?)
}

/// Devices that fail early: same mean, other shape.
fn infant_mortality(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for shape in [0.5, 0.7, 1.0, 1.5] {
        let mut row = vec![format!("{shape}")];
        for recovery in [Recovery::Restart, shrink()] {
            let w = World { shape, recovery, spares: 205, interval: 1800.0, ..world(10_240) };
            let (mean, sd) = goodput(&w)?;
            row.push(format!("{mean:.1} ± {sd:.1}"));
        }
        row.push(weeks(&World { shape, spares: 205, ..world(10_240) })?.failures.to_string());
        rows.push(row);
    }
    let head = ["Weibull shape", "restart, 2 % spares", "shrink, 2 % spares", "failures (seed 0)"];
    report.table(
        "10,240 new devices of equal mean life that fail early or late: goodput over 30 days, %",
        &head,
        &rows,
    );
    Ok(())
}

/// Failed jobs that fault tolerance avoids, against the share of failures that programs cause themselves.
fn mixes(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let base = Campaign {
        jobs: 40_000,
        device_hours: 0.0,
        spread: 1.0,
        mean_between: 1.0,
        own: 0.0,
        coverage: 0.95,
        budget: 10,
        seed: 21,
    };
    let cases: [(&str, f64, f64, u32); 4] = [
        ("0.1 failures per job", 0.1, 0.95, 10),
        ("0.5 failures per job", 0.5, 0.95, 10),
        ("2 failures per job", 2.0, 0.95, 10),
        ("0.5, one restart, 80 % covered", 0.5, 0.8, 1),
    ];
    let (mut lines, mut rows) = (Vec::new(), Vec::new());
    for (name, device_hours, coverage, budget) in cases {
        let mut points = Vec::new();
        for step in 0..=20 {
            let own = f64::from(step) / 20.0;
            let got = campaign(&Campaign { own, device_hours, coverage, budget, ..base })?;
            points.push((100.0 * own, 100.0 * got.reduction));
        }
        let crossing = points.windows(2).find(|w| w[0].1 >= 34.49 && w[1].1 < 34.49);
        let at = crossing.map(|w| w[0].0 + (w[0].1 - 34.49) / (w[0].1 - w[1].1) * (w[1].0 - w[0].0));
        let exact = campaign(&Campaign { own: 0.5, device_hours, coverage, budget, ..base })?;
        rows.push(vec![
            name.into(),
            at.map_or("nowhere".into(), |own| format!("{own:.0} %")),
            format!("{:.1} ± {:.1}", 100.0 * exact.reduction, 100.0 * exact.half_width),
            format!("{:.1}", points[0].1),
        ]);
        lines.push(Series::line(name, points));
    }
    let head = ["jobs", "own share at which 34.49 % is met", "reduction at own share 50 %, %", "with no own errors, %"];
    report.table("Failed jobs avoided (40,000 jobs a point, log-normal sizes, seed 21)", &head, &rows);
    let mut figure = chart(
        "Failed jobs avoided by fault tolerance",
        "share of failures caused by the program, %",
        "fewer failed jobs, %",
        lines,
    );
    figure.levels = vec![(34.49, "published 34.49 %".into())];
    Ok(report.figure("failures-mix", &figure)?)
}
