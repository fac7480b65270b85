//! Folders that tell by their names: `CLASS/..`, `train/CLASS/..`, `unlabelled/..`, or images without anything.

use std::path::{Path, PathBuf};

use super::dataset::within;
use super::{DataError, Dataset, Fold, Item, text};

/// The fold that a folder's name stands for.
pub(super) fn fold_of(name: &str) -> Option<Fold> {
    match name.to_lowercase().as_str() {
        "train" | "training" => Some(Fold::Train),
        "val" | "valid" | "validation" | "dev" => Some(Fold::Val),
        "test" | "testing" => Some(Fold::Test),
        "unlabelled" | "unlabeled" | "unsup" => Some(Fold::Unlabelled),
        _ => None,
    }
}

/// Reads a tree of folders; classes are sorted by name. Without a `train` folder every folder is a class of the training
/// fold, but for an `unlabelled` one. Images directly in the root are unlabelled.
pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let top = text::folders(root)?;
    let has_folds = top.iter().any(|(name, _)| fold_of(name) == Some(Fold::Train));
    let mut found: Vec<Found> = Vec::new();
    for (name, folder) in &top {
        match fold_of(name) {
            Some(Fold::Unlabelled) => found.extend(list(folder, None, Fold::Unlabelled)?),
            Some(fold) if has_folds => {
                for (class, folder) in text::folders(folder)? {
                    found.extend(list(&folder, Some(&class), fold)?);
                }
            }
            None if has_folds => {}
            _ => found.extend(list(folder, Some(name), Fold::Train)?),
        }
    }
    found.extend(text::images_in(root)?.into_iter().map(|path| (None, Fold::Unlabelled, path)));
    if found.is_empty() {
        return Err(DataError::layout(root, "expected folders of images, found no image"));
    }
    let mut classes: Vec<String> = found.iter().filter_map(|f| f.0.clone()).collect();
    classes.sort();
    classes.dedup();
    let label = |class: &Option<String>| class.as_ref().and_then(|c| classes.binary_search(c).ok());
    let items = found.iter().map(|(class, fold, path)| Item::file(within(root, path), label(class), *fold)).collect();
    Dataset::new(root, classes, items)
}

/// Class, fold and path of one image.
type Found = (Option<String>, Fold, PathBuf);

fn list(folder: &Path, class: Option<&str>, fold: Fold) -> Result<Vec<Found>, DataError> {
    Ok(text::images(folder)?.into_iter().map(|path| (class.map(str::to_owned), fold, path)).collect())
}
