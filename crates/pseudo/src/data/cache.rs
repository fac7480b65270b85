//! Decoded images on disk.
//!
//! One file: the pixels of all images one after another, then a table of their sizes and places, then a foot that says
//! what they were made from. Read at a position, so that the system's page cache holds what fits and a file that was cut
//! is an error; a mapping would save one copy of about 20 us an image and end the process instead.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use chandlery_nn::file::write_atomic;
use rayon::prelude::*;

use super::{ContentHash, DataError};
use crate::image::{Image, ImageError};

const MAGIC: &[u8; 8] = b"CHNDIMG1";
/// Key, hash of the table, number of images, magic.
const FOOT: usize = 32 + 32 + 8 + 8;
/// Width, height, place, checksum.
const ROW: usize = 4 + 4 + 8 + 8;

/// Prepared images in one file.
#[derive(Debug)]
pub struct Cache {
    file: Positioned,
    path: PathBuf,
    rows: Vec<Row>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    width: u32,
    height: u32,
    at: u64,
    checksum: u64,
}

impl Row {
    fn bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..4].copy_from_slice(&self.width.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.height.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.at.to_le_bytes());
        bytes[16..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| bytes[i + k]));
        let u64_at = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[i + k]));
        Self { width: u32_at(0), height: u32_at(4), at: u64_at(8), checksum: u64_at(16) }
    }

    fn len(self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * 3
    }
}

impl Cache {
    /// Opens the cache of `key` at `path`, or makes it of `n` images: `load` is called for each once, several at a time.
    /// An image that cannot be loaded has no place in it; [`get`](Self::get) says `None`.
    ///
    /// # Errors
    /// If the file holds something else or is damaged, or cannot be written.
    pub fn open<E>(
        path: &Path,
        key: ContentHash,
        n: usize,
        load: impl Fn(usize) -> Result<Image, E> + Sync,
    ) -> Result<Self, DataError> {
        if !path.exists() {
            write_atomic(path, |to| write(to, key, n, &load))?;
        }
        let file = File::open(path).map_err(DataError::io(path))?;
        let length = file.metadata().map_err(DataError::io(path))?.len();
        let file = Positioned::new(file);
        let rows = read_table(&file, length, key, n).map_err(|problem| wrong(path, problem))?;
        Ok(Self { file, path: path.to_owned(), rows })
    }

    /// Number of images, those without a place included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The `index`-th image; `None` where it could not be loaded when the cache was made, or there is none.
    ///
    /// # Errors
    /// If its bytes cannot be read or are not those that were written.
    pub fn get(&self, index: usize) -> Result<Option<Image>, DataError> {
        let Some(row) = self.rows.get(index).filter(|row| row.width > 0) else { return Ok(None) };
        let mut pixels = vec![0; row.len() as usize];
        self.file.read(&mut pixels, row.at).map_err(DataError::io(&self.path))?;
        if checksum(&pixels) != row.checksum {
            return Err(wrong(&self.path, format!("image {index} is not as it was written")));
        }
        let image = Image::new(row.width as usize, row.height as usize, pixels);
        image.map(Some).map_err(|e| wrong(&self.path, e.to_string()))
    }
}

fn wrong(path: &Path, problem: String) -> DataError {
    let source = ImageError::Cache { path: path.to_owned(), problem };
    DataError::Image { name: "cache".into(), source }
}

fn write<E>(
    to: &mut dyn Write,
    key: ContentHash,
    n: usize,
    load: &(impl Fn(usize) -> Result<Image, E> + Sync),
) -> io::Result<()> {
    // As many at a time as keep the threads busy and the memory small.
    let chunk = 16 * rayon::current_num_threads();
    let (mut table, mut at) = (Vec::with_capacity(n * ROW), 0);
    for from in (0..n).step_by(chunk) {
        let images: Vec<Option<Image>> = (from..n.min(from + chunk)).into_par_iter().map(|i| load(i).ok()).collect();
        for image in images {
            let (width, height) = image.as_ref().map_or((0, 0), |i| (i.width() as u32, i.height() as u32));
            let pixels = image.map_or_else(Vec::new, Image::into_pixels);
            table.extend(Row { width, height, at, checksum: checksum(&pixels) }.bytes());
            to.write_all(&pixels)?;
            at += pixels.len() as u64;
        }
    }
    to.write_all(&table)?;
    to.write_all(&key.0)?;
    to.write_all(&ContentHash::of(&table).0)?;
    to.write_all(&(n as u64).to_le_bytes())?;
    to.write_all(MAGIC)
}

