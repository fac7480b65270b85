//! ReLU and ReLU6, alone and as the end of a larger operation.

use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::ops::activation::BLOCK;
use crate::simd::{Lanes, math, simd_fn};
use candle_core::{Result, Tensor};
use rayon::prelude::*;

/// What bounds a result from below and above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clamp {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)` (Sandler et al., arXiv 1801.04381).
    Relu6,
}

impl Clamp {
    /// As a composition of candle's operations; the slope at a bound is zero.
    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        let floored = x.le(0.0)?.where_cond(&x.zeros_like()?, x)?;
        match self {
            Self::Relu => Ok(floored),
            Self::Relu6 => x.ge(6.0)?.where_cond(&(x.ones_like()? * 6.0)?, &floored),
        }
    }

    /// `x` within the bounds, NaN kept.
    #[inline(always)]
    pub(super) fn value<V: Lanes>(this: Option<Self>, x: V) -> V {
        match this {
            None => x,
            Some(Self::Relu) => x.max(V::splat(0.0)),
            Some(Self::Relu6) => x.max(V::splat(0.0)).min(V::splat(6.0)),
        }
    }

    /// The gradient before the bounds from the gradient `g` after them, where the result was `y`.
    #[inline(always)]
    pub(super) fn chain<V: Lanes>(this: Option<Self>, g: V, y: V) -> V {
        let zero = V::splat(0.0);
        match this {
            None => g,
            Some(Self::Relu) => zero.select_lt(y, g, zero),
            Some(Self::Relu6) => zero.select_lt(y, y.select_lt(V::splat(6.0), g, zero), zero),
        }
    }
}

simd_fn! {
    fn values<V>(clamp: Option<Clamp>, x: &[f32], y: &mut [f32]) {
        math::map1::<V>(x, y, |x| Clamp::value(clamp, x))
    }
}
simd_fn! {
    fn gradients<V>(clamp: Option<Clamp>, g: &[f32], y: &[f32], dx: &mut [f32]) {
        math::map2::<V>(g, y, dx, |g, y| Clamp::chain(clamp, g, y))
    }
}

/// The gradient before the bounds from the gradient `gy` of the result `y`, on all threads.
pub(super) fn chained(clamp: Clamp, y: &[f32], gy: &[f32]) -> Vec<f32> {
    // SAFETY: every block is written.
    let mut dx = unsafe { uncleared(gy.len()) };
    let inputs = gy.par_chunks(BLOCK).zip(y.par_chunks(BLOCK));
    dx.par_chunks_mut(BLOCK).zip(inputs).for_each(|(dx, (g, y))| gradients(Some(clamp), g, y, dx));
    dx
}

impl Kernel for Clamp {
    type Saved = ();
    const NAME: &'static str = "clamp";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        // SAFETY: every block is written.
        let mut y = unsafe { uncleared(x[0].data.len()) };
        y.par_chunks_mut(BLOCK).zip(x[0].data.par_chunks(BLOCK)).for_each(|(y, x)| values(Some(*self), x, y));
        Ok((y, x[0].dims.to_vec(), ()))
    }

    fn backward(&self, _: &[Arg<'_>], (): &(), y: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        Ok(vec![Some(chained(*self, y, gy))])
    }
}

fn clamped(clamp: Clamp, x: &Tensor) -> Result<Tensor> {
    if fast(&[x]) { apply(clamp, &[x]) } else { clamp.composed(x) }
}

/// `max(x, 0)`, any shape; slope 0 at 0.
pub fn relu(x: &Tensor) -> Result<Tensor> {
    clamped(Clamp::Relu, x)
}

/// `min(max(x, 0), 6)`, any shape; slope 0 at both bounds.
pub fn relu6(x: &Tensor) -> Result<Tensor> {
    clamped(Clamp::Relu6, x)
}
