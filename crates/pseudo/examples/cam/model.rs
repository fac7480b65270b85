//! EfficientNet-Lite0 opened at its last maps.

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use chandlery_nn::{Mode, ParamStore};
use chandlery_pseudo::cam::measure::middle_square;
use chandlery_pseudo::cam::picture::Seen;
use chandlery_pseudo::cam::{Error, Head, Layout, Probe, Result};
use chandlery_pseudo::models::{Classifier, EfficientNetConfig};
use chandlery_pseudo::weights::{convert_torch, load_pretrained};
use image::RgbImage;

/// Side of the images.
pub const SIDE: usize = 224;

/// The model and its head on the host.
pub struct Lite0 {
    model: Classifier,
    pub weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Lite0 {
    pub fn load(path: &Path) -> Result<Self, Box<dyn std::error::Error>> {
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        EfficientNetConfig::default().build(&store.root(), 1000)?;
        if path.extension().is_some_and(|e| e == "pth") {
            let converted = path.with_extension("safetensors");
            convert_torch(path, &converted)?;
            load_pretrained(&store, &converted, "_fc")?;
        } else {
            load_pretrained(&store, path, "_fc")?;
        }
        // The frozen view computes without recording a graph.
        let model = EfficientNetConfig::default().build(&store.frozen(), 1000)?;
        let host = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (weight, bias) = (host(model.head_weight())?, host(model.head_bias()?)?);
        Ok(Self { model, weight, bias })
    }

    /// Opens the model for the duration of `f`.
    pub fn probe<T>(&self, f: impl FnOnce(&Probe<'_>) -> Result<T>) -> Result<T> {
        self.probe_with(&self.weight, f)
    }

    /// The same with another head, for the closed forms.
    pub fn probe_with<T>(&self, weight: &[f32], f: impl FnOnce(&Probe<'_>) -> Result<T>) -> Result<T> {
        let features = |x: &Tensor| self.model.features(x, Mode::Eval);
        let logits = |maps: &Tensor| self.model.head(maps);
        let head = Head::new(weight, Some(&self.bias), 1000, self.model.channels())?;
        f(&Probe { features: &features, logits: &logits, layout: Layout::Maps, head: Some(head) })
    }

    /// Logits `[b, c]`.
    pub fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.model.forward(images, Mode::Eval)
    }
}

/// A file's middle square as the model sees it.
pub fn open(path: &Path) -> Result<Seen> {
    let picture = image::open(path).map_err(|source| Error::Picture { path: path.to_path_buf(), source })?;
    let photo = middle_square(&picture.to_rgb8(), SIDE as u32);
    Ok(Seen { input: normalised(&photo), photo })
}

/// `(x - 127) / 128`, `[3, height, width]`.
pub fn normalised(photo: &RgbImage) -> Vec<f32> {
    (0..3).flat_map(|c| photo.pixels().map(move |p| (f32::from(p.0[c]) - 127.0) / 128.0)).collect()
}
