//! Matrix products on one thread, for operands that convolution lays out itself.
//!
//! [`product`] takes its left operand as panels of eight rows and its right one as it lies; [`dots`] takes the inner
//! products of rows. Both keep a tile of the result in registers and sum over the inner dimension in order.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use crate::matmul::buffer;
use crate::simd::{Lanes, simd_fn};
use rayon::prelude::*;

/// Rows of a panel.
pub(super) const PANEL: usize = 8;

/// The matrix [rows, depth] with entries `at(row, k)` as panels [ceil(rows / 8), depth, 8]; missing rows are zero.
pub(super) fn pack(rows: usize, depth: usize, at: impl Fn(usize, usize) -> f32 + Sync) -> Vec<f32> {
    let mut panels = buffer(rows.div_ceil(PANEL) * depth * PANEL);
    panels.par_chunks_mut((depth * PANEL).max(1)).enumerate().for_each(|(p, panel)| {
        for r in 0..PANEL.min(rows - p * PANEL) {
            for (k, to) in panel.chunks_exact_mut(PANEL).enumerate() {
                to[r] = at(p * PANEL + r, k);
            }
        }
    });
    panels
}

/// Eight rows by `VECTORS` vectors of `a b`, from column `j` of `b` on; `tail` values of the last vector count.
#[inline(always)]
fn tile<V: Lanes, const VECTORS: usize>(
    a: &[f32],
    b: &[f32],
    ldb: usize,
    j: usize,
    tail: usize,
) -> [[V; VECTORS]; PANEL] {
    let mut acc = [[V::splat(0.0); VECTORS]; PANEL];
    for (k, a) in a.chunks_exact(PANEL).enumerate() {
        let row = &b[k * ldb + j..];
        let mut right = [V::splat(0.0); VECTORS];
        for v in 0..VECTORS {
            right[v] = if tail == V::N || v + 1 < VECTORS {
                V::load(&row[v * V::N..])
            } else {
                V::load_part(&row[v * V::N..v * V::N + tail], 0.0)
            };
        }
        for r in 0..PANEL {
            let left = V::splat(a[r]);
            for v in 0..VECTORS {
                acc[r][v] = left.fma(right[v], acc[r][v]);
            }
        }
    }
    acc
}

#[inline(always)]
fn put<V: Lanes, const VECTORS: usize>(
    acc: [[V; VECTORS]; PANEL],
    rows: usize,
    dst: &mut [f32],
    ldd: usize,
    tail: usize,
) {
    for r in 0..PANEL {
        if r < rows {
            for v in 0..VECTORS {
                let at = r * ldd + v * V::N;
                if tail == V::N || v + 1 < VECTORS {
                    acc[r][v].store(&mut dst[at..]);
                } else {
                    acc[r][v].store_part(&mut dst[at..at + tail]);
                }
            }
        }
    }
}

simd_fn! {
    /// `dst = a b`: `a` panels of [rows, depth], `b` [depth, n] with rows `ldb` apart, `dst` [rows, n] with rows `ldd`
    /// apart.
    pub(super) fn product<V>(
        a: &[f32], rows: usize, depth: usize, b: &[f32], ldb: usize, n: usize, dst: &mut [f32], ldd: usize,
    ) {
        assert!(depth > 0 && n <= ldb && (depth - 1) * ldb + n <= b.len() && n <= ldd, "operands of a product");
        assert!(rows == 0 || (rows - 1) * ldd + n <= dst.len(), "destination of a product");
        for (p, a) in a.chunks_exact(depth * PANEL).enumerate() {
            let (live, dst) = (PANEL.min(rows - p * PANEL), &mut dst[p * PANEL * ldd..]);
            let mut j = 0;
            if V::N == 16 {
                while j + 3 * V::N <= n {
                    put::<V, 3>(tile::<V, 3>(a, b, ldb, j, V::N), live, &mut dst[j..], ldd, V::N);
                    j += 3 * V::N;
                }
                if j + 2 * V::N <= n {
                    put::<V, 2>(tile::<V, 2>(a, b, ldb, j, V::N), live, &mut dst[j..], ldd, V::N);
                    j += 2 * V::N;
                }
            }
            while j + V::N <= n {
                put::<V, 1>(tile::<V, 1>(a, b, ldb, j, V::N), live, &mut dst[j..], ldd, V::N);
                j += V::N;
            }
            if j < n {
                put::<V, 1>(tile::<V, 1>(a, b, ldb, j, n - j), live, &mut dst[j..], ldd, n - j);
            }
        }
    }
}

/// Adds the inner products of `I` rows of `a` and `J` rows of `b` to `dst`.
#[inline(always)]
fn dot_tile<V: Lanes, const I: usize, const J: usize>(
    a: &[f32],
    lda: usize,
    b: &[f32],
    ldb: usize,
    len: usize,
    dst: &mut [f32],
    ldd: usize,
) {
    let mut acc = [[V::splat(0.0); J]; I];
    let whole = len / V::N * V::N;
    for t in (0..whole).step_by(V::N) {
        let mut left = [V::splat(0.0); I];
        for i in 0..I {
            left[i] = V::load(&a[i * lda + t..]);
        }
        for j in 0..J {
            let right = V::load(&b[j * ldb + t..]);
            for i in 0..I {
                acc[i][j] = left[i].fma(right, acc[i][j]);
            }
        }
    }
    if whole < len {
        for i in 0..I {
            let left = V::load_part(&a[i * lda + whole..i * lda + len], 0.0);
            for j in 0..J {
                acc[i][j] = left.fma(V::load_part(&b[j * ldb + whole..j * ldb + len], 0.0), acc[i][j]);
            }
        }
    }
    for i in 0..I {
        for j in 0..J {
            dst[i * ldd + j] += acc[i][j].sum();
        }
    }
}

simd_fn! {
    /// `dst += a b^T`: `a` [m, len] with rows `lda` apart, `b` [n, len] with rows `ldb` apart, `dst` [m, n] with rows
    /// `ldd` apart.
    pub(super) fn dots<V>(
        a: &[f32], lda: usize, m: usize, b: &[f32], ldb: usize, n: usize, len: usize, dst: &mut [f32], ldd: usize,
    ) {
        assert!(m == 0 || (m - 1) * lda + len <= a.len(), "left operand of inner products");
        assert!(n == 0 || (n - 1) * ldb + len <= b.len(), "right operand of inner products");
        let mut j = 0;
        while j < n {
            let wide = if V::N == 16 && j + 6 <= n { 6 } else if V::N < 16 && j + 2 <= n { 2 } else { 1 };
            let mut i = 0;
            while i < m {
                let (a, b, to) = (&a[i * lda..], &b[j * ldb..], &mut dst[i * ldd + j..]);
                let tall = if i + 4 <= m { 4 } else { 1 };
                match (tall, wide) {
                    (4, 6) => dot_tile::<V, 4, 6>(a, lda, b, ldb, len, to, ldd),
                    (4, 2) => dot_tile::<V, 4, 2>(a, lda, b, ldb, len, to, ldd),
                    (4, _) => dot_tile::<V, 4, 1>(a, lda, b, ldb, len, to, ldd),
                    (_, 6) => dot_tile::<V, 1, 6>(a, lda, b, ldb, len, to, ldd),
                    (_, 2) => dot_tile::<V, 1, 2>(a, lda, b, ldb, len, to, ldd),
                    _ => dot_tile::<V, 1, 1>(a, lda, b, ldb, len, to, ldd),
                }
                i += tall;
            }
            j += wide;
        }
    }
}
