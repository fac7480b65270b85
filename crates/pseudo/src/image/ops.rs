//! The fourteen operations of RandAugment (arXiv 1909.13719) in the form that FixMatch (arXiv 2001.07685) draws from.
//!
//! Formulas, rounding and cut-off are PIL's, on which the published results rest: geometry takes the nearest pixel and
//! fills with black, blends cut to whole numbers.

use std::ops::Range;

use chandlery_kernels::pixels;
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
            Self::Brightness => pixels::blend_from(image.pixels_mut(), 0, m as f32),
            Self::Contrast => {
                let grey = mean_grey(image);
                pixels::blend_from(image.pixels_mut(), grey, m as f32);
            }
            Self::Color => pixels::saturate(image.pixels_mut(), m as f32),
            Self::Sharpness => sharpen(image, m),
            Self::Posterize => {
                let mask = (0xff00_u16 >> (m as u32).clamp(1, 8)) as u8;
                pixels::mask(image.pixels_mut(), mask);
            }
            // No byte reaches a threshold beyond 255.
            Self::Solarize if m > 255.0 => {}
            Self::Solarize => pixels::invert_from(image.pixels_mut(), m.ceil() as u8),
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

fn map_channels(image: &mut Image, tables: &[Table; 3]) {
    for pixel in image.pixels_mut().chunks_exact_mut(3) {
        for (v, table) in pixel.iter_mut().zip(tables) {
            *v = table[usize::from(*v)];
        }
    }
}

fn mean_grey(image: &Image) -> u8 {
    let n = (image.width() * image.height()) as f64;
    (pixels::luma_sum(image.pixels()) as f64 / n + 0.5) as u8
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
        pixels::sharpen_row(above, here, below, m as f32, out);
    }
}

fn stretch(image: &mut Image) {
    let tables = pixels::histograms(image.pixels()).map(|count| {
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
    let tables = pixels::histograms(image.pixels()).map(|count| {
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
            let [x, y] = start;
            let inside = common(inside(x, step_x[0], w, w), inside(y, step_x[1], h, w));
            let (x, y) = (x + step_x[0] * inside.start as i64, y + step_x[1] * inside.start as i64);
            if step_x == [65536, 0] {
                // The pixels lie side by side in the source, too.
                if !inside.is_empty() {
                    let at = ((y >> 16) as usize * w + (x >> 16) as usize) * 3;
                    let n = inside.len() * 3;
                    row[inside.start * 3..inside.end * 3].copy_from_slice(&source[at..at + n]);
                }
            } else {
                let mut at = [x, y];
                for pixel in row[inside.start * 3..inside.end * 3].chunks_exact_mut(3) {
                    let from = ((at[1] >> 16) as usize * w + (at[0] >> 16) as usize) * 3;
                    pixel.copy_from_slice(&source[from..from + 3]);
                    at = [at[0] + step_x[0], at[1] + step_x[1]];
                }
            }
            start = [start[0] + step_y[0], start[1] + step_y[1]];
        }
    })
}

/// Which of the `n` positions `first + i * step` in 16.16 fixed point lie in `0..len`: one range, as they go one way.
fn inside(first: i64, step: i64, len: usize, n: usize) -> Range<usize> {
    let (last, n) = ((len as i64) << 16, n as i64);
    // The first `i` with `first + i * step >= bound`, of rising positions.
    let reach = |bound: i64, first: i64, step: i64| ((bound - first + step - 1).div_euclid(step)).clamp(0, n) as usize;
    match step {
        0 if (0..last).contains(&first) => 0..n as usize,
        0 => 0..0,
        1.. => reach(0, first, step)..reach(last, first, step),
        // Falling: those that are not above the top any more, to those that are not below 0 yet.
        _ => reach(1 - last, -first, -step)..reach(1, -first, -step),
    }
}

fn common(a: Range<usize>, b: Range<usize>) -> Range<usize> {
    let start = a.start.max(b.start);
    start..a.end.min(b.end).max(start)
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
