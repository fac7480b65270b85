//! Products in blocks that fit the caches (Goto and van de Geijn, ACM TOMS 34(3), 2008).
//!
//! The operand with fewer rows or columns is laid out once for all threads; the other one is cut into blocks of rows (or
//! columns), each laid out and used up by one thread. Every value of the result is summed over blocks of at most `DEPTH`
//! values of the inner dimension in their order, whatever the cut, so that the number of threads changes no bit.

use super::Mat;
use super::pack::{Panel, Source, pack};
use super::tile::{Left, Out, Right, block, panel_vectors, shape};
use crate::reused::Reused;
use rayon::prelude::*;
use std::cell::Cell;

/// Longest block of the inner dimension: a panel of 48 columns takes 108 KiB.
const DEPTH: usize = 576;
/// Rows of a block of the left operand, a multiple of every panel's rows: at most 648 KiB.
const ROWS: usize = 288;
/// Columns of a block of the right operand, a multiple of every panel's columns: at most 648 KiB.
const COLUMNS: usize = 288;
/// Multiplications below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 19;
/// Rows (columns) below which the other operand is read as it lies where that is possible.
const FEW: usize = 80;

thread_local! {
    /// Room for one block of either operand.
    static SLAB: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
}

/// A buffer that tasks find their own places in.
#[derive(Clone, Copy)]
pub(super) struct Base(pub *mut f32);

// SAFETY: tasks use disjoint parts (see the callers).
unsafe impl Send for Base {}
// SAFETY: as above.
unsafe impl Sync for Base {}

impl Base {
    /// # Safety
    /// The place must lie within the allocation.
    pub unsafe fn at(&self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// Values from the start of `buffer` to the next cache line.
fn to_line(buffer: &[f32]) -> usize {
    buffer.as_ptr().align_offset(64).min(15)
}

/// Runs `f` on `len` values of any content that belong to this thread.
fn with_slab(len: usize, f: impl FnOnce(&mut [f32])) {
    let mut slab = SLAB.take();
    if slab.len() < len + 16 {
        slab = vec![0.0; len + 16];
    }
    let start = to_line(&slab);
    f(&mut slab[start..start + len]);
    SLAB.set(slab);
}

/// Length of the blocks of an inner dimension of `k`.
fn depth_of(k: usize) -> usize {
    k.div_ceil(k.div_ceil(DEPTH).max(1))
}

/// The blocks of an inner dimension of `k`: start and length.
fn depths(k: usize) -> impl Iterator<Item = (usize, usize)> {
    let depth = depth_of(k);
    (0..k).step_by(depth.max(1)).map(move |k0| (k0, depth.min(k - k0)))
}

/// The panels of `n` columns.
fn panels(n: usize) -> Vec<Panel> {
    let [_, vectors, lanes] = shape();
    let (all, mut v, mut panels) = (n.div_ceil(lanes), 0, Vec::new());
    while v < all {
        let wide = panel_vectors(all - v, vectors);
        let (first, padded) = (v * lanes, wide * lanes);
        panels.push(Panel { first, width: padded.min(n - first), padded });
        v += wide;
    }
    panels
}

/// A right operand in panels, block by block of the inner dimension.
pub(crate) struct Packed {
    values: Reused,
    start: usize,
    k: usize,
    n: usize,
    padded: usize,
}

impl Packed {
    /// Lays out `b` on all threads.
    pub fn new(b: Mat<'_>) -> Self {
        let (k, n, padded) = (b.rows, b.cols, b.cols.next_multiple_of(shape()[2]));
        let mut values = Reused::new(padded * k + 16);
        let (start, all) = (to_line(&values), panels(n));
        // Few panels a task where blocks of the inner dimension are few, too.
        let groups = if k > DEPTH { 2 } else { 2 * rayon::current_num_threads() };
        let mut rest = &mut values[start..];
        let mut tasks = Vec::new();
        for (k0, depth) in depths(k) {
            for group in all.chunks(all.len().div_ceil(groups)) {
                let (own, others) = rest.split_at_mut(group.iter().map(|p| p.padded * depth).sum());
                rest = others;
                tasks.push((k0, depth, group, own));
            }
        }
        tasks.into_par_iter().with_max_len(1).for_each(|(k0, depth, group, own)| {
            let first = group[0].first;
            let data = &b.data[k0 * b.row_stride + first * b.col_stride..];
            let group: Vec<Panel> = group.iter().map(|p| Panel { first: p.first - first, ..*p }).collect();
            pack(Source { data, k_stride: b.row_stride, j_stride: b.col_stride }, depth, &group, own);
        });
        Self { values, start, k, n, padded }
    }

    fn block(&self, (k0, depth): (usize, usize)) -> Right {
        let data = self.values[self.start + k0 * self.padded..][..depth * self.padded].as_ptr();
        Right { data, n: self.n, row: None }
    }
}

/// What becomes of the sums.
#[derive(Clone, Copy)]
pub(super) struct Ending<'a> {
    pub scale: f32,
    /// Whether the old content of the destination is added.
    pub add: bool,
    /// One value a column that is added.
    pub bias: Option<&'a [f32]>,
}

impl Ending<'_> {
    /// Writes one sum of column `j`.
    ///
    /// # Safety
    /// `dst` must be valid for reads and writes and used by nobody else.
    pub unsafe fn put(&self, sum: f32, j: usize, dst: *mut f32) {
        let sum = sum * self.scale + self.bias.map_or(0.0, |bias| bias[j]);
        // SAFETY: the caller's promise.
        unsafe { *dst = if self.add { *dst + sum } else { sum } };
    }
}

