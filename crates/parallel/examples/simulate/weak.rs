//! Weak scaling of ERNIE 260B on modelled clusters.

use super::{Report, chart};
use chandlery_parallel::model::ModelSpec;
use chandlery_parallel::simulator::figure::Series;
use chandlery_parallel::simulator::weak_scaling::{Copy, Point, Variation, run as scale};
use std::error::Error;

const PUBLISHED: f64 = 91.7;

fn copy(tensor: u32, pipeline: u32, micro_batches: u32, zero: u8) -> Copy {
    Copy { tensor, pipeline, micro_batch: 1, micro_batches, zero, overlap: false }
}

fn name(c: &Copy) -> String {
    let zero = if c.zero > 0 { format!(", ZeRO-{}", c.zero) } else { String::new() };
    format!("t{} x p{}, m {}{zero}", c.tensor, c.pipeline, c.micro_batches)
}

/// Configurations of one copy on Ascend 910 (32 GB), and on V100 32 GB.
fn copies() -> Vec<Copy> {
    vec![
        copy(8, 24, 48, 0),
        copy(8, 24, 96, 0),
        copy(8, 24, 192, 0),
        copy(4, 48, 96, 0),
        copy(4, 48, 192, 0),
        copy(8, 48, 96, 0),
        copy(8, 48, 192, 0),
        copy(8, 12, 48, 1),
    ]
}

pub fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    let model = ModelSpec::preset("ernie-260b")?;
    for machine in ["ascend910", "v100-dgx2"] {
        let mut rows = Vec::new();
        let mut lines = Vec::new();
        for c in copies() {
            let devices = c.tensor * c.pipeline;
            let counts: Vec<u32> = [1, 2, 4, 5, 10, 16, 20].iter().map(|n| (n * 192 / devices).max(1)).collect();
            let points = scale(&model, machine, &c, &counts, &Variation::default())?;
            rows.push(row(&c, &points));
            lines.push(Series::line(
                &name(&c),
                points.iter().map(|p| (p.devices as f64, 100.0 * p.efficiency)).collect(),
            ));
        }
        let head = ["copy", "memory used", "s/step (1 copy)", "384", "768", "960", "1,920", "3,072", "3,840"];
        report.table(&format!("Weak scaling of ERNIE 260B on {machine}: efficiency in %"), &head, &rows);
        let title = format!("ERNIE 260B on {machine}: throughput per device over one copy");
        let mut figure = chart(&title, "devices", "efficiency, %", lines);
        figure.levels = vec![(PUBLISHED, "published 91.7 %".into())];
        figure.log_x = true;
        report.figure(&format!("weak-{machine}"), &figure)?;
    }
    sensitivity(report, &model)
}

fn row(c: &Copy, points: &[Point]) -> Vec<String> {
    let mut row = vec![name(c), format!("{:.0} %", 100.0 * points[0].memory), format!("{:.2}", points[0].step_s)];
    for wanted in [384, 768, 960, 1920, 3072, 3840] {
        let found = points.iter().find(|p| p.devices == wanted);
        row.push(found.map_or("-".into(), |p| format!("{:.1}", 100.0 * p.efficiency)));
    }
    row
}

/// Effect of each assumed constant at 1,920 devices.
fn sensitivity(report: &mut Report, model: &ModelSpec) -> Result<(), Box<dyn Error>> {
    let base = Variation::default();
    let varied = [
        ("as assumed", base),
        ("network +25 %", Variation { network: 1.25, ..base }),
        ("network -25 %", Variation { network: 0.75, ..base }),
        ("links in the machine +25 %", Variation { machine: 1.25, ..base }),
        ("links in the machine -25 %", Variation { machine: 0.75, ..base }),
        ("matrix rate +10 %", Variation { matrix: 1.1, ..base }),
        ("matrix rate -10 %", Variation { matrix: 0.9, ..base }),
    ];
    let mut rows = Vec::new();
    for (what, variation) in varied {
        let mut row = vec![what.to_string()];
        for c in [copy(8, 24, 48, 0), copy(8, 24, 96, 0), copy(8, 24, 192, 0)] {
            row.push(format!("{:.1}", 100.0 * scale(model, "ascend910", &c, &[10], &variation)?[0].efficiency));
        }
        rows.push(row);
    }
    let overlapped = [48, 96, 192].map(|m| Copy { overlap: true, ..copy(8, 24, m, 0) });
    let mut row = vec!["gradients reduced during the last backward pass".to_string()];
    for c in overlapped {
        row.push(format!("{:.1}", 100.0 * scale(model, "ascend910", &c, &[10], &base)?[0].efficiency));
    }
    rows.push(row);
    let head = ["constant", "m 48", "m 96", "m 192"];
    report.table("Sensitivity at 1,920 Ascend 910, t8 x p24: efficiency in %", &head, &rows);
    Ok(())
}
