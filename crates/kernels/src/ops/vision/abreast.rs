//! Depthwise convolution of small planes, sixteen channels abreast: rows shorter than a vector then waste none of it.
//!
//! Planes of a group of channels are transposed to pixels of sixteen values, the columns beyond the image as zeros; rows
//! beyond it are left out. The gradient of the input is the same sum over the spread-out gradient of the result.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use super::conv::{Conv2d, Finish, Sizes};
use crate::matmul::uncleared;
use crate::simd::{Lanes, simd_fn};
use rayon::prelude::*;

/// Channels of a group, whatever the vectors' width, so that no order of sums depends on it.
const CHANNELS: usize = 16;
/// Longest row that is worth it: one more fills a vector by itself.
const LONGEST: usize = 15;
/// Most rows, so that what a thread works on stays in its cache.
const TALLEST: usize = 60;

/// A depthwise convolution with one result a channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Abreast {
    n: Sizes,
    config: Conv2d,
}

/// Which sums make up the results `out` from a source of `src` pixels; [rows, columns].
struct Geometry {
    kernel: [usize; 2],
    out: [usize; 2],
    src: [usize; 2],
    /// Distance of neighbouring results' first pixels.
    step: [usize; 2],
    dilation: [usize; 2],
    /// Columns with the border.
    wide: usize,
    /// Column of the source and its place among those with the border.
    columns: Vec<(usize, usize)>,
    /// For each row of results the kernel's rows that meet one of the source: `(kernel's, source's)`.
    lines: Vec<Vec<(usize, usize)>>,
}

impl Geometry {
    /// `spread`: places from one pixel of the source to the next; `before`: places before the first.
    fn new(
        [kernel, out, src]: [[usize; 2]; 3],
        step: [usize; 2],
        dilation: [usize; 2],
        spread: [usize; 2],
        before: [isize; 2],
    ) -> Self {
        let end = |d: usize| (out[d] - 1) * step[d] + (kernel[d] - 1) * dilation[d] + 1;
        // What lies at a place.
        let source = |d: usize, place: usize| {
            let at = usize::try_from(place as isize - before[d]).ok()?;
            (at % spread[d] == 0 && at / spread[d] < src[d]).then_some(at / spread[d])
        };
        let columns = (0..end(1)).filter_map(|place| Some((source(1, place)?, place))).collect();
        let line = |r: usize| {
            let met = |i: usize| Some((i, source(0, r * step[0] + i * dilation[0])?));
            (0..kernel[0]).filter_map(met).collect()
        };
        let lines = (0..out[0]).map(line).collect();
        Self { kernel, out, src, step, dilation, wide: end(1), columns, lines }
    }

    /// Room for a source, its border cleared.
    fn room(&self) -> Room {
        let pixels = |[h, w]: [usize; 2]| vec![0.0; h * w * CHANNELS];
        Room {
            flat: pixels(self.src),
            source: pixels([self.src[0], self.wide]),
            out: pixels(self.out),
            planes: pixels(self.out),
        }
    }
}

/// Buffers of one thread.
struct Room {
    flat: Vec<f32>,
    source: Vec<f32>,
    out: Vec<f32>,
    planes: Vec<f32>,
}

simd_fn! {
    /// Planes of `len` values, [CHANNELS] at most, to pixels; pixels of missing planes keep what they have there.
    fn to_pixels<V>(planes: &[f32], len: usize, pixels: &mut [f32]) {
        let n = planes.len() / len;
        for c in (0..n).step_by(V::N) {
            for p in (0..len).step_by(V::N) {
                let (rows, cols) = (V::N.min(n - c), V::N.min(len - p));
                V::transpose(&planes[c * len + p..], len, rows, cols, &mut pixels[p * CHANNELS + c..], CHANNELS);
            }
        }
    }
}

