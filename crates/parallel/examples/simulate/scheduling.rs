//! Gang against elastic scheduling over the offered load.

use super::{Report, chart, spread};
use chandlery_parallel::simulator::figure::Series;
use chandlery_parallel::simulator::scheduling::{Policy, Trace, run as schedule};
use std::error::Error;

const DAY: f64 = 86_400.0;
const SEEDS: u64 = 5;
const POLICIES: [(&str, Policy); 3] =
    [("gang, in order", Policy::GangInOrder), ("gang, first fit", Policy::GangFirstFit), ("elastic", Policy::Elastic)];

/// 1,024 devices, jobs of 1 to 512 devices, runs of six hours in the mean, failures every 50,000 device-hours.
fn trace() -> Trace {
    Trace {
        devices: 1024,
        load: 1.0,
        run: 6.0 * 3600.0,
        spread: 1.2,
        largest: 0.5,
        skew: 0.5,
        least: 0.25,
        scaling: 1.0,
        resize: 60.0,
        mttf: 50_000.0 * 3600.0,
        rollback: 1800.0,
        restart: 600.0,
        repair: DAY,
        horizon: 30.0 * DAY,
        seed: 0,
    }
}

/// Mean over seeds: efficiency in %, queueing hours, completion hours; and the spread of the efficiency.
fn mean(trace: &Trace, policy: Policy) -> Result<[f64; 4], Box<dyn Error>> {
    let mut columns = [const { Vec::new() }; 3];
    for seed in 0..SEEDS {
        let r = schedule(&Trace { seed, ..*trace }, policy)?;
        columns[0].push(100.0 * r.efficiency);
        columns[1].push(r.queueing_hours);
        columns[2].push(r.completion_hours);
    }
    let [efficiency, waits, completions] = columns.map(|c| spread(&c));
    Ok([efficiency.0, waits.0, completions.0, efficiency.1])
}

pub fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    loads(report)?;
    completion(report)?;
    reached(report)
}

fn loads(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut efficiency = vec![Vec::new(); 3];
    let (mut in_order, mut first_fit) = (Vec::new(), Vec::new());
    let (mut waits, mut rows) = (vec![Vec::new(); 3], Vec::new());
    for load in [0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5] {
        let mut row = vec![format!("{load}")];
        let mut at = Vec::new();
        for (i, (_, policy)) in POLICIES.into_iter().enumerate() {
            let got = mean(&Trace { load, ..trace() }, policy)?;
            efficiency[i].push((load, got[0]));
            waits[i].push((load, got[1]));
            row.push(format!("{:.1} ± {:.1}", got[0], got[3]));
            at.push(got);
        }
        in_order.push((load, 100.0 * (at[2][0] / at[0][0] - 1.0)));
        first_fit.push((load, 100.0 * (at[2][0] / at[1][0] - 1.0)));
        row.push(format!("{:+.1}", 100.0 * (at[2][0] / at[0][0] - 1.0)));
        row.push(format!("{:+.1}", 100.0 * (at[2][0] / at[1][0] - 1.0)));
        row.extend(at.iter().map(|got| format!("{:.1}", got[1])));
        rows.push(row);
    }
    let head = [
        "load",
        "gang in order, %",
        "gang first fit, %",
        "elastic, %",
        "elastic over in order, %",
        "over first fit, %",
        "queueing h: in order",
        "first fit",
        "elastic",
    ];
    report.table("Efficiency on 1,024 devices over 30 days (mean and standard deviation of 5 seeds)", &head, &rows);
    let lines = (0..3).map(|i| Series::line(POLICIES[i].0, efficiency[i].clone())).collect();
    report.figure(
        "scheduling-efficiency",
        &chart("Useful over available device-hours, 1,024 devices", "offered load", "efficiency, %", lines),
    )?;
    let whole = Trace { largest: 1.0, ..trace() };
    let even = Trace { skew: 0.0, ..trace() };
    let gains = vec![
        Series::line("over gang in order", in_order),
        Series::line("over gang first fit", first_fit),
        Series::line("jobs up to all: over first fit", gain(&whole, Policy::GangFirstFit)?),
        Series::line("many large jobs: over in order", gain(&even, Policy::GangInOrder)?),
    ];
    let mut figure = chart("What elastic scheduling gains in efficiency", "offered load", "gain, %", gains);
    figure.levels = vec![(33.91, "published 33.91 %".into())];
    Ok(report.figure("scheduling-gain", &figure)?)
}

/// Gain of elastic over `rival` in efficiency, %, against the load.
fn gain(case: &Trace, rival: Policy) -> Result<Vec<(f64, f64)>, Box<dyn Error>> {
    let mut points = Vec::new();
    for load in [0.3, 0.5, 0.7, 0.9, 1.0, 1.2, 1.5] {
        let t = Trace { load, ..*case };
        points.push((load, 100.0 * (mean(&t, Policy::Elastic)?[0] / mean(&t, rival)?[0] - 1.0)));
    }
    Ok(points)
}

/// Mean time from submission to completion of the jobs that complete within the window.
fn completion(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let mut rows = Vec::new();
    for load in [0.3, 0.5, 0.7, 0.8, 0.9, 1.0] {
        let mut hours = Vec::new();
        for (_, policy) in POLICIES {
            hours.push(mean(&Trace { load, ..trace() }, policy)?[2]);
        }
        let less = |rival: usize| format!("{:.1}", 100.0 * (1.0 - hours[2] / hours[rival]));
        let mut row = vec![format!("{load}")];
        row.extend(hours.iter().map(|h| format!("{h:.1}")));
        row.extend([less(0), less(1)]);
        rows.push(row);
    }
    let head = [
        "load",
        "gang in order, h",
        "gang first fit, h",
        "elastic, h",
        "less than in order, %",
        "less than first fit, %",
    ];
    report.table("Hours from submission to completion, same traces", &head, &rows);
    Ok(())
}

/// Least load at which elastic gains 33.91 % over gang in order, for other traces.
fn reached(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let base = trace();
    let cases = [
        ("as above", base),
        ("jobs up to the whole cluster", Trace { largest: 1.0, ..base }),
        ("jobs up to a quarter of it", Trace { largest: 0.25, ..base }),
        ("large jobs as likely as small", Trace { skew: 0.0, ..base }),
        ("large jobs rare (skew 1)", Trace { skew: 1.0, ..base }),
        ("elastic down to a half only", Trace { least: 0.5, ..base }),
        ("failures ten times as often", Trace { mttf: base.mttf / 10.0, ..base }),
        ("no failures", Trace { mttf: f64::INFINITY, ..base }),
    ];
    let mut rows = Vec::new();
    for (name, case) in cases {
        let mut row = vec![name.to_string()];
        for rival in [Policy::GangInOrder, Policy::GangFirstFit] {
            let mut first = None;
            let mut most: f64 = f64::NEG_INFINITY;
            for load in [0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5] {
                let t = Trace { load, ..case };
                let gain = 100.0 * (mean(&t, Policy::Elastic)?[0] / mean(&t, rival)?[0] - 1.0);
                most = most.max(gain);
                if gain >= 33.91 && first.is_none() {
                    first = Some(load);
                }
            }
            row.push(first.map_or("not up to 1.5".into(), |load| format!("{load}")));
            row.push(format!("{most:.1}"));
        }
        rows.push(row);
    }
    let head = ["trace", "load at which +33.91 % over gang in order is met", "most, %", "over first fit", "most, %"];
    report.table("Where elastic scheduling gains 33.91 %", &head, &rows);
    Ok(())
}
