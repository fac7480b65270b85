//! Resizing, cropping, turning and mirroring: exact copies except for the resize.

use std::cell::RefCell;

use chandlery_kernels::pixels;
use chandlery_kernels::resize::{Axis, resize_rgb};
use serde::{Deserialize, Serialize};

use super::{Image, ImageError};

/// What an image is resized to before it is cropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Resize {
    /// The shorter side becomes this long, the shape is kept.
    ShortSide(usize),
    /// Both sides become this long, whatever the shape was.
    Squash(usize),
}

impl Resize {
    /// `(width, height)` of what an image of this size becomes; at least 1 x 1. The longer side is cut to whole pixels,
    /// as torchvision does.
    pub fn size_of(self, width: usize, height: usize) -> (usize, usize) {
        let scaled = |long: usize, short: usize, s: usize| (s * long / short.max(1)).max(1);
        match self {
            Self::Squash(s) => (s, s),
            Self::ShortSide(s) if width <= height => (s, scaled(height, width, s)),
            Self::ShortSide(s) => (scaled(width, height, s), s),
        }
    }

    /// The length asked for.
    pub fn side(self) -> usize {
        match self {
            Self::ShortSide(s) | Self::Squash(s) => s,
        }
    }
}

/// Weights and scratch of one thread.
#[derive(Default)]
struct Room {
    axes: Vec<Axis>,
    bytes: Vec<u8>,
}

/// Most axes and bytes that a thread keeps.
const KEPT: (usize, usize) = (16, 4 << 20);

