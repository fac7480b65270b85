//! 3x3 convolution with stride 1 by the minimal filtering F(2x2, 3x3) of Winograd (Lavin and Gray, arXiv 1509.09308).
//!
//! A tile of 2x2 results takes 16 products instead of 36. With `V = B^T x B` of each 4x4 input tile and `U = G w G^T` of
//! each kernel, the result is `A^T (U V) A`, where the 16 products over channels are matrix products. The gradient of
//! the input is the same operation with kernels turned around; that of the weights is `G^T (A dy A^T)(V)^T G`.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use super::product::{PANEL, dots, product};
use crate::matmul::buffer;
use crate::ops::vision::conv::Finish;
use crate::reused::Reused;
use crate::shared::Shared;
use crate::simd::{Lanes, simd_fn};
use rayon::prelude::*;
use std::ops::Range;

/// Products of a tile.
const TAPS: usize = 16;
/// Values per call of [`dots`]: what is used again stays in the first-level cache.
const RUN: usize = 768;
/// Bytes of transformed input that one task keeps in its second-level cache.
const BLOCK_BYTES: usize = 512 << 10;
/// Bytes of transformed values that all tasks share through the third-level cache.
const SHARED_BYTES: usize = 12 << 20;

/// One convolution: `c` channels of [h, w] in, `o` of [oh, ow] out, `top` and `left` zeros before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    pub b: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub oh: usize,
    pub ow: usize,
    pub top: usize,
    pub left: usize,
}

/// Transformed kernels: [ceil(o / 8), 16, c, 8].
pub(super) struct Kernels(Reused);

/// `G w G^T` of the 3x3 kernel `w`.
fn kernel(w: [f32; 9]) -> [f32; TAPS] {
    // The rows of G are (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2 and (0, 0, 1).
    let line = |a: f32, b: f32, c: f32| [a, 0.5 * (a + b + c), 0.5 * (a - b + c), c];
    let columns: [[f32; 4]; 3] = std::array::from_fn(|j| line(w[j], w[3 + j], w[6 + j]));
    let mut u = [0.0; TAPS];
    for i in 0..4 {
        u[4 * i..4 * i + 4].copy_from_slice(&line(columns[0][i], columns[1][i], columns[2][i]));
    }
    u
}

/// `G^T u G`: the adjoint of [`kernel`].
fn kernel_grad(u: [f32; TAPS]) -> [f32; 9] {
    let line = |a: f32, b: f32, c: f32, d: f32| [a + 0.5 * (b + c), 0.5 * (b - c), 0.5 * (b + c) + d];
    let rows: [[f32; 3]; 4] = std::array::from_fn(|i| line(u[4 * i], u[4 * i + 1], u[4 * i + 2], u[4 * i + 3]));
    let mut w = [0.0; 9];
    for j in 0..3 {
        let column = line(rows[0][j], rows[1][j], rows[2][j], rows[3][j]);
        (0..3).for_each(|i| w[3 * i + j] = column[i]);
    }
    w
}

impl Kernels {
    /// From kernels `at(o, c)`.
    fn new(o: usize, c: usize, at: impl Fn(usize, usize) -> [f32; 9] + Sync) -> Self {
        // Rows that are missing in the last panel keep what was there; their products are never stored.
        let mut u = Reused::new(o.div_ceil(PANEL) * TAPS * c * PANEL);
        u.par_chunks_mut(TAPS * c * PANEL).enumerate().for_each(|(p, panel)| {
            for r in 0..PANEL.min(o - p * PANEL) {
                for k in 0..c {
                    for (tap, v) in kernel(at(p * PANEL + r, k)).into_iter().enumerate() {
                        panel[(tap * c + k) * PANEL + r] = v;
                    }
                }
            }
        });
        Self(u)
    }

    /// For the result, from `weight`: [o, c, 3, 3].
    pub fn forward(weight: &[f32], o: usize, c: usize) -> Self {
        Self::new(o, c, |o, k| nine(weight, o * c + k))
    }

