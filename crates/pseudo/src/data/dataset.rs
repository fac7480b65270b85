use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{DataError, Spool};
use crate::image::{Decode, Image, ImageError, header};

/// Which part of a data set an item belongs to, as its publisher or its folder says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// For fitting.
    Train,
    /// For choices.
    Val,
    /// For results.
    Test,
    /// For fitting, without labels.
    Unlabelled,
}

/// Where an item's pixels are.
#[derive(Clone, PartialEq, Eq)]
pub enum Pixels {
    /// A file, relative to the data set's root, read when it is asked for.
    File(PathBuf),
    /// The bytes of an encoded image.
    Encoded(Arc<[u8]>),
    /// The bytes of an encoded image within a file of many.
    Spooled {
        /// The file.
        spool: Spool,
        /// Where the image begins.
        at: u64,
        /// Its bytes.
        len: usize,
    },
    /// Plain samples `[height, width, channels]` of 8 bits within a larger store.
    Raw {
        /// Columns.
        width: usize,
        /// Rows.
        height: usize,
        /// 1 (grey) or 3.
        channels: usize,
        /// Samples of many images.
        store: Arc<[u8]>,
        /// Where this image begins.
        at: usize,
    },
}

impl fmt::Debug for Pixels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "File({})", path.display()),
            Self::Encoded(bytes) => write!(f, "Encoded({} bytes)", bytes.len()),
            Self::Spooled { at, len, .. } => write!(f, "Spooled({len} bytes at {at})"),
            Self::Raw { width, height, channels, at, .. } => write!(f, "Raw({width} x {height} x {channels} at {at})"),
        }
    }
}

/// A rectangle in pixels of the upright image, from the left and from the top.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BoundingBox {
    /// Left edge.
    pub x: f32,
    /// Upper edge.
    pub y: f32,
    /// Columns covered.
    pub width: f32,
    /// Rows covered.
    pub height: f32,
}

/// A named place on an object, such as a bird's beak.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keypoint {
    /// Index into [`Dataset::keypoint_names`].
    pub name: usize,
    /// Column.
    pub x: f32,
    /// Row.
    pub y: f32,
}

/// One image and what is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// A name that is the same on every machine: the path within the data set, or a position in a file.
    pub name: String,
    /// Where the pixels are.
    pub pixels: Pixels,
    /// Index into [`Dataset::classes`], where known.
    pub label: Option<usize>,
    /// Which part it belongs to.
    pub fold: Fold,
    /// Where the object is, where known.
    pub bbox: Option<BoundingBox>,
    /// The visible ones of its named places.
    pub keypoints: Vec<Keypoint>,
}

impl Item {
    /// An item that is a file at `path` within the root.
    pub fn file(path: impl Into<PathBuf>, label: Option<usize>, fold: Fold) -> Self {
        let path = path.into();
        let name = path.to_string_lossy().replace('\\', "/");
        Self { name, pixels: Pixels::File(path), label, fold, bbox: None, keypoints: Vec::new() }
    }
}

/// Images with labels, whatever the layout they came in; pixels are read when they are asked for.
#[derive(Clone, Debug)]
pub struct Dataset {
    /// Where relative paths start.
    pub root: PathBuf,
    /// Names of the classes; a label is an index into them.
    pub classes: Vec<String>,
    /// For each class its coarser class, and the names of those; empty where the data set has none.
    pub coarse: Coarse,
    /// Names of the keypoints.
    pub keypoint_names: Vec<String>,
    pub(super) items: Vec<Item>,
}

/// Groups of classes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coarse {
    /// Names of the groups.
    pub names: Vec<String>,
    /// The group of each class.
    pub of: Vec<usize>,
}

impl Dataset {
    /// Takes items in a fixed order; every index of the crate means this order.
    ///
    /// # Errors
    /// If a label stands for no class.
    pub fn new(root: impl Into<PathBuf>, classes: Vec<String>, items: Vec<Item>) -> Result<Self, DataError> {
        let n_classes = classes.len();
        if let Some((name, label)) =
            items.iter().find_map(|i| i.label.filter(|&l| l >= n_classes).map(|l| (&i.name, l)))
        {
            return Err(DataError::Label { name: name.clone(), label, n_classes });
        }
        Ok(Self { root: root.into(), classes, coarse: Coarse::default(), keypoint_names: Vec::new(), items })
    }

    /// All items.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Number of items.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of classes.
    pub fn n_classes(&self) -> usize {
        self.classes.len()
    }

    /// Indices of the items of one fold, ascending.
    pub fn fold(&self, fold: Fold) -> Vec<usize> {
        (0..self.len()).filter(|&i| self.items[i].fold == fold).collect()
    }

