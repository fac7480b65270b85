//! Loops over pictures of interleaved bytes, `[h, w, 3]`, red green blue.
//!
//! Every result is the same on every instruction set; sums are of whole numbers.

use crate::simd::simd_fn;

simd_fn! {
    /// Writes three planes `[3, n]` from `[n, 3]` bytes: `x * scale + shift`, in two roundings, with `(scale, shift)` of each
    /// channel.
    pub fn planes<V>(pixels: &[u8], coefficients: [(f32, f32); 3], out: &mut [f32]) {
        let n = (pixels.len() / 3).min(out.len() / 3);
        let [(ra, rb), (ga, gb), (ba, bb)] = coefficients;
        let (red, rest) = out.split_at_mut(n);
        let (green, rest) = rest.split_at_mut(n);
        let blue = &mut rest[..n];
        for i in 0..n {
            let pixel = &pixels[3 * i..3 * i + 3];
            red[i] = f32::from(pixel[0]) * ra + rb;
            green[i] = f32::from(pixel[1]) * ga + gb;
            blue[i] = f32::from(pixel[2]) * ba + bb;
        }
    }
}

/// `from` at 0, `to` at 1, cut to a whole number and to a byte.
#[inline(always)]
fn blend_one(from: f32, to: f32, m: f32) -> u8 {
    #[allow(clippy::manual_clamp, reason = "`max` and `min` drop NaN, `clamp` keeps it")]
    let value = (from + m * (to - from)).max(0.0).min(255.0);
    // SAFETY: from 0 to 255. The checked conversion is not compiled to vectors.
    unsafe { value.to_int_unchecked::<i32>() as u8 }
}

simd_fn! {
    /// Moves every byte from `from` towards its value: `from` at `m` 0, itself at 1.
    pub fn blend_from<V>(bytes: &mut [u8], from: u8, m: f32) {
        let from = f32::from(from);
        bytes.iter_mut().for_each(|v| *v = blend_one(from, f32::from(*v), m));
    }
}

simd_fn! {
    /// Keeps the bits of `mask`.
    pub fn mask<V>(bytes: &mut [u8], mask: u8) {
        bytes.iter_mut().for_each(|v| *v &= mask);
    }
}

simd_fn! {
    /// Inverts the bytes from `least` on.
    pub fn invert_from<V>(bytes: &mut [u8], least: u8) {
        bytes.iter_mut().for_each(|v| *v = if *v < least { *v } else { 255 - *v });
    }
}

/// ITU-R 601-2 luma in 16 bits, as PIL's mode `L`.
#[inline(always)]
fn luma(pixel: &[u8]) -> u32 {
    (u32::from(pixel[0]) * 19595 + u32::from(pixel[1]) * 38470 + u32::from(pixel[2]) * 7471 + 0x8000) >> 16
}

simd_fn! {
    /// The sum of the lumas of `[n, 3]` bytes.
    pub fn luma_sum<V>(pixels: &[u8]) -> u64 {
        // 255 times the chunk fits 32 bits.
        pixels.chunks(3 << 16).map(|chunk| u64::from(chunk.chunks_exact(3).map(luma).sum::<u32>())).sum()
    }
}

simd_fn! {
    /// Moves every pixel from the grey of its luma towards its colour.
    pub fn saturate<V>(pixels: &mut [u8], m: f32) {
        for pixel in pixels.chunks_exact_mut(3) {
            let grey = luma(pixel) as f32;
            let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(|v| blend_one(grey, f32::from(v), m));
            (pixel[0], pixel[1], pixel[2]) = (r, g, b);
        }
    }
}

