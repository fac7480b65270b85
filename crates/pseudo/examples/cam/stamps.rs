//! Cut-outs that the model knows, laid on photographs.

use std::error::Error;
use std::path::PathBuf;

use candle_core::{Device, Tensor};
use chandlery_kernels::Key;
use chandlery_pseudo::cam::measure::{Composite, Mask, class_probability};
use chandlery_pseudo::cam::picture::Seen;
use image::{Rgb, RgbImage, RgbaImage};

use super::model::{Lite0, SIDE, normalised};
use super::{Args, some_files};

/// A cut-out and the class that the model gives it when nothing else is in the image.
pub struct Stamp {
    pub name: String,
    pub class: usize,
    picture: RgbaImage,
}

/// One image with a known thing.
pub struct Sample {
    pub stamp: usize,
    pub class: usize,
    pub seen: Seen,
    pub mask: Mask,
}

/// Images `[n, 3, side, side]`.
pub fn tensor(inputs: &[&[f32]]) -> candle_core::Result<Tensor> {
    Tensor::from_vec(inputs.concat(), (inputs.len(), 3, SIDE, SIDE), &Device::Cpu)
}

/// The photographed stamps that the model is sure of on plain grey.
pub fn known(lite0: &Lite0, args: &Args) -> Result<Vec<Stamp>, Box<dyn Error>> {
    let sure: f64 = args.number("sure", 0.5)?;
    let alone = Composite { side: SIDE, smallest: 0.8, largest: 0.8, ..Composite::default() };
    let grey = RgbImage::from_pixel(SIDE as u32, SIDE as u32, Rgb([127; 3]));
    let paths = some_files(&args.path("stamps")?, &["png"])?;
    // Drawings lie in folders of their own; colour variants and mirrored copies repeat an animal.
    let drawn = |path: &PathBuf| path.components().any(|c| ["cartoon", "toys"].iter().any(|d| c.as_os_str() == *d));
    let mut stamps = Vec::new();
    for path in paths.into_iter().filter(|p| !drawn(p)) {
        let picture = image::open(&path)?.to_rgba8();
        let Ok((photo, _)) = alone.lay(&grey, &picture, Key::new(0)) else { continue };
        let images = tensor(&[&normalised(&photo)])?;
        let class = lite0.probe(|probe| probe.predict(&images))?[0];
        let forward = |x: &Tensor| lite0.forward(x);
        if class_probability(&forward, class)(&images)?[0] >= sure {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            stamps.push(Stamp { name, class, picture });
        }
    }
    Ok(stamps)
}

/// Each stamp on `--each` photographs drawn by `--seed`.
pub fn samples(stamps: &[Stamp], args: &Args) -> Result<Vec<Sample>, Box<dyn Error>> {
    let (each, seed): (usize, u64) = (args.number("each", 2)?, args.number("seed", 0)?);
    let grounds = some_files(&args.path("backgrounds")?, &["jpg", "jpeg", "png"])?;
    let mut samples = Vec::new();
    for (i, stamp) in stamps.iter().enumerate() {
        for copy in 0..each {
            let key = Key::new(seed).named("sample").at(i as u64).at(copy as u64);
            let ground = &grounds[(key.uniform(0) * grounds.len() as f64) as usize];
            let ground = image::open(ground)?.to_rgb8();
            let (photo, mask) = Composite { side: SIDE, ..Composite::default() }.lay(&ground, &stamp.picture, key)?;
            samples.push(Sample {
                stamp: i,
                class: stamp.class,
                seen: Seen { input: normalised(&photo), photo },
                mask,
            });
        }
    }
    Ok(samples)
}
