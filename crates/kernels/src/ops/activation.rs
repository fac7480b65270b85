//! GELU (tanh and erf forms), SiLU and SwiGLU.

use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{Lanes, math, simd_fn};
use candle_core::{Result, Tensor};
use rayon::prelude::*;
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

/// A pointwise nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))) / 2` (Hendrycks and Gimpel, arXiv 1606.08415).
    GeluTanh,
    /// `x Phi(x)` with the normal distribution function through `erf`.
    GeluErf,
    /// `x sigmoid(x)` (Elfwing et al., arXiv 1702.03118).
    Silu,
}

const CUBIC: f32 = 0.044_715;
const SQRT_2_OVER_PI: f32 = (FRAC_2_SQRT_PI * FRAC_1_SQRT_2) as f32;

impl Activation {
    #[inline(always)]
    fn value<V: Lanes>(self, x: V) -> V {
        let (one, half) = (V::splat(1.0), V::splat(0.5));
        match self {
            Self::GeluTanh => {
                let t = math::tanh(tanh_argument(x));
                x.mul(half).mul(one.add(t))
            }
            Self::GeluErf => x.mul(half).mul(one.add(math::erf(x.mul(V::splat(FRAC_1_SQRT_2 as f32))))),
            Self::Silu => x.mul(math::sigmoid(x)),
        }
    }

    #[inline(always)]
    fn slope<V: Lanes>(self, x: V) -> V {
        self.value_and_slope(x).1
    }

    #[inline(always)]
    fn value_and_slope<V: Lanes>(self, x: V) -> (V, V) {
        let (one, half) = (V::splat(1.0), V::splat(0.5));
        match self {
            Self::GeluTanh => {
                let t = math::tanh(tanh_argument(x));
                let inner = x.mul(x).fma(V::splat(3.0 * CUBIC * SQRT_2_OVER_PI), V::splat(SQRT_2_OVER_PI));
                let gate = half.mul(one.add(t));
                // For large |x| the square in `inner` may overflow while 1 - t^2 is exactly zero.
                let dt = one.sub(t.mul(t)).mul(inner.min(V::splat(f32::MAX)));
                (gate.mul(x), clamp_product(x, dt).fma(half, gate))
            }
            Self::GeluErf => {
                let cdf = half.mul(one.add(math::erf(x.mul(V::splat(FRAC_1_SQRT_2 as f32)))));
                let bounded = x.max(V::splat(-16.0)).min(V::splat(16.0));
                let pdf = math::exp(bounded.mul(bounded).mul(V::splat(-0.5)));
                let pdf = pdf.mul(V::splat((FRAC_2_SQRT_PI * 0.5 * FRAC_1_SQRT_2) as f32));
                (x.mul(cdf), bounded.fma(pdf, cdf))
            }
            Self::Silu => {
                let s = math::sigmoid(x);
                let y = x.mul(s);
                (y, y.fma(one.sub(s), s))
            }
        }
    }

    pub(crate) fn composed(self, x: &Tensor) -> Result<Tensor> {
        match self {
            Self::GeluTanh => {
                let c = CUBIC_F64;
                let u = ((x + (x.sqr()? * x)?.affine(c, 0.0)?)? * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2))?;
                (x * u.tanh()?.affine(0.5, 0.5)?)?.contiguous()
            }
            Self::GeluErf => x * (x / SQRT_2)?.erf()?.affine(0.5, 0.5)?,
            Self::Silu => x.silu(),
        }
    }
}

const CUBIC_F64: f64 = 0.044_715;

#[inline(always)]
fn tanh_argument<V: Lanes>(x: V) -> V {
    // Beyond |x| = 16 the tanh is +-1 in f32; the bound keeps the cube finite.
    let x = x.max(V::splat(-16.0)).min(V::splat(16.0));
    let x2 = x.mul(x);
    x.mul(x2.fma(V::splat(CUBIC * SQRT_2_OVER_PI), V::splat(SQRT_2_OVER_PI)))
}

#[inline(always)]
fn clamp_product<V: Lanes>(x: V, dt: V) -> V {
    x.max(V::splat(-16.0)).min(V::splat(16.0)).mul(dt)
}