simd_fn! {
    /// Pixels to planes of `len` values.
    fn to_planes<V>(pixels: &[f32], len: usize, planes: &mut [f32]) {
        let n = planes.len() / len;
        for c in (0..n).step_by(V::N) {
            for p in (0..len).step_by(V::N) {
                let (rows, cols) = (V::N.min(len - p), V::N.min(n - c));
                V::transpose(&pixels[p * CHANNELS + c..], CHANNELS, rows, cols, &mut planes[c * len + p..], len);
            }
        }
    }
}

simd_fn! {
    /// Puts the source's pixels between the columns of the border.
    fn pad<V>(of: &Geometry, flat: &[f32], source: &mut [f32]) {
        let [h, w] = of.src;
        for y in 0..h {
            for &(x, place) in &of.columns {
                let (from, to) = ((y * w + x) * CHANNELS, (y * of.wide + place) * CHANNELS);
                for v in (0..CHANNELS).step_by(V::N) {
                    V::load(&flat[from + v..]).store(&mut source[to + v..to + v + V::N]);
                }
            }
        }
    }
}

simd_fn! {
    /// `out[r][j] = sum_{i,k} weights[i][k] source[r step + i dilation][j step + k dilation]`.
    fn sums<V>(of: &Geometry, source: &[f32], weights: &[f32], out: &mut [f32]) {
        let n = of.out[1];
        for (line, out) in of.lines.iter().zip(out.chunks_exact_mut(n * CHANNELS)) {
            let mut j = 0;
            while j < n {
                // The last tile begins early enough to be whole.
                j += match n {
                    8.. => tile::<V, 8>(of, line, source, weights, j.min(n - 8), out),
                    4.. => tile::<V, 4>(of, line, source, weights, j.min(n - 4), out),
                    _ => tile::<V, 1>(of, line, source, weights, j, out),
                };
            }
        }
    }
}

/// [`sums`] for `P` results of one row from `j` on; returns `P`.
#[inline(always)]
fn tile<V: Lanes, const P: usize>(
    of: &Geometry,
    line: &[(usize, usize)],
    source: &[f32],
    weights: &[f32],
    j: usize,
    out: &mut [f32],
) -> usize {
    let (kw, gap) = (of.kernel[1], of.step[1] * CHANNELS);
    for v in (0..CHANNELS).step_by(V::N) {
        let mut acc = [V::splat(0.0); P];
        for &(i, row) in line {
            for k in 0..kw {
                let w = V::load(&weights[(i * kw + k) * CHANNELS + v..]);
                let at = (row * of.wide + k * of.dilation[1]) * CHANNELS + j * gap + v;
                for s in 0..P {
                    acc[s] = V::load(&source[at + s * gap..at + s * gap + V::N]).fma(w, acc[s]);
                }
            }
        }
        for s in 0..P {
            acc[s].store(&mut out[(j + s) * CHANNELS + v..(j + s) * CHANNELS + v + V::N]);
        }
    }
    P
}

simd_fn! {
    /// `grads[i][k] += sum_{r,j} dy[r][j] source[r step + i dilation][j step + k dilation]`.
    fn dots<V>(of: &Geometry, source: &[f32], dy: &[f32], grads: &mut [f32]) {
        for i in 0..of.kernel[0] {
            let mut k = 0;
            while k < of.kernel[1] {
                k += match of.kernel[1] - k {
                    5.. => row_dots::<V, 5>(of, [i, k], source, dy, grads),
                    3.. => row_dots::<V, 3>(of, [i, k], source, dy, grads),
                    _ => row_dots::<V, 1>(of, [i, k], source, dy, grads),
                };
            }
        }
    }
}

