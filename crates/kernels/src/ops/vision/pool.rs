//! Max pooling and the mean over an image.

use super::depthwise::{MaxPlane, MaxScratch};
use super::image;
use super::separable::sizes;
use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;

/// Windows of a pooling operation; [rows, columns] each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2d {
    /// Size of a window.
    pub kernel: [usize; 2],
    /// Distance between windows.
    pub stride: [usize; 2],
    /// Border on both sides: `-inf` for max pooling, zeros for average pooling. At most half a window.
    pub padding: [usize; 2],
    /// Distance between the values of a window (max pooling only).
    pub dilation: [usize; 2],
    /// Keeps a last window that reaches past the end, provided it begins inside or in the border before it.
    pub ceil_mode: bool,
    /// Whether zeros of the border count in an average.
    pub count_include_pad: bool,
    /// Divides sums by this number instead of the count (average pooling only).
    pub divisor: Option<usize>,
}

impl Pool2d {
    /// Square windows; dilation 1, no partial windows, borders counted.
    pub fn new(kernel: usize, stride: usize, padding: usize) -> Self {
        Self {
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [1, 1],
            ceil_mode: false,
            count_include_pad: true,
            divisor: None,
        }
    }

    /// Number of windows per dimension.
    pub(super) fn output(&self, op: &str, size: [usize; 2]) -> Result<[usize; 2]> {
        let mut out = [0; 2];
        for d in 0..2 {
            let (k, s, p) = (self.kernel[d], self.stride[d], self.padding[d]);
            let reach = k.saturating_sub(1) * self.dilation[d] + 1;
            if k == 0 || s == 0 || self.dilation[d] == 0 || 2 * p > reach || self.divisor == Some(0) {
                bail!("{op}: expected sizes above zero and padding of at most half a window, got {self:?}");
            }
            let Some(room) = (size[d] + 2 * p).checked_sub(reach) else {
                bail!("{op}: expected an image of at least a window, got {size:?} with {self:?}");
            };
            out[d] = if self.ceil_mode { room.div_ceil(s) } else { room / s } + 1;
            if self.ceil_mode && (out[d] - 1) * s >= size[d] + p {
                out[d] -= 1;
            }
        }
        Ok(out)
    }
}

/// (first position, count) of window `i` of `out` over `len` positions.
pub(super) fn adaptive_window(i: usize, len: usize, out: usize) -> (usize, usize) {
    let (first, end) = (i * len / out, ((i + 1) * len).div_ceil(out));
    (first, end - first)
}

/// One axis: per window the first position and the number of positions, `step` apart.
struct Windows {
    step: usize,
    windows: Vec<(usize, usize)>,
}

impl Windows {
    fn new(config: &Pool2d, d: usize, len: usize, out: usize) -> Result<Self> {
        let (k, s, p, step) = (config.kernel[d], config.stride[d], config.padding[d], config.dilation[d]);
        let window = |i: usize| {
            let start = i * s;
            // Positions start + j step - p for j < k that lie in [0, len).
            let skipped = p.saturating_sub(start).div_ceil(step);
            let first = (start + skipped * step).saturating_sub(p);
            let n = if first < len { (len - first).div_ceil(step).min(k.saturating_sub(skipped)) } else { 0 };
            if n == 0 {
                bail!("max_pool2d: window {i} of dimension {} lies in the border: {len} with {config:?}", d + 2);
            }
            Ok((first, n))
        };
        Ok(Self { step, windows: (0..out).map(window).collect::<Result<_>>()? })
    }

    fn adaptive(len: usize, out: usize) -> Self {
        Self { step: 1, windows: (0..out).map(|i| adaptive_window(i, len, out)).collect() }
    }

    fn longest(&self) -> usize {
        self.windows.iter().map(|w| w.1).max().unwrap_or(0)
    }