    /// For the gradient of the input, whose channels become results.
    pub fn turned(weight: &[f32], o: usize, c: usize) -> Self {
        Self::new(c, o, |k, o| {
            let mut w = nine(weight, o * c + k);
            w.reverse();
            w
        })
    }
}

fn nine(weight: &[f32], at: usize) -> [f32; 9] {
    std::array::from_fn(|i| weight[9 * at + i])
}

#[inline(always)]
fn get<V: Lanes>(src: &[f32], n: usize) -> V {
    if n == V::N { V::load(src) } else { V::load_part(&src[..n], 0.0) }
}

#[inline(always)]
fn put<V: Lanes>(v: V, dst: &mut [f32], n: usize) {
    if n == V::N { v.store(dst) } else { v.store_part(&mut dst[..n]) }
}

simd_fn! {
    /// `B^T d B` of `rows` by `tw` tiles: `even` and `odd` hold the even and odd columns of `2 rows + 2` input rows, each
    /// `tw + 1` wide; `out`: [16, rows tw].
    fn input_tiles<V>(even: &[f32], odd: &[f32], rows: usize, tw: usize, out: &mut [f32]) {
        let (wide, n) = (tw + 1, rows * tw);
        for i in 0..rows {
            let mut j = 0;
            while j < tw {
                let m = V::N.min(tw - j);
                let mut t = [[V::splat(0.0); 4]; 4];
                for r in 0..4 {
                    let at = (2 * i + r) * wide + j;
                    let (d0, d2) = (get::<V>(&even[at..], m), get::<V>(&even[at + 1..], m));
                    let (d1, d3) = (get::<V>(&odd[at..], m), get::<V>(&odd[at + 1..], m));
                    t[r] = [d0.sub(d2), d1.add(d2), d2.sub(d1), d1.sub(d3)];
                }
                for k in 0..4 {
                    let at = i * tw + j;
                    put(t[0][k].sub(t[2][k]), &mut out[k * n + at..], m);
                    put(t[1][k].add(t[2][k]), &mut out[(4 + k) * n + at..], m);
                    put(t[2][k].sub(t[1][k]), &mut out[(8 + k) * n + at..], m);
                    put(t[1][k].sub(t[3][k]), &mut out[(12 + k) * n + at..], m);
                }
                j += m;
            }
        }
    }
}

simd_fn! {
    /// `A g A^T` of `rows` by `tw` tiles of 2x2 gradients, given as [`input_tiles`] but in `2 rows` rows.
    fn grad_tiles<V>(even: &[f32], odd: &[f32], rows: usize, tw: usize, out: &mut [f32]) {
        let (wide, n, zero) = (tw + 1, rows * tw, V::splat(0.0));
        for i in 0..rows {
            let mut j = 0;
            while j < tw {
                let m = V::N.min(tw - j);
                let mut t = [[zero; 4]; 2];
                for r in 0..2 {
                    let at = (2 * i + r) * wide + j;
                    let (e, o) = (get::<V>(&even[at..], m), get::<V>(&odd[at..], m));
                    t[r] = [e, e.add(o), e.sub(o), zero.sub(o)];
                }
                for k in 0..4 {
                    let at = i * tw + j;
                    put(t[0][k], &mut out[k * n + at..], m);
                    put(t[0][k].add(t[1][k]), &mut out[(4 + k) * n + at..], m);
                    put(t[0][k].sub(t[1][k]), &mut out[(8 + k) * n + at..], m);
                    put(zero.sub(t[1][k]), &mut out[(12 + k) * n + at..], m);
                }
                j += m;
            }
        }
    }
}

