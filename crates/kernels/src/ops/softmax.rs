//! Softmax and log-softmax, plain, causal and masked.

use super::mask::expand_keep;
use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
use candle_core::{D, DType, Result, Tensor, bail};
use rayon::prelude::*;

simd_fn! {
    /// `x = e^(x - shift)`; returns the sum.
    pub(crate) fn exp_in_place<V>(x: &mut [f32], shift: f32) -> f32 {
        let (m, whole) = (V::splat(shift), x.len() / V::N * V::N);
        let mut acc = V::splat(0.0);
        for i in (0..whole).step_by(V::N) {
            let e = math::exp(V::load(&x[i..]).sub(m));
            e.store(&mut x[i..]);
            acc = acc.add(e);
        }
        let mut total = acc.sum();
        if whole < x.len() {
            let e = math::exp(V::load_part(&x[whole..], 0.0).sub(m));
            e.store_part(&mut x[whole..]);
            total += x[whole..].iter().sum::<f32>();
        }
        total
    }
}
simd_fn! {
    /// `y = e^(x - shift)`; returns the sum.
    fn exp_into<V>(x: &[f32], shift: f32, y: &mut [f32]) -> f32 {
        let (m, whole) = (V::splat(shift), y.len() / V::N * V::N);
        let mut acc = V::splat(0.0);
        for i in (0..whole).step_by(V::N) {
            let e = math::exp(V::load(&x[i..]).sub(m));
            e.store(&mut y[i..]);
            acc = acc.add(e);
        }
        let mut total = acc.sum();
        if whole < y.len() {
            math::exp(V::load_part(&x[whole..y.len()], 0.0).sub(m)).store_part(&mut y[whole..]);
            total += y[whole..].iter().sum::<f32>();
        }
        total
    }
}
simd_fn! {
    /// `sum e^(x - shift)` without writing.
    pub(crate) fn sum_exp<V>(x: &[f32], shift: f32) -> f32 {
        math::sum1::<V>(x, f32::NEG_INFINITY, |x| math::exp(x.sub(V::splat(shift))))
    }
}
simd_fn! {
    pub(crate) fn row_largest<V>(x: &[f32]) -> f32 { math::largest::<V>(x) }
}
simd_fn! {
    pub(crate) fn scale_in_place<V>(x: &mut [f32], by: f32) { math::map_in_place::<V>(x, |x| x.mul(V::splat(by))) }
}
simd_fn! {
    fn subtract<V>(x: &[f32], by: f32, y: &mut [f32]) { math::map1::<V>(x, y, |x| x.sub(V::splat(by))) }
}
simd_fn! {
    /// `dx = y (g - sum(g y))`.
    fn softmax_row_grad<V>(y: &[f32], g: &[f32], dx: &mut [f32]) {
        let dot = V::splat(math::sum2::<V>(y, g, |y, g| y.mul(g)));
        math::map2::<V>(y, g, dx, |y, g| y.mul(g.sub(dot)));
    }
}
simd_fn! {
    /// `dx = g - e^y sum(g)`.
    fn log_softmax_row_grad<V>(y: &[f32], g: &[f32], dx: &mut [f32]) {
        let sum = V::splat(math::sum1::<V>(g, 0.0, |g| g));
        math::map2::<V>(y, g, dx, |y, g| g.sub(math::exp(y).mul(sum)));
    }
}

/// Which entries of a row take part.
enum Visible {
    All,
    /// Entry `j` of row `i` (of `rows`) where `j <= i + diagonal`.
    Causal {
        rows: usize,
        diagonal: i64,
    },
    /// Where the flag is not zero.
    Keep(Vec<u8>),
}

struct Softmax {
    visible: Visible,
    /// The logarithm, of which everything is visible.
    log: bool,
}

/// A row without any visible entry becomes zeros.
fn softmax_row(x: &[f32], y: &mut [f32]) {
    let max = row_largest(x);
    if max == f32::NEG_INFINITY {
        return y.fill(0.0);
    }
    let sum = exp_into(x, max, y);
    scale_in_place(y, 1.0 / sum);
}

/// The row is read three times and written once; one without any finite entry becomes `-inf`.
fn log_softmax_row(x: &[f32], y: &mut [f32]) {
    let max = row_largest(x);
    if max == f32::NEG_INFINITY {
        return y.fill(max);
    }
    subtract(x, max + sum_exp(x, max).ln(), y);
}

impl Softmax {
    /// One row; `room` is for entries of which some are hidden.
    fn row(&self, index: usize, x: &[f32], y: &mut [f32], room: &mut Vec<f32>) {
        if self.log {
            return log_softmax_row(x, y);
        }
        match &self.visible {
            Visible::All => softmax_row(x, y),
            Visible::Causal { rows, diagonal } => {
                let seen = ((index % rows) as i64 + diagonal + 1).clamp(0, x.len() as i64) as usize;
                softmax_row(&x[..seen], &mut y[..seen]);
                y[seen..].fill(0.0);
            }
            Visible::Keep(keep) => {
                let keep = &keep[index * x.len()..][..x.len()];
                let visible = x.iter().zip(keep).map(|(x, keep)| if *keep == 0 { f32::NEG_INFINITY } else { *x });
                room.clear();
                room.extend(visible);
                softmax_row(room, y);
            }
        }
    }
}

