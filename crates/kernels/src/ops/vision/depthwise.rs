//! Convolution in which every channel sees only itself.
//!
//! A plane is copied once with its border and split by column modulo the stride; then the pixels under one weight lie
//! side by side for neighbouring results, and no result needs a test for the border.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use super::conv::{Conv2d, Finish, Sizes};
use crate::matmul::uncleared;
use crate::simd::{Lanes, simd_fn};
use rayon::prelude::*;

/// A depthwise convolution; each input channel has `o / c` results.
#[derive(Clone, Copy, Debug)]
pub(super) struct Depthwise {
    pub n: Sizes,
    pub config: Conv2d,
}

/// Room after the last row, so that whole vectors may be read.
const SLACK: usize = 16;
/// Values of small rows that are taken together, a multiple of every vector's.
const SPAN: usize = 256;

/// A plane with border: rows of `stride` parts of `wide` values each.
struct Plane {
    rows: usize,
    wide: usize,
    stride: usize,
    /// Distance of the values in the source: 1, or the stride whose results are spread out.
    spread: [usize; 2],
    /// Source position of the first row and column.
    origin: [isize; 2],
}

impl Plane {
    /// Copies `src` of rows of `w` values, with `fill` where it has none, into a buffer that only this plane has used.
    fn fill(&self, src: &[f32], w: usize, fill: f32, dst: &mut Vec<f32>) {
        let (h, line) = (src.len() / w, self.stride * self.wide);
        // The border of the plane before is as good as a new one.
        if dst.len() != self.rows * line + SLACK {
            dst.clear();
            dst.resize(self.rows * line + SLACK, fill);
        }
        let [sy, sx] = self.spread;
        for y in 0..h {
            let Ok(row) = usize::try_from((y * sy) as isize - self.origin[0]) else { continue };
            if row >= self.rows {
                break;
            }
            let (src, dst) = (&src[y * w..(y + 1) * w], &mut dst[row * line..(row + 1) * line]);
            // Source column x goes to place x spread - origin, which is split by the stride.
            let first = (0..w).find(|x| (x * sx) as isize >= self.origin[1]).unwrap_or(w);
            let at = ((first * sx) as isize - self.origin[1]) as usize;
            if self.stride == 1 {
                let n = line.saturating_sub(at).div_ceil(sx).min(w - first);
                if n > 0 && sx == 1 {
                    dst[at..at + n].copy_from_slice(&src[first..first + n]);
                } else if n > 0 && sx == 2 {
                    with_gaps(&src[first..first + n], fill, &mut dst[at..]);
                } else if n > 0 {
                    dst[at..].iter_mut().step_by(sx).zip(&src[first..]).for_each(|(d, s)| *d = *s);
                }
                continue;
            }
            debug_assert_eq!(sx, 1, "a plane is either split or spread out");
            for (part, dst) in dst.chunks_exact_mut(self.wide).enumerate() {
                let skipped = (part + self.stride - at % self.stride) % self.stride;
                let from = src.get(first + skipped..).unwrap_or_default();
                let to = dst.get_mut((at + skipped) / self.stride..).unwrap_or_default();
                if self.stride == 2 {
                    every_second(from, to);
                } else {
                    to.iter_mut().zip(from.iter().step_by(self.stride)).for_each(|(d, s)| *d = *s);
                }
            }
        }
    }

    /// For each part of a row, first place with a column of a source of `w` columns (not spread), that column, and how
    /// many there are, `stride` apart in the source.
    fn parts(&self, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (stride, wide, origin) = (self.stride, self.wide, self.origin[1]);
        (0..stride).map(move |part| {
            // Place j of the part holds column j stride + part + origin.
            let start = part as isize + origin;
            let first = usize::try_from(-start).unwrap_or(0).div_ceil(stride).min(wide);
            let from = usize::try_from((first * stride) as isize + start).unwrap_or(0).min(w);
            (first, from, w.saturating_sub(from).div_ceil(stride).min(wide - first))
        })
    }

    /// Writes what lies at the places of source pixels back to `dst` of rows of `w` values (not spread), zero where a
    /// pixel has no place.
    fn read(&self, src: &[f32], w: usize, dst: &mut [f32]) {
        let line = self.stride * self.wide;
        for (y, dst) in dst.chunks_exact_mut(w).enumerate() {
            dst.fill(0.0);
            let Ok(row) = usize::try_from(y as isize - self.origin[0]) else { continue };
            if row >= self.rows {
                continue;
            }
            for (part, (first, from, n)) in self.parts(w).enumerate() {
                let src = &src[row * line + part * self.wide + first..][..n];
                if self.stride == 1 {
                    dst[from..from + n].copy_from_slice(src);
                } else {
                    dst[from..].iter_mut().step_by(self.stride).zip(src).for_each(|(d, s)| *d = *s);
                }
            }
        }
    }
}

