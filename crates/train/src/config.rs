//! Settings of a run.

use crate::{Error, GroupConfig, Growth, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of [`fit`](crate::fit); unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FitConfig {
    /// Seed of every random draw of the run.
    pub seed: u64,
    /// Optimiser steps.
    pub steps: u64,
    /// Items per micro-batch (and rank).
    pub batch: usize,
    /// Micro-batches per step.
    pub accumulate: usize,
    /// Shuffle the items anew in every epoch.
    pub shuffle: bool,
    /// Batches made ahead by the loader's thread.
    pub prefetch: usize,
    /// Parameters that are not trained, by pattern.
    pub frozen: Vec<String>,
    /// Write scalars every this many steps.
    pub log_every: u64,
    /// Evaluate every this many steps and after the last; 0: never.
    pub eval_every: u64,
    /// Save every this many steps and after the last; 0: only after the last and on interrupt.
    pub save_every: u64,
    /// Checkpoints kept, beside the best.
    pub keep_last: usize,
    /// The measurement that says which checkpoint is best.
    pub best: Option<BestConfig>,
    /// End the run when the best measurement stays unbeaten for this many evaluations; 0: never.
    pub patience: u64,
    /// What to do about NaN, infinities and spikes.
    pub guard: GuardConfig,
    /// Which parameters must receive a gradient, and how soon.
    pub reach: ReachConfig,
    /// Exponential moving average of the parameters.
    pub ema: Option<EmaConfig>,
    /// Growth of sequence length, batch, learning rate and dropout over the first steps.
    pub growth: Option<Growth>,
    /// Parameter groups by name.
    pub groups: BTreeMap<String, GroupConfig>,
}

impl Default for FitConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            steps: 1000,
            batch: 32,
            accumulate: 1,
            shuffle: true,
            prefetch: 2,
            frozen: vec![],
            log_every: 10,
            eval_every: 0,
            save_every: 0,
            keep_last: 2,
            best: None,
            patience: 0,
            guard: GuardConfig::default(),
            reach: ReachConfig::default(),
            ema: None,
            growth: None,
            groups: BTreeMap::new(),
        }
    }
}

/// Which evaluation result is the best.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestConfig {
    /// Name of the meter.
    pub meter: String,
    /// Whether larger is better.
    #[serde(default)]
    pub larger: bool,
}

/// What to do when a step goes wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// End the run with an error; the last checkpoint stays.
    #[default]
    Stop,
    /// Leave the parameters as they are and go on.
    Skip,
    /// Go back to the newest checkpoint and go on with the data that come next (Chowdhery et al., arXiv 2204.02311, 5.1).
    Rewind,
}

/// Watch over losses and gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardConfig {
    /// For a loss or gradient norm that is NaN or infinite.
    pub not_finite: Policy,
    /// For a loss or gradient norm far above its recent values.
    pub spike: Policy,
    /// A spike lies this many standard deviations above the mean of the window; 0: spikes are not looked for.
    pub spike_z: f64,
    /// Number of recent values.
    pub window: usize,
    /// The run ends when it went back this often.
    pub max_rewinds: u64,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self { not_finite: Policy::Stop, spike: Policy::Skip, spike_z: 0.0, window: 128, max_rewinds: 3 }
    }
}

/// Watch over parameters without gradient.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReachConfig {
    /// Every parameter of a group must receive a gradient within this many steps; 0: not checked.
    pub within: u64,
    /// Patterns of parameters that need not.
    pub allow: Vec<String>,
}

impl Default for ReachConfig {
    fn default() -> Self {
        Self { within: 20, allow: vec![] }
    }
}

/// Exponential moving average of the parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmaConfig {
    /// Share of the old average that is kept at each step.
    pub decay: f64,
    /// Early steps keep at most `(1 + step) / (10 + step)`.
    #[serde(default)]
    pub warmup: bool,
    /// Evaluate the average instead of the parameters.
    #[serde(default)]
    pub evaluate: bool,
}

impl FitConfig {
    /// Reads TOML and checks every value.
    ///
    /// # Errors
    /// If a key is unknown (with its line) or a value out of range.
    pub fn from_toml(text: &str) -> Result<Self> {
        let config: Self = toml::from_str(text).map_err(|e| Error::config("(file)", e.to_string().trim_end()))?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every value.
    ///
    /// # Errors
    /// If one is out of range; the message names its key.
    pub fn validate(&self) -> Result<()> {
        at_least("steps", self.steps, 1)?;
        at_least("batch", self.batch as u64, 1)?;
        at_least("accumulate", self.accumulate as u64, 1)?;
        at_least("log_every", self.log_every, 1)?;
        at_least("keep_last", self.keep_last as u64, 1)?;
        if self.seed > i64::MAX as u64 {
            return Err(Error::config("seed", format!("{} is larger than {}", self.seed, i64::MAX)));
        }
        if self.patience > 0 && (self.best.is_none() || self.eval_every == 0) {
            return Err(Error::config("patience", "needs `best` and `eval_every`"));
        }
        let rewinds = [self.guard.not_finite, self.guard.spike].contains(&Policy::Rewind);
        if rewinds && self.save_every == 0 {
            return Err(Error::config("guard", "policy `rewind` needs `save_every`"));
        }
        number("guard.spike_z", self.guard.spike_z, 0.0..=f64::MAX)?;
        at_least("guard.window", self.guard.window as u64, 2)?;
        if let Some(ema) = &self.ema {
            number("ema.decay", ema.decay, 0.0..=1.0)?;
        }
        if let Some(growth) = &self.growth {
            self.validate_growth(growth)?;
        }
        if self.groups.is_empty() {
            return Err(Error::config("groups", "at least one parameter group is needed"));
        }
        self.groups.iter().try_for_each(|(name, group)| group.validate(&format!("groups.{name}")))
    }

    fn validate_growth(&self, growth: &Growth) -> Result<()> {
        at_least("growth.len_from", growth.len_from as u64, 1)?;
        at_least("growth.len_to", growth.len_to as u64, growth.len_from as u64)?;
        at_least("growth.batch_from", growth.batch_from as u64, 1)?;
        at_least("batch", self.batch as u64, growth.batch_from as u64)?;
        number("growth.lr_from", growth.lr_from, 0.0..=1.0)?;
        number("growth.dropout_from", growth.dropout_from, 0.0..=1.0)
    }

    /// Items per micro-batch at `step`.
    pub fn batch_at(&self, step: u64) -> usize {
        self.growth.map_or(self.batch, |g| g.batch(step, self.batch))
    }

    /// Longest sequence at `step`, where the run grows it.
    pub fn max_len_at(&self, step: u64) -> Option<usize> {
        self.growth.map(|g| g.max_len(step))
    }

    /// Learning rate of `group` at `step`, before multipliers of single parameters.
    pub fn lr_at(&self, group: &GroupConfig, step: u64) -> f64 {
        group.lr * group.schedule.factor(step, self.steps) * self.growth.map_or(1.0, |g| g.lr_factor(step))
    }
}

fn at_least(key: &str, value: u64, least: u64) -> Result<()> {
    if value >= least { Ok(()) } else { Err(Error::config(key, format!("{value} is below {least}"))) }
}

pub(crate) fn number(key: &str, value: f64, range: std::ops::RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    Err(Error::config(key, format!("{value} is outside {}..={}", range.start(), range.end())))
}