    /// Position `j` of every window, the last one again where a window has fewer.
    fn positions(&self, j: usize, like: &Tensor) -> Result<Tensor> {
        let at = self.windows.iter().map(|&(first, n)| (first + j.min(n - 1) * self.step) as u32);
        Tensor::from_iter(at, like.device())
    }
}

simd_fn! {
    /// Whether no value is NaN or infinite.
    fn finite<V>(x: &[f32]) -> bool {
        let zero = V::splat(0.0);
        math::sum1::<V>(x, 0.0, |x| x.mul(zero)) == 0.0
    }
}
simd_fn! {
    fn row_sum<V>(x: &[f32]) -> f32 { math::sum1::<V>(x, 0.0, |x| x) }
}

/// Max pooling in f32; `regular` windows take a faster way through planes without NaN.
struct MaxPool {
    size: [usize; 2],
    rows: Windows,
    cols: Windows,
    regular: Option<MaxPlane>,
}

impl MaxPool {
    /// Positions of the window (i, j) in row-major order.
    fn window(&self, (top, n_rows): (usize, usize), (left, n_cols): (usize, usize)) -> impl Iterator<Item = usize> {
        let (w, down, right) = (self.size[1], self.rows.step, self.cols.step);
        (0..n_rows).flat_map(move |i| (0..n_cols).map(move |j| (top + i * down) * w + left + j * right))
    }

    fn plane(&self, x: &[f32], scratch: &mut MaxScratch, y: &mut [f32]) {
        if let Some(regular) = self.regular.as_ref().filter(|_| finite(x)) {
            return regular.run(x, self.size[1], scratch, y);
        }
        let windows = self.rows.windows.iter().flat_map(|r| self.cols.windows.iter().map(move |c| (*r, *c)));
        for (y, (r, c)) in y.iter_mut().zip(windows) {
            let larger = |best: f32, x: f32| if x > best || (x.is_nan() && !best.is_nan()) { x } else { best };
            *y = self.window(r, c).map(|at| x[at]).fold(f32::NEG_INFINITY, larger);
        }
    }

    fn plane_grad(&self, x: &[f32], y: &[f32], dy: &[f32], scratch: &mut MaxScratch, dx: &mut [f32]) {
        if let Some(regular) = self.regular.as_ref().filter(|_| finite(x)) {
            return regular.grad(x, self.size[1], scratch, (y, dy), dx);
        }
        dx.fill(0.0);
        let windows = self.rows.windows.iter().flat_map(|r| self.cols.windows.iter().map(move |c| (*r, *c)));
        for ((y, dy), (r, c)) in y.iter().zip(dy).zip(windows) {
            let same = |at: &usize| x[*at] == *y || (y.is_nan() && x[*at].is_nan());
            if let Some(at) = self.window(r, c).find(same) {
                dx[at] += dy;
            }
        }
    }
}

impl Kernel for MaxPool {
    type Saved = ();
    const NAME: &'static str = "max_pool2d";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let (oh, ow) = (self.rows.windows.len(), self.cols.windows.len());
        let (b, c) = (x[0].dims[0], x[0].dims[1]);
        // SAFETY: every plane is written.
        let mut y = unsafe { uncleared(b * c * oh * ow) };
        let planes = y.par_chunks_mut(oh * ow).zip(x[0].data.par_chunks(self.size[0] * self.size[1]));
        planes.with_min_len(4).for_each_init(MaxScratch::default, |scratch, (y, x)| self.plane(x, scratch, y));
        Ok((y, vec![b, c, oh, ow], ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), y: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let (plane, out) = (self.size[0] * self.size[1], self.rows.windows.len() * self.cols.windows.len());
        // SAFETY: every plane is written before it is read.
        let mut dx = unsafe { uncleared(x[0].data.len()) };
        let inputs = x[0].data.par_chunks(plane).zip(y.par_chunks(out)).zip(gy.par_chunks(out));
        let planes = dx.par_chunks_mut(plane).zip(inputs).with_min_len(4);
        planes.for_each_init(MaxScratch::default, |scratch, (dx, ((x, y), dy))| self.plane_grad(x, y, dy, scratch, dx));
        Ok(vec![Some(dx)])
    }
}

