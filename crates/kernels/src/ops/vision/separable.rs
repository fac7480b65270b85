//! Average pooling and bilinear resizing: linear maps that act on rows and columns one after the other.
//!
//! Each output position of an axis is a weighted sum of neighbouring input positions, so one sparse matrix per axis says
//! everything: `y = A_h x A_w^T` on every channel, and `dx = A_h^T dy A_w`.

use super::image;
use super::pool::Pool2d;
use candle_core::{Result, Tensor, bail};

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

/// `y = A_h x A_w^T` per channel.
fn apply_axes(x: &Tensor, rows: &Axis, cols: &Axis) -> Result<Tensor> {
    let [b, c, h, w] = image("separable", x)?;
    let (oh, ow) = (rows.taps.len(), cols.taps.len());
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
    if h * w == 0 || size.contains(&0) {
        bail!("{op}: expected at least one pixel on both sides, got input {:?} and size {size:?}", x.dims());
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
