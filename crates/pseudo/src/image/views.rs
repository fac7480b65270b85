use chandlery_kernels::{Key, Stream};
use serde::{Deserialize, Serialize};

use super::geometry::{centre_crop, crop, middle, mirror, resize};
use super::{Decode, Image, ImageError, Normalise, Resize, Strong};

/// One way of looking at an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// Resized and cropped in the middle; nothing drawn.
    Test,
    /// Resized, cropped anywhere, mirrored or not.
    Weak,
    /// The weak view's geometry with draws of its own, then [`Strong`].
    Strong,
}

/// How files become the tensors that a model takes.
///
/// Every view is a function of the image and of one key, and so of seed, epoch, image and place among the views: threads,
/// batch size and resume change nothing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Views {
    /// Which files are accepted and how they are decoded.
    pub decode: Decode,
    /// First step of every view, shared by all views of an image.
    pub resize: Resize,
    /// Side of the square that a model sees.
    pub crop: usize,
    /// Pixels that a random crop may reach beyond each edge, where the image goes on mirrored.
    pub pad: usize,
    /// Probability that a weak or strong view is mirrored left to right. No view is turned upside down.
    pub flip: f64,
    /// From bytes to floats.
    pub normalise: Normalise,
    /// What makes a strong view of a weak one.
    pub strong: Strong,
}

impl Default for Views {
    fn default() -> Self {
        Self {
            decode: Decode::default(),
            resize: Resize::ShortSide(256),
            crop: 224,
            pad: 0,
            flip: 0.5,
            normalise: Normalise::ImageNet,
            strong: Strong::default(),
        }
    }
}

/// The key of an epoch's draws; [`Views::see`] adds image and view.
pub fn epoch_key(seed: u64, epoch: u64) -> Key {
    Key::new(seed).named("views").at(epoch)
}

impl Views {
    /// # Errors
    /// Names the first setting that is out of its range.
    pub fn check(&self) -> Result<(), ImageError> {
        let refuse = |setting, expected, got: String| Err(ImageError::Setting { setting, expected, got });
        if self.resize.side() == 0 {
            return refuse("resize", "at least 1 pixel", "0".into());
        }
        if self.crop == 0 || self.crop > self.resize.side() + 2 * self.pad {
            return refuse("crop", "from 1 to the resized side and twice `pad`", self.crop.to_string());
        }
        if !(0.0..=1.0).contains(&self.flip) {
            return refuse("flip", "a probability", self.flip.to_string());
        }
        self.normalise.check()?;
        self.strong.check()
    }

    /// The shape of a batch of `n` views: `[n, 3, crop, crop]`.
    pub fn shape(&self, n: usize) -> [usize; 4] {
        [n, 3, self.crop, self.crop]
    }

    /// Decodes and resizes: what all views of an image share, and what a cache keeps.
    ///
    /// # Errors
    /// As [`Decode::decode`].
    pub fn prepare(&self, content: &[u8]) -> Result<Image, ImageError> {
        // A squashed image needs the side in both directions, so the shorter one decides there too.
        self.resize(&self.decode.decode(content, Some(self.resize.side()))?)
    }

    /// Resizes a decoded image.
    ///
    /// # Errors
    /// If the result is beyond `decode.max_pixels`: a sliver of few rows and many columns grows in both directions.
    pub fn resize(&self, image: &Image) -> Result<Image, ImageError> {
        let (width, height) = self.resize.size_of(image.width(), image.height());
        let (min_side, max_pixels) = (self.decode.min_side, self.decode.max_pixels);
        if width.saturating_mul(height) > max_pixels {
            return Err(ImageError::Size { width, height, min_side, max_pixels });
        }
        resize(image, width, height)
    }

    /// Where a point of an upright image of `(width, height)` lies in its test view, in pixels of the view; outside of
    /// `0..crop` it was cut off. Boxes and keypoints go this way to be compared with maps over the view.
    pub fn place(&self, (width, height): (usize, usize), (x, y): (f32, f32)) -> (f32, f32) {
        let (w, h) = self.resize.size_of(width, height);
        let along = |at: f32, from: usize, to: usize| at * to as f32 / from as f32 - middle(to, self.crop) as f32;
        (along(x, width, w), along(y, height, h))
    }

    /// One view of a prepared image, `crop x crop` pixels; `key` is that of the epoch and the image, `index` the view's
    /// place among the views of this image.
    pub fn see(&self, prepared: &Image, view: View, key: Key, index: usize) -> Image {
        if view == View::Test {
            return centre_crop(prepared, self.crop);
        }
        let mut stream = Stream::new(key.at(index as u64));
        let mut corner = |side: usize| {
            // A prepared side may be shorter than the crop by rounding alone; the mirrored edge fills it.
            let free = (side + 2 * self.pad).saturating_sub(self.crop);
            stream.below(free + 1) as isize - self.pad as isize
        };
        let (x, y) = (corner(prepared.width()), corner(prepared.height()));
        let mut image = crop(prepared, x, y, self.crop, self.crop);
        if stream.uniform() < self.flip {
            mirror(&mut image);
        }
        if view == View::Strong {
            self.strong.apply(&mut image, &mut stream);
        }
        image
    }
}
