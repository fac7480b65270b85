//! The network of a run: its start, and what it became.

use super::config::NetworkConfig;
use crate::Result;
use candle_core::{DType, Device};
use chandlery::nn::{ParamStore, Strictness};
use chandlery::pseudo::models::Classifier;
use chandlery::pseudo::weights::load_pretrained;
use std::path::Path;

/// The trained parameters.
pub const MODEL: &str = "model.safetensors";

/// A store in which the network stands as training begins: frozen parts, published weights.
pub fn start(config: &NetworkConfig, n_classes: usize, seed: u64) -> Result<ParamStore> {
    let store = ParamStore::new(seed, DType::F32, &Device::Cpu);
    if config.pretrained.is_empty() {
        config.backbone.build(&store.root(), n_classes)?;
        return Ok(store);
    }
    let path = Path::new(&config.pretrained);
    if !path.is_file() {
        let fetch = match path.parent().and_then(Path::file_name).and_then(|name| name.to_str()) {
            Some(name) => format!("bring it by `cargo xtask fetch {name}`, or "),
            None => String::new(),
        };
        return Err(format!(
            "model.pretrained: {} is not there; {fetch}let the network start anew by --set model.pretrained=\"\"",
            path.display()
        )
        .into());
    }
    if !config.freeze.is_empty() {
        config.backbone.freeze_through(&store, &config.freeze).map_err(|e| format!("settings: model.freeze: {e}"))?;
    }
    config.backbone.build(&store.root(), n_classes)?;
    load_pretrained(&store, path, config.backbone.head())?;
    Ok(store)
}

/// The network on the parameters in `file`, without a graph.
pub fn open(config: &NetworkConfig, n_classes: usize, file: &Path) -> Result<(Classifier, ParamStore)> {
    let store = ParamStore::new(0, DType::F32, &Device::Cpu);
    config.backbone.build(&store.root(), n_classes)?;
    store.load(file, Strictness::Exact)?;
    Ok((config.backbone.build(&store.frozen(), n_classes)?, store))
}
