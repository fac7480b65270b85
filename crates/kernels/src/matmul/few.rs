//! Products of a few rows with a right operand whose columns are contiguous, as in generation: each weight is read once,
//! where it lies.

#![allow(clippy::needless_range_loop, reason = "one index walks several vectors, and the loops unroll")]

use super::Mat;
use super::blocked::{Base, Ending};
use crate::simd::simd_fn;
use rayon::prelude::*;

/// Columns of a task.
const COLUMNS: usize = 128;
/// Multiplications below which a second thread costs more than it brings.
const PARALLEL: usize = 1 << 18;

simd_fn! {
    /// Inner products of `x` with four columns that start at `at`.
    fn dots<V>(x: &[f32], data: &[f32], at: [usize; 4]) -> [f32; 4] {
        let columns = [&data[at[0]..][..x.len()], &data[at[1]..][..x.len()], &data[at[2]..][..x.len()], &data[at[3]..][..x.len()]];
        let mut acc = [V::splat(0.0); 4];
        let whole = x.len() / V::N * V::N;
        for k in (0..whole).step_by(V::N) {
            let x = V::load(&x[k..]);
            for c in 0..4 {
                acc[c] = V::load(&columns[c][k..]).fma(x, acc[c]);
            }
        }
        if whole < x.len() {
            let tail = V::load_part(&x[whole..], 0.0);
            for c in 0..4 {
                acc[c] = V::load_part(&columns[c][whole..], 0.0).fma(tail, acc[c]);
            }
        }
        [acc[0].sum(), acc[1].sum(), acc[2].sum(), acc[3].sum()]
    }
}

/// Whether [`product`] serves: rows of `a` and columns of `b` are contiguous.
pub(super) fn fits(a: Mat<'_>, b: Mat<'_>) -> bool {
    a.col_stride == 1 && b.row_stride == 1 && a.cols > 0
}

/// `dst = ending(a b)`, with rows of `dst` starting `stride` apart.
///
/// # Safety
/// `b.cols` values at each of the `a.rows` rows from `dst` on must be valid for reads and writes and used by nobody else.
pub(super) unsafe fn product(dst: *mut f32, stride: usize, [a, b]: [Mat<'_>; 2], ending: Ending<'_>, threads: usize) {
    let (n, k, dst) = (b.cols, a.cols, Base(dst));
    let task = |first: usize| {
        let end = (first + COLUMNS).min(n);
        for j in (first..end).step_by(4) {
            // Missing columns stand for the last one; their sums are thrown away.
            let at = [j, j + 1, j + 2, j + 3].map(|column| column.min(n - 1) * b.col_stride);
            for r in 0..a.rows {
                let sums = dots(&a.data[r * a.row_stride..][..k], b.data, at);
                for (column, sum) in (j..end).zip(sums) {
                    // SAFETY: a value of the result in this task's columns (the caller's promise).
                    unsafe { ending.put(sum, column, dst.at(r * stride + column)) };
                }
            }
        }
    };
    if threads == 1 || a.rows * n * k < PARALLEL {
        (0..n).step_by(COLUMNS).for_each(task);
    } else {
        (0..n.div_ceil(COLUMNS)).into_par_iter().with_min_len(2).for_each(|at| task(at * COLUMNS));
    }
}
