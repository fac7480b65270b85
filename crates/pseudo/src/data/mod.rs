//! Where images and labels come from: folders, lists, published layouts, splits.
//!
//! ```
//! use chandlery_pseudo::data::{Fold, Location};
//! # fn main() -> Result<(), chandlery_pseudo::data::DataError> {
//! let data = Location::default().open()?; // the embedded part of Fashion-MNIST
//! assert_eq!((data.fold(Fold::Train).len(), data.fold(Fold::Test).len()), (2000, 1000));
//! assert_eq!(data.classes[9], "Ankle boot");
//! # Ok(()) }
//! ```

mod aircraft;
mod audit;
mod birds;
mod cache;
mod cars;
mod dataset;
mod embedded;
mod error;
mod folder;
#[cfg(feature = "parquet")]
mod hub;
mod idx;
mod images;
mod maps;
mod matlab;
mod open;
mod pack;
mod rows;
mod split;
mod spool;
mod table;
mod text;

pub use audit::{Audit, AuditConfig, Bad, Depth, OnBad, OnDuplicate};
pub use cache::Cache;
pub use dataset::{BoundingBox, Coarse, ContentHash, Dataset, Fold, Item, Keypoint, Pixels};
pub use embedded::{FASHION_MNIST_CLASSES, fashion_mnist};
pub use error::DataError;
use error::examples;
#[cfg(feature = "parquet")]
pub use hub::{HubColumns, hub_parquet};
pub use images::Images;
pub use maps::KeptMaps;
pub use open::{Layout, Location};
pub use pack::pack_idx;
pub use split::{Labelled, Split, SplitConfig};
pub use spool::Spool;

#[cfg(all(test, feature = "parquet"))]
mod hub_tests;
#[cfg(test)]
mod layout_tests;
#[cfg(test)]
mod split_tests;
