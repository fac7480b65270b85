//! Parquet files as the Hugging Face hub keeps image data sets: a column of `{bytes, path}`, one of labels, and the names of
//! both and of the classes in the metadata under `huggingface`.
//!
//! Read row group by row group, one page in memory at a time; the encoded images go to a [`Spool`](super::Spool), where any
//! of them is found without decoding its neighbours.

use std::collections::BTreeSet;
use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::DataType;
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, RowGroupMetaData};
use parquet::file::reader::{FileReader, SerializedFileReader};
use serde_json::Value;

use super::dataset::{Pixels, within};
use super::folder::fold_of;
use super::spool::Filling;
use super::{DataError, Dataset, Fold, Item, examples};

/// Rows taken from a column at a time.
const BATCH: usize = 64;

/// Where the metadata of the hub stand.
const HUB: &str = "huggingface";

/// Which columns are read; without a name the one that the metadata say is of that kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubColumns {
    /// A column of images, `{bytes, path}`.
    pub image: Option<String>,
    /// A column of labels: whole numbers or text; null and -1 are no label.
    pub label: Option<String>,
}

/// Reads one file, or all under a folder. `train-00000-of-00002.parquet` and `train/0000.parquet` are of the training fold,
/// `validation`, `test` and `unlabelled` likewise; other names count as training. Items are named by file and row.
///
/// # Errors
/// If a file is damaged or cut short, has no column of that name or kind, or names other classes than the first.
pub fn hub_parquet(path: &Path, columns: &HubColumns) -> Result<Dataset, DataError> {
    let files = files(path)?;
    let root = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let spool_folder = std::env::temp_dir();
    let mut filling = Filling::new().map_err(DataError::io(&spool_folder))?;
    let (mut rows, mut names) = (Vec::new(), None);
    for file in &files {
        let found = guarded(file, || read_file(file, root, columns, &mut filling, &mut rows))?;
        if names.get_or_insert_with(|| found.clone()) != &found {
            return Err(DataError::layout(file, format!("expected the classes of {}", files[0].display())));
        }
    }
    let classes = classes(names.flatten(), &rows);
    let spool = filling.done().map_err(DataError::io(&spool_folder))?;
    let item = |row: Row| Item {
        name: row.name,
        // A row without bytes is an empty image, for the audit to find.
        pixels: match row.bytes {
            Some((at, len)) => Pixels::Spooled { spool: spool.clone(), at, len },
            None => Pixels::Encoded(Vec::new().into()),
        },
        label: match row.label {
            Label::None => None,
            Label::Number(n) => Some(n),
            Label::Word(word) => classes.binary_search(&word).ok(),
        },
        fold: row.fold,
        bbox: None,
        keypoints: Vec::new(),
    };
    let items = rows.into_iter().map(item).collect();
    Dataset::new(root, classes, items)
}

/// Runs `read`; a panic in it is an error. The parquet crate trusts sizes within pages, and panics where damaged ones lie.
fn guarded<T>(path: &Path, read: impl FnOnce() -> Result<T, DataError>) -> Result<T, DataError> {
    // What a panic leaves half done is given up with the error.
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(DataError::layout(path, "damaged parquet file")))
}

fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|end| end.eq_ignore_ascii_case("parquet"))
}

/// The files of a data set, sorted.
fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = super::text::images(path)?;
    found.retain(|file| is_parquet(file));
    if found.is_empty() {
        return Err(DataError::layout(path, "expected .parquet files, found none"));
    }
    Ok(found)
}

/// What is known of an item before all files have been seen.
struct Row {
    name: String,
    fold: Fold,
    bytes: Option<(u64, usize)>,
    label: Label,
}

enum Label {
    None,
    Number(usize),
    Word(String),
}

/// The names that the metadata give; or the words that occur, sorted; or the numbers.
fn classes(names: Option<Vec<String>>, rows: &[Row]) -> Vec<String> {
    let words: BTreeSet<&String> =
        rows.iter().filter_map(|r| if let Label::Word(w) = &r.label { Some(w) } else { None }).collect();
    let most = rows.iter().filter_map(|r| if let Label::Number(n) = r.label { Some(n + 1) } else { None }).max();
    match names {
        Some(names) => names,
        None if !words.is_empty() => words.into_iter().cloned().collect(),
        None => (0..most.unwrap_or(0)).map(|n| n.to_string()).collect(),
    }
}

