//! The same work in PyTorch, and the table that puts both side by side.

use crate::measure;
use serde_json::Value;
use std::io::Write;
use std::process::Command;

/// Runs the peer's form of a workload with the interpreter that `PEER_PYTHON` names.
pub fn spawn(suite: &str, name: &str, threads: usize) -> Result<Value, String> {
    let python = std::env::var("PEER_PYTHON")
        .map_err(|_| "PEER_PYTHON is not set; `cargo xtask bench .. --peers` makes an environment".to_string())?;
    let script = format!("{}/peers/{suite}.py", env!("CARGO_MANIFEST_DIR"));
    let threads = threads.to_string();
    let mut command = Command::new(python);
    command.args([&script, name, &threads]).env("OMP_NUM_THREADS", &threads).env("MKL_NUM_THREADS", &threads);
    measure::last_json(&mut command, name)
}

/// The peers of `images`, as their script wants them after a workload's name.
pub const IMAGE_ROUTES: [&str; 2] = ["@pillow", "@torchvision"];

/// Prints results as JSON lines or as a table.
pub struct Table {
    json: bool,
    headed: bool,
}

impl Table {
    pub fn new(json: bool) -> Self {
        Self { json, headed: false }
    }

    /// One line to standard output.
    pub fn line(&self, text: &str) {
        // A closed pipe ends the reader's interest, not the measurement.
        let _ = writeln!(std::io::stdout(), "{text}");
    }

    /// Prints one workload and returns both sides as one object.
    pub fn row(&mut self, ours: &Value, theirs: Option<&Value>) -> Value {
        let both = merged(ours, theirs);
        if self.json {
            self.line(&both.to_string());
            return both;
        }
        if !self.headed {
            self.headed = true;
            self.line("| workload | ms (min) | MB | PyTorch ms (min) | MB | PyTorch / ours |");
            self.line("|---|---:|---:|---:|---:|---:|");
        }
        let name = ours["name"].as_str().unwrap_or("?");
        let own = columns(ours);
        let peer = theirs.map_or(" | | |".to_string(), |t| format!("{} {:.2} |", columns(t), ratio(ours, t)));
        self.line(&format!("| {name} |{own}{peer}"));
        both
    }

    /// Prints images a second (median, the best repetition in brackets) beside those of each of [`IMAGE_ROUTES`].
    pub fn rates(&mut self, ours: &Value, theirs: &[Value]) {
        let all = || std::iter::once(ours).chain(theirs);
        if self.json {
            return all().for_each(|v| self.line(&v.to_string()));
        }
        if !self.headed {
            self.headed = true;
            self.line("| workload | images/s (best) | Pillow | torchvision | / Pillow | / torchvision |");
            self.line("|---|---:|---:|---:|---:|---:|");
        }
        let rates: String =
            all().map(|v| format!(" {:.0} ({:.0}) |", rate(ours, v, false), rate(ours, v, true))).collect();
        let ratios: String = theirs.iter().map(|v| format!(" {:.2} |", ratio(ours, v))).collect();
        self.line(&format!("| {} |{rates}{ratios}", ours["name"].as_str().unwrap_or("?")));
    }
}

/// Images a second from a workload's time and the number its name ends with; of the best repetition where `best`.
fn rate(ours: &Value, of: &Value, best: bool) -> f64 {
    let images = ours["name"].as_str().and_then(|name| name.rsplit('-').next()?.parse::<f64>().ok());
    let ms = of[if best { "min_ms" } else { "ms" }].as_f64();
    images.zip(ms).map_or(f64::NAN, |(n, ms)| n / ms * 1e3)
}

fn columns(v: &Value) -> String {
    let f = |key: &str| v[key].as_f64().unwrap_or(f64::NAN);
    format!(" {:.3} ({:.3}) | {:.0} |", f("ms"), f("min_ms"), f("peak_mb"))
}

fn ratio(ours: &Value, theirs: &Value) -> f64 {
    theirs["ms"].as_f64().unwrap_or(f64::NAN) / ours["ms"].as_f64().unwrap_or(f64::NAN)
}

fn merged(ours: &Value, theirs: Option<&Value>) -> Value {
    let mut all = ours.clone();
    if let Some(t) = theirs {
        all["peer"] = Value::from(t["version"].as_str().unwrap_or("torch"));
        for key in ["ms", "min_ms", "peak_mb"] {
            all[format!("peer_{key}")] = t[key].clone();
        }
        all["ratio"] = Value::from(ratio(ours, t));
    }
    all
}

/// One line to standard error.
pub fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "{message}");
}
