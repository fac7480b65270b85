//! The fourteen operations of RandAugment (arXiv 1909.13719) in the form that FixMatch (arXiv 2001.07685) draws from.
//!
//! Formulas, rounding and cut-off are PIL's, on which the published results rest: geometry takes the nearest pixel and
//! fills with black, blends cut to whole numbers.

use serde::{Deserialize, Serialize};

use super::Image;

/// One operation, by its published name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op {
    /// Each channel stretched to 0..255.
    AutoContrast,
    /// Towards black.
    Brightness,
    /// Towards grey of the same brightness.
    Color,
    /// Towards the mean grey.
    Contrast,
    /// Each channel's histogram flattened.
    Equalize,
    /// Nothing.
    Identity,
    /// Fewer bits a channel.
    Posterize,
    /// About the centre, degrees against the clock.
    Rotate,
    /// Towards a smoothed copy.
    Sharpness,
    /// Columns shifted by a share of the row.
    ShearX,
    /// Rows shifted by a share of the column.
    ShearY,
    /// Values from the threshold on inverted.
    Solarize,
    /// By a share of the width.
    TranslateX,
    /// By a share of the height.
    TranslateY,
}

impl Op {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::AutoContrast,
        Self::Brightness,
        Self::Color,
        Self::Contrast,
        Self::Equalize,
        Self::Identity,
        Self::Posterize,
        Self::Rotate,
        Self::Sharpness,
        Self::ShearX,
        Self::ShearY,
        Self::Solarize,
        Self::TranslateX,
        Self::TranslateY,
    ];

    /// Least and greatest magnitude, as FixMatch, TorchSSL and USB draw them; `(0, 1)` where the operation takes none.
    pub fn range(self) -> (f64, f64) {
        match self {
            Self::AutoContrast | Self::Equalize | Self::Identity => (0.0, 1.0),
            Self::Brightness | Self::Color | Self::Contrast | Self::Sharpness => (0.05, 0.95),
            Self::Posterize => (4.0, 8.0),
            Self::Rotate => (-30.0, 30.0),
            Self::ShearX | Self::ShearY | Self::TranslateX | Self::TranslateY => (-0.3, 0.3),
            Self::Solarize => (0.0, 256.0),
        }
    }

    /// Applies the operation at magnitude `m`.
    pub fn apply(self, image: &mut Image, m: f64) {
        match self {
            Self::Identity => {}
            Self::AutoContrast => stretch(image),
            Self::Equalize => equalise(image),
            Self::Brightness => map(image, &blend_table(0, m)),
            Self::Contrast => map(image, &blend_table(mean_grey(image), m)),
            Self::Color => saturate(image, m),
            Self::Sharpness => sharpen(image, m),
            Self::Posterize => {
                let mask = (0xff00_u16 >> (m as u32).clamp(1, 8)) as u8;
                map(image, &table(|v| v & mask));
            }
            Self::Solarize => map(image, &table(|v| if f64::from(v) < m { v } else { 255 - v })),
            Self::Rotate => *image = affine(image, rotation(image, m)),
            Self::ShearX => *image = affine(image, [1.0, m, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY => *image = affine(image, [1.0, 0.0, 0.0, m, 1.0, 0.0]),
            Self::TranslateX => *image = affine(image, [1.0, 0.0, m * image.width() as f64, 0.0, 1.0, 0.0]),
            Self::TranslateY => *image = affine(image, [1.0, 0.0, 0.0, 0.0, 1.0, m * image.height() as f64]),
        }
    }
}

type Table = [u8; 256];

fn table(f: impl Fn(u8) -> u8) -> Table {
    std::array::from_fn(|v| f(v as u8))
}

fn map(image: &mut Image, table: &Table) {
    image.pixels_mut().iter_mut().for_each(|v| *v = table[usize::from(*v)]);
}

fn map_channels(image: &mut Image, tables: &[Table; 3]) {
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        for (v, table) in pixel.iter_mut().zip(tables) {
            *v = table[usize::from(*v)];
        }
    }
}

/// `from` at 0, `to` at 1, in f32 and cut to a whole number like PIL's `Image.blend`.
#[inline(always)]
fn blend(from: u8, to: u8, m: f32) -> u8 {
    (f32::from(from) + m * (f32::from(to) - f32::from(from))) as u8
}

fn blend_table(from: u8, m: f64) -> Table {
    table(|v| blend(from, v, m as f32))
}

/// ITU-R 601-2 luma in 16 bits, as PIL's mode `L`.
#[inline(always)]
fn grey(pixel: &[u8]) -> u8 {
    let [r, g, b] = [pixel[0], pixel[1], pixel[2]].map(u32::from);
    ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
}

fn mean_grey(image: &Image) -> u8 {
    let sum: u64 = image.pixels().chunks_exact(3).map(|p| u64::from(grey(p))).sum();
    let n = (image.width() * image.height()) as f64;
    (sum as f64 / n + 0.5) as u8
}

fn saturate(image: &mut Image, m: f64) {
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        let from = grey(pixel);
        pixel.iter_mut().for_each(|v| *v = blend(from, *v, m as f32));
    }
}

/// Blends with the image smoothed by (1 1 1, 1 5 1, 1 1 1) / 13; the outermost pixels are not smoothed.
fn sharpen(image: &mut Image, m: f64) {
    let (w, h) = (image.width(), image.height());
    if w < 3 || h < 3 {
        return;
    }
    let stride = w * 3;
    let source = image.clone();
    for y in 1..h - 1 {
        let (above, here, below) = (source.row(y - 1), source.row(y), source.row(y + 1));
        let out = &mut image.pixels_mut()[y * stride + 3..(y + 1) * stride - 3];
        for (i, v) in out.iter_mut().enumerate() {
            let of = |row: &[u8]| u32::from(row[i]) + u32::from(row[i + 3]) + u32::from(row[i + 6]);
            let sum = of(above) + of(here) + of(below) + 4 * u32::from(here[i + 3]);
            let smooth = ((2 * sum + 13) / 26) as u8;
            *v = blend(smooth, *v, m as f32);
        }
    }
}