/// The fold that a file's name or that of its folder stands for.
fn fold(file: &Path) -> Fold {
    let of = |name: Option<&std::ffi::OsStr>| fold_of(name?.to_string_lossy().split(['-', '.', '_']).next()?);
    of(file.file_name()).or_else(|| of(file.parent()?.file_name())).unwrap_or(Fold::Train)
}

/// Appends the rows of a file; returns the classes that it names.
fn read_file(
    path: &Path,
    root: &Path,
    columns: &HubColumns,
    filling: &mut Filling,
    rows: &mut Vec<Row>,
) -> Result<Option<Vec<String>>, DataError> {
    let wrong = |e: ParquetError| DataError::layout(path, e.to_string());
    let file = File::open(path).map_err(DataError::io(path))?;
    let reader = SerializedFileReader::new(file).map_err(wrong)?;
    let chosen = Chosen::find(reader.metadata().file_metadata(), columns).map_err(|e| DataError::layout(path, e))?;
    let (first, fold) = (rows.len(), fold(path));
    let stem = within(root, path).with_extension("").to_string_lossy().replace('\\', "/");
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(wrong)?;
        let start = rows.len();
        let mut failed = None;
        let column = group.get_column_reader(chosen.bytes).map_err(wrong)?;
        let ColumnReader::ByteArrayColumnReader(column) = column else {
            return Err(not_of(path, "bytes", group.metadata(), chosen.bytes));
        };
        drain(column, level(group.metadata(), chosen.bytes), |value| {
            let bytes = value.map(|v| (filling.push(v.data()), v.data().len()));
            let bytes = match bytes {
                Some((Ok(at), len)) => Some((at, len)),
                Some((Err(e), _)) => {
                    failed = Some(e);
                    None
                }
                None => None,
            };
            let name = format!("{stem}/{}", rows.len() - first);
            rows.push(Row { name, fold, bytes, label: Label::None });
        })
        .map_err(wrong)?;
        if let Some(e) = failed {
            let folder = std::env::temp_dir();
            return Err(DataError::io(&folder)(e));
        }
        let mut labels = Vec::with_capacity(rows.len() - start);
        if let Some(index) = chosen.label {
            let levels = level(group.metadata(), index);
            let number = |n: Option<i64>| n.and_then(|n| usize::try_from(n).ok()).map_or(Label::None, Label::Number);
            let done = match group.get_column_reader(index).map_err(wrong)? {
                ColumnReader::Int64ColumnReader(column) => drain(column, levels, |n| labels.push(number(n))),
                ColumnReader::Int32ColumnReader(column) => {
                    drain(column, levels, |n| labels.push(number(n.map(i64::from))))
                }
                ColumnReader::ByteArrayColumnReader(column) => drain(column, levels, |word| {
                    let word = word.map(|w| String::from_utf8_lossy(w.data()).into_owned());
                    labels.push(word.map_or(Label::None, Label::Word));
                }),
                _ => return Err(not_of(path, "whole numbers or text", group.metadata(), index)),
            };
            done.map_err(wrong)?;
            if labels.len() != rows.len() - start {
                let problem = format!("{} labels for {} images in a row group", labels.len(), rows.len() - start);
                return Err(DataError::layout(path, problem));
            }
        }
        rows[start..].iter_mut().zip(labels).for_each(|(row, label)| row.label = label);
        let expected = usize::try_from(group.metadata().num_rows()).unwrap_or(usize::MAX);
        if rows.len() - start != expected {
            let problem = format!("expected {expected} rows in a row group, got {}", rows.len() - start);
            return Err(DataError::layout(path, problem));
        }
    }
    Ok(chosen.classes)
}

fn not_of(path: &Path, kind: &str, group: &RowGroupMetaData, column: usize) -> DataError {
    let column = group.column(column).column_descr();
    let problem = format!("column {}: expected {kind}, got {}", column.path().string(), column.physical_type());
    DataError::layout(path, problem)
}

