//! Convolution as a matrix product with the pixels under each weight, laid out tile by tile so that a tile stays in a
//! core's second-level cache.

use super::conv::{Conv2d, Finish, Sizes};
use super::product::{PANEL, dots, pack, product};
use crate::matmul::{buffer, uncleared};
use crate::reused::Reused;
use crate::shared::Shared;
use rayon::prelude::*;
use std::ops::Range;

/// Values of a tile of columns together with its result.
const TILE: usize = 128 << 10;

/// Geometry of a convolution within one group of channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Im2col {
    pub n: Sizes,
    pub config: Conv2d,
}

/// Values per call of [`dots`] where the shape allows it.
const RUN: usize = 768;

/// `dy`: [b, o, pixels] as [o, b, pixels].
fn side_by_side(dy: &[f32], b: usize, o: usize) -> Vec<f32> {
    let pixels = dy.len() / (b * o);
    // SAFETY: every row is written.
    let mut all = unsafe { uncleared(dy.len()) };
    all.par_chunks_mut(b * pixels).enumerate().for_each(|(r, row)| {
        for (image, to) in row.chunks_exact_mut(pixels).enumerate() {
            to.copy_from_slice(&dy[(image * o + r) * pixels..][..pixels]);
        }
    });
    all
}

/// A run of result pixels in one row: row, first column, count, offset within the tile.
type Segment = (usize, usize, usize, usize);

impl Im2col {
    /// Channels of one group in and out.
    fn group(&self) -> (usize, usize) {
        (self.n.c / self.n.g, self.n.o / self.n.g)
    }

    /// Rows of the laid out matrix: weights of one output channel.
    fn depth(&self) -> usize {
        self.n.c / self.n.g * self.n.kh * self.n.kw
    }

    fn pixels(&self) -> usize {
        self.n.oh * self.n.ow
    }

    /// Whether the laid out matrix is the image itself.
    fn plain(&self) -> bool {
        self.n.kh * self.n.kw == 1 && self.config.stride == [1, 1] && self.config.padding == [0; 4]
    }

    /// Columns per tile for `rows` values per column.
    fn tile(&self, rows: usize) -> usize {
        (TILE / rows.max(1)).next_multiple_of(48).clamp(48, 1536).min(self.pixels())
    }

    fn segments(&self, tile: &Range<usize>) -> impl Iterator<Item = Segment> {
        let (ow, tile) = (self.n.ow, tile.clone());
        (tile.start / ow..tile.end.div_ceil(ow)).map(move |row| {
            let (from, to) = ((row * ow).max(tile.start), ((row + 1) * ow).min(tile.end));
            (row, from - row * ow, to - from, from - tile.start)
        })
    }

    /// Input row under weight row `i` at result row `oy`.
    fn input_row(&self, oy: usize, i: usize) -> Option<usize> {
        let at = oy * self.config.stride[0] + i * self.config.dilation[0];
        at.checked_sub(self.config.padding[0]).filter(|y| *y < self.n.h)
    }

    /// Result columns of `first..first + len` whose input under weight column `j` lies in the image, and that input.
    fn input_columns(&self, first: usize, len: usize, j: usize) -> (Range<usize>, usize) {
        let (stride, left) = (self.config.stride[1], self.config.padding[2]);
        let tap = j * self.config.dilation[1];
        let from = left.saturating_sub(tap).div_ceil(stride).clamp(first, first + len);
        let to = (self.n.w + left).saturating_sub(tap).div_ceil(stride).clamp(from, first + len);
        (from..to, (from * stride + tap).saturating_sub(left))
    }

    /// Lays out the rows `rows` of the columns `tile`: row (k, i, j) holds the pixels of channel `k` under weight (i, j).
    /// `x`: one group of one image; the rows of `dst` are `ldd` apart.
    fn lay_out(&self, x: &[f32], rows: Range<usize>, tile: &Range<usize>, dst: &mut [f32], ldd: usize) {
        let (kk, plane, stride) = (self.n.kh * self.n.kw, self.n.h * self.n.w, self.config.stride[1]);
        for (row, dst) in rows.zip(dst.chunks_mut(ldd)) {
            let dst = &mut dst[..tile.len()];
            let (k, i, j) = (row / kk, row % kk / self.n.kw, row % self.n.kw);
            let x = &x[k * plane..(k + 1) * plane];
            if self.plain() {
                dst.copy_from_slice(&x[tile.clone()]);
                continue;
            }
            for (oy, first, len, at) in self.segments(tile) {
                let dst = &mut dst[at..at + len];
                let Some(y) = self.input_row(oy, i) else {
                    dst.fill(0.0);
                    continue;
                };
                let (inside, from) = self.input_columns(first, len, j);
                let (a, b) = (inside.start - first, inside.end - first);
                dst[..a].fill(0.0);
                dst[b..].fill(0.0);
                if a == b {
                    continue;
                }
                let src = &x[y * self.n.w + from..(y + 1) * self.n.w];
                if stride == 1 {
                    dst[a..b].copy_from_slice(&src[..b - a]);
                } else {
                    dst[a..b].iter_mut().zip(src.iter().step_by(stride)).for_each(|(d, s)| *d = *s);
                }
            }
        }
    }