/// [`dots`] for `K` weights of the kernel's row `i` from `k` on; returns `K`.
#[inline(always)]
fn row_dots<V: Lanes, const K: usize>(
    of: &Geometry,
    [i, k]: [usize; 2],
    source: &[f32],
    dy: &[f32],
    grads: &mut [f32],
) -> usize {
    let (n, gap, next) = (of.out[1], of.step[1] * CHANNELS, of.dilation[1] * CHANNELS);
    for v in (0..CHANNELS).step_by(V::N) {
        // Even and odd results apart: twice as many sums hide the latency of one.
        let mut acc = [[V::splat(0.0); K]; 2];
        for (line, dy) in of.lines.iter().zip(dy.chunks_exact(n * CHANNELS)) {
            let Some(&(_, row)) = line.iter().find(|met| met.0 == i) else { continue };
            let first = row * of.wide * CHANNELS + k * next + v;
            for j in 0..n {
                let g = V::load(&dy[j * CHANNELS + v..]);
                let (at, acc) = (first + j * gap, &mut acc[j % 2]);
                for t in 0..K {
                    acc[t] = V::load(&source[at + t * next..at + t * next + V::N]).fma(g, acc[t]);
                }
            }
        }
        for t in 0..K {
            let to = &mut grads[(i * of.kernel[1] + k + t) * CHANNELS + v..][..V::N];
            V::load(to).add(acc[0][t].add(acc[1][t])).store(to);
        }
    }
    K
}

impl Abreast {
    /// The convolution, if its planes are small and it has one result and enough channels.
    pub fn new(n: Sizes, config: Conv2d) -> Option<Self> {
        (n.o == n.c && n.c >= CHANNELS / 2 && n.w.max(n.ow) <= LONGEST && n.h.max(n.oh) <= TALLEST)
            .then_some(Self { n, config })
    }

    /// Results from the input.
    fn forward(&self) -> Geometry {
        let Sizes { h, w, kh, kw, oh, ow, .. } = self.n;
        let Conv2d { stride, dilation, padding: [top, _, left, _], .. } = self.config;
        Geometry::new([[kh, kw], [oh, ow], [h, w]], stride, dilation, [1, 1], [top as isize, left as isize])
    }

    /// The weights of each group as pixels.
    fn weights(&self, weight: &[f32]) -> Vec<f32> {
        let kk = self.n.kh * self.n.kw;
        let mut pixels = vec![0.0; self.n.c.div_ceil(CHANNELS) * kk * CHANNELS];
        let groups = pixels.chunks_exact_mut(kk * CHANNELS).zip(weight.chunks(kk * CHANNELS));
        groups.for_each(|(pixels, planes)| to_pixels(planes, kk, pixels));
        pixels
    }

    /// `to[image][channel] = finish(sums)` for planes of `of.out` from planes of `of.src`.
    fn run_all(
        &self,
        of: &Geometry,
        from: &[f32],
        weights: &[f32],
        to: &mut [f32],
        finish: impl Fn(usize, usize, &[f32], &mut [f32]) + Sync,
    ) {
        let (c, kk) = (self.n.c, of.kernel[0] * of.kernel[1]);
        let [in_len, out_len] = [of.src, of.out].map(|[h, w]| h * w);
        let images = to.par_chunks_mut(c * out_len).zip(from.par_chunks(c * in_len)).enumerate();
        let groups = images.flat_map(|(image, (to, from))| {
            let groups = to.par_chunks_mut(CHANNELS * out_len).zip(from.par_chunks(CHANNELS * in_len)).enumerate();
            groups.map(move |(group, planes)| (image, group, planes))
        });
        groups.for_each_init(
            || of.room(),
            |room, (image, group, (to, from))| {
                let weights = &weights[group * kk * CHANNELS..][..kk * CHANNELS];
                to_pixels(from, in_len, &mut room.flat);
                pad(of, &room.flat, &mut room.source);
                sums(of, &room.source, weights, &mut room.out);
                let planes = &mut room.planes[..to.len()];
                to_planes(&room.out, out_len, planes);
                for (k, (to, plane)) in to.chunks_exact_mut(out_len).zip(planes.chunks_exact(out_len)).enumerate() {
                    let channel = group * CHANNELS + k;
                    finish(channel, (image * c + channel) * out_len, plane, to);
                }
            },
        );
    }

