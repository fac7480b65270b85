//! The layout of CUB-200-2011 and NABirds: text files that give each image an id.

use std::collections::HashMap;
use std::path::Path;

use super::dataset::{BoundingBox, Keypoint};
use super::table::all_exist;
use super::{DataError, Dataset, Fold, Item, text};

/// Reads `images.txt`, `image_class_labels.txt`, `classes.txt`, `train_test_split.txt` and, where they are there,
/// `bounding_boxes.txt` and `parts/`. Classes without images (NABirds lists its whole tree) are left out.
pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let by_id = |name: &str| -> Result<HashMap<String, (usize, String)>, DataError> {
        let pairs = text::pairs(&root.join(name))?;
        Ok(pairs.into_iter().map(|(line, id, rest)| (id, (line, rest))).collect())
    };
    let optional = |name: &str| if root.join(name).is_file() { by_id(name) } else { Ok(HashMap::new()) };
    let (labels, folds) = (by_id("image_class_labels.txt")?, by_id("train_test_split.txt")?);
    let (boxes, mut keypoints) = (optional("bounding_boxes.txt")?, Keypoints::read(root)?);
    let used: std::collections::HashSet<&str> = labels.values().map(|(_, class)| class.as_str()).collect();
    let named = text::pairs(&root.join("classes.txt"))?.into_iter().filter(|(_, id, _)| used.contains(id.as_str()));
    let (ids, classes): (Vec<String>, Vec<String>) = named.map(|(_, id, name)| (id, name)).unzip();
    let label_of: HashMap<&str, usize> = ids.iter().enumerate().map(|(i, id)| (id.as_str(), i)).collect();

    let list = root.join("images.txt");
    let mut items = Vec::new();
    for (line, id, path) in text::pairs(&list)? {
        let given = |map: &HashMap<String, (usize, String)>, what: &str| {
            let value = map.get(&id).map(|(_, value)| value.clone());
            value.ok_or_else(|| DataError::line(&list, line, format!("image {id} has no line in {what}")))
        };
        let class = given(&labels, "image_class_labels.txt")?;
        let label = label_of.get(class.as_str()).copied();
        let label =
            label.ok_or_else(|| DataError::line(&list, line, format!("class {class} is not in classes.txt")))?;
        let fold = match given(&folds, "train_test_split.txt")?.as_str() {
            "1" => Fold::Train,
            "0" => Fold::Test,
            other => return Err(DataError::line(&list, line, format!("split: expected 0 or 1, got `{other}`"))),
        };
        let mut item = Item::file(Path::new("images").join(path), Some(label), fold);
        if let Some((line, numbers)) = boxes.get(&id) {
            let [x, y, width, height] = text::numbers(&root.join("bounding_boxes.txt"), *line, numbers)?;
            item.bbox = Some(BoundingBox { x, y, width, height });
        }
        item.keypoints = keypoints.of.remove(&id).unwrap_or_default();
        items.push(item);
    }
    all_exist(&list, root, &items)?;
    Ok(Dataset { keypoint_names: keypoints.names, ..Dataset::new(root, classes, items)? })
}

/// The visible parts of each image.
#[derive(Default)]
struct Keypoints {
    names: Vec<String>,
    of: HashMap<String, Vec<Keypoint>>,
}

impl Keypoints {
    fn read(root: &Path) -> Result<Self, DataError> {
        let (parts, places) = (root.join("parts/parts.txt"), root.join("parts/part_locs.txt"));
        if !parts.is_file() || !places.is_file() {
            return Ok(Self::default());
        }
        let (ids, names): (Vec<String>, Vec<String>) =
            text::pairs(&parts)?.into_iter().map(|(_, id, name)| (id, name)).unzip();
        let mut of: HashMap<String, Vec<Keypoint>> = HashMap::new();
        for (line, image, rest) in text::pairs(&places)? {
            let (part, rest) = rest.split_once(char::is_whitespace).unwrap_or((&rest, ""));
            let name = ids.iter().position(|id| id == part);
            let name =
                name.ok_or_else(|| DataError::line(&places, line, format!("part {part} is not in parts.txt")))?;
            let [x, y, visible] = text::numbers(&places, line, rest)?;
            if visible > 0.0 {
                of.entry(image).or_default().push(Keypoint { name, x, y });
            }
        }
        Ok(Self { names, of })
    }
}