impl Kernel for Softmax {
    type Saved = ();
    const NAME: &'static str = "softmax";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let d = x[0].width();
        // SAFETY: `row` writes the whole row of `y`; without rows there is nothing to write.
        let mut y = unsafe { uncleared(x[0].data.len()) };
        if d > 0 {
            let rows = y.par_chunks_mut(d).zip(x[0].data.par_chunks(d)).enumerate();
            rows.with_min_len(64).for_each_init(Vec::new, |room, (i, (y, x))| self.row(i, x, y, room));
        }
        Ok((y, x[0].dims.to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), y: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let d = x[0].width();
        // SAFETY: each row is written whole below.
        let mut dx = unsafe { uncleared(y.len()) };
        if d > 0 {
            let rows = dx.par_chunks_mut(d).zip(y.par_chunks(d).zip(gy.par_chunks(d)));
            rows.with_min_len(64).for_each(|(dx, (y, g))| {
                if self.log { log_softmax_row_grad(y, g, dx) } else { softmax_row_grad(y, g, dx) }
            });
        }
        Ok(vec![Some(dx)])
    }
}

/// Applies `f` with dimension `dim` moved to the end.
fn along(x: &Tensor, dim: usize, f: impl Fn(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    if x.rank() == 0 || dim >= x.rank() {
        bail!("softmax: dimension {dim} of a tensor of shape {:?}", x.dims());
    }
    let last = x.rank() - 1;
    if dim == last { f(x) } else { f(&x.transpose(dim, last)?.contiguous()?)?.transpose(dim, last)?.contiguous() }
}

fn exp_shifted(x: &Tensor) -> Result<(Tensor, Tensor)> {
    let shifted = x.broadcast_sub(&x.max_keepdim(D::Minus1)?.detach())?;
    let exp = shifted.exp()?;
    Ok((shifted, exp))
}

fn plain(x: &Tensor, log: bool) -> Result<Tensor> {
    if fast(&[x]) {
        return apply(Softmax { visible: Visible::All, log }, &[x]);
    }
    if x.elem_count() == 0 {
        return Ok(x.clone());
    }
    let (shifted, exp) = exp_shifted(x)?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    if log { shifted.broadcast_sub(&sum.log()?) } else { exp.broadcast_div(&sum) }
}

/// `e^x / sum e^x` along dimension `dim`.
///
/// # Errors
/// If `x` has no dimension `dim`.
pub fn softmax(x: &Tensor, dim: usize) -> Result<Tensor> {
    along(x, dim, |x| plain(x, false))
}

/// `x - log sum e^x` along dimension `dim`.
///
/// # Errors
/// If `x` has no dimension `dim`.
pub fn log_softmax(x: &Tensor, dim: usize) -> Result<Tensor> {
    along(x, dim, |x| plain(x, true))
}

/// Softmax over the last dimension of [.., t, s] where row `i` sees the entries `j <= i + diagonal`; the others, and
/// rows that see none, become zero.
///
/// # Errors
/// If `x` has fewer than two dimensions.
pub fn softmax_causal(x: &Tensor, diagonal: i64) -> Result<Tensor> {
    if x.rank() < 2 {
        bail!("softmax_causal: expected [.., t, s], got {:?}", x.dims());
    }
    let (t, s) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
    if fast(&[x]) {
        return apply(Softmax { visible: Visible::Causal { rows: t.max(1), diagonal }, log: false }, &[x]);
    }
    let keep: Vec<u8> = (0..t * s).map(|at| u8::from((at % s) as i64 <= (at / s) as i64 + diagonal)).collect();
    masked(x, &Tensor::from_vec(keep, (t, s), x.device())?)
}

/// Softmax over the last dimension where `keep` (u8, broadcast to the shape of `x`) is not zero; the other entries, and
/// rows that keep none, become zero.
///
/// # Errors
/// If `keep` is not u8 or cannot be broadcast to `x`.
pub fn softmax_masked(x: &Tensor, keep: &Tensor) -> Result<Tensor> {
    if keep.dtype() != DType::U8 {
        bail!("softmax_masked: the mask must be u8, got {:?}", keep.dtype());
    }
    if fast(&[x]) {
        let visible = Visible::Keep(expand_keep(keep, x.dims())?);
        return apply(Softmax { visible, log: false }, &[x]);
    }
    masked(x, keep)
}

/// The composed form: hidden entries get a large negative score and, after the exponential, an exact zero.
pub(crate) fn masked(x: &Tensor, keep: &Tensor) -> Result<Tensor> {
    let keep = keep.broadcast_as(x.shape())?;
    let low = Tensor::full(-1e30, x.shape(), x.device())?.to_dtype(x.dtype())?;
    let (_, exp) = exp_shifted(&keep.where_cond(x, &low)?)?;
    let exp = (exp * keep.to_dtype(x.dtype())?)?;
    let sum = exp.sum_keepdim(D::Minus1)?;
    let empty = sum.eq(0.0)?.to_dtype(x.dtype())?;
    exp.broadcast_div(&(sum + empty)?)
}
