//! Blocks of bytes on disk, made once and read at random.
//!
//! One file: all blocks one after another, then a table of their places, then a foot that says what they were made from.
//! Read at a position, so that the system's page cache holds what fits and a file that was cut is an error; a mapping
//! would save one copy of about 20 us an image and end the process instead.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use chandlery_nn::file::write_atomic;

use super::{ContentHash, DataError};
use crate::image::ImageError;

const MAGIC: &[u8; 8] = b"CHNDROW1";
/// Key, hash of the table, number of blocks, magic.
const FOOT: usize = 32 + 32 + 8 + 8;
/// Tag, length, place, checksum.
const ROW: usize = 8 + 8 + 8 + 8;

/// Blocks in one file.
#[derive(Debug)]
pub(super) struct Rows {
    file: Positioned,
    path: PathBuf,
    rows: Vec<Row>,
}

/// Bytes, at least one, and two numbers that say how to read them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub tag: [u32; 2],
    pub bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    tag: [u32; 2],
    /// 0: there is no such block.
    length: u64,
    at: u64,
    checksum: u64,
}

impl Row {
    fn bytes(self) -> [u8; ROW] {
        let mut bytes = [0; ROW];
        bytes[..4].copy_from_slice(&self.tag[0].to_le_bytes());
        bytes[4..8].copy_from_slice(&self.tag[1].to_le_bytes());
        bytes[8..16].copy_from_slice(&self.length.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.at.to_le_bytes());
        bytes[24..].copy_from_slice(&self.checksum.to_le_bytes());
        bytes
    }

    fn parse(bytes: &[u8]) -> Self {
        let u32_at = |i: usize| u32::from_le_bytes(std::array::from_fn(|k| bytes[i + k]));
        let u64_at = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| bytes[i + k]));
        Self { tag: [u32_at(0), u32_at(4)], length: u64_at(8), at: u64_at(16), checksum: u64_at(24) }
    }
}

impl Rows {
    /// Opens the file of `key` at `path`, or makes it of `n` blocks: `make` is called for `chunk` of them at a time, in
    /// order, and gives `None` where there is none to keep.
    ///
    /// # Errors
    /// If the file holds something else or is damaged, or cannot be written or made.
    pub fn open(
        path: &Path,
        key: ContentHash,
        n: usize,
        chunk: usize,
        make: impl FnMut(Range<usize>) -> io::Result<Vec<Option<Block>>>,
    ) -> Result<Self, DataError> {
        if !path.exists() {
            write_atomic(path, |to| write(to, key, n, chunk, make))?;
        }
        let file = File::open(path).map_err(DataError::io(path))?;
        let length = file.metadata().map_err(DataError::io(path))?.len();
        let file = Positioned::new(file);
        let rows = read_table(&file, length, key, n).map_err(|problem| wrong(path, problem))?;
        Ok(Self { file, path: path.to_owned(), rows })
    }

    /// Number of blocks, those that are not there included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The `index`-th block, where there is one.
    ///
    /// # Errors
    /// If its bytes cannot be read or are not those that were written.
    pub fn get(&self, index: usize) -> Result<Option<Block>, DataError> {
        let Some(row) = self.rows.get(index).filter(|row| row.length > 0) else { return Ok(None) };
        let mut bytes = vec![0; row.length as usize];
        self.file.read(&mut bytes, row.at).map_err(DataError::io(&self.path))?;
        if checksum(&bytes) != row.checksum {
            return Err(self.wrong(format!("block {index} is not as it was written")));
        }
        Ok(Some(Block { tag: row.tag, bytes }))
    }

    /// An error about this file.
    pub fn wrong(&self, problem: String) -> DataError {
        wrong(&self.path, problem)
    }
}

fn wrong(path: &Path, problem: String) -> DataError {
    let source = ImageError::Cache { path: path.to_owned(), problem };
    DataError::Image { name: "cache".into(), source }
}

fn write(
    to: &mut dyn Write,
    key: ContentHash,
    n: usize,
    chunk: usize,
    mut make: impl FnMut(Range<usize>) -> io::Result<Vec<Option<Block>>>,
) -> io::Result<()> {
    let (mut table, mut at) = (Vec::with_capacity(n * ROW), 0);
    for from in (0..n).step_by(chunk) {
        for block in make(from..n.min(from + chunk))? {
            let Block { tag, bytes } = block.unwrap_or(Block { tag: [0, 0], bytes: Vec::new() });
            let length = bytes.len() as u64;
            table.extend(Row { tag, length, at, checksum: checksum(&bytes) }.bytes());
            to.write_all(&bytes)?;
            at += length;
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