/// The mean of every plane.
struct Mean;

impl Kernel for Mean {
    type Saved = ();
    const NAME: &'static str = "global_avg_pool";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let pixels = x[0].dims[2] * x[0].dims[3];
        let mean = |x: &[f32]| row_sum(x) / pixels as f32;
        Ok((x[0].data.par_chunks(pixels).with_min_len(64).map(mean).collect(), x[0].dims[..2].to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let pixels = x[0].dims[2] * x[0].dims[3];
        // SAFETY: every plane is written.
        let mut dx = unsafe { uncleared(x[0].data.len()) };
        let planes = dx.par_chunks_mut(pixels).zip(gy).with_min_len(64);
        planes.for_each(|(dx, g)| dx.fill(g / pixels as f32));
        Ok(vec![Some(dx)])
    }
}

/// Largest value per window; of equal ones the first in row-major order gets the gradient, and NaN wins.
fn max_windows(x: &Tensor, rows: Windows, cols: Windows, regular: Option<MaxPlane>) -> Result<Tensor> {
    if fast(&[x]) {
        let size = [x.dim(2)?, x.dim(3)?];
        return apply(MaxPool { size, rows, cols, regular }, &[x]);
    }
    let x = x.contiguous()?;
    let mut best: Option<Tensor> = None;
    for i in 0..rows.longest() {
        let row = x.index_select(&rows.positions(i, &x)?, 2)?;
        for j in 0..cols.longest() {
            let tap = row.index_select(&cols.positions(j, &x)?, 3)?;
            best = Some(match best {
                None => tap,
                Some(best) => {
                    let nan = tap.ne(&tap)?.gt(&best.ne(&best)?)?;
                    let wins = tap.gt(&best)?.maximum(&nan)?;
                    wins.where_cond(&tap, &best)?
                }
            });
        }
    }
    match best {
        Some(best) => Ok(best),
        None => bail!("max_pool2d: no windows over {:?}", x.dims()),
    }
}

/// Largest value of each window, as PyTorch's `max_pool2d`; `x`: [b, c, h, w], result [b, c, oh, ow].
///
/// Of equal values the first in row-major order gets the gradient.
///
/// # Errors
/// If `x` is no image batch, no window fits, or a window lies wholly in the border.
pub fn max_pool2d(x: &Tensor, config: &Pool2d) -> Result<Tensor> {
    let [_, _, h, w] = image("max_pool2d", x)?;
    let [oh, ow] = config.output("max_pool2d", [h, w])?;
    let (rows, cols) = (Windows::new(config, 0, h, oh)?, Windows::new(config, 1, w, ow)?);
    let plane = MaxPlane::new(config.kernel, config.stride, config.padding, config.dilation, [oh, ow]);
    max_windows(x, rows, cols, Some(plane))
}

/// Largest value of `size` windows, laid out as in [`adaptive_avg_pool2d`](crate::adaptive_avg_pool2d); `x`:
/// [b, c, h, w], result [b, c, oh, ow].
///
/// # Errors
/// If `x` is no image batch, or a size is zero.
pub fn adaptive_max_pool2d(x: &Tensor, size: [usize; 2]) -> Result<Tensor> {
    let [h, w] = sizes("adaptive_max_pool2d", x, size)?;
    max_windows(x, Windows::adaptive(h, size[0]), Windows::adaptive(w, size[1]), None)
}

/// Mean over all pixels; `x`: [b, c, h, w], result [b, c].
///
/// # Errors
/// If `x` is no image batch or has no pixel.
pub fn global_avg_pool(x: &Tensor) -> Result<Tensor> {
    let [h, w] = sizes("global_avg_pool", x, [1, 1])?;
    if fast(&[x]) {
        return apply(Mean, &[x]);
    }
    x.flatten_from(2)?.sum(D::Minus1)? / (h * w) as f64
}
