//! Convolution of any stride and kernel without laying out pixels: with channels side by side, the values under a kernel
//! lie at the same distances from each place, and products take them from where they are.

use super::conv::{Conv2d, Finish, Sizes};
use super::multiply::{BLOCK, Left, multiply, transpose};
use super::pixels::{Images, PLANES, Strip};
use crate::matmul::uncleared;
use crate::reused::Reused;
use crate::shared::Shared;
use rayon::prelude::*;

/// Results of one task in the forward pass.
const PIXELS: usize = 112;
/// Bytes of input and gradient that all tasks share in the gradient of the weights.
const SHARED_BYTES: usize = 16 << 20;
/// Channels whose weights are moved together.
const PART: usize = 16;

/// A convolution in one group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Direct {
    pub n: Sizes,
    pub config: Conv2d,
}

/// Weights as blocks of [`BLOCK`] columns: [blocks, rows, BLOCK].
struct Blocks {
    values: Reused,
    rows: usize,
}

impl Blocks {
    fn get(&self, block: usize) -> &[f32] {
        &self.values[block * self.rows * BLOCK..][..self.rows * BLOCK]
    }
}

/// Places of a grid: `rows` rows `line` apart of `n` places `step` apart.
fn grid(rows: usize, line: usize, n: usize, step: usize) -> impl Iterator<Item = u32> {
    (0..rows).flat_map(move |r| (0..n).map(move |i| (r * line + i * step) as u32))
}

fn width(channels: usize, block: usize) -> usize {
    BLOCK.min(channels - block * BLOCK)
}

/// Taps along one dimension whose results belong to one residue of input positions, with their distance in results.
fn phase(kernel: usize, dilation: usize, stride: usize, residue: usize) -> Vec<(usize, usize)> {
    let taps = (0..kernel).map(|i| (i, i * dilation));
    taps.filter(|(_, at)| at % stride == residue).map(|(i, at)| (i, (at - residue) / stride)).collect()
}

impl Direct {
    fn taps(&self) -> usize {
        self.n.kh * self.n.kw
    }

    /// Rows and columns of the input that `rows` and `columns` results see.
    fn reach(&self, rows: usize, columns: usize) -> (usize, usize) {
        let ([sh, sw], [dh, dw]) = (self.config.stride, self.config.dilation);
        ((rows - 1) * sh + (self.n.kh - 1) * dh + 1, (columns - 1) * sw + (self.n.kw - 1) * dw + 1)
    }

    /// Places of the values under a kernel in rows of `wide` pixels: [taps, c].
    fn under(&self, wide: usize) -> Vec<u32> {
        let Sizes { c, kh, kw, .. } = self.n;
        let [dh, dw] = self.config.dilation;
        grid(kh, dh * wide * c, kw, dw * c).flat_map(|tap| tap..tap + c as u32).collect()
    }

    /// `weight`: [o, c, taps] as [taps, c] rows of o columns.
    fn by_result(&self, weight: &[f32]) -> Blocks {
        let (Sizes { c, o, .. }, kk) = (self.n, self.taps());
        let (blocks, rows) = (o.div_ceil(BLOCK), kk * c);
        let mut values = Reused::new(blocks * rows * BLOCK);
        let to = Shared::new(&mut values);
        let task = |lines: &mut Vec<f32>, task: usize| {
            let (block, first) = (task % blocks, task / blocks * PART);
            let (live, width) = (PART.min(c - first), width(o, block));
            lines.resize(PART * kk * BLOCK, 0.0);
            transpose(&weight[(block * BLOCK * c + first) * kk..], c * kk, width, live * kk, lines, BLOCK);
            for (at, line) in lines.chunks_exact(BLOCK).enumerate().take(live * kk) {
                let row = at % kk * c + first + at / kk;
                // SAFETY: each task writes the rows of its own channels.
                unsafe { to.slice((block * rows + row) * BLOCK, width) }.copy_from_slice(&line[..width]);
            }
        };
        (0..blocks * c.div_ceil(PART)).into_par_iter().for_each_init(Vec::new, task);
        Blocks { values, rows }
    }

