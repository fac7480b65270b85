//! From files to tensors: decoding, resizing, weak and strong views.
//!
//! ```
//! use chandlery_pseudo::image::{Image, ImageError, View, Views, epoch_key};
//! # fn main() -> Result<(), ImageError> {
//! let views = Views::default(); // short side 256, crop 224, ImageNet's mean and deviation
//! let photo = Image::filled(341, 256, [90, 120, 40])?; // or views.prepare(&std::fs::read("photo.jpg")?)
//! let load = |_item| Ok::<_, ImageError>(photo.clone());
//! let seen = views.batch(&[0, 1], &[View::Weak, View::Strong], epoch_key(7, 0), load);
//! assert_eq!(seen.shape, [2, 3, 224, 224]);
//! assert_eq!(seen.views.len(), 2);
//! # Ok(()) }
//! ```

mod batch;
mod decode;
mod error;
mod geometry;
mod jpeg;
mod normalise;
mod ops;
mod pixels;
mod strong;
mod views;

pub use batch::Seen;
pub use decode::{Alpha, Decode, Format, Header, SixteenBit, header, sniff};
pub use error::ImageError;
pub use geometry::{Resize, centre_crop, crop, mirror, orient, resize};
pub use normalise::Normalise;
pub use ops::Op;
pub use pixels::Image;
pub use strong::Strong;
pub use views::{View, Views, epoch_key};

#[cfg(test)]
mod decode_tests;
#[cfg(test)]
mod views_tests;
