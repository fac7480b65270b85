//! The transforms of tiles and kernels, with channels side by side.
//!
//! A `Stack` says where the 16 matrices of a transformed operand lie.
#![allow(clippy::needless_range_loop, reason = "one index walks several register tiles, and the loops unroll")]

use crate::ops::vision::multiply::BLOCK;
use crate::shared::Shared;
use crate::simd::{Lanes, simd_fn};

/// Products of a tile.
pub(super) const TAPS: usize = 16;

/// Sixteen matrices [rows, channels] in one buffer, as they lie or in blocks of [`BLOCK`] channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    pub rows: usize,
    pub channels: usize,
    /// Distance of rows.
    pub row: usize,
    /// Distance of blocks of channels.
    pub block: usize,
    /// Distance of matrices.
    pub tap: usize,
}

impl Stack {
    /// Rows of all channels.
    pub fn plain(rows: usize, channels: usize) -> Self {
        // One cache line more, so that the same place of all matrices does not fall on the same lines of a cache.
        let tap = (rows * channels).next_multiple_of(16) + 16;
        Self { rows, channels, row: channels, block: BLOCK, tap }
    }

    /// Blocks of [`BLOCK`] channels.
    pub fn blocked(rows: usize, channels: usize) -> Self {
        let block = rows * BLOCK + 16;
        Self { rows, channels, row: BLOCK, block, tap: block * channels.div_ceil(BLOCK) }
    }

    pub fn len(&self) -> usize {
        TAPS * self.tap
    }

    pub fn blocks(&self) -> usize {
        self.channels.div_ceil(BLOCK)
    }

    /// Place of row `row` of block `block` in the first matrix.
    pub fn at(&self, row: usize, block: usize) -> usize {
        row * self.row + block * self.block
    }

    /// Channels of block `block`.
    pub fn width(&self, block: usize) -> usize {
        BLOCK.min(self.channels - block * BLOCK)
    }
}

#[inline(always)]
fn get<V: Lanes>(src: &[f32], at: usize, n: usize) -> V {
    if n == V::N { V::load(&src[at..at + V::N]) } else { V::load_part(&src[at..at + n], 0.0) }
}

/// Stores `n` values at `at`; no other task may touch them.
#[inline(always)]
fn put<V: Lanes>(v: V, dst: &Shared, at: usize, n: usize) {
    // SAFETY: a task writes the rows of its own tiles or channels (see the callers).
    let dst = unsafe { dst.slice(at, n) };
    if n == V::N { v.store(dst) } else { v.store_part(dst) }
}

/// Place of channel `k` within a row of a stack.
#[inline(always)]
fn column(to: Stack, k: usize) -> usize {
    k / BLOCK * to.block + k % BLOCK
}

simd_fn! {
    /// `B^T d B` of `n` tiles beside each other: `src` holds four rows `line` apart, `to.channels` values per pixel. Row
    /// `first` of the stack in `dst` is that of the first tile; no other task may use these rows.
    pub(super) fn input_tiles<V>(src: &[f32], line: usize, n: usize, to: Stack, first: usize, dst: &Shared) {
        let c = to.channels;
        for t in 0..n {
            let mut k = 0;
            while k < c {
                let m = V::N.min(c - k);
                let mut d = [[V::splat(0.0); 4]; 4];
                for r in 0..4 {
                    let at = r * line + 2 * t * c + k;
                    let [a, b, c, d3] = [
                        get::<V>(src, at, m), get::<V>(src, at + c, m), get::<V>(src, at + 2 * c, m), get::<V>(src, at + 3 * c, m),
                    ];
                    d[r] = [a.sub(c), b.add(c), c.sub(b), b.sub(d3)];
                }
                let at = (first + t) * to.row + column(to, k);
                for s in 0..4 {
                    put(d[0][s].sub(d[2][s]), dst, at + s * to.tap, m);
                    put(d[1][s].add(d[2][s]), dst, at + (4 + s) * to.tap, m);
                    put(d[2][s].sub(d[1][s]), dst, at + (8 + s) * to.tap, m);
                    put(d[1][s].sub(d[3][s]), dst, at + (12 + s) * to.tap, m);
                }
                k += V::N;
            }
        }
    }
}

simd_fn! {
    /// `A g A^T` of `n` tiles of 2x2 gradients, laid out as for [`input_tiles`] but in two rows.
    pub(super) fn grad_tiles<V>(src: &[f32], line: usize, n: usize, to: Stack, first: usize, dst: &Shared) {
        let (c, zero) = (to.channels, V::splat(0.0));
        for t in 0..n {
            let mut k = 0;
            while k < c {
                let m = V::N.min(c - k);
                let mut d = [[zero; 4]; 2];
                for r in 0..2 {
                    let at = r * line + 2 * t * c + k;
                    let (a, b) = (get::<V>(src, at, m), get::<V>(src, at + c, m));
                    d[r] = [a, a.add(b), a.sub(b), zero.sub(b)];
                }
                let at = (first + t) * to.row + column(to, k);
                for s in 0..4 {
                    put(d[0][s], dst, at + s * to.tap, m);
                    put(d[0][s].add(d[1][s]), dst, at + (4 + s) * to.tap, m);
                    put(d[0][s].sub(d[1][s]), dst, at + (8 + s) * to.tap, m);
                    put(zero.sub(d[1][s]), dst, at + (12 + s) * to.tap, m);
                }
                k += V::N;
            }
        }
    }
}