simd_fn! {
    /// `A^T m A` of `tw` tiles: `m` holds 16 rows `stride` apart; `out`: four rows of `tw` values, even and odd columns of
    /// the upper and the lower row.
    fn output_tiles<V>(m: &[f32], stride: usize, tw: usize, out: &mut [f32]) {
        let mut j = 0;
        while j < tw {
            let n = V::N.min(tw - j);
            let mut upper = [V::splat(0.0); 4];
            let mut lower = [V::splat(0.0); 4];
            for k in 0..4 {
                let m0 = get::<V>(&m[k * stride + j..], n);
                let m1 = get::<V>(&m[(4 + k) * stride + j..], n);
                let m2 = get::<V>(&m[(8 + k) * stride + j..], n);
                let m3 = get::<V>(&m[(12 + k) * stride + j..], n);
                upper[k] = m0.add(m1).add(m2);
                lower[k] = m1.sub(m2).sub(m3);
            }
            put(upper[0].add(upper[1]).add(upper[2]), &mut out[j..], n);
            put(upper[1].sub(upper[2]).sub(upper[3]), &mut out[tw + j..], n);
            put(lower[0].add(lower[1]).add(lower[2]), &mut out[2 * tw + j..], n);
            put(lower[1].sub(lower[2]).sub(lower[3]), &mut out[3 * tw + j..], n);
            j += n;
        }
    }
}

/// Even and odd columns of `rows` rows of `plane` [h, w] from row `y` and column `x` on, zeros outside; `wide` of each.
#[derive(Default)]
struct Split {
    even: Vec<f32>,
    odd: Vec<f32>,
    tiles: Vec<f32>,
}

impl Split {
    fn fill(&mut self, plane: &[f32], w: usize, (y, x): (isize, isize), rows: usize, wide: usize) {
        let h = plane.len() / w;
        for (part, offset) in [(&mut self.even, 0), (&mut self.odd, 1)] {
            part.clear();
            part.resize(rows * wide, 0.0);
            // Column x + offset + 2 j lies in [0, w) for j in first..end.
            let start = x + offset;
            let first = if start < 0 { (-start + 1) as usize / 2 } else { 0 };
            let end = ((w as isize - start + 1).max(0) as usize / 2).min(wide);
            for (r, to) in part.chunks_exact_mut(wide).enumerate() {
                let row = y + r as isize;
                if row < 0 || row >= h as isize || first >= end {
                    continue;
                }
                let from = &plane[row as usize * w..(row as usize + 1) * w];
                let from = &from[(start + 2 * first as isize) as usize..];
                for (to, from) in to[first..end].iter_mut().zip(from.iter().step_by(2)) {
                    *to = *from;
                }
            }
        }
    }
}

/// Scratch of one task.
#[derive(Default)]
struct Scratch {
    split: Split,
    v: Vec<f32>,
    m: Vec<f32>,
    rows: Vec<f32>,
}

impl Winograd {
    fn th(&self) -> usize {
        self.oh.div_ceil(2)
    }

    fn tw(&self) -> usize {
        self.ow.div_ceil(2)
    }

    /// Splits a range of tile rows, counted over the whole batch, into runs within one image: (image, rows).
    fn runs(&self, range: Range<usize>) -> Vec<(usize, Range<usize>)> {
        let th = self.th();
        let (mut at, mut runs) = (range.start, Vec::new());
        while at < range.end {
            let (image, row) = (at / th, at % th);
            let n = (th - row).min(range.end - at);
            runs.push((image, row..row + n));
            at += n;
        }
        runs
    }

    /// Writes `V` of channel `k` for the tile rows `range` to `v`: [16, c, columns].
    fn input(&self, x: &[f32], k: usize, range: &Range<usize>, split: &mut Split, v: &Shared) {
        let (tw, columns) = (self.tw(), range.len() * self.tw());
        let mut at = 0;
        for (image, rows) in self.runs(range.clone()) {
            let plane = &x[(image * self.c + k) * self.h * self.w..][..self.h * self.w];
            let corner = (2 * rows.start as isize - self.top as isize, -(self.left as isize));
            split.fill(plane, self.w, corner, 2 * rows.len() + 2, tw + 1);
            let n = rows.len() * tw;
            split.tiles.resize(TAPS * n, 0.0);
            input_tiles(&split.even, &split.odd, rows.len(), tw, &mut split.tiles);
            for (tap, tiles) in split.tiles.chunks_exact(n).enumerate() {
                // SAFETY: each task writes the rows of its own channel.
                unsafe { v.slice((tap * self.c + k) * columns + at, n) }.copy_from_slice(tiles);
            }
            at += n;
        }
    }

