//! Safetensors, in one file or several with an index. Tensors are read one at a time.

use super::source::{Source, format, io};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use safetensors::tensor::{Metadata, TensorInfo};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The format's own limit on its header.
const MAX_HEADER: u64 = 100_000_000;

/// Where a tensor lies.
#[derive(Clone, Debug)]
struct Place {
    file: usize,
    /// Of the first byte in the file.
    start: u64,
    info: TensorInfo,
}

#[derive(Debug)]
pub(super) struct Shards {
    files: Vec<PathBuf>,
    places: BTreeMap<String, Place>,
}

impl Shards {
    /// The file `model.safetensors` of a folder, or the files that `model.safetensors.index.json` names.
    pub fn in_folder(folder: &Path) -> Result<Self> {
        let index = folder.join("model.safetensors.index.json");
        if !index.exists() {
            return Self::open(vec![folder.join("model.safetensors")]);
        }
        let names = index_files(&index)?;
        let shards = Self::open(names.into_iter().map(|name| folder.join(name)).collect())?;
        Ok(shards)
    }

    /// These files together.
    pub fn open(files: Vec<PathBuf>) -> Result<Self> {
        let mut places = BTreeMap::new();
        for (file, path) in files.iter().enumerate() {
            for (name, start, info) in read_header(path)? {
                if places.insert(name.clone(), Place { file, start, info }).is_some() {
                    return Err(format(path, format!("tensor {name}: is in another file too")));
                }
            }
        }
        Ok(Self { files, places })
    }
}

/// Files of an index, each once.
pub(super) fn index_files(index: &Path) -> Result<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let text = std::fs::read(index).map_err(io(index))?;
    let read: Index = serde_json::from_slice(&text).map_err(|e| format(index, e.to_string()))?;
    let mut names: Vec<String> = read.weight_map.into_values().collect();
    names.sort_unstable();
    names.dedup();
    // A name from the network must not lead out of the folder.
    match names.iter().find(|name| Path::new(name).file_name().is_none_or(|file| file != name.as_str())) {
        Some(name) => Err(format(index, format!("weight_map: {name:?} is no file name"))),
        None => Ok(names),
    }
}

/// Names, places and shapes of a file's tensors, checked against its length.
fn read_header(path: &Path) -> Result<Vec<(String, u64, TensorInfo)>> {
    let mut file = File::open(path).map_err(io(path))?;
    let length = file.metadata().map_err(io(path))?.len();
    let mut prefix = [0; 8];
    file.read_exact(&mut prefix).map_err(|_| format(path, format!("header: the file has only {length} bytes")))?;
    let n = u64::from_le_bytes(prefix);
    if n > MAX_HEADER || n > length - 8 {
        return Err(format(
            path,
            format!("header: says it has {n} bytes, the file has {length}; not safetensors or cut off"),
        ));
    }
    let mut header = vec![0; n as usize];
    file.read_exact(&mut header).map_err(io(path))?;
    let metadata: Metadata = serde_json::from_slice(&header).map_err(|e| format(path, format!("header: {e}")))?;
    let start = 8 + n;
    let mut tensors = Vec::new();
    for (name, info) in metadata.tensors() {
        check_place(path, &name, info, length - start)?;
        tensors.push((name, start + info.data_offsets.0 as u64, info.clone()));
    }
    Ok(tensors)
}

fn check_place(path: &Path, name: &str, info: &TensorInfo, room: u64) -> Result<()> {
    let (from, to) = info.data_offsets;
    let wrong = |what: String| Err(format(path, format!("tensor {name}: {what}")));
    let bits = info.shape.iter().try_fold(info.dtype.bitsize(), |n, &dim| n.checked_mul(dim));
    if bits.is_none_or(|bits| bits % 8 != 0 || to.checked_sub(from) != Some(bits / 8)) {
        return wrong(format!("{:?} of shape {:?} does not fill bytes {from} to {to}", info.dtype, info.shape));
    }
    if to as u64 > room {
        return wrong(format!("data_offsets end at {to}, the file's data at {room}; the file is cut off"));
    }
    Ok(())
}

impl Source for Shards {
    fn names(&self) -> Vec<&str> {
        self.places.keys().map(String::as_str).collect()
    }

    fn path(&self, name: &str) -> &Path {
        let file = self.places.get(name).map_or(0, |place| place.file);
        &self.files[file]
    }

    fn read(&self, name: &str) -> Result<Tensor> {
        let path = self.path(name);
        let Some(place) = self.places.get(name) else { return Err(format(path, format!("tensor {name}: missing"))) };
        let wrong = |e: candle_core::Error| format(path, format!("tensor {name}: {e}"));
        let dtype = DType::try_from(place.info.dtype).map_err(wrong)?;
        let bytes = read_at(path, place.start, place.info.data_offsets)?;
        Tensor::from_raw_buffer(&bytes, dtype, &place.info.shape, &Device::Cpu).map_err(wrong)
    }
}

fn read_at(path: &Path, start: u64, (from, to): (usize, usize)) -> Result<Vec<u8>, Error> {
    let mut file = File::open(path).map_err(io(path))?;
    file.seek(SeekFrom::Start(start)).map_err(io(path))?;
    let mut bytes = vec![0; to - from];
    file.read_exact(&mut bytes).map_err(io(path))?;
    Ok(bytes)
}
