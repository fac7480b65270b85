//! Optimiser steps, fused and in place, and gradient norms.
//!
//! A [`Rule`] says which state a parameter needs and how one step changes parameter and state. On f32 tensors on the CPU
//! a step is one pass over memory; elsewhere it is composed from candle operations. Definitions follow PyTorch's.

mod adafactor;
mod adam;
mod muon;
mod norm;
mod sgd;
mod slice;

pub use adafactor::Adafactor;
pub use adam::{Adam, NAdam};
pub use muon::Muon;
pub use norm::{Norm, clip_factor, clip_values, global_norm};
pub use sgd::{RmsProp, Sgd};

use candle_core::{Result, Tensor, Var};
use rayon::prelude::*;

/// One parameter with its gradient and its optimiser state, in the order of [`Rule::state`].
#[derive(Clone, Copy, Debug)]
pub struct Slot<'a> {
    /// The parameter, changed in place.
    pub param: &'a Var,
    /// Its gradient, same shape.
    pub grad: &'a Tensor,
    /// Its state, changed in place; zeros before the first step.
    pub state: &'a [Var],
}

/// What every step needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Number of this step, from 1.
    pub t: u64,
    /// Learning rate.
    pub lr: f64,
    /// Factor on the gradient, for clipping and for means over a window.
    pub grad_scale: f64,
}

/// An optimiser's update rule.
pub trait Rule: Send + Sync {
    /// Name and shape of each state tensor of a parameter of shape `dims`.
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)>;

    /// Applies one step to one parameter.
    ///
    /// # Errors
    /// If shapes differ or a tensor lies elsewhere than its parameter.
    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()>;
}

/// Applies one step to many parameters.
///
/// # Errors
/// As [`Rule::update`].
pub fn update_all(rule: &dyn Rule, step: Step, slots: &[Slot<'_>]) -> Result<()> {
    slots.par_iter().try_for_each(|&slot| {
        if slot.grad.dims() != slot.param.dims() {
            candle_core::bail!("optimiser: parameter {:?}, gradient {:?}", slot.param.dims(), slot.grad.dims());
        }
        rule.update(step, slot)
    })
}