    /// How many of `items` carry each label.
    pub fn counts(&self, items: &[usize]) -> Vec<usize> {
        let mut counts = vec![0; self.n_classes()];
        items.iter().filter_map(|&i| self.items.get(i)?.label).for_each(|label| counts[label] += 1);
        counts
    }

    /// The same data set with these of its items, in this order.
    ///
    /// # Errors
    /// If an index is none of its items.
    pub fn subset(&self, items: &[usize]) -> Result<Self, DataError> {
        let items = items.iter().map(|&i| self.item(i).cloned()).collect::<Result<_, _>>()?;
        Ok(Self { items, ..self.clone() })
    }

    /// One item.
    ///
    /// # Errors
    /// If there is none of that index.
    pub fn item(&self, index: usize) -> Result<&Item, DataError> {
        self.items.get(index).ok_or(DataError::Item { item: index, len: self.len() })
    }

    /// Decodes an item. Where `short_side` pixels of the shorter side are enough, a JPEG may come smaller, see
    /// [`Decode::open`].
    ///
    /// # Errors
    /// If the file cannot be read or `decode` refuses it; the error names the item.
    pub fn image(&self, index: usize, decode: &Decode, short_side: Option<usize>) -> Result<Image, DataError> {
        let item = self.item(index)?;
        let image = match &item.pixels {
            Pixels::File(path) => decode.open(&self.root.join(path), short_side),
            Pixels::Encoded(bytes) => decode.decode(bytes, short_side),
            Pixels::Spooled { .. } => decode.decode(&self.content(item, decode)?, short_side),
            Pixels::Raw { width, height, channels, .. } => {
                let samples = self.content(item, decode)?;
                match channels {
                    1 => Image::from_grey(*width, *height, &samples),
                    _ => Image::new(*width, *height, samples.into_owned()),
                }
            }
        };
        image.map_err(|source| DataError::Image { name: item.name.clone(), source })
    }

    /// Width and height as stored of an item, from its header alone.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn size(&self, index: usize) -> Result<(usize, usize), DataError> {
        let item = self.item(index)?;
        if let Pixels::Raw { width, height, .. } = item.pixels {
            return Ok((width, height));
        }
        let content = self.content(item, &Decode::default())?;
        let header = header(&content).map_err(|source| DataError::Image { name: item.name.clone(), source })?;
        Ok((header.width, header.height))
    }

    pub(super) fn content<'a>(&self, item: &'a Item, decode: &Decode) -> Result<Cow<'a, [u8]>, DataError> {
        let fail = |source| DataError::Image { name: item.name.clone(), source };
        match &item.pixels {
            Pixels::File(path) => decode.read(&self.root.join(path)).map(Cow::Owned).map_err(fail),
            Pixels::Encoded(bytes) => Ok(Cow::Borrowed(bytes)),
            Pixels::Spooled { spool, at, len } => {
                let bytes = spool.read(*at, *len).map_err(ImageError::io(Path::new(&item.name)));
                bytes.map(Cow::Owned).map_err(fail)
            }
            Pixels::Raw { width, height, channels, store, at } => {
                let expected = width * height * channels;
                let got = store.len().saturating_sub(*at);
                let samples = store.get(*at..*at + expected);
                let short = || fail(ImageError::Shape { what: "samples".into(), expected, got });
                samples.map(Cow::Borrowed).ok_or_else(short)
            }
        }
    }

    /// SHA-256 of each item's encoded bytes (or samples), read in parallel.
    pub fn hashes(&self) -> Vec<Result<ContentHash, DataError>> {
        let decode = Decode { max_bytes: u64::MAX - 1, ..Decode::default() };
        self.items.par_iter().map(|item| Ok(ContentHash::of(&self.content(item, &decode)?))).collect()
    }

    /// What identifies the data: a SHA-256 over classes, names, folds, labels, boxes, keypoints and the content of every
    /// item; the root's path is not part of it. An item that cannot be read counts as such.
    pub fn fingerprint(&self) -> String {
        let mut all = Sha256::new();
        let mut field = |text: &str| {
            all.update((text.len() as u64).to_le_bytes());
            all.update(text);
        };
        self.classes.iter().for_each(|class| field(class));
        for (item, hash) in self.items.iter().zip(self.hashes()) {
            let content = hash.map_or_else(|_| "unreadable".into(), |h| h.to_string());
            field(&item.name);
            field(&format!("{:?} {:?} {:?} {:?} {content}", item.fold, item.label, item.bbox, item.keypoints));
        }
        ContentHash(all.finalize().into()).to_string()
    }
}

/// A SHA-256.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContentHash(pub [u8; 32]);

impl ContentHash {
    /// That of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The path of `file` within `root`, or `file` itself where it lies outside.
pub(super) fn within(root: &Path, file: &Path) -> PathBuf {
    file.strip_prefix(root).unwrap_or(file).to_owned()
}