    /// The convolution of `x` with `weight`: [c, 1, kh, kw].
    pub fn run(&self, x: &[f32], weight: &[f32], finish: &Finish<'_>) -> Vec<f32> {
        let Sizes { b, c, oh, ow, .. } = self.n;
        // SAFETY: every plane is finished as a whole.
        let mut y = unsafe { uncleared(b * c * oh * ow) };
        self.run_all(&self.forward(), x, &self.weights(weight), &mut y, |channel, place, plane, y| {
            finish.row(channel, place, plane, y);
        });
        y
    }

    /// The gradient of the input.
    pub fn input_grad(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, kh, kw, oh, ow, .. } = self.n;
        let Conv2d { stride, dilation, padding: [top, _, left, _], .. } = self.config;
        let before =
            [((kh - 1) * dilation[0]) as isize - top as isize, ((kw - 1) * dilation[1]) as isize - left as isize];
        let of = Geometry::new([[kh, kw], [h, w], [oh, ow]], [1, 1], dilation, stride, before);
        let turned: Vec<f32> = weight.chunks_exact(kh * kw).flat_map(|kernel| kernel.iter().rev()).copied().collect();
        // SAFETY: every plane is copied as a whole.
        let mut dx = unsafe { uncleared(b * c * h * w) };
        self.run_all(&of, dy, &self.weights(&turned), &mut dx, |_, _, plane, dx| dx.copy_from_slice(plane));
        dx
    }

    /// The gradient of the weights, summed over images in their order.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, kh, kw, oh, ow, .. } = self.n;
        let (of, kk, in_len, out_len) = (self.forward(), kh * kw, h * w, oh * ow);
        let mut grad = vec![0.0; c * kk];
        grad.par_chunks_mut(CHANNELS * kk).enumerate().for_each_init(
            || (of.room(), vec![0.0; CHANNELS * kk]),
            |(room, sums), (group, grad)| {
                sums.fill(0.0);
                let n = grad.len() / kk;
                for image in 0..b {
                    let first = image * c + group * CHANNELS;
                    to_pixels(&x[first * in_len..][..n * in_len], in_len, &mut room.flat);
                    pad(&of, &room.flat, &mut room.source);
                    to_pixels(&dy[first * out_len..][..n * out_len], out_len, &mut room.out);
                    dots(&of, &room.source, &room.out, sums);
                }
                to_planes(sums, kk, grad);
            },
        );
        grad
    }
}

#[cfg(test)]
mod tests {
    use super::super::depthwise::Depthwise;
    use super::*;
    use crate::{Key, Stream};

    /// Both add the products of a result in the same order.
    #[test]
    fn sums_are_those_of_the_way_for_large_planes() {
        let mut stream = Stream::new(Key::new(5));
        for (c, [h, w], k, config) in [
            (33, [8, 8], 5, Conv2d::new(1, 2)),
            (16, [7, 7], 3, Conv2d::new(2, 1)),
            (9, [4, 3], 5, Conv2d::new(1, 2)),
            (20, [9, 15], 3, Conv2d { dilation: [2, 1], ..Conv2d::new(1, 1) }),
        ] {
            let config = config.with_groups(c);
            let [top, bottom, left, right] = config.padding;
            let out = |n: usize, d: usize| (n - (k - 1) * config.dilation[d] - 1) / config.stride[d] + 1;
            let (oh, ow) = (out(h + top + bottom, 0), out(w + left + right, 1));
            let n = Sizes { b: 2, c, h, w, o: c, kh: k, kw: k, oh, ow, g: c };
            let mut values = |len: usize| (0..len).map(|_| stream.uniform() as f32 - 0.5).collect::<Vec<_>>();
            let (x, weight, dy) = (values(2 * c * h * w), values(c * k * k), values(2 * c * oh * ow));
            let (large, small) = (Depthwise { n, config }, Abreast::new(n, config).unwrap());
            let finish = Finish::default();
            assert_eq!(small.run(&x, &weight, &finish), large.run(&x, &weight, &finish));
            assert_eq!(small.input_grad(&weight, &dy), large.input_grad(&weight, &dy));
        }
    }
}
