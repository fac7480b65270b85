//! The inner loops of baseline JPEG: entropy-coded bytes to planes, planes to rows of colour.
//!
//! Whoever reads the file's markers fills in a [`Scan`]; what comes out has, for sound data, the bytes of libjpeg's default
//! ("slow integer" inverse transform, triangle upsampling, 16-bit colour conversion), at full size and at 1/2, 1/4 and 1/8.
//! Formulas: ITU-T T.81 (the format), C. Loeffler, A. Ligtenberg and G. Moschytz, ICASSP 1989 (the transform), and libjpeg's
//! `jidctint`, `jidctred`, `jdsample` and `jdcolor` (constants and rounding).
//!
//! The result is the same on every instruction set, damaged data included; no input makes it panic.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod bits;
mod huffman;
mod idct;
mod rows;
mod scan;

pub use bits::EntropyData;
pub use huffman::{Coefficients, Huffman};
pub use rows::{Upsampling, grey_row, rgb_row};
pub use scan::{Broken, Component, Plane, Scan};

/// Natural index (row by row) of each coefficient in the order of the file.
const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21,
    28, 35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54,
    47, 55, 62, 63,
];
