//! The vector trait and its portable form.

/// A vector of `N` f32 values.
///
/// `load` and `store` take slices of at least `N` values; the `_part` forms take fewer and are used for tails.
/// Implementations for an instruction set may be used only where that set is enabled, which `simd_fn!` sees to.
pub(crate) trait Lanes: Copy {
    const N: usize;
    /// Rows and vectors of the tile of a matrix product that fills the registers.
    const ROWS: usize;
    /// See [`ROWS`](Self::ROWS); at most three.
    const VECTORS: usize;
    fn splat(x: f32) -> Self;
    fn load(src: &[f32]) -> Self;
    /// Loads `src.len() < N` values and fills the rest with `fill`.
    fn load_part(src: &[f32], fill: f32) -> Self;
    fn store(self, dst: &mut [f32]);
    fn store_part(self, dst: &mut [f32]);
    fn add(self, o: Self) -> Self;
    fn sub(self, o: Self) -> Self;
    fn mul(self, o: Self) -> Self;
    fn div(self, o: Self) -> Self;
    /// `self * a + b` in one rounding where the hardware has it.
    fn fma(self, a: Self, b: Self) -> Self;
    /// The larger of both; `self` where `self` is NaN.
    fn max(self, o: Self) -> Self;
    /// The smaller of both; `self` where `self` is NaN.
    fn min(self, o: Self) -> Self;
    fn round(self) -> Self;
    /// `2^self` for whole numbers in -126..=127.
    fn exp2_whole(self) -> Self;
    /// `self 2^n` for whole numbers in -252..=254, with gradual underflow.
    #[inline(always)]
    fn times_exp2_whole(self, n: Self) -> Self {
        // Two factors, so that neither leaves the range of normal numbers.
        let half = n.mul(Self::splat(0.5)).round();
        self.mul(half.exp2_whole()).mul(n.sub(half).exp2_whole())
    }
    /// `yes` where `self < o`, else `no`.
    fn select_lt(self, o: Self, yes: Self, no: Self) -> Self;
    /// Sum of all lanes in a fixed order.
    fn sum(self) -> f32;
    /// Largest lane.
    fn largest(self) -> f32;

    /// Asks for the cache line at `at`, which need not be valid, in the second-level cache.
    #[inline(always)]
    fn prefetch(_at: *const f32) {}

    #[inline(always)]
    fn abs(self) -> Self {
        self.max(Self::splat(0.0).sub(self))
    }

    /// `dst[j ldd + i] = src[i lds + j]` for `i < rows <= N` and `j < cols <= N`.
    #[inline(always)]
    fn transpose(src: &[f32], lds: usize, rows: usize, cols: usize, dst: &mut [f32], ldd: usize) {
        for j in 0..cols {
            for i in 0..rows {
                dst[j * ldd + i] = src[i * lds + j];
            }
        }
    }
}

/// Eight lanes in plain Rust.
#[derive(Clone, Copy)]
pub(crate) struct Portable([f32; 8]);

impl Portable {
    #[inline(always)]
    fn zip(self, o: Self, f: impl Fn(f32, f32) -> f32) -> Self {
        Self(std::array::from_fn(|i| f(self.0[i], o.0[i])))
    }
}

impl Lanes for Portable {
    const N: usize = 8;
    const ROWS: usize = 4;
    const VECTORS: usize = 1;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self([x; 8])
    }
    #[inline(always)]
    fn load(src: &[f32]) -> Self {
        Self(std::array::from_fn(|i| src[i]))
    }
    #[inline(always)]
    fn load_part(src: &[f32], fill: f32) -> Self {
        Self(std::array::from_fn(|i| src.get(i).copied().unwrap_or(fill)))
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        dst[..8].copy_from_slice(&self.0);
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32]) {
        let n = dst.len().min(8);
        dst[..n].copy_from_slice(&self.0[..n]);
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        self.zip(o, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        self.zip(o, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        self.zip(o, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        self.zip(o, |a, b| a / b)
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] * a.0[i] + b.0[i]))
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        self.zip(o, |a, b| if b > a { b } else { a })
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        self.zip(o, |a, b| if b < a { b } else { a })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(self.0.map(f32::round_ties_even))
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(self.0.map(|x| f32::from_bits(((x as i32 + 127) as u32) << 23)))
    }
    #[inline(always)]
    fn select_lt(self, o: Self, yes: Self, no: Self) -> Self {
        Self(std::array::from_fn(|i| if self.0[i] < o.0[i] { yes.0[i] } else { no.0[i] }))
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        let a = self.0;
        ((a[0] + a[4]) + (a[2] + a[6])) + ((a[1] + a[5]) + (a[3] + a[7]))
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        self.0.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
}
