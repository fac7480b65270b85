//! Gradients across ranks.

use crate::Result;
use candle_core::Tensor;

/// Sums gradients over the processes that train together; each calls it for the same groups in the same order.
pub trait Reducer: Send {
    /// Number of processes.
    fn ranks(&self) -> usize {
        1
    }

    /// Number of this process, from 0.
    fn rank(&self) -> usize {
        0
    }

    /// Replaces each gradient and each total (summed loss, number of things summed) by its sum over all ranks.
    ///
    /// # Errors
    /// If a rank is lost.
    fn sum(&mut self, group: &str, grads: &mut [Tensor], totals: &mut [f64]) -> Result<()>;
}

impl Reducer for Box<dyn Reducer> {
    fn ranks(&self) -> usize {
        (**self).ranks()
    }
    fn rank(&self) -> usize {
        (**self).rank()
    }
    fn sum(&mut self, group: &str, grads: &mut [Tensor], totals: &mut [f64]) -> Result<()> {
        (**self).sum(group, grads, totals)
    }
}

/// A process of its own.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Reducer for Alone {
    fn sum(&mut self, _: &str, _: &mut [Tensor], _: &mut [f64]) -> Result<()> {
        Ok(())
    }
}
