//! f32 matrix products on strided views, and what surrounds them.
//!
//! Where vectors are at hand and the operands are not very small, [`blocked`] computes them; else the `gemm` crate does.
//! Each element of a product is summed over `k` by one thread in one order, so the number of threads changes no bit
//! (`thread_count_changes_no_bit` in `tests/ops.rs`).

mod blocked;
mod few;
mod pack;
mod tile;

use crate::simd::{Isa, isa};
use blocked::{Ending, Packed};
use rayon::prelude::*;
use std::ops::Range;

/// A strided view of a matrix.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<'a> Mat<'a> {
    /// Row-major `rows x cols`.
    pub fn new(data: &'a [f32], rows: usize, cols: usize) -> Self {
        Self { data, rows, cols, row_stride: cols, col_stride: 1 }
    }

    /// Rows of `cols` values that start `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, cols: usize, row_stride: usize) -> Self {
        Self { data, rows, cols, row_stride, col_stride: 1 }
    }

    /// The transpose, without moving anything.
    pub fn t(self) -> Self {
        Self { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }

    fn fits(&self) -> bool {
        self.rows == 0
            || self.cols == 0
            || (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride < self.data.len()
    }
}

/// What happens to the old content of the destination.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Into<'a> {
    /// It is overwritten.
    Set,
    /// The product is added to it.
    Add,
    /// It is overwritten, and one value for each column is added to the product.
    Bias(&'a [f32]),
}

/// Dimensions below which laying out operands costs more than it brings.
const SMALL: usize = 16;

/// Who computes the product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// The calling thread.
    Here,
    /// All threads of the rayon pool.
    Parallel,
}

/// `dst = scale * a b` (or `dst += ..`), with rows of `dst` starting `dst_stride` apart.
pub(crate) fn matmul(dst: &mut [f32], dst_stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, into: Into<'_>, run: Run) {
    let (m, n) = (a.rows, b.cols);
    assert!(m == 0 || n == 0 || (m - 1) * dst_stride + n <= dst.len(), "the destination of a product is too small");
    // SAFETY: the destination is borrowed mutably and large enough (asserted).
    unsafe { matmul_at(dst.as_mut_ptr(), dst_stride, a, b, scale, into, run) }
}

/// [`matmul`] into rows that other threads' rows may lie between.
///
/// # Safety
/// `n` values at each of the `m` rows from `dst` on must be valid for reads and writes and used by nobody else.
pub(crate) unsafe fn matmul_at(
    dst: *mut f32,
    stride: usize,
    a: Mat<'_>,
    b: Mat<'_>,
    scale: f32,
    into: Into<'_>,
    run: Run,
) {
    assert_eq!(a.cols, b.rows, "inner dimensions of a matrix product differ");
    assert!(a.fits() && b.fits(), "a matrix view reaches past its data");
    let bias = match into {
        Into::Bias(bias) => Some(bias),
        Into::Set | Into::Add => None,
    };
    assert!(bias.is_none_or(|bias| bias.len() == b.cols), "a product needs one bias for each column");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    let threads = if run == Run::Parallel { rayon::current_num_threads() } else { 1 };
    let ending = Ending { scale, add: into == Into::Add, bias };
    if isa() != Isa::Portable && a.rows < SMALL && few::fits(a, b) {
        // SAFETY: the inputs lie within their slices (asserted); the destination is the caller's promise.
        return unsafe { few::product(dst, stride, [a, b], ending, threads) };
    }
    if isa() != Isa::Portable && a.rows.min(b.cols).min(a.cols) >= SMALL {
        // SAFETY: as above.
        return unsafe { blocked::product(dst, stride, [a, b], ending, threads) };
    }
    if let Some(bias) = bias {
        for row in 0..a.rows {
            // SAFETY: a row of the destination, the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(dst.add(row * stride), bias.len()) }.copy_from_slice(bias);
        }
    }
    let parallelism = if threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    let (read, alpha) = if into == Into::Set { (false, 0.0) } else { (true, 1.0) };
    // SAFETY: as above.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            dst,
            1,
            stride as isize,
            read,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            alpha,
            scale,
            false,
            false,
            false,
            parallelism,
        );
    }
}

/// `a b` as a new row-major matrix, on all threads.
pub(crate) fn product(a: Mat<'_>, b: Mat<'_>) -> Vec<f32> {
    // SAFETY: `Into::Set` writes every value and reads none.
    let mut dst = unsafe { uncleared(a.rows * b.cols) };
    matmul(&mut dst, b.cols, a, b, 1.0, Into::Set, Run::Parallel);
    dst
}

