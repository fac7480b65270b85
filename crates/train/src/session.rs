//! The files and the screen of a run that is going on.

use crate::checkpoint::{Checkpoint, Tensors};
use crate::ema::Ema;
use crate::events::{Events, Mark, numbers};
use crate::run_dir::RunDir;
use crate::state::{GroupState, State};
use crate::step::Engine;
use crate::{Error, Extra, Interrupt, Meters, Progress, Result, Task};
use candle_core::Var;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::time::Instant;

/// Everything that reports on a run and keeps it.
pub(crate) struct Session {
    pub dir: RunDir,
    events: Events,
    /// What depends on the machine and the moment: `timing.jsonl`.
    timing: File,
    pub progress: Progress,
    pub interrupt: Interrupt,
    begun: Instant,
    last: Instant,
    items: u64,
}

impl Session {
    /// Opens the event files: after `mark` where the run goes on, empty where it starts. Damaged events are set aside
    /// where `accept` says so.
    pub fn open(
        dir: RunDir,
        progress: Progress,
        interrupt: Interrupt,
        mark: Option<&Mark>,
        accept: bool,
    ) -> Result<Self> {
        let path = dir.file("events.jsonl");
        let events = match mark.map(|mark| Events::reopen(&path, mark)) {
            None => Events::create(&path)?,
            Some(Err(Error::Damaged { .. })) if accept => {
                dir.disk.rename(&path, &dir.file("events.damaged.jsonl")).map_err(Error::io(&path))?;
                Events::create(&path)?
            }
            Some(reopened) => reopened?,
        };
        let path = dir.file("timing.jsonl");
        let timing = OpenOptions::new().create(true).append(true).open(&path).map_err(Error::io(path))?;
        let now = Instant::now();
        Ok(Self { dir, events, timing, progress, interrupt, begun: now, last: now, items: 0 })
    }

    /// Writes an event and says it.
    pub fn tell(&mut self, step: u64, kind: &str, what: &str) -> Result<()> {
        let fields = Map::from_iter([("what".to_string(), json!(what))]);
        self.events.write(step, kind, fields)?;
        self.progress.note(&format!("step {step}: {kind}: {what}"))
    }

    /// Counts the items of a batch for the speed.
    pub fn count(&mut self, items: usize) {
        self.items += items as u64;
    }

    /// Writes and shows the numbers of a step.
    pub fn train(&mut self, step: u64, scalars: &BTreeMap<String, f64>, tokens: u64) -> Result<()> {
        self.events.write(step, "train", numbers(scalars))?;
        let (unit, amount) = if tokens > 0 { ("tokens", tokens) } else { ("items", self.items) };
        let speed = amount as f64 / self.last.elapsed().as_secs_f64().max(1e-9);
        self.last = Instant::now();
        self.items = 0;
        self.time(json!({"step": step, "seconds": self.seconds(), "per_second": speed, "unit": unit}))?;
        self.progress.step(step, scalars, &format!("{speed:.0} {unit}/s"))
    }

    /// Writes and shows an evaluation.
    pub fn eval(&mut self, step: u64, meters: &Meters) -> Result<()> {
        let means = meters.means();
        self.events.write(step, "eval", numbers(&means))?;
        let eval = json!({"step": step, "meters": numbers(&means)});
        self.dir.write("eval.json", &format!("{eval:#}\n"))?;
        let shown: Vec<String> = means.iter().map(|(name, value)| format!("{name} {value:.5}")).collect();
        self.progress.note(&format!("step {step}: eval: {}", shown.join("  ")))
    }

    /// Writes a line about the machine or the moment.
    pub fn time(&mut self, line: Value) -> Result<()> {
        writeln!(self.timing, "{line}").map_err(Error::io(self.dir.file("timing.jsonl")))
    }

    /// Seconds since this process took up the run.
    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Saves everything as `ckpt/step-N`, then removes checkpoints that are not to be kept.
    pub fn save(&mut self, state: &mut State, run: &Parts<'_>, extra: Extra) -> Result<()> {
        let of = |g: &crate::optimiser::Optimiser| (g.name.clone(), GroupState { t: g.t, guard: g.guard.clone() });
        state.groups = run.engine.groups.iter().map(of).collect();
        state.events = self.events.mark()?;
        state.extra = extra.values;
        let mut tensors = BTreeMap::new();
        tensors.insert("params", run.model.iter().map(|(n, v)| (n.clone(), v.as_detached_tensor())).collect());
        tensors.insert("optim", run.engine.groups.iter().flat_map(|g| g.save()).collect::<Tensors>());
        if let Some(ema) = run.ema {
            tensors.insert("ema", ema.save());
        }
        if !extra.tensors.is_empty() {
            tensors.insert("extra", extra.tensors);
        }
        Checkpoint { state: state.clone(), tensors }.save(&self.dir)?;
        self.time(
            json!({"step": state.step, "saved": format!("ckpt/step-{}", state.step), "seconds": self.seconds()}),
        )?;
        self.dir.prune(run.engine.config.keep_last, state.best.map(|b| b.step))
    }
}

/// The parts of a run that a checkpoint holds.
pub(crate) struct Parts<'a> {
    /// Trained or not.
    pub model: &'a [(String, Var)],
    pub engine: &'a Engine,
    pub ema: Option<&'a Ema>,
}

/// Puts a checkpoint into the parts of a run.
///
/// # Errors
/// If names or shapes differ; then no parameter was changed.
pub(crate) fn restore<T: Task>(
    mut checkpoint: Checkpoint,
    task: &mut T,
    model: &[(String, Var)],
    engine: &mut Engine,
    ema: Option<&mut Ema>,
) -> Result<State> {
    let params = checkpoint.take("params");
    for (name, var) in model {
        let wrong = |what: String| Error::Parameter { name: name.clone(), what };
        let saved = params.get(name).ok_or_else(|| wrong("the checkpoint lacks it".into()))?;
        if saved.dims() != var.dims() {
            let (have, found) = (var.dims(), saved.dims());
            return Err(wrong(format!("expected shape {have:?}, found {found:?} in the checkpoint")));
        }
    }
    let known = |name: &String| model.iter().any(|(n, _)| n == name);
    if let Some(name) = params.keys().find(|name| !known(name)) {
        return Err(Error::Parameter { name: name.clone(), what: "is in the checkpoint but not in the model".into() });
    }
    let optim = checkpoint.take("optim");
    for group in &mut engine.groups {
        group.load(&optim)?;
        let saved = checkpoint.state.groups.remove(&group.name);
        let missing = || Error::config(format!("groups.{}", group.name), "the checkpoint lacks this group");
        let saved = saved.ok_or_else(missing)?;
        (group.t, group.guard) = (saved.t, saved.guard);
    }
    for (name, var) in model {
        var.set(&params[name].to_device(var.device())?.to_dtype(var.dtype())?)?;
    }
    if let Some(ema) = ema {
        ema.load(&checkpoint.take("ema"))?;
    }
    let tensors = checkpoint.take("extra");
    let extra = Extra { values: std::mem::take(&mut checkpoint.state.extra), tensors };
    task.load_extra(&extra)?;
    Ok(checkpoint.state)
}
