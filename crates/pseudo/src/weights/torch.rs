//! Weights that `torch.save` wrote before version 1.6: five pickles, then the storages.
//!
//! The pickles are a magic number, the protocol's version, facts about the machine, the object with its tensors, and the
//! list of storage keys; then follow, for each key, the number of values as i64 and the values (torch 1.5,
//! `torch/serialization.py`, `_legacy_save`). A tensor is a view of a storage: offset, shape and strides. Convolutions
//! that were converted from TensorFlow lie transposed in theirs, so a reader that passes over strides gives numbers that
//! load without complaint and mean nothing.

use super::pickle::{Global, Id, Kind, Pickle, Value};
use candle_core::{DType, Device, Tensor};
use chandlery_nn::{Error, Result, save_tensors};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;

/// 0x1950a86a20f9469cfc6c, little-endian.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const PROTOCOL: i64 = 1001;
/// How newer files, which are zip archives, begin.
const ZIP: &[u8] = b"PK\x03\x04";
/// A file's tensors may together be this many times as large as the file: several may share a storage.
const LARGEST_GROWTH: usize = 16;

/// Reads the tensors of a state dict, alone or under `state_dict` of a training checkpoint.
///
/// # Errors
/// If the file cannot be read, is damaged, is of another format, or holds something else than tensors; the message names
/// file and entry.
pub fn read_torch(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let format = |what: String| Error::Format { path: path.to_path_buf(), what };
    if bytes.starts_with(ZIP) {
        let tensors = candle_core::pickle::read_all(path).map_err(|e| format(e.to_string()))?;
        return Ok(tensors.into_iter().collect());
    }
    parse(&bytes).map_err(format)
}

/// What [`convert_torch`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Converted {
    /// Number of tensors.
    pub n_tensors: usize,
    /// Number of values in them.
    pub n_values: usize,
}

impl fmt::Display for Converted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors, {} values", self.n_tensors, self.n_values)
    }
}

/// Reads a state dict and writes it as safetensors, whole or not at all; names, types and values stay.
///
/// # Errors
/// As [`read_torch`], and if `out` cannot be written.
pub fn convert_torch(path: impl AsRef<Path>, out: impl AsRef<Path>) -> Result<Converted> {
    let tensors = read_torch(path.as_ref())?;
    let n_values = tensors.values().map(Tensor::elem_count).sum();
    let done = Converted { n_tensors: tensors.len(), n_values };
    save_tensors(out.as_ref(), tensors)?;
    Ok(done)
}

fn parse(bytes: &[u8]) -> Result<BTreeMap<String, Tensor>, String> {
    let mut rest = bytes;
    let mut next = |what: &str| {
        let pickle = Pickle::read(rest).map_err(|e| format!("not a whole torch file: {what}: {e}"))?;
        rest = &rest[pickle.length..];
        Ok::<_, String>(pickle)
    };
    if *next("magic number")?.root() != Value::Big(MAGIC.to_vec()) {
        return Err("not a torch file: another magic number".into());
    }
    match next("protocol")?.root() {
        Value::Int(PROTOCOL) => {}
        other => return Err(format!("expected torch protocol {PROTOCOL}, found {other:?}")),
    }
    let machine = next("machine")?;
    if machine.entry(machine.root(), "little_endian") != Some(&Value::Bool(true)) {
        return Err("it was not written on a little-endian machine".into());
    }
    let (object, keys) = (next("object")?, next("storage keys")?);
    let views = views(&object)?;
    let storages = storages(&keys, rest, &views)?;
    let total: usize = views.iter().map(|(_, v)| v.n_bytes()).try_fold(0, usize::checked_add).unwrap_or(usize::MAX);
    if total / LARGEST_GROWTH > bytes.len() {
        return Err(format!("its tensors would take {total} bytes, the file has {}", bytes.len()));
    }
    let tensor = |(name, view): &(String, View)| {
        let values = storages.get(view.key.as_str()).ok_or_else(|| format!("{name}: no storage {}", view.key))?;
        let t = view.tensor(values).map_err(|what| format!("{name}: {what}"))?;
        Ok((name.clone(), t))
    };
    views.iter().map(tensor).collect()
}

/// The bytes of each storage by key.
fn storages<'a>(
    keys: &Pickle,
    mut rest: &'a [u8],
    views: &[(String, View)],
) -> Result<HashMap<String, &'a [u8]>, String> {
    let kinds: HashMap<&str, (Kind, usize)> =
        views.iter().map(|(_, v)| (v.key.as_str(), (v.kind, v.storage_len))).collect();
    let Value::List(list) = keys.root() else { return Err("the storage keys are no list".into()) };
    let mut found = HashMap::new();
    for &key in list {
        let Value::Text(key) = keys.get(key) else { return Err("a storage key is no text".into()) };
        let cut = || format!("storage {key} is cut short");
        let &(kind, expected) = kinds.get(key.as_str()).ok_or_else(|| format!("storage {key} belongs to no tensor"))?;
        let (n, data) = rest.split_first_chunk().ok_or_else(cut)?;
        let n = usize::try_from(i64::from_le_bytes(*n)).map_err(|_| cut())?;
        if n != expected {
            return Err(format!("storage {key}: expected {expected} values, found {n}"));
        }
        let size = n.checked_mul(kind.size()).ok_or_else(cut)?;
        let (data, after) = data.split_at_checked(size).ok_or_else(cut)?;
        rest = after;
        found.insert(key.clone(), data);
    }
    if rest.is_empty() { Ok(found) } else { Err(format!("{} bytes follow the last storage", rest.len())) }
}

