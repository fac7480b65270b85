//! AVX2 and AVX-512 forms of [`Lanes`].
//!
//! SAFETY, for every block below: these types are used only inside `simd_fn!` wrappers that enable the instruction set,
//! reached after run-time detection; pointers come from slices whose length is asserted (full loads) or masked (tails).
#![allow(clippy::undocumented_unsafe_blocks)]
#![allow(clippy::needless_range_loop, reason = "the loops unroll over registers")]

use super::Lanes;
use std::arch::x86_64::*;

/// Sixteen lanes of AVX-512.
#[derive(Clone, Copy)]
pub(crate) struct Avx512(__m512);

#[inline(always)]
fn mask16(n: usize) -> __mmask16 {
    if n >= 16 { u16::MAX } else { (1u16 << n) - 1 }
}

impl Lanes for Avx512 {
    const N: usize = 16;
    const ROWS: usize = 8;
    const VECTORS: usize = 3;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm512_set1_ps(x) })
    }
    #[inline(always)]
    fn load(src: &[f32]) -> Self {
        debug_assert!(src.len() >= 16);
        Self(unsafe { _mm512_loadu_ps(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_part(src: &[f32], fill: f32) -> Self {
        Self(unsafe { _mm512_mask_loadu_ps(_mm512_set1_ps(fill), mask16(src.len()), src.as_ptr()) })
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        debug_assert!(dst.len() >= 16);
        unsafe { _mm512_storeu_ps(dst.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32]) {
        unsafe { _mm512_mask_storeu_ps(dst.as_mut_ptr(), mask16(dst.len()), self.0) }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self(unsafe { _mm512_add_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self(unsafe { _mm512_sub_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Self(unsafe { _mm512_mul_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        Self(unsafe { _mm512_div_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm512_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        Self(unsafe { _mm512_max_ps(o.0, self.0) })
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        Self(unsafe { _mm512_min_ps(o.0, self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(unsafe {
            let n = _mm512_add_epi32(_mm512_cvtps_epi32(self.0), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        })
    }
    #[inline(always)]
    fn times_exp2_whole(self, n: Self) -> Self {
        Self(unsafe { _mm512_scalef_ps(self.0, n.0) })
    }
    #[inline(always)]
    fn select_lt(self, o: Self, yes: Self, no: Self) -> Self {
        Self(unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, o.0), no.0, yes.0) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let hi = _mm512_extractf32x8_ps::<1>(self.0);
            Avx2(_mm256_add_ps(_mm512_castps512_ps256(self.0), hi)).sum()
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe { _mm512_reduce_max_ps(self.0) }
    }
    #[inline(always)]
    fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    fn transpose(src: &[f32], lds: usize, rows: usize, cols: usize, dst: &mut [f32], ldd: usize) {
        let mut r = [Self::splat(0.0).0; 16];
        for i in 0..16 {
            if i < rows {
                r[i] = Self::load_part(&src[i * lds..i * lds + cols], 0.0).0;
            }
        }
        let columns = transposed(r);
        for j in 0..16 {
            if j < cols {
                Self(columns[j]).store_part(&mut dst[j * ldd..j * ldd + rows]);
            }
        }
    }
}

/// Sixteen rows as sixteen columns.
#[inline(always)]
fn transposed(r: [__m512; 16]) -> [__m512; 16] {
    let (mut pairs, mut fours, mut all) = (r, r, r);
    unsafe {
        for i in (0..16).step_by(2) {
            pairs[i] = _mm512_unpacklo_ps(r[i], r[i + 1]);
            pairs[i + 1] = _mm512_unpackhi_ps(r[i], r[i + 1]);
        }
        // Afterwards quarter q of fours[4 i + j] holds column 4 q + j of the rows from 4 i on.
        for i in (0..16).step_by(4) {
            // One by one: intrinsics in a closure become calls.
            let p = [
                _mm512_castps_pd(pairs[i]),
                _mm512_castps_pd(pairs[i + 1]),
                _mm512_castps_pd(pairs[i + 2]),
                _mm512_castps_pd(pairs[i + 3]),
            ];
            fours[i] = _mm512_castpd_ps(_mm512_unpacklo_pd(p[0], p[2]));
            fours[i + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(p[0], p[2]));
            fours[i + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(p[1], p[3]));
            fours[i + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(p[1], p[3]));
        }
        for j in 0..4 {
            let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
            let (even, odd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0xdd>(a, b));
            let (even_below, odd_below) = (_mm512_shuffle_f32x4::<0x88>(c, d), _mm512_shuffle_f32x4::<0xdd>(c, d));
            all[j] = _mm512_shuffle_f32x4::<0x88>(even, even_below);
            all[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even, even_below);
            all[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd, odd_below);
            all[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd, odd_below);
        }
    }
    all
}

/// Eight lanes of AVX2 with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(__m256);

#[inline(always)]
fn mask8(n: usize) -> __m256i {
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n.min(8) as i32), lane)
    }
}

impl Lanes for Avx2 {
    const N: usize = 8;
    const ROWS: usize = 6;
    const VECTORS: usize = 2;
    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(x) })
    }
    #[inline(always)]
    fn load(src: &[f32]) -> Self {
        debug_assert!(src.len() >= 8);
        Self(unsafe { _mm256_loadu_ps(src.as_ptr()) })
    }
    #[inline(always)]
    fn load_part(src: &[f32], fill: f32) -> Self {
        unsafe {
            let mask = mask8(src.len());
            let part = _mm256_maskload_ps(src.as_ptr(), mask);
            Self(_mm256_blendv_ps(_mm256_set1_ps(fill), part, _mm256_castsi256_ps(mask)))
        }
    }
    #[inline(always)]
    fn store(self, dst: &mut [f32]) {
        debug_assert!(dst.len() >= 8);
        unsafe { _mm256_storeu_ps(dst.as_mut_ptr(), self.0) }
    }
    #[inline(always)]
    fn store_part(self, dst: &mut [f32]) {
        unsafe { _mm256_maskstore_ps(dst.as_mut_ptr(), mask8(dst.len()), self.0) }
    }
    #[inline(always)]
    fn add(self, o: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn sub(self, o: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn mul(self, o: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn div(self, o: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, o.0) })
    }
    #[inline(always)]
    fn fma(self, a: Self, b: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, a.0, b.0) })
    }
    #[inline(always)]
    fn max(self, o: Self) -> Self {
        Self(unsafe { _mm256_max_ps(o.0, self.0) })
    }
    #[inline(always)]
    fn min(self, o: Self) -> Self {
        Self(unsafe { _mm256_min_ps(o.0, self.0) })
    }
    #[inline(always)]
    fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    fn exp2_whole(self) -> Self {
        Self(unsafe {
            let n = _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        })
    }
    #[inline(always)]
    fn select_lt(self, o: Self, yes: Self, no: Self) -> Self {
        Self(unsafe { _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, o.0)) })
    }
    #[inline(always)]
    fn sum(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn largest(self) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    fn prefetch(at: *const f32) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
    #[inline(always)]
    fn transpose(src: &[f32], lds: usize, rows: usize, cols: usize, dst: &mut [f32], ldd: usize) {
        let mut r = [Self::splat(0.0).0; 8];
        for (i, r) in r.iter_mut().enumerate() {
            if i < rows {
                *r = Self::load_part(&src[i * lds..i * lds + cols], 0.0).0;
            }
        }
        let mut pairs = [[unsafe { _mm256_setzero_pd() }; 4]; 2];
        for j in 0..4 {
            let (a, b) = (r[2 * j], r[2 * j + 1]);
            pairs[0][j] = unsafe { _mm256_castps_pd(_mm256_unpacklo_ps(a, b)) };
            pairs[1][j] = unsafe { _mm256_castps_pd(_mm256_unpackhi_ps(a, b)) };
        }
        for half in 0..2 {
            let p = pairs[half];
            for c in 0..2 {
                let (low, high) = unsafe {
                    if c == 0 {
                        (_mm256_unpacklo_pd(p[0], p[1]), _mm256_unpacklo_pd(p[2], p[3]))
                    } else {
                        (_mm256_unpackhi_pd(p[0], p[1]), _mm256_unpackhi_pd(p[2], p[3]))
                    }
                };
                let (low, high) = unsafe { (_mm256_castpd_ps(low), _mm256_castpd_ps(high)) };
                let at = 2 * half + c;
                if at < cols {
                    Self(unsafe { _mm256_permute2f128_ps::<0x20>(low, high) })
                        .store_part(&mut dst[at * ldd..at * ldd + rows]);
                }
                if at + 4 < cols {
                    Self(unsafe { _mm256_permute2f128_ps::<0x31>(low, high) })
                        .store_part(&mut dst[(at + 4) * ldd..(at + 4) * ldd + rows]);
                }
            }
        }
    }
}
