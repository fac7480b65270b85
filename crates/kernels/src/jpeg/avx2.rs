//! The inverse transforms on vectors of 256 bits: eight columns, then eight rows at once, two products a multiplication.
//!
//! SAFETY, for every block below: [`Avx2`] is used only inside functions that enable AVX2, reached after run-time
//! detection; pointers come from slices and arrays whose length is asserted.
#![allow(clippy::undocumented_unsafe_blocks)]

use std::arch::x86_64::*;

use super::idct::{Block, Transform};

/// AVX2.
pub(super) struct Avx2;

/// `a` for the first and `b` for the second value of each pair.
#[inline(always)]
fn factors(a: i16, b: i16) -> __m256i {
    unsafe { _mm256_set1_epi32(i32::from(a as u16) | i32::from(b) << 16) }
}

#[inline(always)]
fn madd(pairs: __m256i, a: i16, b: i16) -> __m256i {
    unsafe { _mm256_madd_epi16(pairs, factors(a, b)) }
}

#[inline(always)]
fn add(a: __m256i, b: __m256i) -> __m256i {
    unsafe { _mm256_add_epi32(a, b) }
}

#[inline(always)]
fn sub(a: __m256i, b: __m256i) -> __m256i {
    unsafe { _mm256_sub_epi32(a, b) }
}

/// One-dimensional transform of eight lanes; rows 0 and 4, 2 and 6, 1 and 3, 5 and 7 in pairs.
#[inline(always)]
fn eight<const SHIFT: i32>([p04, p26, p13, p57]: [__m256i; 4]) -> [__m256i; 8] {
    let half = unsafe { _mm256_set1_epi32(1 << (SHIFT - 1)) };
    let (even0, even1) = (add(madd(p04, 8192, 8192), half), add(madd(p04, 8192, -8192), half));
    let (even2, even3) = (madd(p26, 4433, -10704), madd(p26, 10703, 4433));
    let even = [add(even0, even3), add(even1, even2), sub(even1, even2), sub(even0, even3)];
    let odd = [
        add(madd(p13, 11363, 9633), madd(p57, 6437, 2260)),
        add(madd(p13, 9633, -2259), madd(p57, -11362, -6436)),
        add(madd(p13, 6437, -11362), madd(p57, 2261, 9633)),
        add(madd(p13, 2260, -6436), madd(p57, 9633, -11363)),
    ];
    std::array::from_fn(|i| {
        let value = if i < 4 { add(even[i], odd[i]) } else { sub(even[7 - i], odd[7 - i]) };
        unsafe { _mm256_srai_epi32::<SHIFT>(value) }
    })
}

/// Eight vectors of 32-bit lanes to 16 bits, saturated and transposed: vector `i` holds lane `i` of all, then lane `i + 4`.
#[inline(always)]
fn transpose(v: [__m256i; 8]) -> [__m256i; 4] {
    unsafe {
        let four = |a, b, c, d| {
            let (ac, bd) = (_mm256_packs_epi32(a, c), _mm256_packs_epi32(b, d));
            let (ab, cd) = (_mm256_unpacklo_epi16(ac, bd), _mm256_unpackhi_epi16(ac, bd));
            [_mm256_unpacklo_epi32(ab, cd), _mm256_unpackhi_epi32(ab, cd)]
        };
        let ([a01, a23], [b01, b23]) = (four(v[0], v[1], v[2], v[3]), four(v[4], v[5], v[6], v[7]));
        [
            _mm256_unpacklo_epi64(a01, b01),
            _mm256_unpackhi_epi64(a01, b01),
            _mm256_unpacklo_epi64(a23, b23),
            _mm256_unpackhi_epi64(a23, b23),
        ]
    }
}

#[inline(always)]
fn load(block: &Block) -> [__m256i; 4] {
    std::array::from_fn(|i| unsafe { _mm256_loadu_si256(block.as_ptr().add(i * 16).cast()) })
}

impl Transform for Avx2 {
    #[inline(always)]
    fn eight(block: &Block, out: &mut [u8], stride: usize) {
        assert!(stride >= 8 && out.len() >= 7 * stride + 8, "8 rows of 8");
        unsafe {
            let [c04, c15, c26, c37] = transpose(eight::<11>(load(block)));
            // [c0 | c4] to the halves of both side by side, then pairs.
            let halves = |v| _mm256_permute4x64_epi64::<0b11_01_10_00>(v);
            let zip = _mm256_setr_epi8(
                0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14, 15, 0, 1, 8, 9, 2, 3, 10, 11, 4, 5, 12, 13, 6, 7, 14,
                15,
            );
            let (c15, c37) = (halves(c15), halves(c37));
            let rows = eight::<18>([
                _mm256_shuffle_epi8(halves(c04), zip),
                _mm256_shuffle_epi8(halves(c26), zip),
                _mm256_unpacklo_epi16(c15, c37),
                _mm256_unpackhi_epi16(c15, c37),
            ]);
            let [r04, r15, r26, r37] = transpose(rows);
            let middle = _mm256_set1_epi8(-128);
            let r0145 = _mm256_xor_si256(_mm256_packs_epi16(r04, r15), middle);
            let r2367 = _mm256_xor_si256(_mm256_packs_epi16(r26, r37), middle);
            let to = out.as_mut_ptr();
            let put = |y: usize, pair: __m128i| {
                _mm_storel_epi64(to.add(y * stride).cast(), pair);
                _mm_storeh_pd(to.add((y + 1) * stride).cast(), _mm_castsi128_pd(pair));
            };
            put(0, _mm256_castsi256_si128(r0145));
            put(2, _mm256_castsi256_si128(r2367));
            put(4, _mm256_extracti128_si256::<1>(r0145));
            put(6, _mm256_extracti128_si256::<1>(r2367));
        }
    }

