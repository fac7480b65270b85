use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{DataError, Dataset, aircraft, birds, cars, embedded, folder, idx, table};

/// How a data set lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Layout {
    /// The part of Fashion-MNIST that comes with the crate; needs no path.
    Embedded,
    /// `CLASS/..` or `train/CLASS/..`, `unlabelled/..`, or images alone.
    Folders,
    /// One comma-separated list.
    Csv,
    /// `train-images-idx3-ubyte` and its companions.
    Idx,
    /// The Grocery Store data set.
    Grocery,
    /// CUB-200-2011 or NABirds.
    Birds,
    /// Stanford Cars, as any of its mirrors keeps it.
    Cars,
    /// FGVC-Aircraft.
    Aircraft,
    /// Parquet files as the Hugging Face hub keeps image data sets; needs the feature `parquet`.
    Parquet,
}

/// Where the data are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Location {
    /// A folder or a list; without one the embedded data are meant.
    pub path: Option<PathBuf>,
    /// How they lie there; found out by what the folder holds where it is not said.
    pub layout: Option<Layout>,
}

impl Location {
    /// Opens the data set; reads lists and file names, but no pixel.
    ///
    /// # Errors
    /// If the layout is not what was said or none is recognised, or a list is wrong.
    pub fn open(&self) -> Result<Dataset, DataError> {
        let Some(path) = &self.path else {
            return match self.layout {
                None | Some(Layout::Embedded) => embedded::fashion_mnist(),
                Some(other) => Err(DataError::layout(Path::new(""), format!("layout {other:?} needs a `path`"))),
            };
        };
        if !path.exists() {
            return Err(DataError::layout(path, "expected a folder or a list, found nothing"));
        }
        match self.layout.unwrap_or_else(|| detect(path)) {
            Layout::Embedded => embedded::fashion_mnist(),
            Layout::Folders => folder::read(path),
            Layout::Csv if path.is_dir() => table::read(&path.join("labels.csv")),
            Layout::Csv => table::read(path),
            Layout::Idx => idx::read(path),
            Layout::Grocery => table::read_grocery(path),
            Layout::Birds => birds::read(path),
            Layout::Cars => cars::read(path),
            Layout::Aircraft => aircraft::read(&data_folder(path)),
            #[cfg(feature = "parquet")]
            Layout::Parquet => super::hub_parquet(path, &super::HubColumns::default()),
            #[cfg(not(feature = "parquet"))]
            Layout::Parquet => Err(DataError::layout(path, "parquet needs a build with `--features parquet`")),
        }
    }
}

/// FGVC-Aircraft unpacks to a folder `data`.
fn data_folder(path: &Path) -> PathBuf {
    let inner = path.join("data");
    if inner.join("variants.txt").is_file() { inner } else { path.to_owned() }
}

/// Whether this is a parquet file, or a folder with some, as a checkout from the hub.
fn is_parquet(path: &Path) -> bool {
    let ends = |path: &Path| path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"));
    let holds = |folder: &Path| fs::read_dir(folder).into_iter().flatten().flatten().any(|e| ends(&e.path()));
    ends(path) || holds(path) || holds(&path.join("data"))
}

/// The layout by the files that only it has.
fn detect(path: &Path) -> Layout {
    let has = |name: &str| path.join(name).is_file();
    let starts = |prefix: &str| {
        let names = std::fs::read_dir(path).into_iter().flatten().flatten();
        names.map(|e| e.file_name()).any(|name| name.to_string_lossy().starts_with(prefix))
    };
    if is_parquet(path) {
        Layout::Parquet
    } else if path.is_file() || has("labels.csv") {
        Layout::Csv
    } else if has("classes.csv") && has("train.csv") && has("test.csv") {
        Layout::Grocery
    } else if has("images.txt") && has("image_class_labels.txt") {
        Layout::Birds
    } else if data_folder(path).join("variants.txt").is_file() {
        Layout::Aircraft
    } else if cars::is_there(path) {
        Layout::Cars
    } else if starts("train-images") || starts("t10k-images") {
        Layout::Idx
    } else {
        Layout::Folders
    }
}
