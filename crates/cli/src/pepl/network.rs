//! The network of a run: its start, and what it became.

use super::config::NetworkConfig;
use crate::Result;
use candle_core::{DType, Device, Tensor};
use chandlery::nn::{Mode, ParamStore, Scope, Strictness};
use chandlery::pseudo::cam::Forward;
use chandlery::pseudo::data::ContentHash;
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

/// The part of the network that is trained, for [`Corpus::look`](super::data::Corpus::look): all of it, or what is behind
/// the frozen part where maps of that are kept.
pub fn trained_part(config: &NetworkConfig, scope: &Scope, n_classes: usize) -> candle_core::Result<Classifier> {
    let whole = config.backbone.build(scope, n_classes)?;
    if config.keeps_maps() { whole.behind(&config.freeze) } else { Ok(whole) }
}

/// The part that is not trained.
pub struct FrozenPart {
    /// Views [n, 3, h, w] to maps [n, c, h', w'].
    pub forward: Box<Forward<'static>>,
    /// Identifies network and parameters.
    pub hash: ContentHash,
}

/// What `model.freeze` says, on the parameters of `store`.
pub fn frozen_part(config: &NetworkConfig, store: &ParamStore, n_classes: usize) -> Result<FrozenPart> {
    let whole = config.backbone.build(&store.frozen(), n_classes)?;
    let (frozen, _) = config.backbone.split(&config.freeze)?;
    let mut bytes = format!("{:?}", config.backbone.frozen()).into_bytes();
    let values = store.names().into_iter().chain(store.named_buffers().into_iter().map(|(name, _)| name));
    for name in values {
        let lies_below = |path: &String| name.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'));
        if let Some(values) = store.get(&name).filter(|_| frozen.iter().flat_map(|s| &s.paths).any(lies_below)) {
            bytes.extend(name.as_bytes());
            bytes.extend(values.flatten_all()?.to_vec1::<f32>()?.into_iter().flat_map(f32::to_le_bytes));
        }
    }
    let stage = config.freeze.clone();
    let forward = Box::new(move |x: &Tensor| whole.features_at(x, &stage, Mode::Eval));
    Ok(FrozenPart { forward, hash: ContentHash::of(&bytes) })
}

/// The network on the parameters in `file`, without a graph.
pub fn open(config: &NetworkConfig, n_classes: usize, file: &Path) -> Result<(Classifier, ParamStore)> {
    let store = ParamStore::new(0, DType::F32, &Device::Cpu);
    config.backbone.build(&store.root(), n_classes)?;
    store.load(file, Strictness::Exact)?;
    Ok((config.backbone.build(&store.frozen(), n_classes)?, store))
}