    /// Writes `A dy A^T` of channel `k` of the gradient `dy` to `v`: [16, o, columns].
    fn grad(&self, dy: &[f32], k: usize, range: &Range<usize>, split: &mut Split, v: &Shared) {
        let (tw, columns) = (self.tw(), range.len() * self.tw());
        let mut at = 0;
        for (image, rows) in self.runs(range.clone()) {
            let plane = &dy[(image * self.o + k) * self.oh * self.ow..][..self.oh * self.ow];
            split.fill(plane, self.ow, (2 * rows.start as isize, 0), 2 * rows.len(), tw + 1);
            let n = rows.len() * tw;
            split.tiles.resize(TAPS * n, 0.0);
            grad_tiles(&split.even, &split.odd, rows.len(), tw, &mut split.tiles);
            for (tap, tiles) in split.tiles.chunks_exact(n).enumerate() {
                // SAFETY: each task writes the rows of its own channel.
                unsafe { v.slice((tap * self.o + k) * columns + at, n) }.copy_from_slice(tiles);
            }
            at += n;
        }
    }

    /// Results of the panel `p` of channels for the tile rows `range` from their `v`.
    #[allow(clippy::too_many_arguments)]
    fn panel(
        &self,
        p: usize,
        range: &Range<usize>,
        u: &Kernels,
        v: &[f32],
        finish: &Finish<'_>,
        y: &Shared,
        m: &mut Vec<f32>,
        lines: &mut Vec<f32>,
    ) {
        let (tw, columns) = (self.tw(), range.len() * self.tw());
        let live = PANEL.min(self.o - p * PANEL);
        m.resize(TAPS * PANEL * columns, 0.0);
        lines.resize(8 * tw, 0.0);
        let size = self.c * PANEL;
        for tap in 0..TAPS {
            let (a, b) = (&u.0[(p * TAPS + tap) * size..][..size], &v[tap * self.c * columns..][..self.c * columns]);
            product(a, live, self.c, b, columns, columns, &mut m[tap * PANEL * columns..], columns);
        }
        for r in 0..live {
            let o = p * PANEL + r;
            let mut at = 0;
            for (image, rows) in self.runs(range.clone()) {
                for i in rows {
                    let (tiles, pairs) = lines.split_at_mut(4 * tw);
                    output_tiles(&m[r * columns + at..], PANEL * columns, tw, tiles);
                    for half in 0..2.min(self.oh - 2 * i) {
                        let (even, odd) = (&tiles[2 * half * tw..][..tw], &tiles[(2 * half + 1) * tw..][..tw]);
                        for (pair, (e, o)) in pairs.chunks_exact_mut(2).zip(even.iter().zip(odd)) {
                            (pair[0], pair[1]) = (*e, *o);
                        }
                        let place = ((image * self.o + o) * self.oh + 2 * i + half) * self.ow;
                        // SAFETY: each task writes the result rows of its own channels and tile rows.
                        let dst = unsafe { y.slice(place, self.ow) };
                        finish.row(o, place, &pairs[..self.ow], dst);
                    }
                    at += tw;
                }
            }
        }
    }

    /// Tile rows per task when a task holds all channels of them.
    fn rows_per_task(&self) -> usize {
        let most = (BLOCK_BYTES / (4 * TAPS * self.c * self.tw())).clamp(1, self.b * self.th());
        // The fullest vectors, and of equally full ones the most rows.
        let fill = |rows: usize| {
            let n = rows * self.tw();
            n * 1000 / n.next_multiple_of(16)
        };
        (1..=most).max_by_key(|&rows| (fill(rows), rows)).unwrap_or(1)
    }

