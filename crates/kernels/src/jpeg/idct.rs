//! Inverse cosine transforms of 8 x 8 coefficients to 8, 4, 2 or 1 pixels a side, in plain Rust: the oracle of the vector
//! forms and what runs without them.

use super::ZIGZAG;

/// Coefficients of a block, times their quantisers, in [`place`]'s order.
pub(super) type Block = [i16; 64];

/// Where the coefficient of row `y` and column `x` lies. Rows that the transforms multiply in pairs lie interleaved.
const fn place(y: usize, x: usize) -> usize {
    let (pair, second) = match y {
        0 => (0, 0),
        4 => (0, 1),
        2 => (1, 0),
        6 => (1, 1),
        1 => (2, 0),
        3 => (2, 1),
        5 => (3, 0),
        _ => (3, 1),
    };
    pair * 16 + x * 2 + second
}

/// [`place`] of each coefficient in the order of the file.
pub(super) const PLACES: [u8; 64] = {
    let mut places = [0; 64];
    let mut k = 0;
    while k < 64 {
        let natural = ZIGZAG[k] as usize;
        places[k] = place(natural / 8, natural % 8) as u8;
        k += 1;
    }
    places
};

/// Writes the pixels of blocks.
pub(super) trait Transform {
    /// 8 rows of 8.
    fn eight(block: &Block, out: &mut [u8], stride: usize);
    /// 4 rows of 4.
    fn four(block: &Block, out: &mut [u8], stride: usize);

    /// `side` rows of `side`, 8, 4, 2 or 1; `last` is the place in the file's order of the last coefficient that is not 0.
    #[inline(always)]
    fn write(side: usize, block: &Block, last: usize, out: &mut [u8], stride: usize) {
        match side {
            1 => out[0] = flat(block),
            _ if last == 0 => fill(side, flat(block), out, stride),
            2 => two(block, out, stride),
            4 => Self::four(block, out, stride),
            _ => Self::eight(block, out, stride),
        }
    }
}

/// The pixel that a block without other coefficients than the first one has everywhere.
#[inline(always)]
fn flat(block: &Block) -> u8 {
    pixel((i32::from(block[0]) + 4) >> 3)
}

#[inline(always)]
fn fill(side: usize, value: u8, out: &mut [u8], stride: usize) {
    // Each arm with a width of its own, so that a row is one store.
    match side {
        8 => out.chunks_mut(stride).take(8).for_each(|row| row[..8].fill(value)),
        4 => out.chunks_mut(stride).take(4).for_each(|row| row[..4].fill(value)),
        _ => out.chunks_mut(stride).take(2).for_each(|row| row[..2].fill(value)),
    }
}

/// Around 0 to around 128, cut to a byte.
#[inline(always)]
fn pixel(value: i32) -> u8 {
    (value.clamp(-128, 127) + 128) as u8
}

/// To 16 bits, as the vector forms keep it between the passes.
#[inline(always)]
fn narrow(value: i32) -> i32 {
    value.clamp(i16::MIN.into(), i16::MAX.into())
}

#[inline(always)]
fn row(block: &Block, y: usize) -> [i32; 8] {
    std::array::from_fn(|x| i32::from(block[place(y, x)]))
}

/// Plain Rust.
pub(super) struct Plain;

impl Transform for Plain {
    fn eight(block: &Block, out: &mut [u8], stride: usize) {
        let rows: [[i32; 8]; 8] = std::array::from_fn(|y| row(block, y));
        let columns: [[i32; 8]; 8] =
            std::array::from_fn(|x| eight_of(std::array::from_fn(|y| rows[y][x]), 11).map(narrow));
        for (y, line) in out.chunks_mut(stride).take(8).enumerate() {
            let pixels = eight_of(std::array::from_fn(|x| columns[x][y]), 18).map(pixel);
            line[..8].copy_from_slice(&pixels);
        }
    }