    /// `weight`: [o, c, taps] as [`order`, o] rows of c columns.
    fn by_input(&self, weight: &[f32], order: &[usize]) -> Blocks {
        let (Sizes { c, o, .. }, kk) = (self.n, self.taps());
        let (blocks, rows) = (c.div_ceil(BLOCK), order.len() * o);
        let mut values = Reused::new(blocks * rows * BLOCK);
        let to = Shared::new(&mut values);
        let task = |lines: &mut Vec<f32>, task: usize| {
            let (block, first) = (task % blocks, task / blocks * PART);
            let width = width(c, block);
            lines.resize(kk * BLOCK, 0.0);
            for r in first..(first + PART).min(o) {
                transpose(&weight[(r * c + block * BLOCK) * kk..], kk, width, kk, lines, BLOCK);
                for (at, tap) in order.iter().enumerate() {
                    // SAFETY: each task writes the rows of its own channels.
                    let to = unsafe { to.slice((block * rows + at * o + r) * BLOCK, width) };
                    to.copy_from_slice(&lines[tap * BLOCK..][..width]);
                }
            }
        };
        (0..blocks * o.div_ceil(PART)).into_par_iter().for_each_init(Vec::new, task);
        Blocks { values, rows }
    }

    /// The convolution of `x` with `weight`: [o, c, kh, kw].
    pub fn run(&self, x: &[f32], weight: &[f32], finish: &Finish<'_>) -> Vec<f32> {
        let Sizes { b, c, h, w, o, oh, ow, .. } = self.n;
        let ([sh, sw], [top, _, left, _]) = (self.config.stride, self.config.padding);
        let weight = self.by_result(weight);
        // SAFETY: every strip is written.
        let mut y = unsafe { uncleared(b * o * oh * ow) };
        let (to, images) = (Shared::new(&mut y), Images { data: x, c, h, w });
        let (_, wide) = self.reach(1, ow);
        let columns = self.under(wide);
        let task = |(pixels, m, planes): &mut (Reused, Reused, Reused), strip: &Strip| {
            let (from, n) = (strip.rows.start, strip.rows.len() * ow);
            let corner = ((from * sh) as isize - top as isize, -(left as isize));
            let pixels = pixels.room(self.reach(strip.rows.len(), ow).0 * wide * c);
            images.fill(strip.image, corner, wide, pixels);
            let rows: Vec<u32> = grid(strip.rows.len(), sh * wide * c, ow, sw * c).collect();
            let (m, planes) = (m.room(n * BLOCK), planes.room(n * PLANES));
            for block in 0..o.div_ceil(BLOCK) {
                let width = width(o, block);
                multiply(Left { data: pixels, rows: &rows, columns: &columns }, weight.get(block), width, m, false);
                for first in (0..width).step_by(PLANES) {
                    let live = PLANES.min(width - first);
                    // [n, live] to [live, n]
                    transpose(&m[first..], BLOCK, n, live, planes, n);
                    for (r, plane) in planes.chunks_exact(n).enumerate().take(live) {
                        let channel = block * BLOCK + first + r;
                        let place = ((strip.image * o + channel) * oh + from) * ow;
                        // SAFETY: each task writes the rows of its own strip.
                        finish.row(channel, place, plane, unsafe { to.slice(place, n) });
                    }
                }
            }
        };
        Strip::cut(b, oh, ow, PIXELS).par_iter().for_each_init(Default::default, task);
        y
    }

