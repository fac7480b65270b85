//! Layer norm and RMS norm over the last dimension.

use crate::matmul::{sweep_rows, uncleared};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

/// Rows per task.
const ROWS: usize = 16;

simd_fn! {
    /// Normalises one row; returns (mean, 1 / standard deviation).
    fn layer_norm_row<V>(x: &[f32], w: &[f32], b: Option<&[f32]>, eps: f32, y: &mut [f32]) -> (f32, f32) {
        let n = x.len() as f32;
        let mean = math::sum1::<V>(x, 0.0, |x| x) / n;
        let m = V::splat(mean);
        let var = math::sum1::<V>(x, mean, |x| { let c = x.sub(m); c.mul(c) }) / n;
        let rstd = 1.0 / (var + eps).sqrt();
        let r = V::splat(rstd);
        math::map2::<V>(x, w, y, |x, w| x.sub(m).mul(r).mul(w));
        if let Some(b) = b {
            math::update::<V>(y, b, |y, b| y.add(b));
        }
        (mean, rstd)
    }
}

simd_fn! {
    fn rms_norm_row<V>(x: &[f32], w: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let rstd = 1.0 / (math::sum2::<V>(x, x, |a, b| a.mul(b)) / x.len() as f32 + eps).sqrt();
        let r = V::splat(rstd);
        math::map2::<V>(x, w, y, |x, w| x.mul(r).mul(w));
        rstd
    }
}

simd_fn! {
    /// `dx = rstd (g w - mean(g w) - xhat mean(g w xhat))`; for RMS norm (`center` false) without the first mean.
    fn norm_row_grad<V>(x: &[f32], w: &[f32], g: &[f32], mean: f32, rstd: f32, center: bool, dx: &mut [f32]) {
        let (m, r, n) = (V::splat(mean), V::splat(rstd), x.len() as f32);
        math::map2::<V>(g, w, dx, |g, w| g.mul(w));
        let gw = if center { math::sum1::<V>(dx, 0.0, |d| d) / n } else { 0.0 };
        // The fill of a tail is 0 in `dx`, so that a tail adds nothing whatever `x - mean` is there.
        let gwx = math::sum2::<V>(dx, x, |d, x| d.mul(x.sub(m).mul(r))) / n;
        let (gw, gwx) = (V::splat(gw), V::splat(gwx));
        math::update::<V>(dx, x, |d, x| d.sub(gw).sub(x.sub(m).mul(r).mul(gwx)).mul(r));
    }
}

simd_fn! {
    /// `dw += g xhat`, `db += g`.
    fn norm_row_weight_grad<V>(x: &[f32], g: &[f32], mean: f32, rstd: f32, dw: &mut [f32], db: &mut [f32]) {
        let (m, r) = (V::splat(mean), V::splat(rstd));
        let whole = x.len() / V::N * V::N;
        for i in (0..whole).step_by(V::N) {
            let g = V::load(&g[i..]);
            g.fma(V::load(&x[i..]).sub(m).mul(r), V::load(&dw[i..])).store(&mut dw[i..]);
        }
        for i in whole..x.len() {
            dw[i] += g[i] * (x[i] - mean) * rstd;
        }
        if !db.is_empty() {
            math::update::<V>(db, g, |b, g| b.add(g));
        }
    }
}

/// Layer norm (`center`) or RMS norm over the last dimension.
struct Norm {
    eps: f32,
    center: bool,
}

impl Kernel for Norm {
    /// (mean, 1 / deviation) per row.
    type Saved = Vec<(f32, f32)>;
    const NAME: &'static str = "norm";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Self::Saved)> {
        let (d, w, b) = (x[0].width(), x[1].data, x.get(2).map(|b| b.data));
        // SAFETY: each row is written whole below.
        let mut y = unsafe { uncleared(x[0].data.len()) };
        let mut stats = vec![(0.0, 0.0); y.len().checked_div(d).unwrap_or(0)];
        if d > 0 {
            y.par_chunks_mut(ROWS * d).zip(x[0].data.par_chunks(ROWS * d)).zip(stats.par_chunks_mut(ROWS)).for_each(
                |((y, x), stats)| {
                    for ((y, x), s) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(stats) {
                        *s = if self.center {
                            layer_norm_row(x, w, b, self.eps, y)
                        } else {
                            (0.0, rms_norm_row(x, w, self.eps, y))
                        };
                    }
                },
            );
        }
        Ok((y, x[0].dims.to_vec(), stats))
    }

    /// One sweep: a row is still in the cache when it adds to the gradients of the parameters.
    fn backward(&self, x: &[Arg<'_>], stats: &Self::Saved, _: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let (d, values, w) = (x[0].width(), x[0].data, x[1].data);
        let (params, has_bias) = (wants[1..].contains(&true), x.len() > 2);
        let width = if has_bias { 2 * d } else { d };
        // SAFETY: each row is written whole below.
        let mut dx = unsafe { uncleared(values.len()) };
        let mut dw = sweep_rows(&mut dx, d, width, |rows, dx, acc| {
            let (dw, db) = acc.split_at_mut(d);
            for (row, dx) in rows.zip(dx.chunks_exact_mut(d)) {
                let (at, (mean, rstd)) = (row * d..(row + 1) * d, stats[row]);
                let (x, g) = (&values[at.clone()], &gy[at]);
                norm_row_grad(x, w, g, mean, rstd, self.center, dx);
                if params {
                    norm_row_weight_grad(x, g, mean, rstd, dw, db);
                }
            }
        });
        let db = has_bias.then(|| dw.split_off(d));
        let grads = [Some(dx), Some(dw), db].into_iter().zip(wants);
        Ok(grads.map(|(grad, &wanted)| grad.filter(|_| wanted)).collect())
    }
}

fn check(op: &str, x: &Tensor, params: &[&Tensor]) -> Result<usize> {
    let d = x.dim(D::Minus1)?;
    for p in params {
        if p.dims() != [d] {
            bail!("{op}: input {:?} needs parameters of shape [{d}], got {:?}", x.dims(), p.dims());
        }
    }
    Ok(d)
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` over the last dimension (Ba et al., arXiv 1607.06450).
///
/// `x`: [.., d]; `weight`, `bias`: `[d]`. The variance is the biased one.
///
/// # Errors
/// If a parameter is not of shape `[d]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64) -> Result<Tensor> {
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    let d = check("layer_norm", x, &inputs[1..])?;
    if fast(&inputs) {
        return apply(Norm { eps: eps as f32, center: true }, &inputs);
    }
    let centered = x.broadcast_sub(&(x.sum_keepdim(D::Minus1)? / d as f64)?)?;
    let y = scaled(&centered, d, weight, eps)?;
    bias.map_or(Ok(y.clone()), |b| y.broadcast_add(b))
}

/// `y = x / sqrt(mean(x^2) + eps) * weight` over the last dimension (Zhang and Sennrich, arXiv 1910.07467).
///
/// `x`: [.., d]; `weight`: `[d]`.
///
/// # Errors
/// If `weight` is not of shape `[d]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let d = check("rms_norm", x, &[weight])?;
    if fast(&[x, weight]) {
        return apply(Norm { eps: eps as f32, center: false }, &[x, weight]);
    }
    scaled(x, d, weight, eps)
}

fn scaled(x: &Tensor, d: usize, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let var = (x.sqr()?.sum_keepdim(D::Minus1)? / d as f64)?;
    x.broadcast_div(&(var + eps)?.sqrt()?)?.broadcast_mul(weight)
}
