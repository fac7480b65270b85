//! Which of the ImageNet photographs in a folder does a published model know?
//!
//! `cargo run --example imagenet_top1 WEIGHTS FOLDER [MODEL]`: FOLDER holds files named `.._LABEL.jpg` (or png), LABEL being
//! the class from 0 to 999; MODEL is the JSON of a [`ModelConfig`], EfficientNet-Lite0 by default. Each photograph is resized
//! so that its shorter side is 8/7 of the model's size, and cut to the centre square.
#![allow(clippy::print_stdout, reason = "an example speaks on standard output")]

use candle_core::{D, DType, Device, Tensor};
use chandlery_nn::{Mode, ParamStore};
use chandlery_pseudo::models::{EfficientNetConfig, Input, ModelConfig};
use chandlery_pseudo::weights::load_pretrained;
use image::imageops::FilterType;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The centre of a photograph as [1, 3, size, size].
fn photograph(path: &Path, input: Input) -> Result<Tensor> {
    let photo = image::open(path)?;
    let (w, h) = (f64::from(photo.width()), f64::from(photo.height()));
    let (size, scale) = (input.size as u32, input.size as f64 * 8.0 / 7.0 / w.min(h));
    let side = |n: f64| ((n * scale).round() as u32).max(size);
    let photo = photo.resize_exact(side(w), side(h), FilterType::CatmullRom).to_rgb8();
    let (x0, y0) = ((photo.width() - size) / 2, (photo.height() - size) / 2);
    let mut values = Vec::with_capacity(3 * input.size * input.size);
    for c in 0..3 {
        for y in 0..size {
            let row = (0..size).map(|x| f32::from(photo.get_pixel(x0 + x, y0 + y)[c]) / 255.0);
            values.extend(row.map(|v| (v - input.mean[c]) / input.std[c]));
        }
    }
    Ok(Tensor::from_vec(values, (1, 3, input.size, input.size), &Device::Cpu)?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (weights, folder, config) = match &args[..] {
        [weights, folder] => (weights, folder, ModelConfig::EfficientNet(EfficientNetConfig::default())),
        [weights, folder, model] => (weights, folder, serde_json::from_str(model)?),
        _ => return Err("usage: imagenet_top1 WEIGHTS FOLDER [MODEL]".into()),
    };
    let store = ParamStore::new(0, DType::F32, &Device::Cpu);
    config.build(&store.root(), 1000)?;
    let report = load_pretrained(&store, Path::new(weights), config.head())?;
    println!("{report}");
    let model = config.build(&store.frozen(), 1000)?;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    let (mut n, mut right) = (0, 0);
    for path in paths {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let Some(label) = stem.rsplit('_').next().and_then(|label| label.parse::<u32>().ok()) else { continue };
        let logits = model.forward(&photograph(&path, config.input())?, Mode::Eval)?;
        let found = logits.argmax(D::Minus1)?.to_vec1::<u32>()?[0];
        let sure = chandlery_kernels::softmax(&logits, 1)?.max(D::Minus1)?.to_vec1::<f32>()?[0];
        println!("{stem}: class {found} with {:.0} %{}", 100.0 * sure, if found == label { "" } else { ", wrong" });
        n += 1;
        right += usize::from(found == label);
    }
    println!("top-1: {right} of {n}");
    Ok(())
}