simd_fn! {
    fn values<V>(a: Activation, x: &[f32], y: &mut [f32]) { math::map1::<V>(x, y, |x| a.value(x)) }
}
simd_fn! {
    /// `dx = g a'(x)`.
    fn chained<V>(a: Activation, x: &[f32], g: &[f32], dx: &mut [f32]) { math::map2::<V>(g, x, dx, |g, x| g.mul(a.slope(x))) }
}
simd_fn! {
    /// `y = a(x)` and `g *= a'(x)` in one pass.
    fn values_and_times_slope<V>(a: Activation, x: &[f32], y: &mut [f32], g: &mut [f32]) {
        let whole = x.len() / V::N * V::N;
        for i in (0..whole).step_by(V::N) {
            let (v, s) = a.value_and_slope(V::load(&x[i..]));
            v.store(&mut y[i..]);
            V::load(&g[i..]).mul(s).store(&mut g[i..]);
        }
        if whole < x.len() {
            let (v, s) = a.value_and_slope(V::load_part(&x[whole..], 0.0));
            v.store_part(&mut y[whole..]);
            V::load_part(&g[whole..], 0.0).mul(s).store_part(&mut g[whole..]);
        }
    }
}
simd_fn! {
    fn swiglu_values<V>(gate: &[f32], up: &[f32], y: &mut [f32]) {
        math::map2::<V>(gate, up, y, |g, u| Activation::Silu.value(g).mul(u))
    }
}
simd_fn! {
    /// Gradients of `gate` and `up` in one pass.
    fn swiglu_grads<V>(gate: &[f32], up: &[f32], g: &[f32], dgate: &mut [f32], dup: &mut [f32]) {
        let whole = g.len() / V::N * V::N;
        for i in (0..whole).step_by(V::N) {
            let (value, slope) = Activation::Silu.value_and_slope(V::load(&gate[i..]));
            let g = V::load(&g[i..]);
            g.mul(slope).mul(V::load(&up[i..])).store(&mut dgate[i..]);
            g.mul(value).store(&mut dup[i..]);
        }
        if whole < g.len() {
            let (value, slope) = Activation::Silu.value_and_slope(V::load_part(&gate[whole..], 0.0));
            let g = V::load_part(&g[whole..], 0.0);
            g.mul(slope).mul(V::load_part(&up[whole..], 0.0)).store_part(&mut dgate[whole..]);
            g.mul(value).store_part(&mut dup[whole..]);
        }
    }
}

/// Values per task: 64 KiB, so that a task's slices stay in the second-level cache.
pub(crate) const BLOCK: usize = 16 * 1024;

/// `y = a(x)` on all threads.
pub(crate) fn activate(a: Activation, x: &[f32]) -> Vec<f32> {
    // SAFETY: `values` writes each chunk whole.
    let mut y = unsafe { uncleared(x.len()) };
    y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).for_each(|(y, x)| values(a, x, y));
    y
}

/// `a(x)`, while `g` becomes `g a'(x)`.
pub(crate) fn activate_and_chain(a: Activation, x: &[f32], g: &mut [f32]) -> Vec<f32> {
    // SAFETY: `values_and_times_slope` writes each chunk of `y` whole.
    let mut y = unsafe { uncleared(x.len()) };
    y.par_chunks_mut(BLOCK)
        .zip(g.par_chunks_mut(BLOCK))
        .zip(x.par_chunks(BLOCK))
        .for_each(|((y, g), x)| values_and_times_slope(a, x, y, g));
    y
}

impl Kernel for Activation {
    type Saved = ();
    const NAME: &'static str = "activation";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        Ok((activate(*self, x[0].data), x[0].dims.to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        // SAFETY: `chained` writes each chunk whole.
        let mut dx = unsafe { uncleared(gy.len()) };
        let inputs = x[0].data.par_chunks(BLOCK).zip(gy.par_chunks(BLOCK));
        dx.par_chunks_mut(BLOCK).zip(inputs).for_each(|(dx, (x, g))| chained(*self, x, g, dx));
        Ok(vec![Some(dx)])
    }
}

fn activation(a: Activation, x: &Tensor) -> Result<Tensor> {
    if fast(&[x]) { apply(a, &[x]) } else { a.composed(x) }
}

/// GELU in the tanh form, any shape: [`Activation::GeluTanh`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    activation(Activation::GeluTanh, x)
}

/// GELU in the erf form, any shape: [`Activation::GeluErf`].
pub fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    activation(Activation::GeluErf, x)
}

/// SiLU, any shape: [`Activation::Silu`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    activation(Activation::Silu, x)
}

struct SwiGlu;

impl Kernel for SwiGlu {
    type Saved = ();
    const NAME: &'static str = "swiglu";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        // SAFETY: `swiglu_values` writes each chunk whole.
        let mut y = unsafe { uncleared(x[0].data.len()) };
        let inputs = x[0].data.par_chunks(BLOCK).zip(x[1].data.par_chunks(BLOCK));
        y.par_chunks_mut(BLOCK).zip(inputs).for_each(|(y, (g, u))| swiglu_values(g, u, y));
        Ok((y, x[0].dims.to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        // SAFETY: `swiglu_grads` writes each chunk of both whole.
        let (mut dgate, mut dup) = unsafe { (uncleared(gy.len()), uncleared(gy.len())) };
        let inputs = x[0].data.par_chunks(BLOCK).zip(x[1].data.par_chunks(BLOCK)).zip(gy.par_chunks(BLOCK));
        let grads = dgate.par_chunks_mut(BLOCK).zip(dup.par_chunks_mut(BLOCK));
        grads.zip(inputs).for_each(|((dgate, dup), ((gate, up), g))| swiglu_grads(gate, up, g, dgate, dup));
        Ok(vec![Some(dgate), Some(dup)])
    }
}

/// `silu(gate) * up` (Shazeer, arXiv 2002.05202); both of one shape.
///
/// # Errors
/// If the shapes differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    if gate.dims() != up.dims() {
        candle_core::bail!("swiglu: gate is {:?}, up is {:?}", gate.dims(), up.dims());
    }
    if fast(&[gate, up]) { apply(SwiGlu, &[gate, up]) } else { Activation::Silu.composed(gate)? * up }
}
