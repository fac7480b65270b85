//! Trainable layers for candle: an ordered parameter store with seeded initialisation, layers whose every parameter
//! receives a gradient, and strict loading.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use chandlery_nn::{Linear, Mode, ParamStore};
//! # fn main() -> candle_core::Result<()> {
//! let store = ParamStore::new(7, DType::F32, &Device::Cpu);
//! let layer = Linear::new(&store.root().pp("proj"), 4, 2, true)?;
//! let y = layer.forward(&Tensor::ones((3, 4), DType::F32, &Device::Cpu)?)?;
//! assert_eq!(y.dims(), [3, 2]);
//! assert_eq!(store.names(), ["proj.bias", "proj.weight"]);
//! # Ok(()) }
//! ```

mod error;
pub mod file;
mod init;
mod layers;
mod mode;
mod store;
mod summary;
mod vision;

pub use error::{Error, Result};
pub use init::Init;
pub use layers::{Dropout, Embedding, LayerNorm, Linear, Mlp, Norm, NormKind, RmsNorm};
pub use mode::Mode;
pub use store::{Buffer, LoadReport, ParamStore, Scope, Strictness, load_tensors, save_tensors};
pub use summary::summary;
pub use vision::{BatchNorm2d, BatchNormConfig, ChannelDropout, Conv2d, Statistics};
