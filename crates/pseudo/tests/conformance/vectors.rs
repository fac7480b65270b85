//! Reads reference vectors: `{"meta": .., "cases": [..]}` with tensors `{"shape": [..], "data": [..]}`.

use serde_json::Value;
use std::path::PathBuf;

/// A tensor in row-major order.
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

impl Array {
    /// Reads a tensor, `"nan"`, `"inf"` and `"-inf"` included.
    pub fn read(value: &Value) -> Self {
        Self { shape: sizes(&value["shape"]), data: list(&value["data"]) }
    }

    /// The values in f32.
    pub fn f32(&self) -> Vec<f32> {
        self.data.iter().map(|&v| v as f32).collect()
    }

    /// The largest absolute value.
    pub fn largest(&self) -> f64 {
        self.data.iter().fold(0.0, |m, v| m.max(v.abs()))
    }

    /// Whether the reference got through without NaN and infinities.
    pub fn is_finite(&self) -> bool {
        self.data.iter().all(|v| v.is_finite())
    }
}

/// A number, which may be written as a string.
pub fn number(v: &Value) -> f64 {
    match v.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => v.as_f64().unwrap_or_else(|| panic!("not a number: {v}")),
    }
}

/// Numbers of a list, or of a tensor in row-major order.
pub fn list(v: &Value) -> Vec<f64> {
    let v = if v.is_object() { &v["data"] } else { v };
    v.as_array().unwrap_or_else(|| panic!("not a list: {v}")).iter().map(number).collect()
}

/// Whole numbers of a list.
pub fn sizes(v: &Value) -> Vec<usize> {
    list(v).into_iter().map(|x| x as usize).collect()
}

/// Classes of a list.
pub fn classes(v: &Value) -> Vec<u32> {
    list(v).into_iter().map(|x| x as u32).collect()
}

/// Fails where a value in f64 is further from its expectation than `allowed`; NaN equals NaN.
pub fn near(what: &str, got: &[f64], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        let same = (g.is_nan() && e.is_nan()) || g == e || (g - e).abs() <= allowed;
        assert!(same, "{what}[{i}]: expected {e}, got {g}, allowed {allowed:e}");
    }
}

/// All cases, of all files in the folder, that `ours` takes.
pub fn cases(ours: impl Fn(&Value) -> bool) -> Vec<Value> {
    let dir = match std::env::var_os("CHANDLERY_VECTORS") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden")),
    };
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let mut file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let Value::Array(cases) = file["cases"].take() else { continue };
        all.extend(cases.into_iter().filter(&ours));
    }
    all
}

/// Fails where a value is further from its expectation than `allowed`.
pub fn close(what: &str, got: &[f32], expected: &[f64], allowed: f64) {
    assert_eq!(got.len(), expected.len(), "{what}: number of values");
    for (i, (&g, &e)) in got.iter().zip(expected).enumerate() {
        assert!((f64::from(g) - e).abs() <= allowed, "{what}[{i}]: expected {e}, got {g}, allowed {allowed:e}");
    }
}
