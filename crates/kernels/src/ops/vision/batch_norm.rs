//! Batch norm, alone and together with what follows it in a residual network.

use super::clamp::Clamp;
use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::shared::Shared;
use crate::simd::{math, simd_fn};
use candle_core::{Device, Result, Tensor, bail};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

simd_fn! {
    fn sum<V>(x: &[f32]) -> f32 { math::sum1::<V>(x, 0.0, |x| x) }
}
simd_fn! {
    fn sum_of_squares<V>(x: &[f32], mean: f32) -> f32 {
        let m = V::splat(mean);
        math::sum1::<V>(x, mean, |x| { let c = x.sub(m); c.mul(c) })
    }
}
simd_fn! {
    /// `y = clamp((x - mean) scale + shift + residual)`; no residual if it is empty.
    fn scale_row<V>(
        x: &[f32], mean: f32, scale: f32, shift: f32, residual: &[f32], clamp: Option<Clamp>, y: &mut [f32],
    ) {
        let (m, a, b) = (V::splat(mean), V::splat(scale), V::splat(shift));
        if residual.is_empty() {
            math::map1::<V>(x, y, |x| Clamp::value(clamp, x.sub(m).fma(a, b)));
        } else {
            math::map2::<V>(x, residual, y, |x, r| Clamp::value(clamp, x.sub(m).fma(a, b).add(r)));
        }
    }
}
simd_fn! {
    /// `g = chain(gy)`; returns `(sum g, sum g (x - mean))`.
    fn grad_sums<V>(x: &[f32], y: &[f32], gy: &[f32], mean: f32, clamp: Option<Clamp>, g: &mut [f32]) -> (f32, f32) {
        let m = V::splat(mean);
        math::map2::<V>(gy, y, g, |g, y| Clamp::chain(clamp, g, y));
        // A tail is filled with zeros of `g`, which add nothing.
        (math::sum1::<V>(g, 0.0, |g| g), math::sum2::<V>(g, x, |g, x| g.mul(x.sub(m))))
    }
}
simd_fn! {
    /// `dx = (g - a - (x - mean) b) scale`.
    fn grad_row<V>(g: &[f32], x: &[f32], mean: f32, a: f32, b: f32, scale: f32, dx: &mut [f32]) {
        let (m, a, b, s) = (V::splat(mean), V::splat(a), V::splat(b), V::splat(scale));
        math::map2::<V>(g, x, dx, |g, x| g.sub(a).sub(x.sub(m).mul(b)).mul(s));
    }
}

/// `1 / sqrt(var + eps)`.
pub(super) fn rstd(var: f32, eps: f64) -> f32 {
    (1.0 / (f64::from(var) + eps).sqrt()) as f32
}

/// Mean and variance of a channel.
pub(super) type Moments = (f32, f32);

/// Batch norm on slices [n, c, l].
#[derive(Clone, Copy)]
pub(super) struct Core {
    pub n: usize,
    pub c: usize,
    pub l: usize,
    pub eps: f64,
    pub clamp: Option<Clamp>,
}

/// Gradients of a [`Core`].
pub(super) struct CoreGrads {
    pub x: Vec<f32>,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
    pub residual: Option<Vec<f32>>,
}

impl Core {
    pub fn new(dims: &[usize], eps: f64, clamp: Option<Clamp>) -> Self {
        Self { n: dims[0], c: dims[1], l: dims[2..].iter().product(), eps, clamp }
    }

    /// Where channel `k` of example `i` begins.
    fn at(&self, i: usize, k: usize) -> usize {
        (i * self.c + k) * self.l
    }

    fn moments(&self, x: &[f32], k: usize) -> Moments {
        let count = (self.n * self.l) as f64;
        let rows = || (0..self.n).map(|i| &x[self.at(i, k)..][..self.l]);
        let mean = (rows().map(|row| f64::from(sum(row))).sum::<f64>() / count) as f32;
        let var = rows().map(|row| f64::from(sum_of_squares(row, mean))).sum::<f64>() / count;
        (mean, var as f32)
    }

