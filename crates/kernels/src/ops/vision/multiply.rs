//! Matrix products on one thread with channels side by side: what is broadcast may lie anywhere, what is loaded lies in
//! blocks of [`BLOCK`] columns.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use crate::simd::{Lanes, simd_fn};

/// Columns of a block of the right operand and the result.
pub(super) const BLOCK: usize = 64;
/// Rows of a tile of the result that is kept in registers.
const ROWS: usize = 6;
/// Depth of a block of the right operand that stays in the first-level cache.
const DEPTH: usize = 128;

/// A left operand: value (r, k) lies at `rows[r] + columns[k]`.
#[derive(Clone, Copy)]
pub(super) struct Left<'a> {
    pub data: &'a [f32],
    pub rows: &'a [u32],
    pub columns: &'a [u32],
}

impl Left<'_> {
    fn fits(&self) -> bool {
        let last = |places: &[u32]| places.iter().fold(0, |last, at| last.max(*at)) as usize;
        last(self.rows) + last(self.columns) < self.data.len()
    }
}

/// Six rows by `C` vectors of a product; `tail` values of the last vector count.
///
/// # Safety
/// All of `a` plus any of `columns` must be valid; each row of the right operand, `BLOCK` values apart from `b` on and as
/// many as `columns`, must have `C - 1` whole vectors and `tail` more values.
#[inline(always)]
unsafe fn tile<V: Lanes, const C: usize>(
    a: [*const f32; ROWS],
    columns: &[u32],
    b: *const f32,
    tail: usize,
) -> [[V; C]; ROWS] {
    let mut acc = [[V::splat(0.0); C]; ROWS];
    for (k, column) in columns.iter().enumerate() {
        let mut right = [V::splat(0.0); C];
        for c in 0..C {
            let n = if c + 1 < C { V::N } else { tail };
            // SAFETY: within the row (the caller's promise).
            let row = unsafe { std::slice::from_raw_parts(b.add(k * BLOCK + c * V::N), n) };
            right[c] = if n == V::N { V::load(row) } else { V::load_part(row, 0.0) };
        }
        for r in 0..ROWS {
            // SAFETY: a value of the operand (the caller's promise).
            let left = V::splat(unsafe { *a[r].add(*column as usize) });
            for c in 0..C {
                acc[r][c] = left.fma(right[c], acc[r][c]);
            }
        }
    }
    acc
}

#[inline(always)]
fn put<V: Lanes, const C: usize>(acc: [[V; C]; ROWS], rows: usize, dst: &mut [f32], tail: usize, add: bool) {
    for r in 0..ROWS {
        if r < rows {
            for c in 0..C {
                let n = if c + 1 < C { V::N } else { tail };
                let dst = &mut dst[r * BLOCK + c * V::N..][..n];
                let mut sum = acc[r][c];
                if add {
                    sum = sum.add(if n == V::N { V::load(dst) } else { V::load_part(dst, 0.0) });
                }
                if n == V::N { sum.store(dst) } else { sum.store_part(dst) }
            }
        }
    }
}

simd_fn! {
    /// `dst = a b`, or `dst += a b` with `add`: `a` [rows, depth]; `b` [depth, n] and `dst` [rows, n] with rows
    /// [`BLOCK`] apart, `n <= BLOCK`. Sums run over blocks of depth in their order; without depth nothing is done.
    pub(super) fn multiply<V>(a: Left<'_>, b: &[f32], n: usize, dst: &mut [f32], add: bool) {
        let (rows, depth) = (a.rows.len(), a.columns.len());
        if rows * depth * n == 0 {
            return;
        }
        assert!(a.fits(), "left operand of a product");
        assert!(n <= BLOCK && (depth - 1) * BLOCK + n <= b.len(), "right operand of a product");
        assert!((rows - 1) * BLOCK + n <= dst.len(), "destination of a product");
        for from in (0..depth).step_by(DEPTH) {
            let (columns, add) = (&a.columns[from..depth.min(from + DEPTH)], add || from > 0);
            for first in (0..rows).step_by(ROWS) {
                let live = ROWS.min(rows - first);
                let mut left = [a.data.as_ptr(); ROWS];
                for r in 0..ROWS {
                    // Rows that are missing repeat the last one and are not stored.
                    left[r] = &raw const a.data[a.rows[first + r.min(live - 1)] as usize];
                }
                let mut j = 0;
                while j < n {
                    let (right, dst) = (&raw const b[from * BLOCK + j], &mut dst[first * BLOCK + j..]);
                    let vectors = (n - j).div_ceil(V::N).min(if V::N == 16 { 4 } else { 2 });
                    let tail = (n - j - (vectors - 1) * V::N).min(V::N);
                    // SAFETY: rows and columns lie within the operands (asserted).
                    unsafe {
                        match vectors {
                            4 => put(tile::<V, 4>(left, columns, right, tail), live, dst, tail, add),
                            3 => put(tile::<V, 3>(left, columns, right, tail), live, dst, tail, add),
                            2 => put(tile::<V, 2>(left, columns, right, tail), live, dst, tail, add),
                            _ => put(tile::<V, 1>(left, columns, right, tail), live, dst, tail, add),
                        }
                    }
                    j += vectors * V::N;
                }
            }
        }
    }
}

simd_fn! {
    /// `dst[j ldd + i] = src[i lds + j]` for `i < rows` and `j < cols`.
    pub(super) fn transpose<V>(src: &[f32], lds: usize, rows: usize, cols: usize, dst: &mut [f32], ldd: usize) {
        for i in (0..rows).step_by(V::N) {
            for j in (0..cols).step_by(V::N) {
                let (m, n) = (V::N.min(rows - i), V::N.min(cols - j));
                V::transpose(&src[i * lds + j..], lds, m, n, &mut dst[j * ldd + i..], ldd);
            }
        }
    }
}
