//! The loop.

use crate::checkpoint::Checkpoint;
use crate::ema::Ema;
use crate::loader::{Loader, Route};
use crate::session::{Parts, Session, restore};
use crate::state::{Best, State};
use crate::step::{Ended, Engine};
use crate::{Error, FitConfig, Meters, Params, Policy, Result, Run, Source, StepCx, Task};
use chandlery_kernels::Key;
use serde_json::json;
use std::collections::BTreeMap;

/// How a run ended; each way leaves a checkpoint of its last step.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Outcome {
    /// All steps are done.
    Finished(Summary),
    /// The best evaluation stayed unbeaten for the configured time.
    EarlyStopped(Summary),
    /// The run was asked to end; resume it to go on.
    Interrupted(Summary),
}

impl Outcome {
    /// Where the run stands.
    pub fn summary(&self) -> &Summary {
        match self {
            Self::Finished(s) | Self::EarlyStopped(s) | Self::Interrupted(s) => s,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// Steps made since the start of the run.
    pub step: u64,
    /// The last numbers written by this process.
    pub scalars: BTreeMap<String, f64>,
    /// The last evaluation of this process.
    pub eval: Meters,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Seconds this process worked.
    pub seconds: f64,
}

/// Trains `task` on `source` until `config.steps`, or goes on with the run in `run`'s directory.
///
/// Bit for bit, m steps + stop + resume + n steps give what m + n steps give on a CPU: parameters, optimiser state,
/// random draws, place in the data, the task's own state and `events.jsonl`.
///
/// # Errors
/// If configuration, parameters or run directory are not as they must be, the task or the source fails, or a step goes
/// wrong and the policy is to stop. The checkpoints written so far stay.
pub fn fit<T, P, S>(task: &mut T, params: &P, source: &S, config: &FitConfig, mut run: Run) -> Result<Outcome>
where
    T: Task,
    P: Params + ?Sized,
    S: Source<Batch = T::Batch>,
{
    config.validate()?;
    if source.n_items() == 0 {
        return Err(Error::config("(data)", "the source has no items"));
    }
    let (vars, buffers) = (params.named_vars(), params.named_buffers());
    let untrained = [params.named_frozen(), buffers.clone()].concat();
    let model = [&vars[..], &untrained].concat();
    let (dir, changes) = run.begin(config, &source.fingerprint())?;
    let mut engine = Engine::new(config, &vars, buffers, run.reducer)?;
    let mut ema = config.ema.as_ref().map(|ema| Ema::new(ema, &vars, &untrained)).transpose()?;
    let (saved, damaged) = Checkpoint::newest(&dir)?;
    let mark = saved.as_ref().map(|c| &c.state.events);
    let mut session = Session::open(dir, run.progress, run.interrupt, mark, run.accept_changes)?;
    let mut state = match saved {
        Some(checkpoint) => {
            let state = restore(checkpoint, task, &model, &mut engine, ema.as_mut())?;
            session.time(json!({"step": state.step, "resumed": true}))?;
            state
        }
        None => State::default(),
    };
    for error in damaged {
        session.time(json!({"step": state.step, "damaged": error.to_string()}))?;
        session.tell(state.step, "damaged", &format!("{error}; going on from step {}", state.step))?;
    }
    for change in changes {
        session.tell(state.step, "changed", &change)?;
    }
    if state.step == 0 && [config.guard.not_finite, config.guard.spike].contains(&Policy::Rewind) {
        session.save(&mut state, &Parts { model: &model, engine: &engine, ema: ema.as_ref() }, task.save_extra())?;
    }

    let key = Key::new(config.seed);
    let (rank, ranks) = (engine.reducer.rank(), engine.reducer.ranks());
    let route = Route { config, key, rank, ranks };
    let (first, mut summary) = (state.step, Summary::default());
    session.progress.begin(state.step, config.steps);
    std::thread::scope(|scope| {
        let mut loader = Loader::start(scope, source, route, state.step, state.cursor);
        let mut stopped = config.patience > 0 && state.stale >= config.patience;
        let mut interrupted = false;
        while state.step < config.steps && !stopped && !interrupted {
            let step = state.step + 1;
            engine.begin_step()?;
            for micro in 0..config.accumulate {
                let loaded = loader.next(step, micro)?;
                let key = key.named("step").at(step).at(micro as u64).at(rank as u64);
                task.step(&loaded.batch, &mut StepCx { engine: &mut engine, step, micro, key })?;
                state.cursor = loaded.next;
                session.count(loaded.n_items);
            }
            match engine.end_step(step)? {
                Ended::Done(skipped) => {
                    skipped.iter().try_for_each(|cause| session.tell(step, "skip", &cause.to_string()))?;
                }
                Ended::Rewind(cause) => {
                    let (cursor, rewinds) = (state.cursor, state.rewinds + 1);
                    if rewinds > config.guard.max_rewinds {
                        return Err(Error::TooManyRewinds { step, rewinds: state.rewinds, cause: Box::new(cause) });
                    }
                    let (Some(saved), _) = Checkpoint::newest(&session.dir)? else { return Err(cause) };
                    let back = restore(saved, task, &model, &mut engine, ema.as_mut())?;
                    state = State { cursor, rewinds, ..back };
                    session.tell(step, "rewind", &format!("to step {}: {cause}", state.step))?;
                    loader = Loader::start(scope, source, route, state.step, state.cursor);
                    continue;
                }
            }
            state.step = step;
            let last = step == config.steps;
            if let Some(ema) = &mut ema {
                ema.update(step)?;
            }
            if step == first + config.reach.within {
                engine.check_reach(config.reach.within)?;
            }
            if step % config.log_every == 0 || step == 1 || last {
                summary.scalars = engine.scalars.fetch()?;
                session.train(step, &summary.scalars, std::mem::take(&mut engine.tokens))?;
            }
            let mut improved = false;
            if config.eval_every > 0 && (step % config.eval_every == 0 || last) {
                summary.eval = evaluate(task, source, ema.as_mut())?;
                session.eval(step, &summary.eval)?;
                improved = note_best(config, &mut state, &summary.eval)?;
                stopped = config.patience > 0 && state.stale >= config.patience;
            }
            interrupted = session.interrupt.is_raised();
            let due = config.save_every > 0 && step % config.save_every == 0;
            if due || improved || last || stopped || interrupted {
                let parts = Parts { model: &model, engine: &engine, ema: ema.as_ref() };
                session.save(&mut state, &parts, task.save_extra())?;
            }
            session.progress.advance(step);
        }
        session.progress.end();
        (summary.step, summary.best, summary.seconds) = (state.step, state.best, session.seconds());
        Ok(match () {
            () if stopped => Outcome::EarlyStopped(summary),
            () if state.step < config.steps => Outcome::Interrupted(summary),
            () => Outcome::Finished(summary),
        })
    })
}

/// Runs the task over all held-out batches.
fn evaluate<T: Task, S: Source<Batch = T::Batch>>(task: &T, source: &S, ema: Option<&mut Ema>) -> Result<Meters> {
    let measure = || {
        let mut meters = Meters::default();
        for index in 0..source.n_eval() {
            task.eval(&source.eval_batch(index)?, &mut meters)?;
        }
        Ok(meters)
    };
    match ema {
        Some(ema) => ema.with(measure),
        None => measure(),
    }
}

/// Compares an evaluation with the best so far; true where it is better.
fn note_best(config: &FitConfig, state: &mut State, meters: &Meters) -> Result<bool> {
    let Some(best) = &config.best else { return Ok(false) };
    let missing = || Error::config("best.meter", format!("the evaluation has no meter called {}", best.meter));
    let value = meters.mean(&best.meter).ok_or_else(missing)?;
    let better = |old: f64| if best.larger { value > old } else { value < old };
    let improved = value.is_finite() && state.best.is_none_or(|old| better(old.value));
    if improved {
        state.best = Some(Best { step: state.step, value });
        state.stale = 0;
    } else {
        state.stale += 1;
    }
    Ok(improved)
}