/// A destination of rows that start `stride` apart.
struct Goal<'a> {
    dst: Base,
    stride: usize,
    ending: Ending<'a>,
}

impl Goal<'_> {
    /// # Safety
    /// As [`block`], for the part of the result from (i, j) on.
    unsafe fn multiply(&self, a: Left, b: Right, (k0, depth): (usize, usize), [i, j]: [usize; 2]) {
        let Ending { scale, add, bias } = self.ending;
        let bias = bias.filter(|_| k0 == 0).map_or(std::ptr::null(), |bias| bias[j..j + b.n].as_ptr());
        // SAFETY: (i, j) lies within the result, and the operands are as `block` needs them (the caller's promises).
        unsafe {
            let data = self.dst.at(i * self.stride + j);
            block(a, b, depth, Out { data, row: self.stride, scale, add: add || k0 > 0, bias });
        }
    }
}

/// The left operand, as it lies or to be laid out.
#[derive(Clone, Copy)]
struct Rows<'a> {
    a: Mat<'a>,
    in_place: bool,
    /// Rows of a panel.
    panel: usize,
}

impl<'a> Rows<'a> {
    fn new(a: Mat<'a>, n: usize) -> Self {
        Self { a, in_place: a.col_stride == 1 || n < FEW, panel: shape()[0] }
    }

    /// Room that `m` rows need.
    fn len(&self, m: usize, depth: usize) -> usize {
        if self.in_place { 0 } else { m.next_multiple_of(self.panel) * depth }
    }

    /// Rows `i .. i + m` of one block, laid out in `slab` if need be.
    fn take(&self, i: usize, m: usize, (k0, depth): (usize, usize), slab: &mut [f32]) -> Left {
        let Mat { data, row_stride, col_stride, .. } = self.a;
        let data = &data[i * row_stride + k0 * col_stride..];
        if self.in_place {
            let panel = self.panel * row_stride;
            return Left { data: data.as_ptr(), m, panel, row: row_stride, step: col_stride };
        }
        let panels = (0..m).step_by(self.panel);
        let panels = panels.map(|first| Panel { first, width: self.panel.min(m - first), padded: self.panel });
        let from = Source { data, k_stride: col_stride, j_stride: row_stride };
        pack(from, depth, &panels.collect::<Vec<_>>(), slab);
        self.packed(slab, m, depth)
    }

    fn packed(&self, data: &[f32], m: usize, depth: usize) -> Left {
        Left { data: data.as_ptr(), m, panel: self.panel * depth, row: 1, step: self.panel }
    }
}

