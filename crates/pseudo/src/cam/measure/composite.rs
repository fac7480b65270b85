//! Images whose thing has a known mask: cut-outs laid on photographs.

use ::image::{Rgb, RgbImage, RgbaImage, imageops};
use chandlery_kernels::{Key, Stream};

use super::super::error::{Error, Result};
use super::pointing::Mask;

/// How cut-outs are laid on backgrounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Composite {
    /// Side of the square image.
    pub side: usize,
    /// Smallest length of the cut-out's longer side as a share of the image's.
    pub smallest: f64,
    /// Largest.
    pub largest: f64,
    /// Opacity of 255 from which a pixel counts as the thing.
    pub opaque: u8,
}

impl Default for Composite {
    fn default() -> Self {
        Self { side: 224, smallest: 0.4, largest: 0.7, opaque: 128 }
    }
}

impl Composite {
    /// The middle square of `background` with `cutout`, freed of its transparent border, laid on it at a size and a place
    /// drawn from `key`; and where the thing is.
    ///
    /// # Errors
    /// If sizes are not `0 < smallest <= largest <= 1`, or nothing of the cut-out is opaque.
    pub fn lay(&self, background: &RgbImage, cutout: &RgbaImage, key: Key) -> Result<(RgbImage, Mask)> {
        if !(self.smallest > 0.0 && self.smallest <= self.largest && self.largest <= 1.0) {
            let got = format!("{} and {}", self.smallest, self.largest);
            return Err(Error::Setting { what: "sizes", expected: "0 < smallest <= largest <= 1", got });
        }
        let side = self.side as u32;
        let mut image = middle_square(background, side);
        let thing = self.freed(cutout)?;
        let mut stream = Stream::new(key.named("composite"));
        let share = self.smallest + (self.largest - self.smallest) * stream.uniform();
        let scale = share * f64::from(side) / f64::from(thing.width().max(thing.height()));
        let size = |n: u32| ((f64::from(n) * scale).round() as u32).clamp(1, side);
        let thing = scaled(&thing, size(thing.width()), size(thing.height()));
        let left = stream.below((side - thing.width() + 1) as usize) as u32;
        let top = stream.below((side - thing.height() + 1) as usize) as u32;

        let mut inside = vec![false; self.side * self.side];
        for (x, y, pixel) in thing.enumerate_pixels() {
            let [r, g, b, opacity] = pixel.0;
            let under = image.get_pixel(left + x, top + y).0;
            let mix = |over: u8, under: u8| {
                let opacity = u32::from(opacity);
                ((u32::from(over) * opacity + u32::from(under) * (255 - opacity) + 127) / 255) as u8
            };
            image.put_pixel(left + x, top + y, Rgb([mix(r, under[0]), mix(g, under[1]), mix(b, under[2])]));
            inside[(top + y) as usize * self.side + (left + x) as usize] = opacity >= self.opaque;
        }
        Ok((image, Mask::new(self.side, self.side, inside)?))
    }

    /// The cut-out within the bounds of what is opaque.
    fn freed(&self, cutout: &RgbaImage) -> Result<RgbaImage> {
        let flags = cutout.pixels().map(|p| p.0[3] >= self.opaque).collect();
        let bounds = Mask::new(cutout.height() as usize, cutout.width() as usize, flags)?.bounds();
        let (width, height) = (bounds.x1 - bounds.x0, bounds.y1 - bounds.y0);
        let part = imageops::crop_imm(cutout, bounds.x0 as u32, bounds.y0 as u32, width as u32, height as u32);
        Ok(part.to_image())
    }
}

/// Resizes with colours weighted by their opacity, so that what is transparent does not bleed into the edge.
fn scaled(cutout: &RgbaImage, width: u32, height: u32) -> RgbaImage {
    let weighted = |mut image: RgbaImage, by: fn(u8, u8) -> u8| {
        image.pixels_mut().for_each(|p| (0..3).for_each(|i| p.0[i] = by(p.0[i], p.0[3])));
        image
    };
    let times = |colour: u8, opacity: u8| ((u32::from(colour) * u32::from(opacity) + 127) / 255) as u8;
    let over = |colour: u8, opacity: u8| (u32::from(colour) * 255 / u32::from(opacity).max(1)).min(255) as u8;
    let small = imageops::resize(&weighted(cutout.clone(), times), width, height, imageops::FilterType::Triangle);
    weighted(small, over)
}

/// The largest square in the middle of a picture, at `side` pixels.
pub fn middle_square(picture: &RgbImage, side: u32) -> RgbImage {
    let short = picture.width().min(picture.height());
    let (left, top) = ((picture.width() - short) / 2, (picture.height() - short) / 2);
    let square = imageops::crop_imm(picture, left, top, short, short).to_image();
    if short == side { square } else { imageops::resize(&square, side, side, imageops::FilterType::Triangle) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::image::Rgba;

    /// A red square of 4 x 8 in the middle of nothing.
    fn cutout() -> RgbaImage {
        RgbaImage::from_fn(20, 20, |x, y| {
            let inside = (8..12).contains(&x) && (6..14).contains(&y);
            if inside { Rgba([200, 0, 0, 255]) } else { Rgba([0, 255, 0, 0]) }
        })
    }

    #[test]
    fn the_mask_is_where_the_thing_was_laid() {
        let ground = RgbImage::from_pixel(50, 30, Rgb([0, 0, 90]));
        let how = Composite { side: 32, ..Composite::default() };
        for i in 0..20 {
            let (image, mask) = how.lay(&ground, &cutout(), Key::new(1).at(i)).unwrap();
            let bounds = mask.bounds();
            let (width, height) = (bounds.x1 - bounds.x0, bounds.y1 - bounds.y0);
            assert!((12..=23).contains(&height) && (width as f64 - height as f64 / 2.0).abs() <= 1.0, "{bounds:?}");
            for (x, y, pixel) in image.enumerate_pixels() {
                let red = pixel.0[0] > 100;
                assert_eq!(red, mask.contains(x as usize, y as usize), "{x} {y} {pixel:?}");
                assert!(pixel.0[1] < 8, "the transparent green shows at {x} {y}");
            }
        }
    }

    #[test]
    fn size_and_place_are_drawn_from_the_key() {
        let ground = RgbImage::new(64, 64);
        let how = Composite { side: 64, ..Composite::default() };
        let lay = |seed| how.lay(&ground, &cutout(), Key::new(seed)).unwrap();
        assert_eq!(lay(3), lay(3));
        assert_ne!(lay(3).1, lay(4).1);
    }

    #[test]
    fn transparent_cutouts_and_odd_sizes_are_refused() {
        let how = Composite::default();
        assert!(how.lay(&RgbImage::new(9, 9), &RgbaImage::new(5, 5), Key::new(0)).is_err());
        let how = Composite { smallest: 0.8, largest: 0.5, ..how };
        assert!(how.lay(&RgbImage::new(9, 9), &cutout(), Key::new(0)).is_err());
    }
}
