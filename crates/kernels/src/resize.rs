//! Resizing pictures of interleaved bytes, `[h, w, 3]`: first along rows, then along columns, each rounded to bytes.
//!
//! The filter is PIL's `BILINEAR`: a triangle two pixels wide, wider by the scale where a picture shrinks. Weights have 14 bits
//! and add up to one exactly, so that a flat picture stays flat; PIL's have 22, and bytes differ by one at most.

use crate::simd::simd_fn;

/// Bits of a weight.
const BITS: u32 = 14;
const HALF: i32 = 1 << (BITS - 1);

/// Weights for one direction: of each new pixel, where its old ones start and how much each counts.
#[derive(Clone, Debug)]
pub struct Axis {
    from: usize,
    starts: Vec<usize>,
    /// Four old pixels a group, as many groups for each new pixel.
    groups: usize,
    /// `[to, groups, 2, 4, 2]`: of pixels 0 and 1, then 2 and 3, the pair of weights once for each of four channels.
    weights: Vec<[i16; 16]>,
}

impl Axis {
    /// From `from` to `to` pixels, both at least 1.
    pub fn bilinear(from: usize, to: usize) -> Self {
        let scale = from as f64 / to as f64;
        let support = scale.max(1.0);
        let of = |i: usize| -> (usize, Vec<i16>) {
            let centre = (i as f64 + 0.5) * scale;
            let start = (centre - support + 0.5).max(0.0) as usize;
            let end = ((centre + support + 0.5) as usize).min(from).max(start + 1);
            let raw: Vec<f64> =
                (start..end).map(|x| (1.0 - ((x as f64 + 0.5 - centre) / support).abs()).max(0.0)).collect();
            (start, whole(&raw))
        };
        let all: Vec<(usize, Vec<i16>)> = (0..to).map(of).collect();
        let groups = all.iter().map(|(_, w)| w.len().div_ceil(4)).max().unwrap_or(1);
        let mut weights = Vec::with_capacity(to * groups);
        for (_, w) in &all {
            for group in 0..groups {
                let at = |t: usize| w.get(group * 4 + t).copied().unwrap_or(0);
                weights.push(std::array::from_fn(|i| if i % 8 < 6 { at(i / 8 * 2 + i % 2) } else { 0 }));
            }
        }
        Self { from, starts: all.into_iter().map(|(start, _)| start).collect(), groups, weights }
    }

    /// Old and new length.
    pub fn sizes(&self) -> (usize, usize) {
        (self.from, self.starts.len())
    }

    /// The weight of old pixel `starts[i] + t` in new pixel `i`.
    fn weight(&self, i: usize, t: usize) -> i32 {
        let group = &self.weights[i * self.groups + t / 4];
        group[t % 4 / 2 * 8 + t % 2].into()
    }
}

/// Shares to weights that add up to one, what rounding leaves over with the largest.
fn whole(shares: &[f64]) -> Vec<i16> {
    let sum: f64 = shares.iter().sum();
    let one = f64::from(1 << BITS);
    let mut weights: Vec<i16> = shares.iter().map(|s| (s / sum * one).round() as i16).collect();
    let rest = (1 << BITS) - weights.iter().map(|&w| i32::from(w)).sum::<i32>();
    let largest = (0..weights.len()).max_by_key(|&i| weights[i]).unwrap_or(0);
    weights[largest] += rest as i16;
    weights
}