    fn rstd(&self, var: f32) -> f32 {
        rstd(var, self.eps)
    }

    /// Normalises by the moments of the batch, or by `given` ones; returns the result and the moments used.
    pub fn forward(
        &self,
        x: &[f32],
        weight: &[f32],
        bias: &[f32],
        residual: Option<&[f32]>,
        given: Option<&[Moments]>,
    ) -> (Vec<f32>, Vec<Moments>) {
        // SAFETY: every channel is written.
        let mut y = unsafe { uncleared(x.len()) };
        let out = Shared::new(&mut y);
        let channel = |k: usize| {
            let (mean, var) = given.map_or_else(|| self.moments(x, k), |given| given[k]);
            let scale = weight[k] * self.rstd(var);
            for i in 0..self.n {
                let at = self.at(i, k);
                let residual = residual.map_or(&[][..], |r| &r[at..at + self.l]);
                // SAFETY: each task writes its own channel.
                let y = unsafe { out.slice(at, self.l) };
                scale_row(&x[at..at + self.l], mean, scale, bias[k], residual, self.clamp, y);
            }
            (mean, var)
        };
        let moments = (0..self.c).into_par_iter().map(channel).collect();
        (y, moments)
    }

    /// Gradients for the gradient `gy` of the result `y`; with `fixed` moments none flows through them.
    pub fn backward(
        &self,
        x: &[f32],
        weight: &[f32],
        moments: &[Moments],
        fixed: bool,
        (y, gy): (&[f32], &[f32]),
        has_residual: bool,
    ) -> CoreGrads {
        // SAFETY: every channel of both is written before it is read.
        let mut dx = unsafe { uncleared(x.len()) };
        // SAFETY: as above.
        let mut before = has_residual.then(|| unsafe { uncleared(x.len()) });
        let (to_x, to_before) = (Shared::new(&mut dx), before.as_mut().map(|g| Shared::new(g)));
        let count = (self.n * self.l) as f32;
        let channel = |k: usize| {
            let (mean, var) = moments[k];
            let rstd = self.rstd(var);
            // The gradient before the bounds goes where that of the residual, or else that of x, will be.
            let to = to_before.as_ref().unwrap_or(&to_x);
            let (mut sum, mut by_x) = (0.0, 0.0);
            for i in 0..self.n {
                let at = self.at(i, k);
                let rows = at..at + self.l;
                // SAFETY: each task writes its own channel.
                let g = unsafe { to.slice(at, self.l) };
                let (s, x) = grad_sums(&x[rows.clone()], &y[rows.clone()], &gy[rows], mean, self.clamp, g);
                sum += f64::from(s);
                by_x += f64::from(x);
            }
            let (sum, by_x) = (sum as f32, by_x as f32);
            let (a, b) = if fixed { (0.0, 0.0) } else { (sum / count, by_x * rstd * rstd / count) };
            for i in 0..self.n {
                let at = self.at(i, k);
                let (x, scale) = (&x[at..at + self.l], weight[k] * rstd);
                // SAFETY: as above.
                let dx = unsafe { to_x.slice(at, self.l) };
                if let Some(before) = &to_before {
                    // SAFETY: as above; written in the loop before and only read here.
                    grad_row(unsafe { before.slice(at, self.l) }, x, mean, a, b, scale, dx);
                } else {
                    grad_row_in_place(dx, x, mean, a, b, scale);
                }
            }
            (by_x * rstd, sum)
        };
        let (weight, bias) = (0..self.c).into_par_iter().map(channel).unzip();
        CoreGrads { x: dx, weight, bias, residual: before }
    }
}

simd_fn! {
    /// [`grad_row`] where `g` becomes `dx`.
    fn grad_row_in_place<V>(g: &mut [f32], x: &[f32], mean: f32, a: f32, b: f32, scale: f32) {
        let (m, a, b, s) = (V::splat(mean), V::splat(a), V::splat(b), V::splat(scale));
        math::update::<V>(g, x, |g, x| g.sub(a).sub(x.sub(m).mul(b)).mul(s));
    }
}

