//! What a task sees of the loop during a step.

use crate::group::{assign, fits_any};
use crate::optimiser::Optimiser;
use crate::scalars::{Scalar, Scalars};
use crate::{Error, FitConfig, Loss, Policy, Reducer, Result};
use candle_core::{Tensor, Var};
use chandlery_kernels::Key;
use chandlery_nn::Mode;

/// The loop as a task sees it during one micro-batch.
pub struct StepCx<'a> {
    pub(crate) engine: &'a mut Engine,
    pub(crate) step: u64,
    pub(crate) micro: usize,
    pub(crate) key: Key,
}

impl StepCx<'_> {
    /// Number of this step, from 1.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Number of this micro-batch within the step, from 0.
    pub fn micro(&self) -> usize {
        self.micro
    }

    /// Random key of this micro-batch: a function of seed, step and micro-batch.
    pub fn key(&self) -> Key {
        self.key
    }

    /// Training mode with a key of its own for dropout.
    pub fn mode(&self) -> Mode {
        Mode::Train(self.key.named("dropout"))
    }

    /// Factor on the configured dropout, 1 unless the run grows it (see [`Growth`](crate::Growth)).
    pub fn dropout_factor(&self) -> f64 {
        self.engine.config.growth.map_or(1.0, |g| g.dropout_factor(self.step))
    }

    /// Backward through `loss`; after the last micro-batch of the step also reduction over ranks, the check for NaN and
    /// spikes, clipping, and the update of the group's parameters at the scheduled learning rate.
    ///
    /// Records `loss`, `grad_norm` and `lr`, followed by `.group` where there are several groups.
    ///
    /// # Errors
    /// If the group does not exist, the loss has no graph, or a value is not finite and the policy is to stop.
    pub fn update(&mut self, group: &str, loss: Loss) -> Result<()> {
        self.engine.update(self.step, self.micro, &[group], loss)
    }

    /// As [`update`](Self::update) for several groups that share a loss and one backward pass, such as matrices and the
    /// rest, or backbone and head.
    ///
    /// # Errors
    /// As [`update`](Self::update).
    pub fn update_groups(&mut self, groups: &[&str], loss: Loss) -> Result<()> {
        self.engine.update(self.step, self.micro, groups, loss)
    }

    /// Names of the configured groups, in order.
    pub fn groups(&self) -> Vec<String> {
        self.engine.groups.iter().map(|g| g.name.clone()).collect()
    }

    /// Records a named number; a tensor is fetched after the step, and only where it is written.
    pub fn scalar(&mut self, name: &str, value: impl Into<Scalar>) {
        self.engine.scalars.add(name, value.into());
    }

    /// Counts tokens for the speed shown; without it, items are counted.
    pub fn tokens(&mut self, n: usize) {
        self.engine.tokens += n as u64;
    }
}

/// How a step ended.
pub(crate) enum Ended {
    /// All groups were updated, or skipped for these reasons.
    Done(Vec<Error>),
    /// The run is to go back to a checkpoint.
    Rewind(Error),
}

/// Everything that changes parameters.
pub(crate) struct Engine {
    pub config: FitConfig,
    pub groups: Vec<Optimiser>,
    pub scalars: Scalars,
    pub tokens: u64,
    pub reducer: Box<dyn Reducer>,
    skipped: Vec<Error>,
    rewind: Option<Error>,
    updated: Vec<(u64, usize)>,
    buffers: Vec<(String, Var)>,
    /// The buffers before the step.
    before: Vec<Tensor>,
}

impl Engine {
    pub fn new(
        config: &FitConfig,
        vars: &[(String, Var)],
        buffers: Vec<(String, Var)>,
        reducer: Box<dyn Reducer>,
    ) -> Result<Self> {
        let names: Vec<&str> = vars.iter().map(|(name, _)| name.as_str()).collect();
        let mut groups = Vec::new();
        for (name, members) in assign(&config.groups, &config.frozen, &names)? {
            let members = members.into_iter().map(|at| vars[at].clone()).collect();
            groups.push(Optimiser::new(&name, &config.groups[&name], members)?);
        }
        let updated = vec![(0, 0); groups.len()];
        let config = config.clone();
        let scalars = Scalars::default();
        let (skipped, rewind, before) = (vec![], None, vec![]);
        Ok(Self { config, groups, scalars, tokens: 0, reducer, skipped, rewind, updated, buffers, before })
    }

    /// Makes ready for the first micro-batch of a step.
    pub fn begin_step(&mut self) -> Result<()> {
        self.scalars.clear();
        let copies = self.buffers.iter().map(|(_, var)| var.as_detached_tensor().copy());
        self.before = copies.collect::<candle_core::Result<_>>()?;
        Ok(())
    }

