//! Average pooling and bilinear resizing: linear maps that act on rows and columns one after the other.
//!
//! Each output position of an axis is a weighted sum of neighbouring input positions, so one sparse matrix per axis says
//! everything: `y = A_h x A_w^T` on every channel, and `dx = A_h^T dy A_w`.

use super::image;
use super::pool::Pool2d;
use crate::matmul::buffer;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// One axis: per output position, the first input position and the weights from there on.
pub(super) struct Axis {
    len: usize,
    taps: Vec<(usize, Vec<f64>)>,
}

impl Axis {
    /// Means over windows of `config` along dimension `d`; input positions outside [0, len) count as zeros.
    fn average(config: &Pool2d, d: usize, len: usize, out: usize) -> Self {
        let (k, s, p) = (config.kernel[d], config.stride[d], config.padding[d]);
        let window = |i: usize| {
            let (start, end) = (i * s, (i * s + k).min(len + 2 * p));
            let (first, last) = (start.max(p) - p, end.clamp(p, len + p) - p);
            let n = last.saturating_sub(first);
            let divisor = match config.divisor {
                // The other dimension divides by one.
                Some(n) => {
                    if d == 0 {
                        n
                    } else {
                        1
                    }
                }
                None if config.count_include_pad => end - start,
                None => n.max(1),
            };
            (first.min(len), vec![1.0 / divisor as f64; n])
        };
        Self { len, taps: (0..out).map(window).collect() }
    }

    /// Means over [`adaptive_window`](super::pool::adaptive_window)s.
    fn adaptive(len: usize, out: usize) -> Self {
        let window = |i: usize| {
            let (first, n) = super::pool::adaptive_window(i, len, out);
            (first, vec![1.0 / n as f64; n])
        };
        Self { len, taps: (0..out).map(window).collect() }
    }

    /// Linear interpolation between the two neighbours.
    fn linear(len: usize, out: usize, align_corners: bool) -> Self {
        let at = |i: usize| {
            if !align_corners {
                ((i as f64 + 0.5) * len as f64 / out as f64 - 0.5).max(0.0)
            } else if out > 1 {
                i as f64 * (len - 1) as f64 / (out - 1) as f64
            } else {
                0.0
            }
        };
        let tap = |i: usize| {
            let at = at(i);
            let first = (at as usize).min(len - 1);
            let part = (at - first as f64).min(1.0);
            (first, if first + 1 < len { vec![1.0 - part, part] } else { vec![1.0] })
        };
        Self { len, taps: (0..out).map(tap).collect() }
    }

    /// [out, len].
    fn matrix(&self, like: &Tensor) -> Result<Tensor> {
        let mut dense = vec![0.0; self.taps.len() * self.len];
        for (row, (first, weights)) in dense.chunks_exact_mut(self.len).zip(&self.taps) {
            row[*first..first + weights.len()].copy_from_slice(weights);
        }
        Tensor::from_vec(dense, (self.taps.len(), self.len), like.device())?.to_dtype(like.dtype())
    }
}

/// Both axes in f32.
struct Separable {
    rows: SparseAxis,
    cols: SparseAxis,
}

/// An [`Axis`] in f32.
struct SparseAxis {
    len: usize,
    taps: Vec<(usize, Vec<f32>)>,
}

impl From<&Axis> for SparseAxis {
    fn from(axis: &Axis) -> Self {
        let narrow = |(first, weights): &(usize, Vec<f64>)| (*first, weights.iter().map(|&w| w as f32).collect());
        Self { len: axis.len, taps: axis.taps.iter().map(narrow).collect() }
    }
}

/// `dst += by src`.
fn add_scaled(dst: &mut [f32], src: &[f32], by: f32) {
    dst.iter_mut().zip(src).for_each(|(d, s)| *d += by * s);
}

impl Separable {
    /// `y` from `x`: columns first, into `half` [h, ow].
    fn plane(&self, x: &[f32], half: &mut Vec<f32>, y: &mut [f32]) {
        let (w, ow) = (self.cols.len, self.cols.taps.len());
        half.resize(self.rows.len * ow, 0.0);
        for (half, x) in half.chunks_exact_mut(ow).zip(x.chunks_exact(w)) {
            for (to, (first, weights)) in half.iter_mut().zip(&self.cols.taps) {
                *to = weights.iter().zip(&x[*first..]).map(|(w, x)| w * x).sum();
            }
        }
        y.fill(0.0);
        for (y, (first, weights)) in y.chunks_exact_mut(ow).zip(&self.rows.taps) {
            weights.iter().zip(half[first * ow..].chunks_exact(ow)).for_each(|(&w, half)| add_scaled(y, half, w));
        }
    }

