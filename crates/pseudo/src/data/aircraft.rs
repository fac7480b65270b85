//! The layout of FGVC-Aircraft.

use std::collections::HashMap;
use std::path::Path;

use super::dataset::{BoundingBox, Coarse};
use super::table::all_exist;
use super::{DataError, Dataset, Fold, Item, text};

const FOLDS: [(&str, Fold); 3] = [("train", Fold::Train), ("val", Fold::Val), ("test", Fold::Test)];

/// Reads the variants (100 classes) with their families as coarse classes; `root` holds `images/`, `variants.txt`,
/// `images_variant_*.txt`, `images_family_*.txt` and `images_box.txt`.
pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let lines = |name: &str| -> Result<Vec<String>, DataError> {
        Ok(text::read(&root.join(name))?.lines().map(|l| l.trim().to_owned()).filter(|l| !l.is_empty()).collect())
    };
    let (classes, families) = (lines("variants.txt")?, lines("families.txt")?);
    let boxes = boxes(&root.join("images_box.txt"))?;
    let mut group = vec![0; classes.len()];
    let mut items = Vec::new();
    for (name, fold) in FOLDS {
        let list = root.join(format!("images_variant_{name}.txt"));
        let family_of: HashMap<String, String> = text::pairs(&root.join(format!("images_family_{name}.txt")))?
            .into_iter()
            .map(|(_, id, family)| (id, family))
            .collect();
        let before = items.len();
        for (line, id, variant) in text::pairs(&list)? {
            let label = classes.iter().position(|c| *c == variant);
            let label = label
                .ok_or_else(|| DataError::line(&list, line, format!("variant `{variant}` is not in variants.txt")))?;
            let family = family_of.get(&id).and_then(|family| families.iter().position(|f| f == family));
            group[label] = family
                .ok_or_else(|| DataError::line(&list, line, format!("image {id} has no family of families.txt")))?;
            let item = Item::file(Path::new("images").join(format!("{id}.jpg")), Some(label), fold);
            items.push(Item { bbox: boxes.get(&id).copied(), ..item });
        }
        all_exist(&list, root, &items[before..])?;
    }
    let coarse = Coarse { names: families, of: group };
    Ok(Dataset { coarse, ..Dataset::new(root, classes, items)? })
}

/// Corners from 1, both inclusive, by image.
fn boxes(file: &Path) -> Result<HashMap<String, BoundingBox>, DataError> {
    if !file.is_file() {
        return Ok(HashMap::new());
    }
    let mut boxes = HashMap::new();
    for (line, id, rest) in text::pairs(file)? {
        let [x0, y0, x1, y1] = text::numbers(file, line, &rest)?;
        boxes.insert(id, BoundingBox { x: x0 - 1.0, y: y0 - 1.0, width: x1 - x0 + 1.0, height: y1 - y0 + 1.0 });
    }
    Ok(boxes)
}