simd_fn! {
    /// `dst[i] = src[2 i]` as far as both go; a loop that compilers turn into shuffles.
    fn every_second<V>(src: &[f32], dst: &mut [f32]) {
        let (pairs, rest) = src.as_chunks::<2>();
        let n = dst.len().min(pairs.len());
        for i in 0..n {
            dst[i] = pairs[i][0];
        }
        if let ([last], Some(to)) = (rest, dst.get_mut(pairs.len())) {
            *to = *last;
        }
    }
}

simd_fn! {
    /// `dst[2 i] = src[i]` with `gap` between, as far as `dst` goes; what lies after the last value stays.
    fn with_gaps<V>(src: &[f32], gap: f32, dst: &mut [f32]) {
        let n = src.len().saturating_sub(1);
        let pairs = dst.as_chunks_mut::<2>().0;
        let n = n.min(pairs.len());
        for i in 0..n {
            pairs[i] = [src[i], gap];
        }
        if let (Some(last), Some(to)) = (src.get(n), dst.get_mut(2 * n)) {
            *to = *last;
        }
    }
}

simd_fn! {
    /// `dst[r][j] = sum_t weights[t] src[r line + offsets[t] + j]` (`+=` with `add`) for rows of `n` values.
    fn rows<V>(src: &[f32], line: usize, offsets: &[usize], weights: &[f32], n: usize, add: bool, dst: &mut [f32]) {
        // Kernels of three and five, with their weights in registers.
        if let (Ok(offsets), Ok(weights)) = (offsets.try_into(), weights.try_into()) {
            return fixed_rows::<V, 9>(src, line, offsets, weights, n, add, dst);
        }
        if let (Ok(offsets), Ok(weights)) = (offsets.try_into(), weights.try_into()) {
            return fixed_rows::<V, 25>(src, line, offsets, weights, n, add, dst);
        }
        for (r, dst) in dst.chunks_exact_mut(n).enumerate() {
            let mut j = 0;
            while j < n {
                let m = V::N.min(n - j);
                let mut acc = if add { V::load_part(&dst[j..j + m], 0.0) } else { V::splat(0.0) };
                for t in 0..offsets.len() {
                    let at = r * line + offsets[t] + j;
                    acc = V::load(&src[at..at + V::N]).fma(V::splat(weights[t]), acc);
                }
                acc.store_part(&mut dst[j..j + m]);
                j += m;
            }
        }
    }
}

/// [`rows`] for `K` weights.
#[inline(always)]
fn fixed_rows<V: Lanes, const K: usize>(
    src: &[f32],
    line: usize,
    offsets: &[usize; K],
    weights: &[f32; K],
    n: usize,
    add: bool,
    dst: &mut [f32],
) {
    let mut w = [V::splat(0.0); K];
    for t in 0..K {
        w[t] = V::splat(weights[t]);
    }
    let n_rows = dst.len() / n;
    // Small rows are taken together with the borders between them, where that is less work.
    let span = (n_rows.max(1) - 1) * line + n;
    if span <= SPAN && span.div_ceil(V::N) < n_rows * n.div_ceil(V::N) {
        let mut together = [0.0; SPAN];
        for j in (0..span).step_by(V::N) {
            weighted::<V, K>(&src[j..], offsets, &w, V::splat(0.0)).store(&mut together[j..j + V::N]);
        }
        for (r, dst) in dst.chunks_exact_mut(n).enumerate() {
            let row = &together[r * line..r * line + n];
            for i in 0..n {
                dst[i] = if add { dst[i] + row[i] } else { row[i] };
            }
        }
        return;
    }
    for (r, dst) in dst.chunks_exact_mut(n).enumerate() {
        let mut j = 0;
        while j < n {
            let m = V::N.min(n - j);
            let start = if add { V::load_part(&dst[j..j + m], 0.0) } else { V::splat(0.0) };
            weighted::<V, K>(&src[r * line + j..], offsets, &w, start).store_part(&mut dst[j..j + m]);
            j += m;
        }
    }
}

/// `acc + sum_t w[t] src[offsets[t]..]`.
#[inline(always)]
fn weighted<V: Lanes, const K: usize>(src: &[f32], offsets: &[usize; K], w: &[V; K], mut acc: V) -> V {
    for t in 0..K {
        acc = V::load(&src[offsets[t]..offsets[t] + V::N]).fma(w[t], acc);
    }
    acc
}