    /// Adds laid out gradients back to the pixels they belong to: the adjoint of [`lay_out`](Self::lay_out).
    fn add_back(&self, src: &[f32], rows: Range<usize>, tile: &Range<usize>, dx: &mut [f32]) {
        let (kk, plane, stride) = (self.n.kh * self.n.kw, self.n.h * self.n.w, self.config.stride[1]);
        let first_channel = rows.start / kk;
        for (row, src) in rows.zip(src.chunks_exact(tile.len())) {
            let (k, i, j) = (row / kk - first_channel, row % kk / self.n.kw, row % self.n.kw);
            let dx = &mut dx[k * plane..(k + 1) * plane];
            for (oy, first, len, at) in self.segments(tile) {
                let Some(y) = self.input_row(oy, i) else { continue };
                let (inside, from) = self.input_columns(first, len, j);
                if inside.is_empty() {
                    continue;
                }
                let src = &src[at + inside.start - first..at + inside.end - first];
                let dx = &mut dx[y * self.n.w + from..(y + 1) * self.n.w];
                if stride == 1 {
                    dx.iter_mut().zip(src).for_each(|(d, s)| *d += s);
                } else {
                    dx.iter_mut().step_by(stride).zip(src).for_each(|(d, s)| *d += s);
                }
            }
        }
    }

    /// The rows of `weight`, [o, depth], of every group as panels.
    fn panels(&self, weight: &[f32]) -> Vec<Vec<f32>> {
        let (og, depth) = (self.group().1, self.depth());
        weight.chunks_exact(og * depth).map(|w| pack(og, depth, |r, d| w[r * depth + d])).collect()
    }

    /// The convolution of `x` with `weight`: [o, c/g, kh, kw].
    pub fn run(&self, x: &[f32], weight: &[f32], finish: &Finish<'_>) -> Vec<f32> {
        self.run_panels(x, &self.panels(weight), finish)
    }

    fn run_panels(&self, x: &[f32], panels: &[Vec<f32>], finish: &Finish<'_>) -> Vec<f32> {
        let Sizes { b, c, h, w, o, g, .. } = self.n;
        let ((cg, og), depth, pixels) = (self.group(), self.depth(), self.pixels());
        let step = self.tile(depth + og);
        let tiles = pixels.div_ceil(step);
        let together = self.together(depth + og);
        // SAFETY: every tile is written.
        let mut y = unsafe { uncleared(b * o * pixels) };
        let out = Shared::new(&mut y);
        let task = |(columns, result): &mut (Reused, Reused), task: usize| {
            let (start, group, tile) = (task / (g * tiles) * together, task / tiles % g, task % tiles);
            let (images, tile) = (start..(start + together).min(b), tile * step..((tile + 1) * step).min(pixels));
            let (len, n) = (tile.len(), images.len() * tile.len());
            let (columns, result) = (columns.room(depth * n), result.room(og * n));
            for image in images.clone() {
                let x = &x[(image * c + group * cg) * h * w..][..cg * h * w];
                self.lay_out(x, 0..depth, &tile, &mut columns[(image - start) * len..], n);
            }
            product(&panels[group], og, depth, columns, n, n, result, n);
            for (r, row) in result.chunks_exact(n).enumerate() {
                let channel = group * og + r;
                for (image, row) in images.clone().zip(row.chunks_exact(len)) {
                    let place = (image * o + channel) * pixels + tile.start;
                    // SAFETY: each task writes its own tile of its own images and group.
                    finish.row(channel, place, row, unsafe { out.slice(place, len) });
                }
            }
        };
        (0..b.div_ceil(together) * g * tiles).into_par_iter().for_each_init(Default::default, task);
        y
    }

    /// Images per task, so that products of small ones are wide; an even number of tasks where several are joined.
    fn together(&self, rows: usize) -> usize {
        let fit = (TILE / rows.max(1)).clamp(48, 192) / self.pixels();
        if fit < 2 {
            return 1;
        }
        let tasks = self.n.b.div_ceil(fit).next_multiple_of(2);
        self.n.b.div_ceil(tasks).max(1)
    }