    /// The convolution of `x`: [b, c, h, w] into `y`: [b, o, oh, ow].
    pub fn run(&self, x: &[f32], u: &Kernels, finish: &Finish<'_>, y: &mut [f32]) {
        let (all, y) = (self.b * self.th(), Shared::new(y));
        let panels = self.o.div_ceil(PANEL);
        // Small kernels stay in a core's cache, so a task takes a block of tiles; large ones should be read once, so a
        // task takes some of them and all tiles.
        if self.c * self.o * 4 * TAPS <= 2 << 20 {
            let step = self.rows_per_task();
            (0..all.div_ceil(step)).into_par_iter().for_each_init(Scratch::default, |s, task| {
                let range = task * step..((task + 1) * step).min(all);
                s.v.resize(TAPS * self.c * range.len() * self.tw(), 0.0);
                let v = Shared::new(&mut s.v);
                (0..self.c).for_each(|k| self.input(x, k, &range, &mut s.split, &v));
                (0..panels).for_each(|p| self.panel(p, &range, u, &s.v, finish, &y, &mut s.m, &mut s.rows));
            });
            return;
        }
        let step = (SHARED_BYTES / 2 / (4 * TAPS * self.c * self.tw())).clamp(1, all);
        let mut v = Reused::new(TAPS * self.c * step * self.tw());
        for start in (0..all).step_by(step) {
            let range = start..(start + step).min(all);
            let v = &mut v[..TAPS * self.c * range.len() * self.tw()];
            let shared = Shared::new(v);
            let input = |split: &mut Split, k| self.input(x, k, &range, split, &shared);
            (0..self.c).into_par_iter().with_min_len(8).for_each_init(Split::default, input);
            let v = &*v;
            (0..panels).into_par_iter().for_each_init(Scratch::default, |s, p| {
                self.panel(p, &range, u, v, finish, &y, &mut s.m, &mut s.rows);
            });
        }
    }

    /// The gradient of the weights, [o, c, 3, 3].
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (all, c, o, tw) = (self.b * self.th(), self.c, self.o, self.tw());
        let step = (SHARED_BYTES / (4 * TAPS * (c + o) * tw)).clamp(1, all);
        let room = |rows: usize| Reused::new(TAPS * rows * step * tw);
        let (mut v, mut m, mut du) = (room(c), room(o), Reused::new(TAPS * o * c));
        du.fill(0.0);
        for start in (0..all).step_by(step) {
            let range = start..(start + step).min(all);
            let columns = range.len() * tw;
            let (to_v, to_m) = (Shared::new(&mut v), Shared::new(&mut m));
            let transform = |split: &mut Split, k: usize| match k.checked_sub(c) {
                None => self.input(x, k, &range, split, &to_v),
                Some(k) => self.grad(dy, k, &range, split, &to_m),
            };
            (0..c + o).into_par_iter().with_min_len(8).for_each_init(Split::default, transform);
            let rows = 32;
            du.par_chunks_mut(o * c).enumerate().for_each(|(tap, du)| {
                du.par_chunks_mut(rows * c).enumerate().for_each(|(part, du)| {
                    for at in (0..columns).step_by(RUN) {
                        let len = RUN.min(columns - at);
                        let a = &m[(tap * o + part * rows) * columns + at..];
                        let b = &v[tap * c * columns + at..];
                        dots(a, columns, du.len() / c, b, columns, c, len, du, c);
                    }
                });
            });
        }
        let mut dw = buffer(o * c * 9);
        dw.par_chunks_mut(9 * c).enumerate().for_each(|(row, dw)| {
            for (k, dw) in dw.chunks_exact_mut(9).enumerate() {
                let u = std::array::from_fn(|tap| du[(tap * o + row) * c + k]);
                dw.copy_from_slice(&kernel_grad(u));
            }
        });
        dw
    }
}