/// Resizes `[h, w, 3]` bytes into `out` of the new size; `room` is scratch.
///
/// Panics if a length is not what the axes say.
pub fn resize_rgb(from: &[u8], across: &Axis, down: &Axis, room: &mut Vec<u8>, out: &mut [u8]) {
    let ((w, to_w), (h, to_h)) = (across.sizes(), down.sizes());
    assert_eq!((from.len(), out.len()), (w * h * 3, to_w * to_h * 3), "pictures of the axes' sizes");
    // A row with room to read four pixels a group beyond its end; then all rows of the new width, and as much again as a
    // pixel is written with.
    let padded = (w + across.groups * 4) * 3 + 16;
    room.clear();
    room.resize(padded + h * to_w * 3 + 16, 0);
    let (line, rows) = room.split_at_mut(padded);
    if w == to_w {
        rows[..from.len()].copy_from_slice(from);
    } else {
        for (y, row) in from.chunks_exact(w * 3).enumerate() {
            line[..w * 3].copy_from_slice(row);
            along_row(line, across, &mut rows[y * to_w * 3..(y + 1) * to_w * 3 + 4]);
        }
    }
    let stride = to_w * 3;
    for (i, line) in out.chunks_exact_mut(stride).enumerate() {
        let start = down.starts[i];
        let mut taps: [i32; 4] = [0; 4];
        if h == to_h {
            line.copy_from_slice(&rows[i * stride..(i + 1) * stride]);
        } else if down.groups == 1 {
            taps.iter_mut().enumerate().for_each(|(t, tap)| *tap = down.weight(i, t));
            // Rows beyond the last have no weight; the last one stands in for them.
            let row = |t: usize| &rows[(start + t).min(h - 1) * stride..][..stride];
            four_rows([row(0), row(1), row(2), row(3)], taps, line);
        } else {
            let taps: Vec<i32> = (0..down.groups * 4).map(|t| down.weight(i, t)).take(h - start).collect();
            many_rows(&rows[start * stride..], stride, &taps, line);
        }
    }
}

/// One row of new pixels; `from` and `out` have room beyond their ends.
fn along_row(from: &[u8], axis: &Axis, out: &mut [u8]) {
    let reach = axis.starts.last().map_or(0, |start| (start + axis.groups * 4) * 3 + 4);
    assert!(from.len() >= reach && out.len() > axis.starts.len() * 3, "room beyond the ends");
    #[cfg(target_arch = "x86_64")]
    if crate::isa() != crate::Isa::Portable {
        // SAFETY: `isa` names these sets only after the processor reported AVX2; the bounds are asserted above, and starts
        // do not fall.
        return unsafe { along_row_avx2(from, axis, out) };
    }
    for (i, (pixel, &start)) in out.chunks_exact_mut(3).zip(&axis.starts).enumerate() {
        for (c, v) in pixel.iter_mut().enumerate() {
            let sum =
                (0..axis.groups * 4).map(|t| axis.weight(i, t) * i32::from(from[(start + t) * 3 + c])).sum::<i32>();
            *v = ((sum + HALF) >> BITS) as u8;
        }
    }
}

/// # Safety
/// AVX2; from every start on `from` has 4 bytes more than all groups take, `out` one more than its pixels.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
unsafe fn along_row_avx2(from: &[u8], axis: &Axis, out: &mut [u8]) {
    use std::arch::x86_64::*;
    // Each channel of pixels 0 and 1, then of 2 and 3, as pairs of 16 bits.
    const N: i8 = -1;
    let spread = _mm256_setr_epi8(
        0, N, 3, N, 1, N, 4, N, 2, N, 5, N, N, N, N, N, 6, N, 9, N, 7, N, 10, N, 8, N, 11, N, N, N, N, N,
    );
    let half = _mm_set1_epi32(HALF);
    let mut weights = axis.weights.as_ptr();
    for (i, &start) in axis.starts.iter().enumerate() {
        let mut sum = _mm256_setzero_si256();
        for group in 0..axis.groups {
            // SAFETY: 16 bytes at each group of 12, so 4 more than all groups take, which the caller has room for; as many
            // weights as groups.
            unsafe {
                let four = _mm_loadu_si128(from.as_ptr().add(start * 3 + group * 12).cast());
                let pairs = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(four), spread);
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_loadu_si256(weights.cast())));
                weights = weights.add(1);
            }
        }
        let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let value = _mm_srai_epi32::<{ BITS as i32 }>(_mm_add_epi32(sum, half));
        let bytes = _mm_packus_epi16(_mm_packs_epi32(value, value), value);
        // SAFETY: 4 bytes at a pixel of 3, one more than the pixels take, which the caller has room for.
        unsafe { out.as_mut_ptr().add(i * 3).cast::<i32>().write_unaligned(_mm_cvtsi128_si32(bytes)) };
    }
}

