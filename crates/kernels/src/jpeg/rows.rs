//! From planes to rows of red, green and blue.

use crate::simd::simd_fn;

/// How a plane of less resolution reaches that of the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upsampling {
    /// Twice as many columns.
    pub across: bool,
    /// Twice as many rows.
    pub down: bool,
    /// By triangles, not by repetition.
    pub smooth: bool,
}

impl Upsampling {
    /// Writes row `y` of the picture from a plane of `width x height` samples, of which `plane(i)` is row `i`.
    ///
    /// `out` is as wide as the plane, or twice as wide where columns are doubled; `room` is scratch.
    pub fn row<'a>(
        self,
        plane: impl Fn(usize) -> &'a [u8],
        (width, height): (usize, usize),
        y: usize,
        room: &mut Vec<u16>,
        out: &mut [u8],
    ) {
        let near = if self.down { y / 2 } else { y };
        let rows = self.smooth && self.down;
        let far = if !rows {
            near
        } else if y.is_multiple_of(2) {
            near.saturating_sub(1)
        } else {
            (near + 1).min(height - 1)
        };
        let (near, far) = (&plane(near)[..width], &plane(far)[..width]);
        // libjpeg interpolates no plane of two columns.
        let columns = self.smooth && self.across && width > 2;
        room.resize(width + 2, 0);
        match (rows && (columns || !self.across), columns) {
            (true, true) => {
                weigh(near, far, &mut room[1..=width]);
                double(ends(room), out, 4, 8, 7);
            }
            (false, true) => {
                widen(near, &mut room[1..=width]);
                double(ends(room), out, 2, 1, 2);
            }
            (true, false) => between(near, far, 1 + (y % 2) as u16, out),
            (false, false) if self.across => {
                out.chunks_mut(2).zip(near).for_each(|(pair, &v)| pair.fill(v));
            }
            (false, false) => out.copy_from_slice(near),
        }
    }
}

/// Repeats the outermost values beyond both ends.
fn ends(room: &mut [u16]) -> &[u16] {
    let n = room.len();
    (room[0], room[n - 1]) = (room[1], room[n - 2]);
    room
}

simd_fn! {
    /// `3 near + far`.
    fn weigh<V>(near: &[u8], far: &[u8], out: &mut [u16]) {
        for ((o, &n), &f) in out.iter_mut().zip(near).zip(far) {
            *o = 3 * u16::from(n) + u16::from(f);
        }
    }
}

simd_fn! {
    fn widen<V>(from: &[u8], out: &mut [u16]) {
        for (o, &v) in out.iter_mut().zip(from) {
            *o = u16::from(v);
        }
    }
}

simd_fn! {
    /// `(3 near + far + bias) / 4`.
    fn between<V>(near: &[u8], far: &[u8], bias: u16, out: &mut [u8]) {
        for ((o, &n), &f) in out.iter_mut().zip(near).zip(far) {
            *o = ((3 * u16::from(n) + u16::from(f) + bias) >> 2) as u8;
        }
    }
}

simd_fn! {
    /// Two values from each of the inner ones of `from`: `(3 here + left + low) >> shift`, `(3 here + right + high) >> shift`.
    fn double<V>(from: &[u16], out: &mut [u8], shift: u16, low: u16, high: u16) {
        let n = from.len() - 2;
        let (left, here, right) = (&from[..n], &from[1..=n], &from[2..]);
        for ((pair, (&l, &r)), &h) in out.chunks_exact_mut(2).zip(left.iter().zip(right)).zip(here) {
            let (a, b) = ((3 * h + l + low) >> shift, (3 * h + r + high) >> shift);
            pair.copy_from_slice(&(a | b << 8).to_le_bytes());
        }
    }
}

simd_fn! {
    /// Writes `[width, 3]` bytes of red, green and blue from as many of luma and chroma (ITU-R BT.601, full range, as JFIF
    /// has it).
    pub fn rgb_row<V>(luma: &[u8], blue: &[u8], red: &[u8], out: &mut [u8]) {
        for (((pixel, &y), &cb), &cr) in out.chunks_exact_mut(3).zip(luma).zip(blue).zip(red) {
            let (y, cb, cr) = (i16::from(y), i16::from(cb) - 128, i16::from(cr) - 128);
            let r = y + from_red(cr);
            let g = y + from_both(cb, cr);
            let b = y + from_blue(cb);
            let [r, g, b] = [r, g, b].map(|v| v.clamp(0, 255) as u8);
            (pixel[0], pixel[1], pixel[2]) = (r, g, b);
        }
    }
}

// The three products in 16 bits, to the same whole numbers as 16 bits of fraction give; factors beyond 1/2 in parts.

/// 1.402 `cr`.
#[inline(always)]
fn from_red(cr: i16) -> i16 {
    // 0.402 in 16 bits.
    cr + ((high(2 * cr, 26_345) + 1) >> 1)
}

/// 1.772 `cb`.
#[inline(always)]
fn from_blue(cb: i16) -> i16 {
    // -0.228 in 16 bits.
    2 * cb + ((high(2 * cb, -14_942) + 1) >> 1)
}

/// -0.34414 `cb` - 0.71414 `cr`.
#[inline(always)]
fn from_both(cb: i16, cr: i16) -> i16 {
    let sum = i32::from(cb) * -22_554 + i32::from(cr) * 18_734 + 32_768;
    (sum >> 16) as i16 - cr
}

/// The upper half of a product.
#[inline(always)]
fn high(a: i16, b: i16) -> i16 {
    ((i32::from(a) * i32::from(b)) >> 16) as i16
}

/// Writes `[width, 3]` equal bytes.
pub fn grey_row(luma: &[u8], out: &mut [u8]) {
    out.chunks_exact_mut(3).zip(luma).for_each(|(pixel, &y)| pixel.fill(y));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_those_of_sixteen_bits_of_fraction() {
        for cb in -128..128 {
            for cr in -128..128 {
                let wanted = [91_881 * cr, -22_554 * cb - 46_802 * cr, 116_130 * cb].map(|v| (v + 32_768) >> 16);
                let (b, r) = (cb as i16, cr as i16);
                assert_eq!([from_red(r), from_both(b, r), from_blue(b)].map(i32::from), wanted, "{cb}, {cr}");
            }
        }
    }
}
