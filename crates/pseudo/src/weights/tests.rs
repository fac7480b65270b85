//! Legacy torch files, written here opcode by opcode as `torch.save` of version 1.5 writes them, and damaged ones.

use super::pickle::Pickle;
use super::{convert_torch, read_torch};
use candle_core::{DType, Tensor};
use chandlery_nn::load_tensors;
use proptest::prelude::*;
use std::path::PathBuf;

/// A tensor of a file.
#[derive(Clone, Debug)]
struct Entry {
    name: &'static str,
    storage: &'static str,
    kind: &'static str,
    storage_len: usize,
    view: Option<(usize, usize)>,
    offset: usize,
    dims: Vec<usize>,
    strides: Vec<usize>,
}

impl Entry {
    fn f32(name: &'static str, storage: &'static str, len: usize, dims: &[usize], strides: &[usize]) -> Self {
        let (dims, strides) = (dims.to_vec(), strides.to_vec());
        Self { name, storage, kind: "FloatStorage", storage_len: len, view: None, offset: 0, dims, strides }
    }
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.push(b'X');
    out.extend((s.len() as u32).to_le_bytes());
    out.extend(s.as_bytes());
}

fn int(out: &mut Vec<u8>, n: usize) {
    out.push(b'J');
    out.extend((n as i32).to_le_bytes());
}

fn tuple(out: &mut Vec<u8>, items: &[usize]) {
    out.push(b'(');
    items.iter().for_each(|&n| int(out, n));
    out.push(b't');
}

fn entry(out: &mut Vec<u8>, e: &Entry) {
    text(out, e.name);
    out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
    text(out, "storage");
    out.extend(format!("ctorch\n{}\n", e.kind).as_bytes());
    text(out, e.storage);
    text(out, "cpu");
    int(out, e.storage_len);
    match e.view {
        None => out.push(b'N'),
        Some((first, n)) => {
            out.push(b'(');
            text(out, "view");
            int(out, first);
            int(out, n);
            out.push(b't');
        }
    }
    out.extend(b"tQ");
    int(out, e.offset);
    tuple(out, &e.dims);
    tuple(out, &e.strides);
    out.extend(b"\x89ccollections\nOrderedDict\n)RtR");
}

fn file(entries: &[Entry], storages: &[(&str, Vec<u8>, usize)]) -> Vec<u8> {
    let mut out = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}".to_vec();
    text(&mut out, "little_endian");
    out.extend(b"\x88s.\x80\x02ccollections\nOrderedDict\n)Rq\x01(");
    entries.iter().for_each(|e| entry(&mut out, e));
    out.extend(b"u}");
    text(&mut out, "_metadata");
    out.extend(b"h\x01sb.\x80\x02](");
    storages.iter().for_each(|(key, ..)| text(&mut out, key));
    out.extend(b"e.");
    for (_, data, n) in storages {
        out.extend((*n as i64).to_le_bytes());
        out.extend(data);
    }
    out
}

fn f32s(n: usize) -> Vec<u8> {
    (0..n).flat_map(|i| (i as f32).to_le_bytes()).collect()
}

/// A folder with `bytes` as `model.pth`.
fn stored(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.pth");
    std::fs::write(&path, bytes).unwrap();
    (dir, path)
}

fn say(bytes: &[u8]) -> String {
    let (_dir, path) = stored(bytes);
    read_torch(&path).unwrap_err().to_string()
}

