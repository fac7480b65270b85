//! The innermost loops of a product: a tile of the result is held in registers while the inner dimension runs.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use crate::simd::{Lanes, simd_fn};

/// Rows `m` of the left operand: the value (i, k) lies at `data + i / ROWS * panel + i % ROWS * row + k * step`.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub data: *const f32,
    pub m: usize,
    pub panel: usize,
    pub row: usize,
    pub step: usize,
}

/// Columns of the right operand, `n` of them.
#[derive(Clone, Copy)]
pub(super) struct Right {
    pub data: *const f32,
    pub n: usize,
    /// Distance of rows; none where panels lie one after the other, each `depth` rows of its width in whole vectors.
    pub row: Option<usize>,
}

/// The result, rows `row` apart.
#[derive(Clone, Copy)]
pub(super) struct Out {
    pub data: *mut f32,
    pub row: usize,
    pub scale: f32,
    /// Whether the old content is added.
    pub add: bool,
    /// One value a column that is added, or null.
    pub bias: *const f32,
}

/// The width in vectors of the next panel where `left` vectors remain. Four become two and two, which keep the arithmetic
/// units busier than three and one.
pub(super) fn panel_vectors(left: usize, most: usize) -> usize {
    if left == 4 && most == 3 { 2 } else { left.min(most) }
}

/// Values of a cache line.
const LINE: usize = 16;

/// `sum_k a(r, k) b(k, c)` in the order of k, while `depth` cache lines from `ahead` on are asked for.
///
/// # Safety
/// `depth` values `step` apart must be readable from each of `a`, and `C` vectors at each of `depth` rows of `b`.
#[inline(always)]
unsafe fn tile<V: Lanes, const R: usize, const C: usize>(
    a: [*const f32; R],
    step: usize,
    b: *const f32,
    ldb: usize,
    depth: usize,
    ahead: *const f32,
) -> [[V; C]; R] {
    let mut acc = [[V::splat(0.0); C]; R];
    for k in 0..depth {
        V::prefetch(ahead.wrapping_add(k * LINE));
        let mut right = [V::splat(0.0); C];
        for c in 0..C {
            // SAFETY: vector `c` of row `k` (the caller's promise).
            right[c] = V::load(unsafe { std::slice::from_raw_parts(b.add(k * ldb + c * V::N), V::N) });
        }
        for r in 0..R {
            // SAFETY: value `k` of row `r` (the caller's promise).
            let left = V::splat(unsafe { *a[r].add(k * step) });
            for c in 0..C {
                acc[r][c] = left.fma(right[c], acc[r][c]);
            }
        }
    }
    acc
}

/// Writes the first `rows` rows and `width` columns of a tile to column `j` of `out`.
///
/// # Safety
/// Those values of `out` (and of its bias) must be valid and used by nobody else.
#[inline(always)]
unsafe fn put<V: Lanes, const R: usize, const C: usize>(
    acc: [[V; C]; R],
    out: Out,
    i: usize,
    j: usize,
    rows: usize,
    width: usize,
) {
    let scale = V::splat(out.scale);
    for r in 0..R {
        if r >= rows {
            break;
        }
        for c in 0..C {
            let at = c * V::N;
            let n = V::N.min(width - at);
            // SAFETY: within the tile's part of the result (the caller's promise).
            let dst = unsafe { std::slice::from_raw_parts_mut(out.data.add((i + r) * out.row + j + at), n) };
            let mut sum = acc[r][c].mul(scale);
            if !out.bias.is_null() {
                // SAFETY: the bias has a value for each column (the caller's promise).
                sum = sum.add(V::load_part(unsafe { std::slice::from_raw_parts(out.bias.add(j + at), n) }, 0.0));
            }
            if n == V::N {
                let old = if out.add { V::load(dst) } else { V::splat(0.0) };
                if out.add { sum.add(old).store(dst) } else { sum.store(dst) }
            } else if out.add {
                sum.add(V::load_part(dst, 0.0)).store_part(dst);
            } else {
                sum.store_part(dst);
            }
        }
    }
}

/// One panel of `C` vectors against all rows. The first tiles bring the panel after it nearer.
///
/// # Safety
/// As [`block`], for this panel.
#[inline(always)]
unsafe fn column<V: Lanes, const R: usize, const C: usize>(
    a: Left,
    b: *const f32,
    ldb: usize,
    depth: usize,
    out: Out,
    j: usize,
    width: usize,
) {
    // Where the operand lies in place, the next panel is no run of memory, and nothing new is asked for.
    let (after, packed) = (b.wrapping_add(depth * C * V::N), ldb == C * V::N);
    for i in (0..a.m).step_by(R) {
        let done = i / R * LINE;
        let ahead = if packed && done < C * V::N { after.wrapping_add(done * depth) } else { b };
        let live = R.min(a.m - i);
        // Rows that are missing stand for the last one; their sums are thrown away.
        let mut rows = [a.data; R];
        for r in 0..R {
            // SAFETY: a row below `m` (the caller's promise).
            rows[r] = unsafe { a.data.add(i / R * a.panel + r.min(live - 1) * a.row) };
            // The result comes from memory while the sums are made.
            let result = out.data.wrapping_add((i + r.min(live - 1)) * out.row + j);
            for c in 0..C {
                V::prefetch(result.wrapping_add(c * V::N));
            }
            V::prefetch(result.wrapping_add(width - 1));
        }
        // SAFETY: the operands reach that far, and the tile lies within the result (the caller's promise).
        unsafe { put(tile::<V, R, C>(rows, a.step, b, ldb, depth, ahead), out, i, j, live, width) };
    }
}

simd_fn! {
    /// Rows of a tile and of a panel of the left operand, vectors of a tile, values of a vector.
    pub(super) fn shape<V>() -> [usize; 3] { [V::ROWS, V::VECTORS, V::N] }
}

simd_fn! {
    /// `out = scale a b` (+ the old content, + the bias), summed over `depth` values.
    ///
    /// # Safety
    /// The operands must reach as far as their descriptions say, a right operand without panels in whole vectors; the
    /// result must be valid for reads and writes and used by nobody else.
    pub(super) unsafe fn block<V>(a: Left, b: Right, depth: usize, out: Out) {
        let vectors = b.n.div_ceil(V::N);
        let mut v = 0;
        while v < vectors {
            let wide = panel_vectors(vectors - v, V::VECTORS);
            let (j, width) = (v * V::N, (wide * V::N).min(b.n - v * V::N));
            // SAFETY: the panel lies within the right operand (the caller's promise).
            let (data, ldb) = unsafe {
                match b.row {
                    Some(row) => (b.data.add(j), row),
                    None => (b.data.add(j * depth), wide * V::N),
                }
            };
            // SAFETY: the caller's promise.
            unsafe {
                match wide {
                    1 => column::<V, { V::ROWS }, 1>(a, data, ldb, depth, out, j, width),
                    2 => column::<V, { V::ROWS }, 2>(a, data, ldb, depth, out, j, width),
                    _ => column::<V, { V::ROWS }, { V::VECTORS }>(a, data, ldb, depth, out, j, width),
                }
            }
            v += wide;
        }
    }
}