    /// The adjoint of [`plane`](Self::plane); `dx` is zero.
    fn plane_grad(&self, dy: &[f32], half: &mut Vec<f32>, dx: &mut [f32]) {
        let (w, ow) = (self.cols.len, self.cols.taps.len());
        half.clear();
        half.resize(self.rows.len * ow, 0.0);
        for (dy, (first, weights)) in dy.chunks_exact(ow).zip(&self.rows.taps) {
            let half = half[first * ow..].chunks_exact_mut(ow);
            weights.iter().zip(half).for_each(|(&w, half)| add_scaled(half, dy, w));
        }
        for (dx, half) in dx.chunks_exact_mut(w).zip(half.chunks_exact(ow)) {
            for (g, (first, weights)) in half.iter().zip(&self.cols.taps) {
                add_scaled(&mut dx[*first..*first + weights.len()], weights, *g);
            }
        }
    }
}

impl Kernel for Separable {
    type Saved = ();
    const NAME: &'static str = "separable";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let (oh, ow) = (self.rows.taps.len(), self.cols.taps.len());
        let (b, c) = (x[0].dims[0], x[0].dims[1]);
        let mut y = buffer(b * c * oh * ow);
        let planes = y.par_chunks_mut(oh * ow).zip(x[0].data.par_chunks(self.rows.len * self.cols.len));
        planes.with_min_len(8).for_each_init(Vec::new, |half, (y, x)| self.plane(x, half, y));
        Ok((y, vec![b, c, oh, ow], ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let mut dx = vec![0.0; x[0].data.len()];
        let out = self.rows.taps.len() * self.cols.taps.len();
        let planes = dx.par_chunks_mut(self.rows.len * self.cols.len).zip(gy.par_chunks(out));
        planes.with_min_len(8).for_each_init(Vec::new, |half, (dx, dy)| self.plane_grad(dy, half, dx));
        Ok(vec![Some(dx)])
    }
}

/// `y = A_h x A_w^T` per channel.
fn apply_axes(x: &Tensor, rows: &Axis, cols: &Axis) -> Result<Tensor> {
    let [b, c, h, w] = image("separable", x)?;
    let (oh, ow) = (rows.taps.len(), cols.taps.len());
    if fast(&[x]) {
        return apply(Separable { rows: rows.into(), cols: cols.into() }, &[x]);
    }
    if b * c == 0 {
        return x.narrow(2, 0, 1)?.narrow(3, 0, 1)?.broadcast_as((b, c, oh, ow));
    }
    // [b c h, w] [w, ow]
    let y = x.contiguous()?.reshape((b * c * h, w))?.matmul(&cols.matrix(x)?.t()?.contiguous()?)?;
    // [ow, b c, h] [h, oh], back to [b, c, oh, ow]
    let y = y.reshape((b * c, h, ow))?.transpose(1, 2)?.contiguous()?.reshape((b * c * ow, h))?;
    let y = y.matmul(&rows.matrix(x)?.t()?.contiguous()?)?;
    y.reshape((b * c, ow, oh))?.transpose(1, 2)?.contiguous()?.reshape((b, c, oh, ow))
}

/// Mean over windows, as PyTorch's `avg_pool2d`; `x`: [b, c, h, w], result [b, c, oh, ow].
///
/// # Errors
/// If `x` is no image batch or no window fits; if `config` asks for a dilation.
pub fn avg_pool2d(x: &Tensor, config: &Pool2d) -> Result<Tensor> {
    let [_, _, h, w] = image("avg_pool2d", x)?;
    if config.dilation != [1, 1] {
        bail!("avg_pool2d: expected dilation [1, 1], got {:?}", config.dilation);
    }
    let [oh, ow] = config.output("avg_pool2d", [h, w])?;
    apply_axes(x, &Axis::average(config, 0, h, oh), &Axis::average(config, 1, w, ow))
}

/// Mean over `size` windows that cover the image as evenly as whole pixels allow; `x`: [b, c, h, w], result
/// [b, c, oh, ow]. Window `i` of an axis holds `floor(i n / o) .. ceil((i + 1) n / o)`.
///
/// # Errors
/// If `x` is no image batch, or a size is zero.
pub fn adaptive_avg_pool2d(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [h, w] = sizes("adaptive_avg_pool2d", x, size)?;
    apply_axes(x, &Axis::adaptive(h, size[0]), &Axis::adaptive(w, size[1]))
}

/// Height and width of `x`, which must hold a pixel, as must the result.
pub(super) fn sizes(op: &str, x: &Tensor, size: [usize; 2]) -> Result<[usize; 2]> {
    let [_, _, h, w] = image(op, x)?;
    if size.contains(&0) {
        bail!("{op}: expected a size of at least one pixel, got {size:?}");
    }
    Ok([h, w])
}

/// Bilinear resizing to `size`, without smoothing; `x`: [b, c, h, w], result [b, c, oh, ow].
///
/// With `align_corners` the centres of the corner pixels coincide, without it the corners of the images do.
///
/// # Errors
/// If `x` is no image batch, or a size is zero.
pub fn resize_bilinear(x: &Tensor, size: [usize; 2], align_corners: bool) -> Result<Tensor> {
    let [h, w] = sizes("resize_bilinear", x, size)?;
    let axis = |n, out| Axis::linear(n, out, align_corners);
    apply_axes(x, &axis(h, size[0]), &axis(w, size[1]))
}