fn read_table(file: &Positioned, length: u64, key: ContentHash, n: usize) -> Result<Vec<Row>, String> {
    let mut foot = [0; FOOT];
    let at = length.checked_sub(FOOT as u64).ok_or_else(|| format!("{length} bytes are no cache"))?;
    file.read(&mut foot, at).map_err(|e| e.to_string())?;
    if foot[72..] != *MAGIC {
        return Err("no cache of this version, or cut short".into());
    }
    let count = u64::from_le_bytes(std::array::from_fn(|k| foot[64 + k]));
    if foot[..32] != key.0 || count != n as u64 {
        return Err("made from other images or with other settings".into());
    }
    let size = n * ROW;
    let at = at.checked_sub(size as u64).ok_or("its table is cut short")?;
    let mut table = vec![0; size];
    file.read(&mut table, at).map_err(|e| e.to_string())?;
    if foot[32..64] != ContentHash::of(&table).0 {
        return Err("its table is damaged".into());
    }
    Ok(table.chunks_exact(ROW).map(Row::parse).collect())
}

/// Four interleaved multiply-and-fold chains over words of 8 bytes: tells damage, not intent, at memory speed.
fn checksum(bytes: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let fold = |hash: u64, word: u64| (hash ^ word).wrapping_mul(FACTOR).rotate_left(29);
    let word = |chunk: &[u8]| u64::from_le_bytes(std::array::from_fn(|k| chunk.get(k).copied().unwrap_or(0)));
    let mut lanes = [1, 2, 3, 4];
    let blocks = bytes.chunks_exact(32);
    let rest = blocks.remainder();
    for block in blocks {
        for (lane, chunk) in lanes.iter_mut().zip(block.chunks_exact(8)) {
            *lane = fold(*lane, word(chunk));
        }
    }
    let tail = rest.chunks(8).fold(bytes.len() as u64, |hash, chunk| fold(hash, word(chunk)));
    lanes.into_iter().fold(tail, fold)
}

/// A file that many threads read at positions of their own.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct Positioned(File);

#[cfg(unix)]
impl Positioned {
    pub(super) fn new(file: File) -> Self {
        Self(file)
    }

    pub(super) fn read(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(&self.0, to, at)
    }
}

/// A file that many threads read at positions of their own, one after another.
#[cfg(not(unix))]
#[derive(Debug)]
pub(super) struct Positioned(std::sync::Mutex<File>);

#[cfg(not(unix))]
impl Positioned {
    pub(super) fn new(file: File) -> Self {
        Self(std::sync::Mutex::new(file))
    }

    pub(super) fn read(&self, to: &mut [u8], at: u64) -> io::Result<()> {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = self.0.lock().map_err(|_| io::Error::other("a reading thread failed"))?;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load(i: usize) -> Result<Image, ()> {
        if i == 3 { Err(()) } else { Image::filled(i + 1, 2, [i as u8, 1, 2]).map_err(|_| ()) }
    }

    #[test]
    fn images_come_back_and_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let key = ContentHash::of(b"settings");
        let cache = Cache::open(&path, key, 100, load).unwrap();
        let again = Cache::open(&path, key, 100, |_| -> Result<Image, ()> { panic!("made twice") }).unwrap();
        for cache in [cache, again] {
            assert_eq!(cache.get(3).unwrap(), None);
            assert_eq!(cache.get(100).unwrap(), None);
            for i in [0, 1, 50, 99] {
                assert_eq!(cache.get(i).unwrap(), Some(load(i).unwrap()));
            }
        }
        let why = Cache::open(&path, ContentHash::of(b"others"), 100, load).unwrap_err().to_string();
        assert!(why.contains("other settings"), "{why}");
        assert!(Cache::open(&path, key, 99, load).is_err());
    }

    #[test]
    fn any_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let key = ContentHash::of(b"settings");
        let read = || -> Result<Vec<Option<Image>>, DataError> {
            let cache = Cache::open(&path, key, 5, load)?;
            (0..5).map(|i| cache.get(i)).collect()
        };
        read().unwrap();
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut broken = sound.clone();
            broken[at] ^= 0x10;
            fs::write(&path, &broken).unwrap();
            assert!(read().is_err(), "byte {at} of {}", sound.len());
            fs::write(&path, &sound[..at]).unwrap();
            assert!(read().is_err(), "cut at {at}");
        }
    }
}