simd_fn! {
    fn four_rows<V>(rows: [&[u8]; 4], weights: [i32; 4], out: &mut [u8]) {
        let n = out.len();
        let [a, b, c, d] = rows.map(|row| &row[..n]);
        for i in 0..n {
            let (ab, cd) = (
                i32::from(a[i]) * weights[0] + i32::from(b[i]) * weights[1],
                i32::from(c[i]) * weights[2] + i32::from(d[i]) * weights[3],
            );
            out[i] = ((ab + cd + HALF) >> BITS) as u8;
        }
    }
}

simd_fn! {
    /// As [`four_rows`], of `taps` rows that lie one after another.
    fn many_rows<V>(rows: &[u8], stride: usize, taps: &[i32], out: &mut [u8]) {
        const WIDE: usize = 64;
        for (block, out) in out.chunks_mut(WIDE).enumerate() {
            let mut sums = [HALF; WIDE];
            for (t, &weight) in taps.iter().enumerate() {
                let from = &rows[t * stride + block * WIDE..][..out.len()];
                if let Ok(from) = <&[u8; WIDE]>::try_from(from) {
                    sums.iter_mut().zip(from).for_each(|(sum, &v)| *sum += i32::from(v) * weight);
                } else {
                    sums.iter_mut().zip(from).for_each(|(sum, &v)| *sum += i32::from(v) * weight);
                }
            }
            out.iter_mut().zip(&sums).for_each(|(v, sum)| *v = (sum >> BITS) as u8);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Stream};

    /// Both directions at once in f64, from the definition.
    fn exact(from: &[u8], (w, h): (usize, usize), (to_w, to_h): (usize, usize)) -> Vec<f64> {
        let share = |i: usize, x: usize, from: usize, to: usize| {
            let (scale, support) = (from as f64 / to as f64, (from as f64 / to as f64).max(1.0));
            (1.0 - ((x as f64 + 0.5 - (i as f64 + 0.5) * scale) / support).abs()).max(0.0)
        };
        let one = |i: usize, from: usize, to: usize| -> Vec<f64> {
            let all: Vec<f64> = (0..from).map(|x| share(i, x, from, to)).collect();
            let sum: f64 = all.iter().sum();
            all.into_iter().map(|s| s / sum).collect()
        };
        let mut out = Vec::new();
        for y in 0..to_h {
            let down = one(y, h, to_h);
            for x in 0..to_w {
                let across = one(x, w, to_w);
                for c in 0..3 {
                    let at = |i: usize, k: usize| f64::from(from[(i * w + k) * 3 + c]) * down[i] * across[k];
                    out.push((0..h).map(|i| (0..w).map(|k| at(i, k)).sum::<f64>()).sum());
                }
            }
        }
        out
    }

    #[test]
    fn every_size_is_within_one_and_a_half_of_the_definition() {
        let mut stream = Stream::new(Key::new(4));
        for (from, to) in [
            ((13, 9), (17, 5)),
            ((40, 33), (7, 8)),
            ((1, 5), (6, 1)),
            ((22, 22), (25, 25)),
            ((64, 3), (3, 64)),
            ((90, 4), (2, 4)),
        ] {
            let picture: Vec<u8> = (0..from.0 * from.1 * 3).map(|_| stream.next_u64() as u8).collect();
            let (across, down) = (Axis::bilinear(from.0, to.0), Axis::bilinear(from.1, to.1));
            let mut out = vec![0; to.0 * to.1 * 3];
            resize_rgb(&picture, &across, &down, &mut Vec::new(), &mut out);
            for (ours, exact) in out.iter().zip(exact(&picture, from, to)) {
                assert!((f64::from(*ours) - exact).abs() < 1.1, "{from:?} to {to:?}: {ours} for {exact}");
            }
            let mut plain = vec![0; to.0 * 3 + 4];
            let mut line = vec![0; (from.0 + across.groups * 4) * 3 + 16];
            line[..from.0 * 3].copy_from_slice(&picture[..from.0 * 3]);
            along_row(&line, &across, &mut plain);
            for (i, pixel) in plain[..to.0 * 3].chunks_exact(3).enumerate() {
                for (c, v) in pixel.iter().enumerate() {
                    let of = |t: usize| across.weight(i, t) * i32::from(line[(across.starts[i] + t) * 3 + c]);
                    assert_eq!(i32::from(*v), ((0..across.groups * 4).map(of).sum::<i32>() + HALF) >> BITS);
                }
            }
        }
    }
}