simd_fn! {
    /// Moves the inner pixels of a row from the row smoothed by (1 1 1, 1 5 1, 1 1 1) / 13 towards their values: `out` is
    /// `[w - 2, 3]`, the rows above, at and below are `[w, 3]`.
    pub fn sharpen_row<V>(above: &[u8], here: &[u8], below: &[u8], m: f32, out: &mut [u8]) {
        let n = out.len();
        let (a, h, b) = (&above[..n + 6], &here[..n + 6], &below[..n + 6]);
        for i in 0..n {
            let of = |row: &[u8]| u16::from(row[i]) + u16::from(row[i + 3]) + u16::from(row[i + 6]);
            let sum = of(a) + of(h) + of(b) + 4 * u16::from(h[i + 3]);
            let smooth = (2 * sum + 13) / 26;
            out[i] = blend_one(f32::from(smooth), f32::from(h[i + 3]), m);
        }
    }
}

simd_fn! {
    /// Writes `[n, 3]` pixels in the opposite order.
    pub fn mirrored<V>(from: &[u8], out: &mut [u8]) {
        let n = (from.len() / 3).min(out.len() / 3);
        let (from, out) = (&from[..3 * n], &mut out[..3 * n]);
        for i in 0..n {
            let at = 3 * (n - 1 - i);
            (out[3 * i], out[3 * i + 1], out[3 * i + 2]) = (from[at], from[at + 1], from[at + 2]);
        }
    }
}

/// How often each byte occurs in each of three channels.
pub fn histograms(pixels: &[u8]) -> [[u32; 256]; 3] {
    // Two sets in turn: equal neighbours would wait for one another.
    let mut sets = [[[0_u32; 256]; 3]; 2];
    for two in pixels.chunks(6) {
        for (set, pixel) in sets.iter_mut().zip(two.chunks_exact(3)) {
            for (counts, &v) in set.iter_mut().zip(pixel) {
                counts[usize::from(v)] += 1;
            }
        }
    }
    let [mut all, other] = sets;
    all.iter_mut().flatten().zip(other.iter().flatten()).for_each(|(a, b)| *a += b);
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Key, Stream};

    fn bytes(n: usize) -> Vec<u8> {
        let mut stream = Stream::new(Key::new(8));
        (0..n).map(|_| stream.next_u64() as u8).collect()
    }

    // The vector forms are compared with one pixel at a time, which no vector holds.
    #[test]
    fn long_rows_are_single_pixels_side_by_side() {
        for n in [1, 2, 5, 21, 64, 333] {
            let pixels = bytes(3 * n);
            let one_by_one = |f: &dyn Fn(&mut [u8])| {
                let (mut long, mut short) = (pixels.clone(), pixels.clone());
                f(&mut long);
                short.chunks_exact_mut(3).for_each(f);
                assert_eq!(long, short, "{n}");
            };
            for m in [0.05, 0.437, 0.95, 1.7, -0.4] {
                one_by_one(&|p| blend_from(p, 97, m));
                one_by_one(&|p| saturate(p, m));
            }
            one_by_one(&|p| mask(p, 0xf0));
            one_by_one(&|p| invert_from(p, 131));
            assert_eq!(luma_sum(&pixels), pixels.chunks_exact(3).map(|p| u64::from(luma(p))).sum::<u64>());
            let mut out = vec![0.0; 3 * n];
            let by = [(0.25, -1.0), (0.013, 0.3), (1.0 / 255.0, 0.0)];
            planes(&pixels, by, &mut out);
            for (i, pixel) in pixels.chunks_exact(3).enumerate() {
                let mut one = [0.0; 3];
                planes(pixel, by, &mut one);
                assert_eq!([out[i], out[n + i], out[2 * n + i]], one);
            }
        }
    }

    #[test]
    fn bytes_are_counted_by_channel() {
        let counts = histograms(&[1, 2, 3, 1, 2, 4, 1, 5, 3]);
        assert_eq!((counts[0][1], counts[1][2], counts[1][5], counts[2][3], counts[2][4]), (3, 2, 1, 2, 1));
        assert_eq!(counts.iter().flatten().sum::<u32>(), 9);
    }
}