simd_fn! {
    /// `A^T m A` of `n` tiles beside each other, from row `first` of the stack in `src` on, to two rows of pixels `line`
    /// apart from `at` of `dst` on, of which `wide` count in each and `tall` of the two.
    pub(super) fn output_tiles<V>(
        src: &[f32], from: Stack, first: usize, n: usize, dst: &Shared, at: usize, line: usize, wide: usize, tall: usize,
    ) {
        let o = from.channels;
        for t in 0..n {
            let mut k = 0;
            while k < o {
                let m = V::N.min(o - k);
                let m_at = (first + t) * from.row + column(from, k);
                let mut upper = [V::splat(0.0); 4];
                let mut lower = [V::splat(0.0); 4];
                for s in 0..4 {
                    let m0 = get::<V>(src, m_at + s * from.tap, m);
                    let m1 = get::<V>(src, m_at + (4 + s) * from.tap, m);
                    let m2 = get::<V>(src, m_at + (8 + s) * from.tap, m);
                    let m3 = get::<V>(src, m_at + (12 + s) * from.tap, m);
                    upper[s] = m0.add(m1).add(m2);
                    lower[s] = m1.sub(m2).sub(m3);
                }
                for (i, v) in [upper, lower].into_iter().enumerate() {
                    let to = at + i * line + 2 * t * o + k;
                    if i < tall {
                        put(v[0].add(v[1]).add(v[2]), dst, to, m);
                        if 2 * t + 1 < wide {
                            put(v[1].sub(v[2]).sub(v[3]), dst, to + o, m);
                        }
                    }
                }
                k += V::N;
            }
        }
    }
}

/// The rows of G are (1, 0, 0), (1, 1, 1) / 2, (1, -1, 1) / 2 and (0, 0, 1).
#[inline(always)]
fn spread<V: Lanes>(a: V, b: V, c: V) -> [V; 4] {
    let half = V::splat(0.5);
    let ends = a.add(c);
    [a, ends.add(b).mul(half), ends.sub(b).mul(half), c]
}

/// The adjoint of [`spread`].
#[inline(always)]
fn gather<V: Lanes>(a: V, b: V, c: V, d: V) -> [V; 3] {
    let half = V::splat(0.5);
    let both = b.add(c).mul(half);
    [a.add(both), b.sub(c).mul(half), both.add(d)]
}

simd_fn! {
    /// `G w G^T` of 3x3 kernels: `src` holds nine rows of `n` values, `line` apart; `dst` 16 rows, `tap` apart
    /// from `at` on. With `turned` the kernels are turned by half a circle first.
    pub(super) fn kernel_tiles<V>(src: &[f32], line: usize, n: usize, turned: bool, dst: &Shared, at: usize, tap: usize) {
        let mut k = 0;
        while k < n {
            let m = V::N.min(n - k);
            let mut w = [V::splat(0.0); 9];
            for i in 0..9 {
                w[i] = get::<V>(src, if turned { 8 - i } else { i } * line + k, m);
            }
            let columns = [0, 1, 2].map(|j| spread(w[j], w[3 + j], w[6 + j]));
            for i in 0..4 {
                let row = spread(columns[0][i], columns[1][i], columns[2][i]);
                for j in 0..4 {
                    put(row[j], dst, at + (4 * i + j) * tap + k, m);
                }
            }
            k += V::N;
        }
    }
}

simd_fn! {
    /// `G^T u G`: the adjoint of [`kernel_tiles`].
    pub(super) fn kernel_grads<V>(src: &[f32], tap: usize, n: usize, dst: &Shared, to: usize, line: usize) {
        let mut k = 0;
        while k < n {
            let m = V::N.min(n - k);
            let mut rows = [[V::splat(0.0); 3]; 4];
            for i in 0..4 {
                let at = 4 * i * tap + k;
                rows[i] = gather(
                    get::<V>(src, at, m), get::<V>(src, at + tap, m), get::<V>(src, at + 2 * tap, m), get::<V>(src, at + 3 * tap, m),
                );
            }
            for j in 0..3 {
                let column = gather(rows[0][j], rows[1][j], rows[2][j], rows[3][j]);
                for i in 0..3 {
                    put(column[i], dst, to + (3 * i + j) * line + k, m);
                }
            }
            k += V::N;
        }
    }
}