/// A right operand that several products share, laid out once.
pub(crate) struct RightOperand<'a> {
    b: Mat<'a>,
    packed: Option<Packed>,
}

impl<'a> RightOperand<'a> {
    /// Lays out `b` on all threads where that serves products of `rows` rows.
    pub fn new(b: Mat<'a>, rows: usize) -> Self {
        assert!(b.fits(), "a matrix view reaches past its data");
        let serves = isa() != Isa::Portable && rows.min(b.rows).min(b.cols) >= SMALL;
        Self { b, packed: serves.then(|| Packed::new(b)) }
    }

    /// `a b` as a new row-major matrix, with one value for each column added, on all threads.
    pub fn product(&self, a: Mat<'_>, bias: Option<&[f32]>) -> Vec<f32> {
        // SAFETY: every value is set and none is read before.
        let mut dst = unsafe { uncleared(a.rows * self.b.cols) };
        match &self.packed {
            Some(packed) if a.rows >= SMALL => {
                assert!(a.fits() && a.cols == self.b.rows, "operands of a product do not fit");
                assert!(bias.is_none_or(|bias| bias.len() == self.b.cols), "a product needs one bias for each column");
                let ending = Ending { scale: 1.0, add: false, bias };
                // SAFETY: `dst` is as large as the result.
                unsafe { blocked::product_packed(dst.as_mut_ptr(), a, packed, ending) };
            }
            _ => matmul(&mut dst, self.b.cols, a, self.b, 1.0, bias.map_or(Into::Set, Into::Bias), Run::Parallel),
        }
        dst
    }
}

/// A cleared buffer.
pub(crate) fn buffer(len: usize) -> Vec<f32> {
    vec![0.0; len]
}

/// A buffer of any content: clearing it first would be one more pass over memory.
///
/// # Safety
/// Every value must be written before it is read.
pub(crate) unsafe fn uncleared(len: usize) -> Vec<f32> {
    let mut values = Vec::with_capacity(len);
    // SAFETY: the memory is allocated and aligned for `len` values, any bits are a value of f32, none needs dropping, and
    // the caller reads none before it is written.
    #[allow(clippy::uninit_vec)]
    unsafe {
        values.set_len(len);
    }
    values
}

/// Rows per partial sum: fixed, so that sums over rows do not depend on the number of threads.
const ROWS_PER_SUM: usize = 128;

/// Sums over rows: `add(rows, acc)` adds a block of rows to an accumulator of `width` values; blocks are combined in
/// their order.
pub(crate) fn sum_over_rows(n_rows: usize, width: usize, add: impl Fn(Range<usize>, &mut [f32]) + Sync) -> Vec<f32> {
    let block = |block: usize| {
        let mut acc = vec![0.0; width];
        add(block * ROWS_PER_SUM..((block + 1) * ROWS_PER_SUM).min(n_rows), &mut acc);
        acc
    };
    in_order((0..n_rows.div_ceil(ROWS_PER_SUM)).into_par_iter().map(block).collect(), width)
}

/// [`sum_over_rows`] while the same rows of `dst`, `d` values each, are written.
pub(crate) fn sweep_rows(
    dst: &mut [f32],
    d: usize,
    width: usize,
    add: impl Fn(Range<usize>, &mut [f32], &mut [f32]) + Sync,
) -> Vec<f32> {
    let block = |(block, dst): (usize, &mut [f32])| {
        let (mut acc, first) = (vec![0.0; width], block * ROWS_PER_SUM);
        add(first..first + dst.len() / d, dst, &mut acc);
        acc
    };
    in_order(dst.par_chunks_mut((ROWS_PER_SUM * d).max(1)).enumerate().map(block).collect(), width)
}

fn in_order(partials: Vec<Vec<f32>>, width: usize) -> Vec<f32> {
    let mut partials = partials.into_iter();
    let mut total = partials.next().unwrap_or_else(|| vec![0.0; width]);
    partials.for_each(|p| total.iter_mut().zip(p).for_each(|(t, p)| *t += p));
    total
}