thread_local! {
    // The result depends on the arguments alone.
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Resizes bilinearly; where the image shrinks, the triangle widens with it (antialiasing, as in PIL and in torchvision
/// with `antialias=True`).
///
/// # Errors
/// If a side of the new size is 0.
pub fn resize(image: &Image, width: usize, height: usize) -> Result<Image, ImageError> {
    if (width, height) == (image.width(), image.height()) {
        return Ok(image.clone());
    }
    if width == 0 || height == 0 || width.checked_mul(height).is_none_or(|n| n > usize::MAX / 3) {
        let (setting, expected) = ("resize", "a size of at least 1 x 1 that memory holds");
        return Err(ImageError::Setting { setting, expected, got: format!("{width} x {height}") });
    }
    Ok(ROOM.with_borrow_mut(|room| {
        if room.axes.len() > KEPT.0 {
            room.axes.clear();
        }
        let across = axis(&mut room.axes, image.width(), width);
        let down = axis(&mut room.axes, image.height(), height);
        let (across, down) = (&room.axes[across], &room.axes[down]);
        let small = Image::build(width, height, |out| resize_rgb(image.pixels(), across, down, &mut room.bytes, out));
        if room.bytes.capacity() > KEPT.1 {
            room.bytes = Vec::new();
        }
        small
    }))
}

/// Where the axis of these lengths is among those made before; made now if it is not.
fn axis(axes: &mut Vec<Axis>, from: usize, to: usize) -> usize {
    axes.iter().position(|axis| axis.sizes() == (from, to)).unwrap_or_else(|| {
        axes.push(Axis::bilinear(from, to));
        axes.len() - 1
    })
}

/// The `width x height` pixels whose corner is at column `x`, row `y`. What lies outside is the image mirrored at its
/// edge, the edge pixels not repeated.
pub fn crop(image: &Image, x: isize, y: isize, width: usize, height: usize) -> Image {
    let inside = x >= 0 && x as usize + width <= image.width();
    let columns: Vec<usize> = if inside { Vec::new() } else { mirrored(x, width, image.width()) };
    let rows = mirrored(y, height, image.height());
    Image::build(width, height, |out| {
        for (to, &row) in out.chunks_exact_mut(width * 3).zip(&rows) {
            let from = image.row(row);
            if inside {
                to.copy_from_slice(&from[x as usize * 3..][..width * 3]);
                continue;
            }
            for (pixel, &column) in to.chunks_exact_mut(3).zip(&columns) {
                pixel.copy_from_slice(&from[column * 3..][..3]);
            }
        }
    })
}

/// Indices `start..start + n` reflected into `0..len`.
fn mirrored(start: isize, n: usize, len: usize) -> Vec<usize> {
    let period = (2 * len as isize - 2).max(1);
    let fold = |i: isize| {
        let i = i.rem_euclid(period);
        if i < len as isize { i as usize } else { (period - i) as usize }
    };
    (0..n as isize).map(|i| fold(start + i)).collect()
}

/// The middle `side x side` pixels; the first of two middles.
pub fn centre_crop(image: &Image, side: usize) -> Image {
    crop(image, middle(image.width(), side), middle(image.height(), side), side, side)
}

/// Where the middle `side` of `len` pixels begin.
pub(super) fn middle(len: usize, side: usize) -> isize {
    (len as isize - side as isize).div_euclid(2)
}

/// Left becomes right.
pub fn mirror(image: &mut Image) {
    let stride = image.width() * 3;
    let mut old = vec![0; stride];
    for row in image.pixels_mut().chunks_exact_mut(stride) {
        old.copy_from_slice(row);
        pixels::mirrored(&old, row);
    }
}

/// An image as its camera was held: EXIF orientation 1 to 8, anything else unchanged.
pub fn orient(image: Image, exif: u8) -> Image {
    let (w, h) = (image.width(), image.height());
    let turned = |from: &dyn Fn(usize, usize) -> (usize, usize)| Image::build(h, w, |out| place(out, h, &image, from));
    let kept = |from: &dyn Fn(usize, usize) -> (usize, usize)| Image::build(w, h, |out| place(out, w, &image, from));
    match exif {
        2 => kept(&|x, y| (w - 1 - x, y)),
        3 => kept(&|x, y| (w - 1 - x, h - 1 - y)),
        4 => kept(&|x, y| (x, h - 1 - y)),
        5 => turned(&|x, y| (y, x)),
        6 => turned(&|x, y| (y, h - 1 - x)),
        7 => turned(&|x, y| (w - 1 - y, h - 1 - x)),
        8 => turned(&|x, y| (w - 1 - y, x)),
        _ => image,
    }
}

/// Fills rows of `width` pixels with the pixels at `from(x, y)`.
fn place(out: &mut [u8], width: usize, image: &Image, from: &dyn Fn(usize, usize) -> (usize, usize)) {
    for (y, row) in out.chunks_exact_mut(width * 3).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (sx, sy) = from(x, y);
            pixel.copy_from_slice(&image.pixel(sx, sy));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Red is the column, green the row.
    fn ramp(w: usize, h: usize) -> Image {
        let pixels = (0..h).flat_map(|y| (0..w).flat_map(move |x| [x as u8, y as u8, 0])).collect();
        Image::new(w, h, pixels).unwrap()
    }

    fn corners(image: &Image) -> [(u8, u8); 4] {
        let (w, h) = (image.width() - 1, image.height() - 1);
        [(0, 0), (w, 0), (0, h), (w, h)].map(|(x, y)| {
            let [a, b, _] = image.pixel(x, y);
            (a, b)
        })
    }

    #[test]
    fn short_side_keeps_the_shape() {
        assert_eq!(Resize::ShortSide(256).size_of(500, 375), (341, 256));
        assert_eq!(Resize::ShortSide(256).size_of(375, 500), (256, 341));
        assert_eq!(Resize::Squash(64).size_of(500, 375), (64, 64));
        assert_eq!(Resize::ShortSide(8).size_of(1, 100_000), (8, 800_000));
    }

    #[test]
    fn resize_keeps_a_flat_image_flat_and_averages_when_it_shrinks() {
        let flat = Image::filled(13, 7, [3, 200, 77]).unwrap();
        assert_eq!(resize(&flat, 5, 9).unwrap(), Image::filled(5, 9, [3, 200, 77]).unwrap());
        let board = Image::from_grey(64, 64, &(0..4096).map(|i| ((i / 64 + i) % 2 * 255) as u8).collect::<Vec<_>>());
        let small = resize(&board.unwrap(), 8, 8).unwrap();
        assert!(small.pixels().iter().all(|&v| (120..136).contains(&v)), "{:?}", small.pixel(4, 4));
        assert!(resize(&flat, 0, 4).is_err());
    }

    #[test]
    fn crop_mirrors_beyond_the_edge() {
        let image = ramp(3, 2);
        let wide = crop(&image, -2, -1, 7, 4);
        let columns: Vec<u8> = (0..7).map(|x| wide.pixel(x, 0)[0]).collect();
        let rows: Vec<u8> = (0..4).map(|y| wide.pixel(0, y)[1]).collect();
        assert_eq!((columns, rows), (vec![2, 1, 0, 1, 2, 1, 0], vec![1, 0, 1, 0]));
        assert_eq!(crop(&Image::filled(1, 1, [5; 3]).unwrap(), -3, 2, 4, 4), Image::filled(4, 4, [5; 3]).unwrap());
        assert_eq!(centre_crop(&ramp(5, 4), 2).pixel(0, 0), [1, 1, 0]);
    }

    #[test]
    fn mirror_twice_is_the_image() {
        let (mut once, image) = (ramp(5, 3), ramp(5, 3));
        mirror(&mut once);
        assert_eq!(once.pixel(0, 2), image.pixel(4, 2));
        mirror(&mut once);
        assert_eq!(once, image);
    }

    // Where the top left, top right, bottom left and bottom right of the upright image lie in the stored one: the eight
    // cases of the EXIF standard (CIPA DC-008, tag 0x0112).
    #[test]
    fn every_exif_orientation_is_set_upright() {
        let (a, b, c, d) = ((0, 0), (2, 0), (0, 1), (2, 1));
        let upright = [
            (1, [a, b, c, d]),
            (2, [b, a, d, c]),
            (3, [d, c, b, a]),
            (4, [c, d, a, b]),
            (5, [a, c, b, d]),
            (6, [c, a, d, b]),
            (7, [d, b, c, a]),
            (8, [b, d, a, c]),
        ];
        for (exif, expected) in upright {
            let image = orient(ramp(3, 2), exif);
            assert_eq!(corners(&image), expected, "orientation {exif}");
            assert_eq!(image.width(), if exif < 5 { 3 } else { 2 });
        }
    }
}
