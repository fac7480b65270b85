//! Named numbers of a step.

use crate::{Loss, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;

/// A number on the host, or one that is still on its way on a device.
#[derive(Clone, Debug)]
pub enum Scalar {
    /// A number.
    Host(f64),
    /// A tensor with one value, fetched after the step.
    Device(Tensor),
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Host(value)
    }
}

impl From<&Tensor> for Scalar {
    fn from(value: &Tensor) -> Self {
        Self::Device(value.detach())
    }
}

impl From<Tensor> for Scalar {
    fn from(value: Tensor) -> Self {
        Self::from(&value)
    }
}

/// What a step recorded; several values of one name (micro-batches) become their mean.
#[derive(Debug, Default)]
pub(crate) struct Scalars(BTreeMap<String, Vec<Scalar>>);

impl Scalars {
    pub fn add(&mut self, name: &str, value: Scalar) {
        self.0.entry(name.to_string()).or_default().push(value);
    }

    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The means, fetched from the device.
    pub fn fetch(&self) -> Result<BTreeMap<String, f64>> {
        let host = |value: &Scalar| match value {
            Scalar::Host(value) => Ok(*value),
            Scalar::Device(t) => Loss::host(t),
        };
        let mean = |(name, values): (&String, &Vec<Scalar>)| {
            let sum = values.iter().map(host).sum::<candle_core::Result<f64>>()?;
            Ok((name.clone(), sum / values.len() as f64))
        };
        self.0.iter().map(mean).collect()
    }
}