/// The tensors of the object by name.
fn views(object: &Pickle) -> Result<Vec<(String, View)>, String> {
    let root = object.root();
    let dict = match object.entry(root, "state_dict") {
        Some(inner @ Value::Dict(_)) => inner,
        _ => root,
    };
    let Value::Dict(entries) = dict else { return Err("the object is no state dict".into()) };
    let view = |&(key, value): &(Id, Id)| {
        let Value::Text(name) = object.get(key) else { return Err("a tensor's name is no text".into()) };
        let Value::Tensor(args) = object.get(value) else { return Err(format!("{name} is no tensor")) };
        let view = View::read(object, args).map_err(|what| format!("{name}: {what}"))?;
        Ok((name.clone(), view))
    };
    entries.iter().map(view).collect()
}

impl Kind {
    fn size(self) -> usize {
        self.dtype().size_in_bytes()
    }

    fn dtype(self) -> DType {
        match self {
            Self::F64 => DType::F64,
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
            Self::I64 => DType::I64,
            Self::I32 => DType::I32,
            Self::I16 => DType::I16,
            Self::U8 => DType::U8,
        }
    }
}

/// A tensor as a view of a storage.
#[derive(Debug)]
struct View {
    key: String,
    kind: Kind,
    /// Values in the whole storage.
    storage_len: usize,
    /// The first value that the view may see, and how many follow.
    window: (usize, usize),
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl View {
    /// From the arguments of `_rebuild_tensor`: storage, offset, shape, strides, ..
    fn read(pickle: &Pickle, args: &[Id]) -> Result<Self, String> {
        let &[storage, offset, dims, strides, ..] = args else { return Err("a tensor needs four arguments".into()) };
        let Value::Persistent(id) = pickle.get(storage) else { return Err("its storage is not in the file".into()) };
        let Value::Tuple(id) = pickle.get(*id) else { return Err("its storage has no description".into()) };
        let &[tag, kind, key, _device, len, ref view @ ..] = &id[..] else {
            return Err("its storage's description is too short".into());
        };
        if *pickle.get(tag) != Value::Text("storage".into()) {
            return Err("what it refers to is no storage".into());
        }
        let Value::Global(Global::Storage(kind)) = *pickle.get(kind) else {
            return Err("its storage has no type".into());
        };
        let Value::Text(key) = pickle.get(key) else { return Err("its storage has no key".into()) };
        let storage_len = size(pickle, len)?;
        // A storage that was itself a view: key, offset, length.
        let window = match view.first().map(|&v| pickle.get(v)) {
            None | Some(Value::None) => (0, storage_len),
            Some(Value::Tuple(of)) => match of[..] {
                [_, first, n] => (size(pickle, first)?, size(pickle, n)?),
                _ => return Err("its storage's view is not described by three values".into()),
            },
            Some(_) => return Err("its storage's view has no description".into()),
        };
        let (dims, strides) = (sizes(pickle, dims)?, sizes(pickle, strides)?);
        if dims.len() != strides.len() {
            return Err(format!("shape {dims:?} with strides {strides:?}"));
        }
        Ok(Self { key: key.clone(), kind, storage_len, window, offset: size(pickle, offset)?, dims, strides })
    }

    fn n_bytes(&self) -> usize {
        self.dims.iter().try_fold(self.kind.size(), |n, &d| n.checked_mul(d)).unwrap_or(usize::MAX)
    }

    /// The view's values in order, from the storage's bytes.
    fn tensor(&self, storage: &[u8]) -> Result<Tensor, String> {
        let size = self.kind.size();
        let too_far = || format!("shape {:?} with strides {:?} leaves its storage", self.dims, self.strides);
        let (first, n) = self.window;
        let end = first.checked_add(n).filter(|&end| end <= storage.len() / size).ok_or_else(too_far)?;
        let storage = &storage[first * size..end * size];
        let empty = self.dims.contains(&0);
        let last = self
            .dims
            .iter()
            .zip(&self.strides)
            .try_fold(self.offset, |at, (&d, &stride)| at.checked_add(d.saturating_sub(1).checked_mul(stride)?));
        if !empty && last.is_none_or(|last| last >= n) {
            return Err(too_far());
        }
        let mut bytes = Vec::new();
        if !empty {
            bytes.reserve_exact(self.n_bytes());
            self.gather(storage, size, &mut bytes);
        }
        Tensor::from_raw_buffer(&bytes, self.kind.dtype(), &self.dims, &Device::Cpu).map_err(|e| e.to_string())
    }

    /// Appends the values in row-major order; all lie in `storage`.
    fn gather(&self, storage: &[u8], size: usize, bytes: &mut Vec<u8>) {
        let mut index = vec![0; self.dims.len()];
        let mut at = self.offset;
        loop {
            bytes.extend_from_slice(&storage[at * size..(at + 1) * size]);
            let mut d = self.dims.len();
            loop {
                if d == 0 {
                    return;
                }
                d -= 1;
                index[d] += 1;
                at += self.strides[d];
                if index[d] < self.dims[d] {
                    break;
                }
                at -= index[d] * self.strides[d];
                index[d] = 0;
            }
        }
    }
}

/// An integer that is not negative.
fn size(pickle: &Pickle, id: Id) -> Result<usize, String> {
    match pickle.get(id) {
        Value::Int(n) => usize::try_from(*n).map_err(|_| format!("{n} where a size must stand")),
        other => Err(format!("{other:?} where a size must stand")),
    }
}

fn sizes(pickle: &Pickle, id: Id) -> Result<Vec<usize>, String> {
    let Value::Tuple(items) = pickle.get(id) else { return Err("a shape that is no tuple".into()) };
    items.iter().map(|&item| size(pickle, item)).collect()
}
