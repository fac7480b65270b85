//! EfficientNet-Lite0 opened at its last maps, or at an earlier layer.

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
    pub store: ParamStore,
    model: Classifier,
    weight: Vec<f32>,
    bias: Vec<f32>,
}

impl Lite0 {
    pub fn load(path: &Path) -> std::result::Result<Self, Box<dyn std::error::Error>> {
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        EfficientNetConfig::default().build(&store.root(), 1000)?;
        if path.extension().is_some_and(|e| e == "pth") {
            let converted = path.with_extension("safetensors");
            convert_torch(path, &converted)?;
            load_pretrained(&store, &converted, "_fc")?;
        } else {
            load_pretrained(&store, path, "_fc")?;
        }
        Ok(Self::of(&store)?)
    }

    /// The model on the values of `store`.
    pub fn of(store: &ParamStore) -> candle_core::Result<Self> {
        // The frozen view computes without recording a graph.
        let model = EfficientNetConfig::default().build(&store.frozen(), 1000)?;
        let host = |t: &Tensor| t.flatten_all()?.to_vec1::<f32>();
        let (weight, bias) = (host(model.head_weight())?, host(model.head_bias()?)?);
        Ok(Self { store: store.clone(), model, weight, bias })
    }

    /// Opens the model at its last maps for the duration of `f`.
    pub fn probe<T>(&self, f: impl FnOnce(&Probe<'_>) -> Result<T>) -> Result<T> {
        let features = |x: &Tensor| self.model.features(x, Mode::Eval);
        let logits = |maps: &Tensor| self.model.head(maps);
        f(&Probe { features: &features, logits: &logits, layout: Layout::Maps, head: Some(self.head()?) })
    }

    /// Opens the model behind `stage`, without knowledge of what follows: maps need gradients.
    pub fn probe_at<T>(&self, stage: &str, f: impl FnOnce(&Probe<'_>) -> Result<T>) -> Result<T> {
        let features = |x: &Tensor| self.model.features_at(x, stage, Mode::Eval);
        let logits = |maps: &Tensor| self.model.head(&self.model.features_from(maps, stage, Mode::Eval)?);
        f(&Probe { features: &features, logits: &logits, layout: Layout::Maps, head: None })
    }

    /// The pooled linear head.
    pub fn head(&self) -> Result<Head<'_>> {
        Head::new(&self.weight, Some(&self.bias), 1000, self.model.channels())
    }

    /// Logits `[b, c]`.
    pub fn forward(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.model.forward(images, Mode::Eval)
    }

    /// The last maps `[b, k, h, w]`.
    pub fn features(&self, images: &Tensor) -> candle_core::Result<Tensor> {
        self.model.features(images, Mode::Eval)
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