    /// The gradient of the input: for each residue of positions by the stride, a convolution of the gradient with the
    /// weights that reach it.
    pub fn input_grad(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, o, kh, kw, oh, ow, .. } = self.n;
        let ([sh, sw], [dh, dw]) = (self.config.stride, self.config.dilation);
        let [top, _, left, _] = self.config.padding;
        // Results that a position may see before the one it lies under.
        let (up, before) = ((kh - 1) * dh / sh, (kw - 1) * dw / sw);
        let (first, tall) = ((top / sh) as isize - up as isize, (h - 1 + top) / sh - top / sh + up + 1);
        let (start, wide) = ((left / sw) as isize - before as isize, (w - 1 + left) / sw - left / sw + before + 1);
        let phases: Vec<Phase> = (0..sh * sw)
            .map(|at| {
                let [fy, fx] = [at / sw, at % sw];
                let (down, right) = (phase(kh, dh, sh, fy), phase(kw, dw, sw, fx));
                // Input rows y with (y + top) % sh == fy, and the row of gradients that they lie under.
                let places = |n: usize, pad: usize, stride: usize, residue: usize| -> Vec<(usize, usize)> {
                    let own = (0..n).filter(|y| (y + pad) % stride == residue);
                    own.map(|y| (y, (y + pad) / stride - pad / stride)).collect()
                };
                let (ys, xs) = (places(h, top, sh, fy), places(w, left, sw, fx));
                let rows = ys.iter().flat_map(|y| xs.iter().map(move |x| ((y.1 * wide + x.1) * o) as u32)).collect();
                let taps: Vec<(usize, usize)> = down
                    .iter()
                    .flat_map(|(i, m)| right.iter().map(move |(j, n)| (i * kw + j, ((up - m) * wide + before - n) * o)))
                    .collect();
                let columns = taps.iter().flat_map(|(_, at)| *at as u32..(at + o) as u32).collect();
                Phase { ys, xs, rows, columns, taps: taps.into_iter().map(|t| t.0).collect() }
            })
            .collect();
        let order: Vec<usize> = phases.iter().flat_map(|p| p.taps.iter().copied()).collect();
        let weight = self.by_input(weight, &order);
        // SAFETY: every image is written.
        let mut dx = unsafe { uncleared(b * c * h * w) };
        let images = Images { data: dy, c: o, h: oh, w: ow };
        let task = |(pixels, m, planes): &mut (Reused, Reused, Reused), (image, dx): (usize, &mut [f32])| {
            let pixels = pixels.room(tall * wide * o);
            images.fill(image, (first, start), wide, pixels);
            for block in 0..c.div_ceil(BLOCK) {
                let (width, mut depth) = (width(c, block), 0);
                for p in &phases {
                    let n = p.rows.len();
                    let (m, planes) = (m.room(n * BLOCK), planes.room(n * PLANES));
                    let left = Left { data: pixels, rows: &p.rows, columns: &p.columns };
                    m.fill(0.0);
                    multiply(left, &weight.get(block)[depth * BLOCK..], width, m, false);
                    depth += p.columns.len();
                    if n == 0 {
                        continue;
                    }
                    for first in (0..width).step_by(PLANES) {
                        let live = PLANES.min(width - first);
                        transpose(&m[first..], BLOCK, n, live, planes, n);
                        for r in 0..live {
                            let plane = &mut dx[(block * BLOCK + first + r) * h * w..][..h * w];
                            p.scatter(&planes[r * n..][..n], plane, w, sw);
                        }
                    }
                }
            }
        };
        dx.par_chunks_mut(c * h * w).enumerate().for_each_init(Default::default, task);
        dx
    }

    /// The gradient of the weights; sums run over images and their pixels in order.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (Sizes { b, c, h, w, o, oh, ow, .. }, kk) = (self.n, self.taps());
        let ([sh, sw], [top, _, left, _]) = (self.config.stride, self.config.padding);
        let (tall, wide) = self.reach(oh, ow);
        let (size, n, rows, blocks) = (tall * wide * c, oh * ow, kk * c, o.div_ceil(BLOCK));
        let together = (SHARED_BYTES / 4 / (size + n * o)).clamp(1, b);
        let mut sums = Reused::new(blocks * rows * BLOCK);
        let (mut pixels, mut grads) = (Reused::new(together * size), Reused::new(blocks * together * n * BLOCK));
        let (under, places) = (self.under(wide), grid(oh, sh * wide * c, ow, sw * c).collect::<Vec<u32>>());
        let images = Images { data: x, c, h, w };
        let parts = (2 * rayon::current_num_threads()).div_ceil(blocks);
        let part = rows.div_ceil(parts).next_multiple_of(6);
        for start in (0..b).step_by(together) {
            let live = together.min(b - start);
            let to = Shared::new(&mut grads);
            pixels.par_chunks_exact_mut(size).take(live).enumerate().for_each(|(at, pixels)| {
                images.fill(start + at, (-(top as isize), -(left as isize)), wide, pixels);
                for block in 0..blocks {
                    let width = width(o, block);
                    // SAFETY: each task writes the pixels of its own image.
                    let to = unsafe { to.slice((block * together + at) * n * BLOCK, n * BLOCK) };
                    let from = &dy[((start + at) * o + block * BLOCK) * n..];
                    transpose(from, n, width, n, to, BLOCK);
                }
            });
            let columns: Vec<u32> =
                (0..live).flat_map(|at| places.iter().map(move |p| p + (at * size) as u32)).collect();
            let (pixels, grads) = (&*pixels, &*grads);
            sums.par_chunks_mut(rows * BLOCK).enumerate().for_each(|(block, sums)| {
                let grads = &grads[block * together * n * BLOCK..];
                sums.par_chunks_mut(part * BLOCK).zip(under.par_chunks(part)).for_each(|(sums, rows)| {
                    let left = Left { data: pixels, rows, columns: &columns };
                    multiply(left, grads, width(o, block), sums, start > 0);
                });
            });
        }
        self.by_weight(&sums)
    }

    /// [taps, c] rows of o columns as [o, c, taps].
    fn by_weight(&self, sums: &[f32]) -> Vec<f32> {
        let (Sizes { c, o, .. }, kk) = (self.n, self.taps());
        let (blocks, rows) = (o.div_ceil(BLOCK), kk * c);
        // SAFETY: every kernel is written.
        let mut dw = unsafe { uncleared(o * rows) };
        let to = Shared::new(&mut dw);
        let task = |(lines, turned): &mut (Vec<f32>, Vec<f32>), task: usize| {
            let (block, first) = (task % blocks, task / blocks * PART);
            let (live, width) = (PART.min(c - first), width(o, block));
            lines.resize(PART * kk * BLOCK, 0.0);
            turned.resize(PART * kk * BLOCK, 0.0);
            for (at, line) in lines.chunks_exact_mut(BLOCK).enumerate().take(live * kk) {
                let row = at % kk * c + first + at / kk;
                line[..width].copy_from_slice(&sums[(block * rows + row) * BLOCK..][..width]);
            }
            transpose(lines, BLOCK, live * kk, width, turned, PART * kk);
            for (r, line) in turned.chunks_exact(PART * kk).enumerate().take(width) {
                let place = ((block * BLOCK + r) * c + first) * kk;
                // SAFETY: each task writes the kernels of its own channels.
                unsafe { to.slice(place, live * kk) }.copy_from_slice(&line[..live * kk]);
            }
        };
        (0..blocks * c.div_ceil(PART)).into_par_iter().for_each_init(Default::default, task);
        dw
    }
}

/// Input positions of one residue by the stride.
struct Phase {
    /// Rows and columns of the input, and of the gradient above them.
    ys: Vec<(usize, usize)>,
    xs: Vec<(usize, usize)>,
    rows: Vec<u32>,
    columns: Vec<u32>,
    taps: Vec<usize>,
}

impl Phase {
    /// Puts the values of the positions into a plane of rows of `w`.
    fn scatter(&self, values: &[f32], plane: &mut [f32], w: usize, stride: usize) {
        let Some((x, _)) = self.xs.first() else { return };
        for (values, (y, _)) in values.chunks_exact(self.xs.len()).zip(&self.ys) {
            let row = &mut plane[y * w + x..(y + 1) * w];
            row.iter_mut().step_by(stride).zip(values).for_each(|(to, v)| *to = *v);
        }
    }
}
