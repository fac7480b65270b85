//! Exponential moving average of the parameters.

use crate::{EmaConfig, Error, Result};
use candle_core::{Tensor, Var};
use std::collections::BTreeMap;

/// The averages of all parameters that are trained. The rest of the model is not averaged: what is saved of it are its
/// present values, so that the file of averages is a whole model.
pub(crate) struct Ema {
    config: EmaConfig,
    averages: Vec<(String, Var, Tensor)>,
    untrained: Vec<(String, Var)>,
}

impl Ema {
    /// Starts at the parameters.
    pub fn new(config: &EmaConfig, vars: &[(String, Var)], untrained: &[(String, Var)]) -> Result<Self> {
        let start = |(name, var): &(String, Var)| Ok((name.clone(), var.clone(), var.as_detached_tensor().copy()?));
        let averages = vars.iter().map(start).collect::<Result<Vec<_>>>()?;
        Ok(Self { config: config.clone(), averages, untrained: untrained.to_vec() })
    }

    /// Takes in the parameters after `step`: `average = decay average + (1 - decay) parameter`.
    pub fn update(&mut self, step: u64) -> Result<()> {
        let early = (1.0 + step as f64) / (10.0 + step as f64);
        let decay = if self.config.warmup { self.config.decay.min(early) } else { self.config.decay };
        for (_, var, average) in &mut self.averages {
            *average = ((&*average * decay)? + (var.as_detached_tensor() * (1.0 - decay))?)?;
        }
        Ok(())
    }

    /// Runs `f` with the averages in the place of the parameters.
    pub fn with<R>(&mut self, f: impl FnOnce() -> Result<R>) -> Result<R> {
        if !self.config.evaluate {
            return f();
        }
        self.swap()?;
        let result = f();
        self.swap()?;
        result
    }

    fn swap(&mut self) -> Result<()> {
        for (_, var, average) in &mut self.averages {
            let param = var.as_detached_tensor().copy()?;
            var.set(average)?;
            *average = param;
        }
        Ok(())
    }

    pub fn save(&self) -> BTreeMap<String, Tensor> {
        let averages = self.averages.iter().map(|(name, _, average)| (name.clone(), average.clone()));
        averages.chain(self.untrained.iter().map(|(name, var)| (name.clone(), var.as_detached_tensor()))).collect()
    }

    pub fn load(&mut self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, var, average) in &mut self.averages {
            let saved = tensors.get(name).filter(|t| t.dims() == var.dims());
            let wrong = || Error::Parameter { name: name.clone(), what: "the checkpoint lacks its average".into() };
            *average = saved.ok_or_else(wrong)?.to_device(var.device())?.to_dtype(var.dtype())?;
        }
        Ok(())
    }
}
