//! A running average of the network, which changes its mind more slowly.

use super::config::TeacherConfig;
use crate::models::Classifier;
use candle_core::Tensor;
use chandlery_nn::{ParamStore, Scope};
use chandlery_train::{Error, Result};
use std::collections::BTreeMap;

/// Mean teacher (Tarvainen and Valpola 2017, arXiv 1703.01780): averages the trained parameters, and takes the student's
/// buffers as they are.
pub(super) struct Teacher {
    config: TeacherConfig,
    student: ParamStore,
    store: ParamStore,
    pub model: Classifier,
    started: bool,
}

impl Teacher {
    /// Will start where the student stands at the first step.
    pub fn new<F>(config: TeacherConfig, student: &ParamStore, build: F) -> Result<Self>
    where
        F: Fn(&Scope) -> candle_core::Result<Classifier>,
    {
        let store = student.deep_copy()?;
        let model = build(&store.frozen())?;
        Ok(Self { config, student: student.clone(), store, model, started: false })
    }

    /// Takes in what the student became in the step before `step`.
    pub fn follow(&mut self, step: u64) -> Result<()> {
        let updates = step.saturating_sub(1) as f64;
        let early = (1.0 + updates) / (10.0 + updates);
        let decay = if self.config.warmup { self.config.decay.min(early) } else { self.config.decay };
        for (name, new) in self.student.named_vars() {
            let (mine, new) = (self.var(&name)?, new.as_detached_tensor());
            let value =
                if self.started { ((mine.as_detached_tensor() * decay)? + (new * (1.0 - decay))?)? } else { new };
            mine.set(&value.copy()?)?;
        }
        for (name, value) in [self.student.named_frozen(), self.student.named_buffers()].concat() {
            self.var(&name)?.set(&value.as_detached_tensor().copy()?)?;
        }
        self.started = true;
        Ok(())
    }

    fn var(&self, name: &str) -> Result<candle_core::Var> {
        let missing = || Error::Parameter { name: name.into(), what: "the teacher lacks it".into() };
        self.store.get(name).ok_or_else(missing)
    }

    /// The averages by name; nothing before the first step.
    pub fn save(&self) -> BTreeMap<String, Tensor> {
        let all = self.store.named_vars().into_iter().filter(|_| self.started);
        all.map(|(name, var)| (format!("teacher.{name}"), var.as_detached_tensor())).collect()
    }

    /// Takes back what [`save`](Self::save) gave.
    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        self.started = !tensors.is_empty();
        for (name, var) in self.store.named_vars().into_iter().filter(|_| self.started) {
            let saved = tensors.get(&format!("teacher.{name}")).filter(|t| t.dims() == var.dims());
            let missing = || Error::Parameter { name: name.clone(), what: "the checkpoint lacks its average".into() };
            var.set(&saved.ok_or_else(missing)?.to_device(var.device())?.to_dtype(var.dtype())?)?;
        }
        Ok(())
    }
}