/// The moments a kernel found, for its caller.
pub(super) type Found = Arc<OnceLock<Vec<Moments>>>;

/// Means and variances as tensors.
pub(super) fn found(found: &Found) -> Result<(Tensor, Tensor)> {
    let moments = found.get().map(Vec::as_slice).unwrap_or_default();
    let part = |f: fn(&Moments) -> f32| Tensor::from_iter(moments.iter().map(f), &Device::Cpu);
    Ok((part(|m| m.0)?, part(|m| m.1)?))
}

/// Batch norm with inputs x, weight, bias and, where there is one, residual.
struct BatchNorm {
    core: Core,
    given: Option<Vec<Moments>>,
    found: Found,
}

impl Kernel for BatchNorm {
    type Saved = Vec<Moments>;
    const NAME: &'static str = "batch_norm";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Vec<Moments>)> {
        let residual = x.get(3).map(|r| r.data);
        let (y, moments) = self.core.forward(x[0].data, x[1].data, x[2].data, residual, self.given.as_deref());
        self.found.get_or_init(|| moments.clone());
        Ok((y, x[0].dims.to_vec(), moments))
    }

    fn backward(&self, x: &[Arg<'_>], moments: &Vec<Moments>, y: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let fixed = self.given.is_some();
        let grads = self.core.backward(x[0].data, x[1].data, moments, fixed, (y, gy), x.len() > 3);
        let mut all = vec![Some(grads.x), Some(grads.weight), Some(grads.bias)];
        if x.len() > 3 {
            all.push(grads.residual);
        }
        Ok(all)
    }
}

/// Number of channels of an input [n, c, ..], after checking all `params` to be [c].
pub(super) fn channels(op: &str, dims: &[usize], params: &[&Tensor]) -> Result<usize> {
    let Some(&c) = dims.get(1) else { bail!("{op}: expected an input [n, c, ..], got {dims:?}") };
    for p in params {
        if p.dims() != [c] {
            bail!("{op}: input {dims:?} needs parameters of shape [{c}], got {:?}", p.dims());
        }
    }
    Ok(c)
}

pub(super) fn check_residual(op: &str, dims: &[usize], residual: Option<&Tensor>) -> Result<()> {
    match residual {
        Some(r) if r.dims() != dims => bail!("{op}: expected a residual {dims:?}, got {:?}", r.dims()),
        _ => Ok(()),
    }
}

/// [c] to [1, c, 1, ..].
fn along_channels(p: &Tensor, rank: usize) -> Result<Tensor> {
    let mut dims = vec![1; rank];
    dims[1] = p.dims()[0];
    p.reshape(dims)
}

