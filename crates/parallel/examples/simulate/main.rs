//! Runs all simulations and writes their figures (SVG) and tables (Markdown) into a folder:
//!
//! `cargo xtask simulate`, or `cargo run -p chandlery-parallel --example simulate -- FOLDER`
//!
//! Everything but the last table (run times) is the same on every machine.

mod failures;
mod recommender;
mod scheduling;
mod speed;
mod weak;

use chandlery_parallel::simulator::figure::{Chart, Series};
use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// Where figures go, and the tables collected so far.
struct Report {
    folder: PathBuf,
    tables: String,
}

impl Report {
    fn figure(&self, name: &str, chart: &Chart) -> std::io::Result<()> {
        std::fs::write(self.folder.join(format!("{name}.svg")), chart.svg())
    }

    fn table(&mut self, title: &str, head: &[&str], rows: &[Vec<String>]) {
        let rule = vec!["---"; head.len()].join("|");
        let _ = writeln!(self.tables, "\n## {title}\n\n|{}|\n|{rule}|", head.join("|"));
        for row in rows {
            let _ = writeln!(self.tables, "|{}|", row.join("|"));
        }
    }
}

/// A chart without reference lines.
fn chart(title: &str, x_label: &str, y_label: &str, series: Vec<Series>) -> Chart {
    let (title, x_label, y_label) = (title.into(), x_label.into(), y_label.into());
    Chart { title, x_label, y_label, series, levels: Vec::new(), log_x: false }
}

/// Mean and standard deviation.
fn spread(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
    (mean, variance.sqrt())
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "docs/results/simulator".into());
    std::fs::create_dir_all(Path::new(&folder))?;
    let head = "# Tables of the simulations\n\nWritten by `cargo xtask simulate`.\n";
    let mut report = Report { folder: folder.into(), tables: head.into() };
    weak::run(&mut report)?;
    recommender::run(&mut report)?;
    failures::run(&mut report)?;
    scheduling::run(&mut report)?;
    speed::run(&mut report)?;
    std::fs::write(report.folder.join("tables.md"), &report.tables)?;
    Ok(())
}