fn flat(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Two tensors in one storage, one of them transposed, a counter and half-precision numbers.
fn small() -> Vec<u8> {
    let shared = Entry { offset: 6, ..Entry::f32("b.bias", "1", 8, &[2], &[1]) };
    let counter = Entry { kind: "LongStorage", ..Entry::f32("n", "2", 1, &[], &[]) };
    let half = Entry { kind: "HalfStorage", ..Entry::f32("h", "3", 2, &[2], &[1]) };
    let entries = [Entry::f32("a.weight", "1", 8, &[3, 2], &[1, 3]), shared, counter, half];
    // 0.5 and -2 in half precision.
    let halves = vec![0x00, 0x38, 0x00, 0xc0];
    file(&entries, &[("1", f32s(8), 8), ("2", 7i64.to_le_bytes().to_vec(), 1), ("3", halves, 2)])
}

#[test]
fn strides_offsets_and_types_are_honoured() {
    let (_dir, path) = stored(&small());
    let tensors = read_torch(&path).unwrap();
    assert_eq!(tensors.keys().collect::<Vec<_>>(), ["a.weight", "b.bias", "h", "n"]);
    assert_eq!(tensors["a.weight"].dims(), [3, 2]);
    assert_eq!(flat(&tensors["a.weight"]), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert_eq!(flat(&tensors["b.bias"]), [6.0, 7.0]);
    assert_eq!((tensors["n"].dtype(), tensors["n"].dims().len(), flat(&tensors["n"])), (DType::I64, 0, vec![7.0]));
    assert_eq!((tensors["h"].dtype(), flat(&tensors["h"])), (DType::F16, vec![0.5, -2.0]));
}

#[test]
fn storage_that_is_a_view_begins_where_it_says() {
    let view = Entry { view: Some((2, 4)), offset: 1, ..Entry::f32("a", "1", 8, &[3], &[1]) };
    let (_dir, path) = stored(&file(std::slice::from_ref(&view), &[("1", f32s(8), 8)]));
    assert_eq!(flat(&read_torch(&path).unwrap()["a"]), [3.0, 4.0, 5.0]);
    let beyond = Entry { dims: vec![4], ..view };
    assert!(say(&file(&[beyond], &[("1", f32s(8), 8)])).contains("leaves its storage"));
}

#[test]
fn conversion_keeps_names_types_and_values() {
    let (dir, path) = stored(&small());
    let out = dir.path().join("model.safetensors");
    assert_eq!(convert_torch(&path, &out).unwrap().to_string(), "4 tensors, 11 values");
    let (before, after) = (read_torch(&path).unwrap(), load_tensors(&out).unwrap());
    for (name, t) in &before {
        assert_eq!((flat(t), t.dtype(), t.dims()), (flat(&after[name]), after[name].dtype(), after[name].dims()));
    }
    assert_eq!(before.len(), after.len());
}

#[test]
fn misfits_are_told_with_file_and_entry() {
    let one = |e: Entry, n: usize| say(&file(&[e], &[("1", f32s(n), n)]));
    for (said, what) in [
        (one(Entry::f32("a", "1", 5, &[2, 3], &[3, 1]), 5), "a: shape [2, 3] with strides [3, 1] leaves its storage"),
        (one(Entry::f32("a", "1", 6, &[2, 3], &[3, 1]), 5), "storage 1: expected 6 values, found 5"),
        (one(Entry::f32("a", "2", 6, &[2, 3], &[3, 1]), 6), "storage 1 belongs to no tensor"),
        (one(Entry::f32("a", "1", 6, &[2, 3], &[1]), 6), "shape [2, 3] with strides [1]"),
        (one(Entry::f32("a", "1", 1, &[9999, 9999], &[0, 0]), 1), "would take 399920004 bytes"),
        (one(Entry { kind: "CharStorage", ..Entry::f32("a", "1", 1, &[1], &[1]) }, 1), "torch.CharStorage"),
        (one(Entry::f32("a", "1", usize::MAX, &[1], &[1]), 1), "-1 where a size must stand"),
        (say(b"PK\x03\x04 but no archive"), "model.pth"),
        (say(b"\x80\x02K\x01."), "another magic number"),
        (say(b""), "not a whole torch file: magic number"),
        (say(&[small(), vec![0]].concat()), "1 bytes follow the last storage"),
    ] {
        assert!(said.contains(what) && said.contains("model.pth"), "{what}: {said}");
    }
    assert!(say(b"\x80\x02cposix\nsystem\n.").contains("posix.system"));
}

#[test]
fn every_truncation_is_an_error() {
    let whole = small();
    for n in 0..whole.len() {
        assert!(say(&whole[..n]).contains("model.pth"), "{n} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(at in prop::collection::vec((0usize..1024, any::<u8>()), 1..4)) {
        let mut bytes = small();
        for (at, value) in at {
            let n = bytes.len();
            bytes[at % n] ^= value;
        }
        let (_dir, path) = stored(&bytes);
        if let Err(error) = read_torch(&path) {
            prop_assert!(error.to_string().contains("model.pth"));
        }
    }

    #[test]
    fn any_bytes_are_a_pickle_or_an_error(
        ops in prop::collection::vec(prop_oneof![
            prop::sample::select(b"()}]NKMJGqrhjaesutRQbX.0".to_vec()), 0x80u8..0x96, any::<u8>(),
        ], 0..200),
    ) {
        if let Ok(pickle) = Pickle::read(&ops) {
            prop_assert!(pickle.length <= ops.len());
        }
    }

    #[test]
    fn strided_views_equal_the_definition(
        dims in prop::collection::vec(1usize..5, 0..4),
        strides in prop::collection::vec(0usize..7, 4),
        offset in 0usize..5,
    ) {
        let strides = &strides[..dims.len()];
        let reach: usize = dims.iter().zip(strides).map(|(d, s)| (d - 1) * s).sum();
        let n = offset + reach + 3;
        let entry = Entry { offset, ..Entry::f32("a", "1", n, &dims, strides) };
        let (_dir, path) = stored(&file(&[entry], &[("1", f32s(n), n)]));
        let got = flat(&read_torch(&path).unwrap()["a"]);
        let count: usize = dims.iter().product();
        let value = |mut i: usize| {
            let mut at = offset;
            for (d, s) in dims.iter().zip(strides).rev() {
                at += i % d * s;
                i /= d;
            }
            at as f64
        };
        prop_assert_eq!(got, (0..count).map(value).collect::<Vec<_>>());
    }
}
