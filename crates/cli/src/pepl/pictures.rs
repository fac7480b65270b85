//! Where the network looks, as pictures.

use crate::Result;
use candle_core::{Device, Tensor};
use chandlery::kernels::Key;
use chandlery::nn::Mode;
use chandlery::pseudo::cam::picture::{Palette, overlay};
use chandlery::pseudo::cam::{Activations, Head, Map, Method, Settings, closed_form};
use chandlery::pseudo::image::{Image, View, Views};
use chandlery::pseudo::models::Classifier;
use image::{ImageFormat, RgbImage, imageops};
use std::io::Cursor;

/// A classifier's head as plain numbers.
pub struct PlainHead {
    weight: Vec<f32>,
    bias: Vec<f32>,
    n_classes: usize,
    channels: usize,
}

impl PlainHead {
    /// That of `model`.
    pub fn of(model: &Classifier) -> Result<Self> {
        let weight = model.head_weight().flatten_all()?.to_vec1()?;
        let bias = model.head_bias()?.to_vec1()?;
        Ok(Self { weight, bias, n_classes: model.n_classes(), channels: model.channels() })
    }

    /// As the maps take it.
    pub fn get(&self) -> Result<Head<'_>> {
        Ok(Head::new(&self.weight, Some(&self.bias), self.n_classes, self.channels)?)
    }
}

/// The map of `class` over one image's features `[k, h, w]`.
pub fn map(
    head: &Head<'_>,
    features: &[f32],
    (k, h, w): (usize, usize, usize),
    class: usize,
    method: Method,
) -> Result<Map> {
    Ok(closed_form(method, &Activations::new(features, k, h, w)?, head, class, &Settings::default())?)
}

/// The test view of a prepared image, as people and as the network see it.
pub fn view(views: &Views, prepared: &Image) -> Result<(RgbImage, Vec<f32>)> {
    let seen = views.see(prepared, View::Test, Key::new(0), 0);
    let mut input = vec![0.0; 3 * seen.width() * seen.height()];
    views.normalise.write(&seen, &mut input)?;
    let (width, height) = (seen.width() as u32, seen.height() as u32);
    let photo = RgbImage::from_raw(width, height, seen.into_pixels()).ok_or("a view of another size")?;
    Ok((photo, input))
}

/// Side of a tile in pixels.
const TILE: u32 = 160;

/// The photograph and its maps for each of `classes`, side by side, as a PNG file.
pub fn strip(model: &Classifier, views: &Views, prepared: &Image, classes: &[usize]) -> Result<Vec<u8>> {
    let (photo, input) = view(views, prepared)?;
    let (width, height) = (photo.width() as usize, photo.height() as usize);
    let x = Tensor::from_vec(input, (1, 3, height, width), &Device::Cpu)?;
    let features = model.features(&x, Mode::Eval)?;
    let (_, k, h, w) = features.dims4()?;
    let features = features.flatten_all()?.to_vec1::<f32>()?;
    let head = PlainHead::of(model)?;
    let fitted = |picture: &RgbImage| imageops::resize(picture, TILE, TILE, imageops::FilterType::Triangle);
    let photo = fitted(&photo);
    let mut tiles = vec![photo.clone()];
    for &class in classes {
        let map = map(&head.get()?, &features, (k, h, w), class, Method::Cam)?.rectified();
        tiles.push(overlay(&photo, &map, Palette::default(), 0.6));
    }
    const GAP: u32 = 4;
    let n = tiles.len() as u32;
    let mut all = RgbImage::from_pixel(n * TILE + (n - 1) * GAP, TILE, image::Rgb([255; 3]));
    for (at, tile) in (0..).zip(&tiles) {
        imageops::replace(&mut all, tile, i64::from(at * (TILE + GAP)), 0);
    }
    let mut png = Cursor::new(Vec::new());
    all.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}
