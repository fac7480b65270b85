//! Stanford Cars, whose official page is gone, in the forms that its mirrors keep: the development kit's `.mat` files, one
//! `cars_annos.mat`, or `anno_train.csv` and its companions. Mirrors of class folders are read as folders.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::dataset::{BoundingBox, within};
use super::matlab::{self, Value};
use super::table::all_exist;
use super::{DataError, Dataset, Fold, Item, text};

/// One picture's line in any of the forms; the class counts from 1.
struct Row {
    file: String,
    corners: [f64; 4],
    class: usize,
    fold: Fold,
}

/// Whether one of the forms lies at `root`.
pub(super) fn is_there(root: &Path) -> bool {
    ["cars_annos.mat", "devkit/cars_meta.mat", "cars_meta.mat", "anno_train.csv"].iter().any(|f| root.join(f).is_file())
}

/// Reads whichever form lies at `root`.
pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let (list, classes, rows) = if root.join("anno_train.csv").is_file() {
        from_csv(root)?
    } else if root.join("cars_annos.mat").is_file() {
        from_one(&root.join("cars_annos.mat"))?
    } else {
        from_kit(root)?
    };
    let n_classes = classes.len();
    let places = places(root)?;
    let mut items = Vec::with_capacity(rows.len());
    for row in rows {
        let base = row.file.rsplit('/').next().unwrap_or(&row.file);
        let found = [root.join(&row.file), places.get(&(row.fold, base.to_owned())).cloned().unwrap_or_default()];
        let path =
            found.into_iter().find(|p| p.is_file()).map_or_else(|| row.file.clone().into(), |p| within(root, &p));
        let label = row.class.checked_sub(1).filter(|&label| label < n_classes);
        let name = &row.file;
        let label = label.ok_or_else(|| {
            DataError::layout(&list, format!("{name}: expected a class from 1 to {n_classes}, got {}", row.class))
        })?;
        let [x0, y0, x1, y1] = row.corners.map(|v| v as f32);
        let bbox = Some(BoundingBox { x: x0 - 1.0, y: y0 - 1.0, width: x1 - x0 + 1.0, height: y1 - y0 + 1.0 });
        items.push(Item { bbox, ..Item::file(path, Some(label), row.fold) });
    }
    all_exist(&list, root, &items)?;
    Dataset::new(root, classes, items)
}

/// Every image below the root by fold and file name: the official sets number both folds from 1, in folders of their own.
fn places(root: &Path) -> Result<HashMap<(Fold, String), PathBuf>, DataError> {
    let mut places = HashMap::new();
    for path in text::images(root)? {
        let inner = within(root, &path).to_string_lossy().to_lowercase();
        let fold = if inner.contains("test") { Fold::Test } else { Fold::Train };
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        if !inner.contains("test") && !inner.contains("train") {
            // One folder for both.
            places.entry((Fold::Test, name.clone())).or_insert_with(|| path.clone());
        }
        places.insert((fold, name), path);
    }
    Ok(places)
}

type Read = (PathBuf, Vec<String>, Vec<Row>);

fn from_csv(root: &Path) -> Result<Read, DataError> {
    let names = text::read(&root.join("names.csv"))?;
    let classes = names.lines().map(|l| l.trim().trim_matches('"').to_owned()).filter(|l| !l.is_empty()).collect();
    let mut rows = Vec::new();
    for (file, fold) in [("anno_train.csv", Fold::Train), ("anno_test.csv", Fold::Test)] {
        let list = root.join(file);
        for (line, row) in text::rows(&list)? {
            let [file, x0, y0, x1, y1, class] = &row[..] else {
                return Err(DataError::line(&list, line, format!("expected 6 columns, got {}", row.len())));
            };
            let [a, b, c, d, class] =
                text::numbers(&list, line, &[x0, y0, x1, y1, class].map(String::as_str).join(" "))?;
            rows.push(Row { file: file.clone(), corners: [a, b, c, d].map(f64::from), class: class as usize, fold });
        }
    }
    Ok((root.join("anno_train.csv"), classes, rows))
}

fn from_one(file: &Path) -> Result<Read, DataError> {
    let mut variables = matlab::read(file)?;
    let classes = names(file, variables.remove("class_names"))?;
    let mut rows = Vec::new();
    for record in records(file, variables.remove("annotations"))? {
        let test = number(file, &record, "test")? != 0.0;
        rows.push(row(file, &record, "relative_im_path", if test { Fold::Test } else { Fold::Train })?);
    }
    Ok((file.to_owned(), classes, rows))
}

fn from_kit(root: &Path) -> Result<Read, DataError> {
    let kit = if root.join("devkit").is_dir() { root.join("devkit") } else { root.to_owned() };
    let meta = kit.join("cars_meta.mat");
    let classes = names(&meta, matlab::read(&meta)?.remove("class_names"))?;
    let mut rows = Vec::new();
    let train = kit.join("cars_train_annos.mat");
    let labelled = [root, &kit].map(|f| f.join("cars_test_annos_withlabels.mat"));
    let test = labelled.into_iter().find(|p| p.is_file());
    let lists = [(Some(train.clone()), Fold::Train), (test, Fold::Test)];
    for (list, fold) in lists.into_iter().filter_map(|(list, fold)| Some((list?, fold))) {
        for record in records(&list, matlab::read(&list)?.remove("annotations"))? {
            rows.push(row(&list, &record, "fname", fold)?);
        }
    }
    Ok((train, classes, rows))
}

fn names(file: &Path, value: Option<Value>) -> Result<Vec<String>, DataError> {
    let wrong = || DataError::layout(file, "expected `class_names`, a list of texts");
    let Some(Value::List(values)) = value else { return Err(wrong()) };
    values.into_iter().map(|v| if let Value::Text(text) = v { Ok(text) } else { Err(wrong()) }).collect()
}

fn records(file: &Path, value: Option<Value>) -> Result<Vec<HashMap<String, Value>>, DataError> {
    match value {
        Some(Value::Records(records)) => Ok(records),
        _ => Err(DataError::layout(file, "expected `annotations`, a list of records")),
    }
}

fn number(file: &Path, record: &HashMap<String, Value>, field: &str) -> Result<f64, DataError> {
    match record.get(field) {
        Some(Value::Number(number)) => Ok(*number),
        other => Err(DataError::layout(file, format!("field `{field}`: expected a number, got {other:?}"))),
    }
}

fn row(file: &Path, record: &HashMap<String, Value>, path: &str, fold: Fold) -> Result<Row, DataError> {
    let Some(Value::Text(name)) = record.get(path) else {
        return Err(DataError::layout(file, format!("field `{path}`: expected a text, got {:?}", record.get(path))));
    };
    let side = |field| number(file, record, field);
    let corners = [side("bbox_x1")?, side("bbox_y1")?, side("bbox_x2")?, side("bbox_y2")?];
    Ok(Row { file: name.clone(), corners, class: number(file, record, "class")? as usize, fold })
}