    #[inline(always)]
    fn four(block: &Block, out: &mut [u8], stride: usize) {
        assert!(stride >= 4 && out.len() >= 3 * stride + 4, "4 rows of 4");
        unsafe {
            let [p04, p26, p13, p57] = load(block);
            let half = _mm256_set1_epi32(1 << 11);
            let (base, even) = (add(madd(p04, 16384, 0), half), madd(p26, 15137, -6270));
            let (a, b) = (add(base, even), sub(base, even));
            let outer = add(madd(p13, 20995, 7373), madd(p57, -4926, -4176));
            let inner = add(madd(p13, 8697, -17799), madd(p57, 11893, -1730));
            let v = [add(a, outer), add(b, inner), sub(b, inner), sub(a, outer)].map(|v| _mm256_srai_epi32::<12>(v));
            let (ac, bd) = (_mm256_packs_epi32(v[0], v[2]), _mm256_packs_epi32(v[1], v[3]));
            let (ab, cd) = (_mm256_unpacklo_epi16(ac, bd), _mm256_unpackhi_epi16(ac, bd));
            // Columns 0 and 1, then 4 and 5; columns 2 and 3, then 6 and 7.
            let (c0145, c2367) = (_mm256_unpacklo_epi32(ab, cd), _mm256_unpackhi_epi32(ab, cd));
            let (c01, c45) = (_mm256_castsi256_si128(c0145), _mm256_extracti128_si256::<1>(c0145));
            let (c23, c67) = (_mm256_castsi256_si128(c2367), _mm256_extracti128_si256::<1>(c2367));
            let madd = |v, a, b| _mm_madd_epi16(v, _mm256_castsi256_si128(factors(a, b)));
            let (p04, p26) = (_mm_unpacklo_epi16(c01, c45), _mm_unpacklo_epi16(c23, c67));
            let (p13, p57) = (_mm_unpackhi_epi16(c01, c23), _mm_unpackhi_epi16(c45, c67));
            let base = _mm_add_epi32(madd(p04, 16384, 0), _mm_set1_epi32(1 << 18));
            let even = madd(p26, 15137, -6270);
            let (a, b) = (_mm_add_epi32(base, even), _mm_sub_epi32(base, even));
            let outer = _mm_add_epi32(madd(p13, 20995, 7373), madd(p57, -4926, -4176));
            let inner = _mm_add_epi32(madd(p13, 8697, -17799), madd(p57, 11893, -1730));
            let v =
                [_mm_add_epi32(a, outer), _mm_add_epi32(b, inner), _mm_sub_epi32(b, inner), _mm_sub_epi32(a, outer)];
            let v = v.map(|v| _mm_srai_epi32::<19>(v));
            let (ac, bd) = (_mm_packs_epi32(v[0], v[2]), _mm_packs_epi32(v[1], v[3]));
            let (ab, cd) = (_mm_unpacklo_epi16(ac, bd), _mm_unpackhi_epi16(ac, bd));
            let (r01, r23) = (_mm_unpacklo_epi32(ab, cd), _mm_unpackhi_epi32(ab, cd));
            let rows = _mm_xor_si128(_mm_packs_epi16(r01, r23), _mm_set1_epi8(-128));
            let to = out.as_mut_ptr();
            to.cast::<i32>().write_unaligned(_mm_cvtsi128_si32(rows));
            to.add(stride).cast::<i32>().write_unaligned(_mm_extract_epi32::<1>(rows));
            to.add(2 * stride).cast::<i32>().write_unaligned(_mm_extract_epi32::<2>(rows));
            to.add(3 * stride).cast::<i32>().write_unaligned(_mm_extract_epi32::<3>(rows));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::idct::Plain;
    use super::*;
    use crate::{Key, Stream};

    #[target_feature(enable = "avx2")]
    fn both(block: &Block, side: usize, last: usize) -> ([u8; 80], [u8; 80]) {
        let (mut ours, mut plain) = ([0; 80], [0; 80]);
        Avx2::write(side, block, last, &mut ours, 9);
        Plain::write(side, block, last, &mut plain, 9);
        (ours, plain)
    }

    #[test]
    fn vectors_give_the_bytes_of_plain_code_for_any_coefficients() {
        if !is_x86_feature_detected!("avx2") {
            return;
        }
        let mut stream = Stream::new(Key::new(3));
        for round in 0..4000 {
            let span = [4, 40, 2000, 65_536][round % 4];
            let block: Block = std::array::from_fn(|_| (stream.below(span) as i64 - span as i64 / 2) as i16);
            for side in [1, 2, 4, 8] {
                for last in [0, 63] {
                    // SAFETY: detected above.
                    let (ours, plain) = unsafe { both(&block, side, last) };
                    assert_eq!(ours, plain, "round {round}, side {side}, last {last}");
                }
            }
        }
    }
}