    fn four(block: &Block, out: &mut [u8], stride: usize) {
        let rows: [[i32; 8]; 8] = std::array::from_fn(|y| row(block, y));
        let columns: [[i32; 4]; 8] =
            std::array::from_fn(|x| four_of(std::array::from_fn(|y| rows[y][x]), 12).map(narrow));
        for (y, line) in out.chunks_mut(stride).take(4).enumerate() {
            let pixels = four_of(std::array::from_fn(|x| columns[x][y]), 19).map(pixel);
            line[..4].copy_from_slice(&pixels);
        }
    }
}

/// `jidctint`'s one-dimensional transform, its products collected for each input: the same sums, as nothing is rounded
/// before the shift.
#[inline(always)]
fn eight_of(y: [i32; 8], shift: u32) -> [i32; 8] {
    let sum = |at: [usize; 4], by: [i32; 4]| (0..4).fold(0_i32, |s, i| s.wrapping_add(y[at[i]].wrapping_mul(by[i])));
    let pair = |a: usize, b: usize, by: [i32; 2]| y[a].wrapping_mul(by[0]).wrapping_add(y[b].wrapping_mul(by[1]));
    let half = 1 << (shift - 1);
    let (even0, even1) = (pair(0, 4, [8192, 8192]).wrapping_add(half), pair(0, 4, [8192, -8192]).wrapping_add(half));
    let (even2, even3) = (pair(2, 6, [4433, -10704]), pair(2, 6, [10703, 4433]));
    let even =
        [even0.wrapping_add(even3), even1.wrapping_add(even2), even1.wrapping_sub(even2), even0.wrapping_sub(even3)];
    let odd = [
        sum([1, 3, 5, 7], [11363, 9633, 6437, 2260]),
        sum([1, 3, 5, 7], [9633, -2259, -11362, -6436]),
        sum([1, 3, 5, 7], [6437, -11362, 2261, 9633]),
        sum([1, 3, 5, 7], [2260, -6436, 9633, -11363]),
    ];
    std::array::from_fn(|i| {
        let value = if i < 4 { even[i].wrapping_add(odd[i]) } else { even[7 - i].wrapping_sub(odd[7 - i]) };
        value >> shift
    })
}

/// `jidctred`'s transform to four values.
#[inline(always)]
fn four_of(y: [i32; 8], shift: u32) -> [i32; 4] {
    let mul = |a: i32, b: i32| a.wrapping_mul(b);
    let base = mul(y[0], 16384).wrapping_add(1 << (shift - 1));
    let even = mul(y[2], 15137).wrapping_add(mul(y[6], -6270));
    let (a, b) = (base.wrapping_add(even), base.wrapping_sub(even));
    let odd = |c: [i32; 4]| {
        let low = mul(y[1], c[0]).wrapping_add(mul(y[3], c[1]));
        low.wrapping_add(mul(y[5], c[2]).wrapping_add(mul(y[7], c[3])))
    };
    let (outer, inner) = (odd([20995, 7373, -4926, -4176]), odd([8697, -17799, 11893, -1730]));
    [a.wrapping_add(outer), b.wrapping_add(inner), b.wrapping_sub(inner), a.wrapping_sub(outer)].map(|v| v >> shift)
}

/// `jidctred`'s transform to 2 x 2 pixels.
fn two(block: &Block, out: &mut [u8], stride: usize) {
    let of = |y0: i32, odd: [i32; 4], shift: u32| {
        let base = y0.wrapping_mul(32768).wrapping_add(1 << (shift - 1));
        let factors = [29692, -10426, 6967, -5906];
        let sum = odd.iter().zip(factors).fold(0_i32, |s, (a, b)| s.wrapping_add(a.wrapping_mul(b)));
        [base.wrapping_add(sum) >> shift, base.wrapping_sub(sum) >> shift]
    };
    let value = |y: usize, x: usize| i32::from(block[place(y, x)]);
    let column = |x: usize| of(value(0, x), [1, 3, 5, 7].map(|y| value(y, x)), 13).map(narrow);
    let (first, odd) = (column(0), [1, 3, 5, 7].map(column));
    for (y, line) in out.chunks_mut(stride).take(2).enumerate() {
        line[..2].copy_from_slice(&of(first[y], odd.map(|c| c[y]), 20).map(pixel));
    }
}