fn histograms(image: &Image) -> [[u32; 256]; 3] {
    let mut counts = [[0; 256]; 3];
    for pixel in image.pixels().chunks_exact(3) {
        for (count, &v) in counts.iter_mut().zip(pixel) {
            count[usize::from(v)] += 1;
        }
    }
    counts
}

fn stretch(image: &mut Image) {
    let tables = histograms(image).map(|count| {
        let used = |v: &usize| count[*v] > 0;
        let (low, high) = ((0..256).find(used).unwrap_or(0), (0..256).rfind(used).unwrap_or(0));
        if high <= low {
            return table(|v| v);
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        table(|v| (f64::from(v) * scale + offset) as u8)
    });
    map_channels(image, &tables);
}

fn equalise(image: &mut Image) {
    let tables = histograms(image).map(|count| {
        let n: u32 = count.iter().sum();
        let last = count.iter().rev().find(|&&c| c > 0).copied().unwrap_or(0);
        let step = (n - last) / 255;
        if step == 0 {
            return table(|v| v);
        }
        let mut below = step / 2;
        let mut table = [0; 256];
        for (to, c) in table.iter_mut().zip(count) {
            *to = (below / step).min(255) as u8;
            below += c;
        }
        table
    });
    map_channels(image, &tables);
}

/// Column and row of the source for column and row of the result: `[a, b, c, d, e, f]` with
/// `x' = a x + b y + c` and `y' = d x + e y + f`, pixel centres at halves.
type Affine = [f64; 6];

fn rotation(image: &Image, degrees: f64) -> Affine {
    let (sin, cos) = (-degrees.rem_euclid(360.0).to_radians()).sin_cos();
    let (cx, cy) = (image.width() as f64 / 2.0, image.height() as f64 / 2.0);
    [cos, sin, cx - cos * cx - sin * cy, -sin, cos, cy + sin * cx - cos * cy]
}

/// Takes the nearest source pixel, black outside; coordinates in 16.16 fixed point, as PIL computes them.
fn affine(image: &Image, [a, b, c, d, e, f]: Affine) -> Image {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (step_x, step_y) = ([fixed(a), fixed(d)], [fixed(b), fixed(e)]);
    let mut start = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
    let (w, h) = (image.width(), image.height());
    let source = image.pixels();
    Image::build(w, h, |out| {
        for row in out.chunks_exact_mut(w * 3) {
            let [mut x, mut y] = start;
            for pixel in row.chunks_exact_mut(3) {
                // Negative coordinates become huge and fail the comparison.
                let (column, line) = ((x >> 16) as usize, (y >> 16) as usize);
                if column < w && line < h {
                    let at = (line * w + column) * 3;
                    pixel.copy_from_slice(&source[at..at + 3]);
                }
                (x, y) = (x + step_x[0], y + step_x[1]);
            }
            start = [start[0] + step_y[0], start[1] + step_y[1]];
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::resize;

    fn golden() -> serde_json::Value {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/images/pil_ops.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn bytes(hex: &serde_json::Value) -> Vec<u8> {
        let hex = hex.as_str().unwrap();
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    }

    fn number(value: &serde_json::Value) -> usize {
        value.as_u64().unwrap() as usize
    }

    #[test]
    fn every_operation_gives_the_bytes_of_pil() {
        let golden = golden();
        let image = Image::new(number(&golden["width"]), number(&golden["height"]), bytes(&golden["pixels"])).unwrap();
        let mut seen = std::collections::HashSet::new();
        for case in golden["ops"].as_array().unwrap() {
            let (op, m): (Op, f64) = (serde_json::from_value(case["op"].clone()).unwrap(), case["m"].as_f64().unwrap());
            let mut ours = image.clone();
            op.apply(&mut ours, m);
            assert_eq!(ours.pixels(), bytes(&case["pixels"]), "{op:?} at {m}");
            seen.insert(op);
        }
        assert_eq!(seen.len(), Op::ALL.len());
    }

    #[test]
    fn resize_is_within_one_of_pil() {
        let golden = golden();
        let image = Image::new(number(&golden["width"]), number(&golden["height"]), bytes(&golden["pixels"])).unwrap();
        for case in golden["resize"].as_array().unwrap() {
            let (w, h) = (number(&case["width"]), number(&case["height"]));
            let ours = resize(&image, w, h).unwrap();
            let worst = ours.pixels().iter().zip(bytes(&case["pixels"])).map(|(a, b)| a.abs_diff(b)).max();
            assert!(worst <= Some(1), "{w} x {h}: {worst:?}");
        }
    }

    #[test]
    fn operations_take_the_smallest_and_the_flattest_images() {
        for (w, h) in [(1, 1), (1, 7), (2, 2), (5, 1)] {
            for op in Op::ALL {
                let (low, high) = op.range();
                for m in [low, high] {
                    let mut image = Image::filled(w, h, [9, 200, 31]).unwrap();
                    op.apply(&mut image, m);
                    assert_eq!((image.width(), image.height()), (w, h));
                    if matches!(op, Op::AutoContrast | Op::Equalize | Op::Identity | Op::Sharpness) {
                        assert_eq!(image, Image::filled(w, h, [9, 200, 31]).unwrap(), "{op:?}");
                    }
                }
            }
        }
    }
}