simd_fn! {
    /// `grads[t] += sum_{r,j} dy[r][j] src[r line + offsets[t] + j]` for rows of `n` values.
    fn row_dots<V>(src: &[f32], line: usize, offsets: &[usize], dy: &[f32], n: usize, grads: &mut [f32]) {
        let mut t = 0;
        while t < offsets.len() {
            // Four sums at a time hide the latency of one.
            let live = 4.min(offsets.len() - t);
            let at: [usize; 4] = [offsets[t], offsets[t + 1 % live], offsets[t + 2 % live], offsets[t + 3 % live]];
            let mut acc = [V::splat(0.0); 4];
            for r in 0..dy.len() / n {
                let dy = &dy[r * n..(r + 1) * n];
                let mut j = 0;
                while j < n {
                    let m = V::N.min(n - j);
                    let g = if m == V::N { V::load(&dy[j..]) } else { V::load_part(&dy[j..], 0.0) };
                    for s in 0..4 {
                        let from = r * line + at[s] + j;
                        let x = if m == V::N { V::load(&src[from..]) } else { V::load_part(&src[from..from + m], 0.0) };
                        acc[s] = g.fma(x, acc[s]);
                    }
                    j += m;
                }
            }
            for s in 0..live {
                grads[t + s] += acc[s].sum();
            }
            t += live;
        }
    }
}

impl Depthwise {
    /// The input with its border, and where each weight's pixels begin in it.
    fn input_plane(&self) -> (Plane, Vec<usize>) {
        let Sizes { kh, kw, oh, ow, .. } = self.n;
        let ([sh, sw], [dh, dw]) = (self.config.stride, self.config.dilation);
        let [top, _, left, _] = self.config.padding;
        let (rows, columns) = ((oh - 1) * sh + (kh - 1) * dh + 1, (ow - 1) * sw + (kw - 1) * dw + 1);
        let wide = columns.div_ceil(sw);
        let origin = [-(top as isize), -(left as isize)];
        let at = |i: usize, j: usize| i * dh * sw * wide + (j * dw) % sw * wide + j * dw / sw;
        let offsets = (0..kh * kw).map(|t| at(t / kw, t % kw)).collect();
        (Plane { rows, wide, stride: sw, spread: [1, 1], origin }, offsets)
    }

    /// Results per input channel.
    fn fan(&self) -> usize {
        self.n.o / self.n.c
    }

    /// The convolution of `x` with `weight`: [o, 1, kh, kw].
    pub fn run(&self, x: &[f32], weight: &[f32], finish: &Finish<'_>) -> Vec<f32> {
        let Sizes { b, c, h, w, o, oh, ow, kh, kw, .. } = self.n;
        let (plane, offsets) = self.input_plane();
        let (line, fan, kk) = (plane.stride * plane.wide * self.config.stride[0], self.fan(), kh * kw);
        // SAFETY: every plane is finished as a whole below.
        let mut y = unsafe { uncleared(b * o * oh * ow) };
        let results = y.par_chunks_mut(fan * oh * ow).zip(x.par_chunks(h * w)).enumerate();
        results.with_min_len(4).for_each_init(
            Default::default,
            |(padded, raw): &mut (Vec<f32>, Vec<f32>), (at, (y, x))| {
                plane.fill(x, w, 0.0, padded);
                raw.resize(oh * ow, 0.0);
                for (f, y) in y.chunks_exact_mut(oh * ow).enumerate() {
                    let channel = at % c * fan + f;
                    rows(padded, line, &offsets, &weight[channel * kk..][..kk], ow, false, raw);
                    finish.row(channel, (at / c * o + channel) * oh * ow, raw, y);
                }
            },
        );
        y
    }

    /// The gradient of the input.
    pub fn input_grad(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, oh, ow, kh, kw, .. } = self.n;
        let [dh, dw] = self.config.dilation;
        let [top, _, left, _] = self.config.padding;
        // The gradient, spread out by the stride, under kernels turned around.
        let origin = [top as isize - ((kh - 1) * dh) as isize, left as isize - ((kw - 1) * dw) as isize];
        let plane =
            Plane { rows: h + (kh - 1) * dh, wide: w + (kw - 1) * dw, stride: 1, spread: self.config.stride, origin };
        let (fan, kk) = (self.fan(), kh * kw);
        let offsets: Vec<usize> = (0..kk).map(|t| t / kw * dh * plane.wide + t % kw * dw).collect();
        // SAFETY: the first filter of each channel sets its whole plane.
        let mut dx = unsafe { uncleared(b * c * h * w) };
        let results = dx.par_chunks_mut(h * w).zip(dy.par_chunks(fan * oh * ow)).enumerate();
        results.with_min_len(4).for_each_init(
            Default::default,
            |(padded, turned): &mut (Vec<f32>, Vec<f32>), (at, (dx, dy))| {
                for (f, dy) in dy.chunks_exact(oh * ow).enumerate() {
                    plane.fill(dy, ow, 0.0, padded);
                    turned.clear();
                    turned.extend(weight[(at % c * fan + f) * kk..][..kk].iter().rev());
                    rows(padded, plane.wide, &offsets, turned, w, f > 0, dx);
                }
            },
        );
        dx
    }

    /// The gradient of the weights, summed over images in their order.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, o, oh, ow, kh, kw, .. } = self.n;
        let (plane, offsets) = self.input_plane();
        let (line, fan, kk) = (plane.stride * plane.wide * self.config.stride[0], self.fan(), kh * kw);
        let mut grad = vec![0.0; o * kk];
        grad.par_chunks_mut(fan * kk).enumerate().for_each_init(Vec::new, |padded, (k, grad)| {
            for image in 0..b {
                plane.fill(&x[(image * c + k) * h * w..][..h * w], w, 0.0, padded);
                for (f, grad) in grad.chunks_exact_mut(kk).enumerate() {
                    let dy = &dy[(image * o + k * fan + f) * oh * ow..][..oh * ow];
                    row_dots(padded, line, &offsets, dy, ow, grad);
                }
            }
        });
        grad
    }
}