/// Column sums of a row-major matrix: the gradient of a bias.
pub(crate) fn column_sums(data: &[f32], width: usize) -> Vec<f32> {
    sum_over_rows(data.len() / width.max(1), width, |rows, acc| {
        for row in data[rows.start * width..rows.end * width].chunks_exact(width.max(1)) {
            acc.iter_mut().zip(row).for_each(|(a, x)| *a += x);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize, factor: f32) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * factor).sin()).collect()
    }

    /// The view of a matrix whose values lie row by row, or column by column.
    fn view(data: &[f32], rows: usize, cols: usize, transposed: bool) -> Mat<'_> {
        if transposed { Mat::new(data, cols, rows).t() } else { Mat::new(data, rows, cols) }
    }

    /// The product in f64, on top of `start`.
    fn oracle(a: Mat<'_>, b: Mat<'_>, scale: f32, start: impl Fn(usize, usize) -> f32) -> Vec<f64> {
        let at = |m: Mat<'_>, i: usize, j: usize| f64::from(m.data[i * m.row_stride + j * m.col_stride]);
        let sum = |i: usize, j: usize| (0..a.cols).map(|k| at(a, i, k) * at(b, k, j)).sum::<f64>();
        let value = |i, j| f64::from(scale) * sum(i, j) + f64::from(start(i, j));
        (0..a.rows * b.cols).map(|at| value(at / b.cols, at % b.cols)).collect()
    }

    /// Sizes around those of tiles, panels and blocks, either operand in either order, on one thread and on three.
    #[test]
    fn products_agree_with_f64_in_every_layout() {
        let sizes = [
            [1, 5, 7],
            [2, 130, 33],
            [16, 16, 16],
            [17, 49, 16],
            [40, 64, 100],
            [81, 97, 65],
            [150, 40, 600],
            [64, 700, 90],
        ];
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
        let pools = [threads(1), threads(3)];
        for [m, n, k] in sizes {
            let (a, b, bias, old) = (values(m * k, 0.7), values(k * n, 0.3), values(n, 1.1), values(m * n, 0.9));
            for layout in 0..4 {
                let (a, b) = (view(&a, m, k, layout & 1 == 1), view(&b, k, n, layout & 2 == 2));
                for into in [Into::Set, Into::Add, Into::Bias(&bias)] {
                    let expected = oracle(a, b, 0.5, |i, j| match into {
                        Into::Set => 0.0,
                        Into::Add => old[i * n + j],
                        Into::Bias(bias) => bias[j],
                    });
                    let run = |pool: &rayon::ThreadPool| {
                        let mut dst = old.clone();
                        pool.install(|| matmul(&mut dst, n, a, b, 0.5, into, Run::Parallel));
                        dst
                    };
                    let (one, three) = (run(&pools[0]), run(&pools[1]));
                    assert!(one == three, "{m} x {n} x {k}, layout {layout}: threads change the result");
                    let tolerance = 1e-6 * k as f64 + 1e-6;
                    for (at, (got, want)) in one.iter().zip(&expected).enumerate() {
                        let off = (f64::from(*got) - want).abs();
                        assert!(off <= tolerance, "{m} x {n} x {k}, layout {layout}, {at}: {got}, expected {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn rows_between_those_of_the_destination_are_left_alone() {
        let (a, b) = (values(20 * 30, 0.7), values(30 * 33, 0.3));
        let mut dst = vec![7.0; 20 * 40];
        matmul(&mut dst, 40, Mat::new(&a, 20, 30), Mat::new(&b, 30, 33), 1.0, Into::Set, Run::Here);
        assert!(dst.chunks_exact(40).all(|row| row[33..].iter().all(|&x| x == 7.0) && row[0] != 7.0));
    }

    #[test]
    fn operand_laid_out_once_gives_the_bits_of_a_plain_product() {
        let (a, b, bias) = (values(70 * 600, 0.7), values(600 * 90, 0.3), values(90, 1.1));
        let (a, b) = (Mat::new(&a, 70, 600), view(&b, 600, 90, true));
        let mut plain = vec![0.0; 70 * 90];
        matmul(&mut plain, 90, a, b, 1.0, Into::Bias(&bias), Run::Parallel);
        assert!(RightOperand::new(b, 70).product(a, Some(&bias)) == plain);
    }

    #[test]
    fn empty_inner_dimension_gives_zeros_or_the_bias() {
        for rows in [1, 20] {
            let mut dst = vec![3.0; rows * 20];
            let (a, b) = (Mat::new(&[], rows, 0), Mat::new(&[], 0, 20));
            matmul(&mut dst, 20, a, b, 1.0, Into::Set, Run::Here);
            assert!(dst.iter().all(|&x| x == 0.0));
            let bias = values(20, 1.0);
            matmul(&mut dst, 20, a, b, 1.0, Into::Bias(&bias), Run::Here);
            assert!(dst.chunks_exact(20).all(|row| row == bias));
        }
    }
}