/// `dst = ending(a b)`, with rows of `dst` starting `stride` apart.
///
/// # Safety
/// `b.cols` values at each of the `a.rows` rows from `dst` on must be valid for reads and writes and used by nobody else.
pub(super) unsafe fn product(dst: *mut f32, stride: usize, [a, b]: [Mat<'_>; 2], ending: Ending<'_>, threads: usize) {
    let goal = Goal { dst: Base(dst), stride, ending };
    if threads == 1 || a.rows * b.cols * a.cols < PARALLEL {
        goal.here(a, b);
    } else if a.rows >= b.cols {
        goal.by_rows(a, &Packed::new(b), threads);
    } else {
        goal.by_columns(a, b, threads);
    }
}

/// [`product`] without gaps between rows, with a right operand that is laid out already, on all threads.
///
/// # Safety
/// `a.rows` times the operand's columns must be valid for writes at `dst` and used by nobody else.
pub(super) unsafe fn product_packed(dst: *mut f32, a: Mat<'_>, b: &Packed, ending: Ending<'_>) {
    Goal { dst: Base(dst), stride: b.n, ending }.by_rows(a, b, rayon::current_num_threads());
}

impl Goal<'_> {
    /// On the calling thread.
    fn here(&self, a: Mat<'_>, b: Mat<'_>) {
        let (m, n, k, lanes) = (a.rows, b.cols, a.cols, shape()[2]);
        let rows = Rows::new(a, n);
        let in_place = b.col_stride == 1 && n.is_multiple_of(lanes) && m < FEW;
        let left_len = rows.len(m.min(ROWS), depth_of(k));
        let right_len = if in_place { 0 } else { n.min(COLUMNS).next_multiple_of(lanes) * depth_of(k) };
        with_slab(left_len + right_len, |slab| {
            let (left_slab, right_slab) = slab.split_at_mut(left_len);
            for (j, n) in cut(n, COLUMNS) {
                for block in depths(k) {
                    let right = if in_place {
                        Right { data: b.data[block.0 * b.row_stride + j..].as_ptr(), n, row: Some(b.row_stride) }
                    } else {
                        columns(b, j, n, block, right_slab)
                    };
                    for (i, m) in cut(m, ROWS) {
                        let left = rows.take(i, m, block, left_slab);
                        // SAFETY: this thread computes everything.
                        unsafe { self.multiply(left, right, block, [i, j]) };
                    }
                }
            }
        });
    }

    /// Each thread takes blocks of rows.
    fn by_rows(&self, a: Mat<'_>, b: &Packed, threads: usize) {
        let (m, rows) = (a.rows, Rows::new(a, b.n));
        let size = m.div_ceil(m.div_ceil(ROWS).next_multiple_of(threads)).next_multiple_of(rows.panel);
        cut(m, size).collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|(i, m)| {
            with_slab(rows.len(m, depth_of(b.k)), |slab| {
                for block in depths(b.k) {
                    let left = rows.take(i, m, block, slab);
                    // SAFETY: these rows of the result are this task's own.
                    unsafe { self.multiply(left, b.block(block), block, [i, 0]) };
                }
            });
        });
    }

    /// Each thread takes blocks of columns; the left operand is laid out first unless it can stay as it is.
    fn by_columns(&self, a: Mat<'_>, b: Mat<'_>, threads: usize) {
        let (m, n, k, lanes) = (a.rows, b.cols, a.cols, shape()[2]);
        let rows = Rows::new(a, n);
        let per_value = rows.len(m, 1);
        let mut packed = Reused::new(per_value * k);
        if !rows.in_place {
            let mut rest = &mut packed[..];
            let mut tasks = Vec::new();
            for block in depths(k) {
                for (i, m) in cut(m, ROWS) {
                    let (own, others) = rest.split_at_mut(rows.len(m, block.1));
                    rest = others;
                    tasks.push((i, m, block, own));
                }
            }
            tasks.into_par_iter().for_each(|(i, m, block, own)| {
                rows.take(i, m, block, own);
            });
        }
        let size = n.div_ceil(n.div_ceil(COLUMNS).next_multiple_of(threads)).next_multiple_of(lanes);
        cut(n, size).collect::<Vec<_>>().into_par_iter().with_max_len(1).for_each(|(j, n)| {
            with_slab(n.next_multiple_of(lanes) * depth_of(k), |slab| {
                for block in depths(k) {
                    let right = columns(b, j, n, block, slab);
                    for (i, m) in cut(m, ROWS) {
                        let left = if rows.in_place {
                            rows.take(i, m, block, &mut [])
                        } else {
                            rows.packed(&packed[block.0 * per_value + i * block.1..], m, block.1)
                        };
                        // SAFETY: these columns of the result are this task's own.
                        unsafe { self.multiply(left, right, block, [i, j]) };
                    }
                }
            });
        });
    }
}

/// `0 .. n` in pieces of `size`: start and length.
fn cut(n: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..n).step_by(size.max(1)).map(move |first| (first, size.min(n - first)))
}

/// Columns `j .. j + n` of one block of the right operand, laid out in `slab`.
fn columns(b: Mat<'_>, j: usize, n: usize, (k0, depth): (usize, usize), slab: &mut [f32]) -> Right {
    let data = &b.data[k0 * b.row_stride + j * b.col_stride..];
    let from = Source { data, k_stride: b.row_stride, j_stride: b.col_stride };
    pack(from, depth, &panels(n), slab);
    Right { data: slab.as_ptr(), n, row: None }
}