/// Largest value under each window of a plane, for pooling without holes in the border.
pub(super) struct MaxPlane {
    plane: Plane,
    offsets: Vec<usize>,
    line: usize,
    ow: usize,
}

simd_fn! {
    fn row_max<V>(src: &[f32], line: usize, offsets: &[usize], n: usize, dst: &mut [f32]) {
        for (r, dst) in dst.chunks_exact_mut(n).enumerate() {
            let mut j = 0;
            while j < n {
                let m = V::N.min(n - j);
                let mut acc = V::splat(f32::NEG_INFINITY);
                for t in 0..offsets.len() {
                    let at = r * line + offsets[t] + j;
                    acc = V::load(&src[at..at + V::N]).max(acc);
                }
                acc.store_part(&mut dst[j..j + m]);
                j += m;
            }
        }
    }
}

simd_fn! {
    /// Adds `dy` to `dst` at the first place under each window whose value is the window's largest, `y`.
    fn row_max_grad<V>(
        src: &[f32], line: usize, offsets: &[usize], n: usize, y: &[f32], dy: &[f32], dst: &mut [f32],
    ) {
        let zero = V::splat(0.0);
        for r in 0..y.len() / n {
            let (y, dy) = (&y[r * n..(r + 1) * n], &dy[r * n..(r + 1) * n]);
            let mut j = 0;
            while j < n {
                let m = V::N.min(n - j);
                let largest = V::load_part(&y[j..j + m], 0.0);
                // What no place has taken yet; nothing beyond the row.
                let mut left = V::load_part(&dy[j..j + m], 0.0);
                for t in 0..offsets.len() {
                    let at = r * line + offsets[t] + j;
                    let x = V::load(&src[at..at + V::N]);
                    let to = &mut dst[at..at + V::N];
                    V::load(to).add(x.select_lt(largest, zero, left)).store(to);
                    left = x.select_lt(largest, left, zero);
                }
                j += m;
            }
        }
    }
}

/// Room for planes of one task.
#[derive(Default)]
pub(super) struct MaxScratch {
    padded: Vec<f32>,
    grads: Vec<f32>,
}

impl MaxPlane {
    /// Windows of `kernel`, `stride` and `dilation` over planes with `padding` before, `out` of them.
    pub fn new(
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        dilation: [usize; 2],
        out: [usize; 2],
    ) -> Self {
        let [top, left] = padding;
        let n = Sizes { b: 1, c: 1, h: 1, w: 1, o: 1, kh: kernel[0], kw: kernel[1], oh: out[0], ow: out[1], g: 1 };
        let config = Conv2d { stride, dilation, padding: [top, top, left, left], groups: 1 };
        let (plane, offsets) = Depthwise { n, config }.input_plane();
        let line = plane.stride * plane.wide * stride[0];
        Self { plane, offsets, line, ow: out[1] }
    }

    /// `y`: [oh, ow] from `x`: [h, w] without NaN.
    pub fn run(&self, x: &[f32], w: usize, scratch: &mut MaxScratch, y: &mut [f32]) {
        self.plane.fill(x, w, f32::NEG_INFINITY, &mut scratch.padded);
        row_max(&scratch.padded, self.line, &self.offsets, self.ow, y);
    }

    /// The gradient of `x`, without NaN, from that of `y`.
    pub fn grad(&self, x: &[f32], w: usize, scratch: &mut MaxScratch, (y, dy): (&[f32], &[f32]), dx: &mut [f32]) {
        let MaxScratch { padded, grads } = scratch;
        self.plane.fill(x, w, f32::NEG_INFINITY, padded);
        grads.clear();
        grads.resize(padded.len(), 0.0);
        row_max_grad(padded, self.line, &self.offsets, self.ow, y, dy, grads);
        self.plane.read(grads, w, dx);
    }
}