    /// Takes back what the forward passes of a bad step did to buffers: the values that made it bad are in running
    /// statistics too.
    fn undo_buffers(&mut self) -> Result<()> {
        for ((_, var), before) in self.buffers.iter().zip(self.before.drain(..)) {
            var.set(&before)?;
        }
        Ok(())
    }

    /// Gives every rank the mean of all ranks' buffers; each has seen other data.
    fn reduce_buffers(&mut self) -> Result<()> {
        let ranks = self.reducer.ranks();
        if ranks == 1 || self.buffers.is_empty() {
            return Ok(());
        }
        let mut values: Vec<Tensor> = self.buffers.iter().map(|(_, var)| var.as_detached_tensor()).collect();
        self.reducer.sum("(buffers)", &mut values, &mut [])?;
        for ((_, var), sum) in self.buffers.iter().zip(values) {
            var.set(&(sum / ranks as f64)?)?;
        }
        Ok(())
    }

    fn update(&mut self, step: u64, micro: usize, groups: &[&str], loss: Loss) -> Result<()> {
        let misuse = |what: String| Err(Error::Misuse { step, what });
        let mut at = Vec::with_capacity(groups.len());
        for group in groups {
            let Some(found) = self.groups.iter().position(|g| g.name == *group) else {
                let known: Vec<&str> = self.groups.iter().map(|g| g.name.as_str()).collect();
                return misuse(format!("no parameter group {group}; there are: {}", known.join(", ")));
            };
            if !loss.sum.track_op() {
                return misuse(format!("the loss of group {group} depends on no parameter"));
            }
            if self.config.accumulate > 1 && self.updated[found] == (step, micro) || at.contains(&found) {
                return misuse(format!("group {group} is updated twice in a micro-batch while gradients accumulate"));
            }
            self.updated[found] = (step, micro);
            at.push(found);
        }
        if self.rewind.is_some() {
            return Ok(());
        }
        let grads = chandlery_kernels::backward(&loss.sum)?;
        // The graph with its activations is freed before the update.
        let loss = Loss { sum: loss.sum.detach(), count: loss.count };
        at.iter().try_for_each(|&at| self.groups[at].accumulate(loss.clone(), &grads))?;
        drop(grads);
        let last = micro + 1 == self.config.accumulate;
        at.into_iter().filter(|_| last).try_for_each(|at| self.apply(at, step))
    }

    /// Judges the window of a group and makes its update.
    fn apply(&mut self, at: usize, step: u64) -> Result<()> {
        let several = self.groups.len() > 1;
        let group = &mut self.groups[at];
        let Some(window) = group.close(&mut *self.reducer)? else { return Ok(()) };
        let lr = self.config.lr_at(&group.config, step);
        for (name, value) in [("loss", window.loss), ("grad_norm", window.norm), ("lr", lr)] {
            let name = if several { format!("{name}.{}", group.name) } else { name.to_string() };
            self.scalars.add(&name, value.into());
        }
        let judged = group.guard.judge(&self.config.guard, (step, &group.name), window.loss, window.norm);
        let Some((policy, mut cause)) = judged else { return group.apply(&window, lr) };
        if let (Error::NotFinite { what, .. }, Some(name)) = (&mut cause, group.culprit(&window)) {
            what.push_str(&format!(" (first of parameter {name})"));
        }
        match policy {
            Policy::Stop => {
                self.undo_buffers()?;
                return Err(cause);
            }
            Policy::Skip => self.skipped.push(cause),
            Policy::Rewind => self.rewind = Some(cause),
        }
        Ok(())
    }

    /// Ends a step: groups that were not updated in its last micro-batch are updated now.
    pub fn end_step(&mut self, step: u64) -> Result<Ended> {
        if self.updated.iter().all(|(at, _)| *at != step) {
            return Err(Error::Misuse { step, what: "the task called update for no group".into() });
        }
        for at in 0..self.groups.len() {
            if self.rewind.is_none() && self.groups[at].is_pending() {
                self.apply(at, step)?;
            }
        }
        match self.rewind.take() {
            Some(cause) => {
                self.groups.iter_mut().for_each(Optimiser::clear);
                self.skipped.clear();
                Ok(Ended::Rewind(cause))
            }
            None => {
                if !self.skipped.is_empty() {
                    self.undo_buffers()?;
                }
                self.reduce_buffers()?;
                Ok(Ended::Done(std::mem::take(&mut self.skipped)))
            }
        }
    }

    /// Checks that every parameter has received a gradient in the first `steps` steps.
    pub fn check_reach(&self, steps: u64) -> Result<()> {
        let members = self.groups.iter().flat_map(|g| &g.members);
        let missing = members.filter(|m| !m.reached && !fits_any(&self.config.reach.allow, &m.name));
        let names: Vec<String> = missing.map(|m| m.name.clone()).collect();
        if names.is_empty() { Ok(()) } else { Err(Error::Unreached { names, steps }) }
    }
}