fn finish(y: Tensor, residual: Option<&Tensor>, clamp: Option<Clamp>) -> Result<Tensor> {
    let y = residual.map_or(Ok(y.clone()), |r| y + r)?;
    clamp.map_or(Ok(y.clone()), |c| c.composed(&y))
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` with the statistics of the batch (Ioffe and Szegedy, arXiv
/// 1502.03167); returns `y` and, without gradient, the mean `[c]` and the biased variance `[c]`.
///
/// `x`: [n, c, ..]; `weight`, `bias`: `[c]`.
///
/// # Errors
/// If a parameter is not of shape `[c]`, or there is no value to take statistics of.
pub fn batch_norm_train(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
    batch_norm_train_fused(x, weight, bias, eps, None, None)
}

/// `clamp(batch_norm_train(x) + residual)` as one operation, which keeps no intermediate result; returns as
/// [`batch_norm_train`].
///
/// `residual`: as `x`.
///
/// # Errors
/// As [`batch_norm_train`], and if the shape of `residual` differs.
pub fn batch_norm_train_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let c = channels("batch_norm_train", x.dims(), &[weight, bias])?;
    check_residual("batch_norm_train", x.dims(), residual)?;
    if x.elem_count() == 0 {
        bail!("batch_norm_train: expected values to take statistics of, got an input {:?}", x.dims());
    }
    let mut inputs = vec![x, weight, bias];
    inputs.extend(residual);
    if fast(&inputs) {
        let stats = Found::default();
        let op = BatchNorm { core: Core::new(x.dims(), eps, clamp), given: None, found: stats.clone() };
        let y = apply(op, &inputs)?;
        let (mean, var) = found(&stats)?;
        return Ok((y, mean, var));
    }
    let rank = x.rank();
    // [n, c, l] to sums over n and l
    let mean = |t: &Tensor| t.reshape((t.dims()[0], c, ()))?.sum(2)?.sum(0)? / (t.elem_count() / c) as f64;
    let x = x.contiguous()?;
    let average = mean(&x)?;
    let centered = x.broadcast_sub(&along_channels(&average, rank)?)?;
    let var = mean(&centered.sqr()?)?;
    let scale = (weight / (&var + eps)?.sqrt()?)?;
    let y = centered.broadcast_mul(&along_channels(&scale, rank)?)?.broadcast_add(&along_channels(bias, rank)?)?;
    Ok((finish(y, residual, clamp)?, average.detach(), var.detach()))
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` with given statistics, which get no gradient.
///
/// `x`: [n, c, ..]; `weight`, `bias`, `mean`, `var`: `[c]`.
///
/// # Errors
/// If a parameter is not of shape `[c]`.
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    batch_norm_eval_fused(x, [weight, bias, mean, var], eps, None, None)
}

/// `clamp(batch_norm_eval(x) + residual)` as one operation; `params` are weight, bias, mean and variance.
///
/// # Errors
/// As [`batch_norm_eval`], and if the shape of `residual` differs.
pub fn batch_norm_eval_fused(
    x: &Tensor,
    params: [&Tensor; 4],
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<Tensor> {
    channels("batch_norm_eval", x.dims(), &params)?;
    check_residual("batch_norm_eval", x.dims(), residual)?;
    let [weight, bias, mean, var] = params;
    let (mean, var) = (mean.detach(), var.detach());
    let mut inputs = vec![x, weight, bias];
    inputs.extend(residual);
    if fast(&inputs) && fast(&[&mean, &var]) {
        let given = mean.to_vec1::<f32>()?.into_iter().zip(var.to_vec1::<f32>()?).collect();
        let core = Core::new(x.dims(), eps, clamp);
        return apply(BatchNorm { core, given: Some(given), found: Found::default() }, &inputs);
    }
    let rank = x.rank();
    let scale = (weight / (var + eps)?.sqrt()?)?;
    let centered = x.broadcast_sub(&along_channels(&mean, rank)?)?;
    let y = centered.broadcast_mul(&along_channels(&scale, rank)?)?.broadcast_add(&along_channels(bias, rank)?)?;
    finish(y, residual, clamp)
}

/// The weight and bias of a convolution that does what the given one does followed by
/// [`batch_norm_eval`]: `weight * s` and `(bias - mean) * s + beta` with `s = gamma / sqrt(var + eps)`.
///
/// `weight`: [o, c/g, kh, kw]; all others: `[o]`.
///
/// # Errors
/// If a parameter is not of shape `[o]`.
pub fn fold_batch_norm(
    weight: &Tensor,
    bias: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let o = weight.dims().first().copied().unwrap_or(0);
    for p in [gamma, beta, mean, var].into_iter().chain(bias) {
        if p.dims() != [o] {
            bail!("fold_batch_norm: weight {:?} needs parameters of shape [{o}], got {:?}", weight.dims(), p.dims());
        }
    }
    let scale = (gamma / (var + eps)?.sqrt()?)?;
    let mut dims = vec![1; weight.rank()];
    dims[0] = o;
    let folded = weight.broadcast_mul(&scale.reshape(dims)?)?;
    let shift = match bias {
        Some(bias) => (bias - mean)?,
        None => mean.neg()?,
    };
    Ok((folded, ((shift * scale)? + beta)?))
}
