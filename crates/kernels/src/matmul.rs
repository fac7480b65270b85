//! f32 matrix products through the `gemm` crate, on strided views, and what surrounds them.
//!
//! Each element of a product is summed over `k` by one thread in one order, so the number of threads changes no bit
//! (`tests/threads.rs`).

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
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Into {
    /// It is overwritten.
    Set,
    /// The product is added to it.
    Add,
}

/// Who computes the product.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Run {
    /// The calling thread.
    Here,
    /// All threads of the rayon pool.
    Parallel,
}

/// `dst = scale * a b` (or `dst += ..`), with rows of `dst` starting `dst_stride` apart.
pub(crate) fn matmul(dst: &mut [f32], dst_stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, into: Into, run: Run) {
    let (m, n) = (a.rows, b.cols);
    assert!(m == 0 || n == 0 || (m - 1) * dst_stride + n <= dst.len(), "the destination of a product is too small");
    // SAFETY: the destination is borrowed mutably and large enough (asserted).
    unsafe { matmul_at(dst.as_mut_ptr(), dst_stride, a, b, scale, into, run) }
}

/// [`matmul`] into rows that other threads' rows may lie between.
///
/// # Safety
/// `n` values at each of the `m` rows from `dst` on must be valid for reads and writes and used by nobody else.
pub(crate) unsafe fn matmul_at(dst: *mut f32, stride: usize, a: Mat<'_>, b: Mat<'_>, scale: f32, into: Into, run: Run) {
    assert_eq!(a.cols, b.rows, "inner dimensions of a matrix product differ");
    assert!(a.fits() && b.fits(), "a matrix view reaches past its data");
    if a.rows == 0 || b.cols == 0 {
        return;
    }
    let threads = rayon::current_num_threads();
    let parallelism =
        if run == Run::Parallel && threads > 1 { gemm::Parallelism::Rayon(threads) } else { gemm::Parallelism::None };
    let (read, alpha) = (into == Into::Add, if into == Into::Add { 1.0 } else { 0.0 });
    // SAFETY: the inputs lie within their slices (asserted); the destination is the caller's promise.
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
