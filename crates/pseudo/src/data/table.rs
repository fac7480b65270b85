//! Lists of files with labels in comma-separated form.

use std::collections::BTreeSet;
use std::path::Path;

use super::dataset::{BoundingBox, Coarse};
use super::folder::fold_of;
use super::{DataError, Dataset, Fold, Item, examples, text};

/// A list with a heading, and which of its columns mean what.
struct Table {
    rows: Vec<(usize, Vec<String>)>,
    path: usize,
    label: Option<usize>,
    fold: Option<usize>,
    bbox: Option<[usize; 4]>,
}

impl Table {
    fn read(file: &Path) -> Result<Self, DataError> {
        let mut rows = text::rows(file)?;
        if rows.is_empty() {
            return Err(DataError::layout(file, "expected a heading and rows, found none"));
        }
        let heading: Vec<String> = rows.remove(0).1.iter().map(|h| h.trim().to_lowercase()).collect();
        let column = |names: &[&str]| heading.iter().position(|h| names.contains(&h.as_str()));
        let path = column(&["path", "file", "filename", "file_name", "image"])
            .ok_or_else(|| DataError::line(file, 1, format!("expected a column `path`, got {}", heading.join(", "))))?;
        let side = |name| column(&[name]);
        let bbox = side("x").zip(side("y")).zip(side("width").zip(side("height")));
        Ok(Self {
            path,
            label: column(&["label", "class", "fine"]),
            fold: column(&["fold", "split"]),
            bbox: bbox.map(|((x, y), (w, h))| [x, y, w, h]),
            rows,
        })
    }
}

fn field(row: &[String], column: usize) -> &str {
    row.get(column).map_or("", |f| f.trim())
}

/// Reads one list with the columns `path`, and where there are such `label` (empty: unknown), `fold` and
/// `x, y, width, height`. Classes are sorted by name, or by number where all labels are numbers.
///
/// # Errors
/// If a row names a file that does not exist.
pub(super) fn read(file: &Path) -> Result<Dataset, DataError> {
    let root = file.parent().unwrap_or(Path::new("."));
    let table = Table::read(file)?;
    let label_text = |row: &[String]| table.label.map_or("", |l| field(row, l)).to_owned();
    let names: BTreeSet<String> = table.rows.iter().map(|(_, row)| label_text(row)).filter(|l| !l.is_empty()).collect();
    let mut classes: Vec<String> = names.into_iter().collect();
    if let Ok(mut numbers) =
        classes.iter().map(|c| c.parse::<i64>().map(|n| (n, c.clone()))).collect::<Result<Vec<_>, _>>()
    {
        numbers.sort();
        classes = numbers.into_iter().map(|(_, name)| name).collect();
    }
    let mut items = Vec::with_capacity(table.rows.len());
    for (line, row) in &table.rows {
        let label = classes.iter().position(|c| *c == label_text(row));
        let fold = match table.fold.map(|f| field(row, f)) {
            None | Some("") if label.is_none() => Fold::Unlabelled,
            None | Some("") => Fold::Train,
            Some(name) => fold_of(name).ok_or_else(|| {
                DataError::line(file, *line, format!("fold: expected train, val, test or unlabelled, got `{name}`"))
            })?,
        };
        let mut item = Item::file(field(row, table.path), label, fold);
        if let Some(columns) = table.bbox {
            let words = columns.map(|c| field(row, c)).join(" ");
            let [x, y, width, height] = text::numbers(file, *line, &words)?;
            item.bbox = Some(BoundingBox { x, y, width, height });
        }
        items.push(item);
    }
    all_exist(file, root, &items)?;
    Dataset::new(root, classes, items)
}

/// Refuses a list that names files which are not there.
pub(super) fn all_exist(list: &Path, root: &Path, items: &[Item]) -> Result<(), DataError> {
    let missing: Vec<&str> = items.iter().map(|i| i.name.as_str()).filter(|name| !root.join(name).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let (n, examples) = (missing.len(), examples(&missing));
    Err(DataError::Missing { path: list.to_owned(), missing: n, total: items.len(), examples })
}

/// Reads the Grocery Store data set (Klasson et al., WACV 2019): `classes.csv`, and `train.csv`, `val.csv`, `test.csv` with
/// rows `path,fine,coarse`.
pub(super) fn read_grocery(root: &Path) -> Result<Dataset, DataError> {
    let file = root.join("classes.csv");
    let (mut classes, mut coarse) = (Vec::new(), Coarse::default());
    for (line, row) in text::rows(&file)?.iter().skip(1) {
        let number = |column| {
            let word = field(row, column);
            word.parse::<usize>().map_err(|_| DataError::line(&file, *line, format!("expected a number, got `{word}`")))
        };
        if number(1)? != classes.len() {
            return Err(DataError::line(&file, *line, format!("expected class {}, got {}", classes.len(), number(1)?)));
        }
        let group = number(3)?;
        if group > coarse.names.len() {
            return Err(DataError::line(&file, *line, format!("coarse class {group} before {}", coarse.names.len())));
        }
        if group == coarse.names.len() {
            coarse.names.push(field(row, 2).to_owned());
        }
        classes.push(field(row, 0).to_owned());
        coarse.of.push(group);
    }
    let mut items = Vec::new();
    for (name, fold) in [("train.csv", Fold::Train), ("val.csv", Fold::Val), ("test.csv", Fold::Test)] {
        let file = root.join(name);
        let table = Table::read(&file)?;
        let before = items.len();
        for (line, row) in &table.rows {
            let word = table.label.map_or("", |l| field(row, l));
            let label = word.parse().ok().filter(|&l: &usize| l < classes.len());
            let label = label.ok_or_else(|| {
                DataError::line(&file, *line, format!("fine: expected a class below {}, got `{word}`", classes.len()))
            })?;
            items.push(Item::file(field(row, table.path), Some(label), fold));
        }
        all_exist(&file, root, &items[before..])?;
    }
    Ok(Dataset { coarse, ..Dataset::new(root, classes, items)? })
}
