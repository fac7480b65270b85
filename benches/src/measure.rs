//! Times of one workload in a process of its own.

use serde_json::{Value, json};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Something to measure; `prepare` returns the closure that is timed.
pub struct Workload {
    /// What `--only` selects by.
    pub name: String,
    /// Timed repetitions at least, after two that are not; more where they do not fill [`AT_LEAST_MS`].
    pub repeats: usize,
    /// What one repetition works off.
    #[allow(dead_code, reason = "read by the criterion benches, which include this file")]
    pub work: Work,
    /// Sets everything up.
    pub prepare: Box<dyn FnOnce() -> candle_core::Result<Step>>,
}

/// Milliseconds that the repetitions of a workload fill: short ones would see the processor on its way to its clock only.
const AT_LEAST_MS: f64 = 500.0;

/// An amount of work.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "read by the criterion benches, which include this file")]
pub enum Work {
    /// Values of the first input; zero where nobody counts.
    Values(u64),
    /// Floating point operations.
    Flops(u64),
}

/// One repetition.
pub type Step = Box<dyn FnMut() -> candle_core::Result<()> + Send>;

impl Workload {
    pub fn new(
        name: impl Into<String>,
        repeats: usize,
        prepare: impl FnOnce() -> candle_core::Result<Step> + 'static,
    ) -> Self {
        Self { name: name.into(), repeats, work: Work::Values(0), prepare: Box::new(prepare) }
    }

    /// The same, which works off `work`.
    pub fn with_work(self, work: Work) -> Self {
        Self { work, ..self }
    }
}

/// Measures in this process and prints one JSON line.
pub fn child(workload: Workload, threads: usize) -> Result<(), String> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
    pool.map_err(|e| e.to_string())?;
    let fail = |e: candle_core::Error| format!("{}: {e}", workload.name);
    let mut step = (workload.prepare)().map_err(fail)?;
    let mut times: Vec<f64> = Vec::new();
    for _ in 0..2 {
        step().map_err(fail)?;
    }
    while times.len() < workload.repeats || times.iter().sum::<f64>() < AT_LEAST_MS {
        let start = Instant::now();
        step().map_err(fail)?;
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let line = json!({
        "name": workload.name,
        "ms": times[times.len() / 2],
        "min_ms": times[0],
        "threads": threads,
        "peak_mb": peak_mb(),
    });
    super::peers::Table::new(true).line(&line.to_string());
    Ok(())
}

/// Largest resident size so far, in MiB; 0 where the system does not say.
fn peak_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kb: f64 = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0.0);
    (kb / 1024.0).round()
}

/// Runs one workload in a child process and returns its line.
pub fn spawn(suite: &str, name: &str, threads: usize) -> Result<Value, String> {
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let threads_text = threads.to_string();
    let args = [suite, "--child", "--only", name, "--threads", &threads_text];
    let mut command = Command::new(program);
    command.args(args).env("RAYON_NUM_THREADS", &threads_text);
    last_json(&mut command, name)
}

/// What several rounds of one workload say together: the median of their medians, the least time, the most memory.
pub fn together(mut rounds: Vec<Value>) -> Value {
    let number = |v: &Value, key: &str| v[key].as_f64().unwrap_or(f64::NAN);
    rounds.sort_by(|a, b| number(a, "ms").total_cmp(&number(b, "ms")));
    let least = rounds.iter().map(|v| number(v, "min_ms")).fold(f64::INFINITY, f64::min);
    let most = rounds.iter().map(|v| number(v, "peak_mb")).fold(0.0, f64::max);
    let mut all = rounds.swap_remove(rounds.len() / 2);
    all["min_ms"] = json!(least);
    all["peak_mb"] = json!(most);
    all
}

/// Runs a command and parses the last line it prints.
pub fn last_json(command: &mut Command, name: &str) -> Result<Value, String> {
    let out = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().map_err(|e| format!("{name}: {e}"))?;
    if !out.status.success() {
        return Err(format!("{name}: {}", out.status));
    }
    let text = String::from_utf8_lossy(&out.stdout);
    let line = text.lines().last().unwrap_or_default();
    serde_json::from_str(line).map_err(|e| format!("{name}: {e} in `{line}`"))
}
