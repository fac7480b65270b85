use chandlery_kernels::Stream;
use serde::{Deserialize, Serialize};

use super::{Image, ImageError, Op};

/// What the strong view does after the weak view's geometry.
///
/// The default is what FixMatch and its successors do: three of the fourteen operations, drawn with replacement, each at
/// a magnitude uniform over its whole range, then a grey square.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Strong {
    /// Operations an image.
    pub n: usize,
    /// What they are drawn from.
    pub ops: Vec<Op>,
    /// Greatest side of the cutout as a share of the width; its side is uniform from 0 to this. 0 is no cutout.
    pub cutout: f64,
    /// The cutout's colour.
    pub fill: [u8; 3],
}

impl Default for Strong {
    fn default() -> Self {
        Self { n: 3, ops: Op::ALL.to_vec(), cutout: 0.5, fill: [125, 123, 114] }
    }
}

impl Strong {
    /// # Errors
    /// If there is nothing to draw from, or the cutout is no share.
    pub fn check(&self) -> Result<(), ImageError> {
        if self.n > 0 && self.ops.is_empty() {
            let (setting, expected) = ("strong.ops", "at least one operation, or `n = 0`");
            return Err(ImageError::Setting { setting, expected, got: "none".into() });
        }
        if !(0.0..=1.0).contains(&self.cutout) {
            let (setting, expected) = ("strong.cutout", "a share from 0 to 1");
            return Err(ImageError::Setting { setting, expected, got: self.cutout.to_string() });
        }
        Ok(())
    }

    /// Applies operations and cutout with draws from `stream`.
    pub fn apply(&self, image: &mut Image, stream: &mut Stream) {
        for _ in 0..self.n {
            let op = self.ops[stream.below(self.ops.len())];
            let (low, high) = op.range();
            // Drawn for every operation, so that the next draw does not depend on which one this is.
            let m = low + (high - low) * stream.uniform();
            op.apply(image, m);
        }
        let (w, h) = (image.width() as f64, image.height() as f64);
        let side = stream.uniform() * self.cutout * w;
        let (x, y) = (stream.uniform() * w, stream.uniform() * h);
        cut(image, (x - side / 2.0, y - side / 2.0), side, self.fill);
    }
}

/// Fills the square of `side` pixels with its corner at `(x, y)`, as far as it lies inside.
fn cut(image: &mut Image, (x, y): (f64, f64), side: f64, fill: [u8; 3]) {
    let (x0, y0) = (x.max(0.0), y.max(0.0));
    let end = |from: f64, len: usize| (from + side).min(len as f64) as usize;
    let (columns, rows) = (x0 as usize..end(x0, image.width()), y0 as usize..end(y0, image.height()));
    let width = image.width();
    for row in image.pixels_mut().chunks_exact_mut(width * 3).take(rows.end).skip(rows.start) {
        for pixel in row.chunks_exact_mut(3).take(columns.end).skip(columns.start) {
            pixel.copy_from_slice(&fill);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::Key;

    #[test]
    fn cutout_has_its_mean_area_and_stays_inside() {
        let strong = Strong { n: 0, ..Strong::default() };
        let key = Key::new(5);
        let mut grey = 0;
        for i in 0..400 {
            let mut image = Image::filled(20, 20, [0; 3]).unwrap();
            strong.apply(&mut image, &mut Stream::new(key.at(i)));
            grey += image.pixels().chunks_exact(3).filter(|p| p == &[125, 123, 114]).count();
        }
        // E[side^2] = 100 / 3 of 400 pixels; the edges cut some away.
        let mean = grey as f64 / 400.0;
        assert!((20.0..33.3).contains(&mean), "{mean}");
    }

    #[test]
    fn nothing_to_draw_from_is_refused() {
        assert!(Strong::default().check().is_ok());
        assert!(Strong { ops: vec![], ..Strong::default() }.check().is_err());
        assert!(Strong { n: 0, ops: vec![], ..Strong::default() }.check().is_ok());
        assert!(Strong { cutout: f64::NAN, ..Strong::default() }.check().is_err());
    }
}
