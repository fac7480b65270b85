//! The IDX files of MNIST and its successors.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::dataset::Pixels;
use super::{DataError, Dataset, Fold, Item, text};

/// Most samples that are taken into memory from one file.
const MOST: u64 = 4 << 30;

/// Bytes in a shape.
struct Array {
    dims: Vec<usize>,
    data: Vec<u8>,
}

/// Reads `{train,t10k,test}-images-idx3-ubyte` and `-labels-idx1-ubyte`, each plain or `.gz`; names of classes come from
/// `classes.txt`, one a line, or are the numbers.
pub(super) fn read(root: &Path) -> Result<Dataset, DataError> {
    let names = root.join("classes.txt");
    let names = if names.is_file() { Some(text::read(&names)?.lines().map(str::to_owned).collect()) } else { None };
    let mut folds = Vec::new();
    for (prefix, fold) in [("train", Fold::Train), ("t10k", Fold::Test), ("test", Fold::Test)] {
        if let Some(images) = find(root, prefix, "images-idx3") {
            let labels = find(root, prefix, "labels-idx1")
                .ok_or_else(|| DataError::layout(&images, "expected the labels' file beside it"))?;
            let open = |path: &Path| File::open(path).map(BufReader::new).map_err(DataError::io(path));
            folds.push((fold, prefix, array(open(&images)?, &images)?, array(open(&labels)?, &labels)?));
        }
    }
    if folds.is_empty() {
        return Err(DataError::layout(root, "expected train-images-idx3-ubyte or a file like it"));
    }
    assemble(root, names, folds.into_iter())
}

/// Makes a data set of IDX files in memory, each plain or gzip: `(fold, prefix, images, labels)`.
pub(super) fn from_bytes(
    root: &Path,
    names: Vec<String>,
    files: &[(Fold, &'static str, &[u8], &[u8])],
) -> Result<Dataset, DataError> {
    let parse = |&(fold, prefix, images, labels): &(Fold, &'static str, &[u8], &[u8])| {
        Ok((fold, prefix, array(images, root)?, array(labels, root)?))
    };
    let folds = files.iter().map(parse).collect::<Result<Vec<_>, DataError>>()?;
    assemble(root, Some(names), folds.into_iter())
}

/// The file of this kind, plain or compressed, with `-` or `.` before its type as both are about.
fn find(root: &Path, prefix: &str, kind: &str) -> Option<PathBuf> {
    let dotted = kind.replace("-idx", ".idx");
    let names =
        [kind, &dotted].into_iter().flat_map(|kind| ["", ".gz"].map(|end| format!("{prefix}-{kind}-ubyte{end}")));
    names.map(|name| root.join(name)).find(|path| path.is_file())
}

fn assemble(
    root: &Path,
    names: Option<Vec<String>>,
    folds: impl Iterator<Item = (Fold, &'static str, Array, Array)>,
) -> Result<Dataset, DataError> {
    let mut items = Vec::new();
    let mut n_classes = 0;
    for (fold, prefix, images, labels) in folds {
        let (n, height, width, channels) = match images.dims[..] {
            [n, h, w] => (n, h, w, 1),
            [n, h, w, 3] => (n, h, w, 3),
            _ => {
                let problem = format!("images: expected [n, h, w] or [n, h, w, 3], got {:?}", images.dims);
                return Err(DataError::layout(root, problem));
            }
        };
        if labels.dims != [n] {
            return Err(DataError::layout(root, format!("labels: expected [{n}], got {:?}", labels.dims)));
        }
        let (store, size): (Arc<[u8]>, usize) = (images.data.into(), height * width * channels);
        n_classes = n_classes.max(labels.data.iter().max().map_or(0, |&l| usize::from(l) + 1));
        items.extend(labels.data.iter().enumerate().map(|(i, &label)| Item {
            name: format!("{prefix}/{i}"),
            pixels: Pixels::Raw { width, height, channels, store: store.clone(), at: i * size },
            label: Some(usize::from(label)),
            fold,
            bbox: None,
            keypoints: Vec::new(),
        }));
    }
    Dataset::new(root, names.unwrap_or_else(|| (0..n_classes).map(|c| c.to_string()).collect()), items)
}

/// Parses `0 0 type rank`, the big-endian dimensions, and as many bytes as they ask for.
fn array(mut from: impl Read, path: &Path) -> Result<Array, DataError> {
    let mut magic = [0; 2];
    from.read_exact(&mut magic).map_err(DataError::io(path))?;
    let joined = (&magic[..]).chain(from);
    if magic == [0x1f, 0x8b] { plain(GzDecoder::new(joined), path) } else { plain(joined, path) }
}

fn plain(mut from: impl Read, path: &Path) -> Result<Array, DataError> {
    let mut head = [0; 4];
    from.read_exact(&mut head).map_err(DataError::io(path))?;
    let [0, 0, 0x08, rank @ 1..=4] = head else {
        let problem = format!("expected an IDX file of bytes (0 0 8 and a rank from 1 to 4), got {head:?}");
        return Err(DataError::layout(path, problem));
    };
    let mut dims = Vec::new();
    for _ in 0..rank {
        let mut dim = [0; 4];
        from.read_exact(&mut dim).map_err(DataError::io(path))?;
        dims.push(u32::from_be_bytes(dim));
    }
    let size = dims.iter().try_fold(1_u64, |n, &d| n.checked_mul(d.into())).filter(|&n| n <= MOST);
    let size =
        size.ok_or_else(|| DataError::layout(path, format!("{dims:?}: expected at most {MOST} bytes in all")))?;
    // Not reserved ahead: a header may promise more than the file holds.
    let mut data = Vec::new();
    from.take(size).read_to_end(&mut data).map_err(DataError::io(path))?;
    if data.len() as u64 != size {
        return Err(DataError::layout(path, format!("{dims:?}: expected {size} bytes, got {}", data.len())));
    }
    Ok(Array { dims: dims.into_iter().map(|d| d as usize).collect(), data })
}
