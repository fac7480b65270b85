//! GGUF files: metadata, and tensors dequantised to f32.

use super::source::{Source, format, io};
use crate::Result;
use candle_core::quantized::gguf_file::{Content, Value};
use candle_core::{Device, Tensor};
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(super) struct Gguf {
    path: PathBuf,
    content: Content,
}

impl Gguf {
    /// Reads and checks the header.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = BufReader::new(File::open(path).map_err(io(path))?);
        let length = file.get_ref().metadata().map_err(io(path))?.len();
        check_alignment(path, &mut file)?;
        file.seek(SeekFrom::Start(0)).map_err(io(path))?;
        let content = Content::read(&mut file).map_err(|e| format(path, format!("GGUF header: {e}")))?;
        // No type packs more than eight values into a byte.
        let limit = usize::try_from(length).unwrap_or(usize::MAX).saturating_mul(8);
        for (name, info) in &content.tensor_infos {
            let n = info.shape.dims().iter().try_fold(1_usize, |n, &dim| n.checked_mul(dim));
            // candle 0.11 makes a slice from a dangling pointer for an empty tensor.
            if n.is_none_or(|n| n == 0 || n > limit) {
                let what = format!("tensor {name}: shape {:?} is empty or larger than the file", info.shape.dims());
                return Err(format(path, what));
            }
        }
        Ok(Self { path: path.to_path_buf(), content })
    }

    pub fn file(&self) -> &Path {
        &self.path
    }

    pub fn has(&self, name: &str) -> bool {
        self.content.tensor_infos.contains_key(name)
    }

    /// A metadata entry.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// A metadata entry that must be there, read by `read`.
    pub fn require<'a, T>(&'a self, key: &str, read: impl FnOnce(&'a Value) -> candle_core::Result<T>) -> Result<T> {
        let Some(value) = self.value(key) else { return Err(self.wrong(key, "missing")) };
        read(value).map_err(|e| self.wrong(key, &e.to_string()))
    }

    /// A whole number in the metadata.
    pub fn number(&self, key: &str) -> Result<usize> {
        self.require(key, |v| Ok(v.to_u64()? as usize))
    }

    /// A list of strings in the metadata.
    pub fn strings(&self, key: &str) -> Result<Vec<&str>> {
        self.require(key, |v| v.to_vec()?.iter().map(|s| s.to_string().map(String::as_str)).collect())
    }

    /// An error about a metadata entry.
    pub fn wrong(&self, key: &str, what: &str) -> crate::Error {
        format(&self.path, format!("metadata {key}: {what}"))
    }
}

/// Refuses an alignment of zero, by which candle 0.11 divides. The entry is found by its length and name.
fn check_alignment(path: &Path, file: &mut impl Read) -> Result<()> {
    const KEY: &[u8] = b"\x11\0\0\0\0\0\0\0general.alignment";
    let mut head = Vec::new();
    file.take(1 << 20).read_to_end(&mut head).map_err(io(path))?;
    let Some(at) = head.windows(KEY.len()).position(|bytes| bytes == KEY) else { return Ok(()) };
    // A u32 type number, then the value.
    let value = head.get(at + KEY.len() + 4..).unwrap_or_default();
    if value.iter().take(4).all(|&byte| byte == 0) {
        return Err(format(path, "metadata general.alignment: must not be 0"));
    }
    Ok(())
}

impl Source for Gguf {
    fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.content.tensor_infos.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    fn path(&self, _: &str) -> &Path {
        &self.path
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let wrong = |e: candle_core::Error| format(&self.path, format!("tensor {name}: {e}"));
        let mut file = File::open(&self.path).map_err(io(&self.path))?;
        let packed = self.content.tensor(&mut file, name, &Device::Cpu).map_err(wrong)?;
        packed.dequantize(&Device::Cpu).map_err(wrong)
    }
}