/// The level at which a value is there; less is null.
fn level(group: &RowGroupMetaData, column: usize) -> i16 {
    group.column(column).column_descr().max_def_level()
}

/// Calls `each` with every value of a column, `None` for null.
fn drain<T: DataType>(
    mut column: ColumnReaderImpl<T>,
    there: i16,
    mut each: impl FnMut(Option<T::T>),
) -> Result<(), ParquetError> {
    let (mut values, mut levels) = (Vec::new(), Vec::new());
    loop {
        levels.clear();
        let (records, ..) = column.read_records(BATCH, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            return Ok(());
        }
        let mut values = values.drain(..);
        for i in 0..records {
            let is_there = levels.get(i).is_none_or(|&level| level == there);
            each(if is_there { values.next() } else { None });
        }
    }
}

/// The columns of one file.
struct Chosen {
    bytes: usize,
    label: Option<usize>,
    /// Names of the classes, where the metadata have them.
    classes: Option<Vec<String>>,
}

impl Chosen {
    fn find(meta: &FileMetaData, asked: &HubColumns) -> Result<Self, String> {
        let leaves: Vec<String> = meta.schema_descr().columns().iter().map(|c| c.path().string()).collect();
        let flat = |index: usize| meta.schema_descr().column(index).max_rep_level() == 0;
        let leaf = |name: &str| leaves.iter().position(|leaf| leaf == name).filter(|&index| flat(index));
        let there = || format!("; there are {}", examples(&leaves));
        let features = features(meta)?;
        let of_kind = |kind: &str| -> Vec<&String> {
            features.iter().filter(|(_, f)| f["_type"] == kind).map(|(name, _)| name).collect()
        };

        let image = match (&asked.image, &of_kind("Image")[..]) {
            (Some(name), _) => name.clone(),
            (None, [one]) => (*one).clone(),
            (None, []) => {
                let mut with_bytes = leaves.iter().filter_map(|leaf| leaf.strip_suffix(".bytes"));
                let (first, second) = (with_bytes.next(), with_bytes.next());
                first
                    .filter(|_| second.is_none())
                    .ok_or_else(|| format!("expected one column of images{}", there()))?
                    .into()
            }
            (None, many) => return Err(format!("expected one column of images, got {}: name one", examples(many))),
        };
        let bytes = leaf(&format!("{image}.bytes"));
        let bytes = bytes.ok_or_else(|| format!("expected a column of images `{image}.bytes`{}", there()))?;

        let label = match (&asked.label, &of_kind("ClassLabel")[..]) {
            (Some(name), _) => Some(name.clone()),
            (None, [one]) => Some((*one).clone()),
            (None, []) => Some("label".to_owned()).filter(|name| leaf(name).is_some()),
            (None, many) => {
                let usual = ["label", "fine_label"].into_iter().find(|usual| many.iter().any(|name| name == usual));
                let usual =
                    usual.ok_or_else(|| format!("expected one column of labels, got {}: name one", examples(many)))?;
                Some(usual.to_owned())
            }
        };
        let index =
            |name: &String| leaf(name).ok_or_else(|| format!("expected a column of labels `{name}`{}", there()));
        let names = label.as_ref().and_then(|label| features.get(label)?["names"].as_array());
        let classes =
            names.map(|names| names.iter().map(|n| n.as_str().map_or_else(|| n.to_string(), str::to_owned)).collect());
        Ok(Self { bytes, label: label.as_ref().map(index).transpose()?, classes })
    }
}

/// What the hub's metadata say of each column; nothing where there are none.
fn features(meta: &FileMetaData) -> Result<serde_json::Map<String, Value>, String> {
    let pairs = meta.key_value_metadata().into_iter().flatten();
    let Some(text) = pairs.filter(|pair| pair.key == HUB).find_map(|pair| pair.value.as_deref()) else {
        return Ok(serde_json::Map::new());
    };
    let all: Value = serde_json::from_str(text).map_err(|e| format!("metadata `{HUB}`: {e}"))?;
    Ok(all["info"]["features"].as_object().cloned().unwrap_or_default())
}