    /// The gradient of the input.
    pub fn input_grad(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, o, kh, kw, oh, ow, g } = self.n;
        let ((cg, og), kk, [dh, dw]) = (self.group(), kh * kw, self.config.dilation);
        let [top, bottom, left, right] = self.config.padding;
        let (high, wide) = ((kh - 1) * dh, (kw - 1) * dw);
        if self.config.stride == [1, 1] && top.max(bottom) <= high && left.max(right) <= wide {
            // With stride 1 it is the convolution of the gradient with the kernels turned around.
            let padding = [high - top, high - bottom, wide - left, wide - right];
            let n = Sizes { b, c: o, h: oh, w: ow, o: c, kh, kw, oh: h, ow: w, g };
            let turned = Self { n, config: Conv2d { padding, ..self.config } };
            // [o, c/g, kk] of each group to [c, o/g, kk], back to front
            let mut back = buffer(weight.len());
            back.par_chunks_mut(og * kk).enumerate().for_each(|(channel, back)| {
                let (group, k) = (channel / cg, channel % cg);
                for (r, back) in back.chunks_exact_mut(kk).enumerate() {
                    let from = &weight[((group * og + r) * cg + k) * kk..][..kk];
                    back.iter_mut().zip(from.iter().rev()).for_each(|(b, w)| *b = *w);
                }
            });
            let panels = turned.panels(&back);
            return turned.run_panels(dy, &panels, &Finish::default());
        }
        // Blocks of channels whose rows fill whole panels.
        let block = PANEL * (PANEL / kk).max(1);
        let blocks = cg.div_ceil(block);
        let panels: Vec<Vec<f32>> = (0..g * blocks)
            .map(|at| {
                let (group, first) = (at / blocks, at % blocks * block);
                let rows = block.min(cg - first) * kk;
                pack(rows, og, |row, r| weight[((group * og + r) * cg + first) * kk + row])
            })
            .collect();
        let (pixels, step) = (oh * ow, self.tile(block * kk + og));
        let mut dx = vec![0.0; b * c * h * w];
        let out = Shared::new(&mut dx);
        let task = |(columns, result): &mut (Vec<f32>, Vec<f32>), task: usize| {
            let (image, group, part) = (task / (g * blocks), task / blocks % g, task % blocks);
            let first = part * block;
            let live = block.min(cg - first);
            // SAFETY: each task writes its own channels of its own image.
            let dx = unsafe { out.slice((image * c + group * cg + first) * h * w, live * h * w) };
            for start in (0..pixels).step_by(step) {
                let tile = start..(start + step).min(pixels);
                let n = tile.len();
                columns.clear();
                for r in 0..og {
                    let at = (image * o + group * og + r) * pixels;
                    columns.extend_from_slice(&dy[at + tile.start..at + tile.end]);
                }
                result.resize(live * kk * n, 0.0);
                product(&panels[group * blocks + part], live * kk, og, columns, n, n, result, n);
                self.add_back(result, first * kk..(first + live) * kk, &tile, dx);
            }
        };
        (0..b * g * blocks).into_par_iter().for_each_init(Default::default, task);
        dx
    }

    /// The gradient of the weights, summed over images and tiles in their order.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let Sizes { b, c, h, w, o, g, .. } = self.n;
        let ((cg, og), depth, pixels) = (self.group(), self.depth(), self.pixels());
        // A task makes some rows of the laid out matrix; the partition depends on the shape alone.
        let rows = depth.div_ceil(depth.div_ceil(48).clamp(2, 8)).next_multiple_of(6);
        let parts = depth.div_ceil(rows);
        let step = pixels.min(RUN);
        // Small images are taken several at a time, so that inner products are long.
        let together = (RUN / pixels).clamp(1, b);
        let gathered = (together > 1).then(|| side_by_side(dy, b, o));
        let mut grad = vec![0.0; o * depth];
        let out = Shared::new(&mut grad);
        let task = |(columns, block): &mut (Vec<f32>, Vec<f32>), task: usize| {
            let (group, first) = (task / parts, task % parts * rows);
            let live = rows.min(depth - first);
            block.clear();
            block.resize(og * live, 0.0);
            for start in (0..b).step_by(together) {
                let images = start..(start + together).min(b);
                for at in (0..pixels).step_by(step) {
                    let tile = at..(at + step).min(pixels);
                    let n = images.len() * tile.len();
                    columns.resize(live * n, 0.0);
                    for image in images.clone() {
                        let x = &x[(image * c + group * cg) * h * w..][..cg * h * w];
                        let to = &mut columns[(image - start) * tile.len()..];
                        self.lay_out(x, first..first + live, &tile, to, n);
                    }
                    let (dy, ldy) = match &gathered {
                        Some(all) => (&all[(group * og * b + start) * pixels..], b * pixels),
                        None => (&dy[(start * o + group * og) * pixels + at..], pixels),
                    };
                    dots(dy, ldy, og, columns, n, live, n, block, live);
                }
            }
            for (r, block) in block.chunks_exact(live).enumerate() {
                // SAFETY: each task writes its own rows of the laid out matrix, which are columns here.
                unsafe { out.slice((group * og + r) * depth + first, live) }.copy_from_slice(block);
            }
        };
        (0..g * parts).into_par_iter().for_each_init(Default::default, task);
        grad
    }
}
