//! Reads reference vectors: `{"meta": .., "cases": [{"op", "attrs", "inputs", "outputs", "grad_outputs", "grads"}]}`.

use candle_core::{DType, Device, Tensor, Var};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// One case, its float inputs held as variables of the tested type.
pub struct Case {
    json: Value,
    inputs: BTreeMap<String, Tensor>,
    vars: Vec<(String, Var)>,
    dtype: DType,
}

/// Allowed difference: `abs + rel |expected|`, or a share of the largest expected entry.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    abs: f64,
    rel: f64,
    of_largest: f64,
}

impl Tolerance {
    pub fn relative(rel: f64) -> Self {
        Self { abs: 0.0, rel, of_largest: rel }
    }
}

/// The folder that is read.
pub fn folder() -> PathBuf {
    match std::env::var_os("CHANDLERY_VECTORS") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/golden")),
    }
}

/// Operations of the same file format that later suites cover.
pub fn belongs_elsewhere(op: &str) -> bool {
    ["lstm", "gru"].iter().any(|o| op.contains(o))
}

/// All cases of all files of the format.
pub fn cases(dtype: DType) -> Vec<Case> {
    let dir = folder();
    let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> =
        entries.map(|e| e.unwrap().path()).filter(|p| p.extension().is_some_and(|e| e == "json")).collect();
    paths.sort();
    let mut all = Vec::new();
    for path in paths {
        let text = std::fs::read_to_string(&path).unwrap();
        let file: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let ours = |c: &&Value| {
            c["op"].is_string() && (c["grads"].is_object() || c["grads"].is_array() || c["params"].is_array())
        };
        let cases = file["cases"].as_array().map(Vec::as_slice).unwrap_or_default();
        all.extend(cases.iter().filter(ours).map(|c| Case::new(c.clone(), dtype)));
    }
    all
}

fn number(v: &Value) -> f64 {
    match v.as_str() {
        Some("nan") => f64::NAN,
        Some("inf") => f64::INFINITY,
        Some("-inf") => f64::NEG_INFINITY,
        _ => v.as_f64().unwrap_or_else(|| panic!("not a number: {v}")),
    }
}

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().unwrap_or_else(|| panic!("not a list: {v}")).iter().map(number).collect()
}

fn sizes(v: &Value) -> Vec<usize> {
    numbers(v).into_iter().map(|x| x as usize).collect()
}

/// A dense tensor from its description; `strides` in the description are resolved here.
fn dense(v: &Value, dtype: DType) -> Tensor {
    let shape = sizes(&v["shape"]);
    let data = if v["strides"].is_array() { gather(v, &shape) } else { numbers(&v["data"]) };
    let t = Tensor::from_vec(data, shape, &Device::Cpu).unwrap();
    match v["dtype"].as_str() {
        Some("i64") => t.to_dtype(DType::I64).unwrap(),
        Some("bool") => t.to_dtype(DType::U8).unwrap(),
        _ => t.to_dtype(dtype).unwrap(),
    }
}

fn gather(v: &Value, shape: &[usize]) -> Vec<f64> {
    let (storage, strides, offset) = (numbers(&v["storage"]), sizes(&v["strides"]), number(&v["offset"]) as usize);
    let count: usize = shape.iter().product();
    let place = |mut at: usize| {
        let mut place = offset;
        for (n, s) in shape.iter().zip(&strides).rev() {
            place += at % n * s;
            at /= n;
        }
        storage[place]
    };
    (0..count).map(place).collect()
}

/// The same values in a tensor that really is not contiguous: every dimension in reverse order, and padded at the end.
fn scattered(t: &Tensor) -> Tensor {
    let last = t.rank() - 1;
    let padded = t.pad_with_zeros(last, 1, 2).unwrap();
    let order: Vec<usize> = (0..t.rank()).rev().collect();
    let moved = padded.permute(order.clone()).unwrap().contiguous().unwrap().permute(order).unwrap();
    moved.narrow(last, 1, t.dim(last).unwrap()).unwrap()
}

fn list(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

fn largest(t: &Tensor) -> f64 {
    list(t).iter().filter(|x| x.is_finite()).fold(0.0_f64, |a, x| a.max(x.abs()))
}

impl Case {
    fn new(json: Value, dtype: DType) -> Self {
        let (mut inputs, mut vars) = (BTreeMap::new(), Vec::new());
        for (name, v) in json["inputs"].as_object().into_iter().flatten() {
            let t = dense(v, dtype);
            if t.dtype().is_float() {
                let var = Var::from_tensor(&t).unwrap();
                let input = if v["strides"].is_array() { scattered(var.as_tensor()) } else { var.as_tensor().clone() };
                inputs.insert(name.clone(), input);
                vars.push((name.clone(), var));
            } else {
                inputs.insert(name.clone(), t);
            }
        }
        Self { json, inputs, vars, dtype }
    }

    pub fn field(&self, name: &str) -> &Value {
        &self.json[name]
    }

    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap_or("?")
    }

    pub fn op(&self) -> &str {
        self.json["op"].as_str().unwrap_or("?")
    }

    pub fn input(&self, name: &str) -> Tensor {
        self.get_input(name).unwrap_or_else(|| panic!("{}: no input {name}", self.id()))
    }

    pub fn get_input(&self, name: &str) -> Option<Tensor> {
        self.inputs.get(name).cloned()
    }

    pub fn float_inputs(&self) -> Vec<(String, Var)> {
        self.vars.clone()
    }

    pub fn attr(&self, name: &str) -> Option<&Value> {
        self.json["attrs"].get(name).filter(|v| !v.is_null())
    }

    pub fn attr_f64(&self, name: &str) -> Option<f64> {
        self.attr(name).and_then(Value::as_f64)
    }

    pub fn attr_pair(&self, name: &str) -> Option<(f64, f64)> {
        self.attr(name).map(|v| (number(&v[0]), number(&v[1])))
    }

    /// A number for both dimensions of an image, or a list of two.
    pub fn pair(&self, name: &str) -> Option<[usize; 2]> {
        self.attr(name).map(|v| if v.is_array() { sizes(v) } else { vec![number(v) as usize; 2] })?.try_into().ok()
    }

    pub fn attr_dims(&self, name: &str) -> Vec<usize> {
        self.attr(name).map(sizes).unwrap_or_default()
    }

    /// The dimension that the attribute `dim` means.
    pub fn dim(&self, input: &str) -> usize {
        let (dim, rank) = (self.attr_f64("dim").unwrap_or(-1.0) as i64, self.input(input).rank() as i64);
        (if dim < 0 { dim + rank } else { dim }) as usize
    }

    pub fn tensor(&self, part: &str, name: &str) -> Tensor {
        dense(&self.json[part][name], self.dtype)
    }

    pub fn expected_grad(&self, name: &str) -> Option<Tensor> {
        let v = &self.json["grads"][name];
        v.is_object().then(|| dense(v, self.dtype))
    }

    pub fn tensors(&self, field: &str) -> Vec<Tensor> {
        self.json[field].as_array().unwrap().iter().map(|v| dense(v, self.dtype)).collect()
    }

    pub fn tensors_at(&self, field: &str, step: usize) -> Vec<Tensor> {
        self.json[field][step].as_array().unwrap().iter().map(|v| dense(v, self.dtype)).collect()
    }

    pub fn steps(&self) -> usize {
        self.json["grads_per_step"].as_array().map_or(0, Vec::len)
    }

    pub fn lr(&self, step: usize) -> f64 {
        self.json["lr_per_step"][step]
            .as_f64()
            .or(self.attr_f64("lr"))
            .unwrap_or_else(|| panic!("{}: no lr", self.id()))
    }

    /// The tolerance that the vectors state for this type.
    pub fn tolerance(&self, key: &str, grad: bool) -> Tolerance {
        if self.dtype == DType::F64 {
            return Tolerance { abs: 1e-10, rel: 1e-9, of_largest: 0.0 };
        }
        let recorded = self.json["float32_deviation"][key].as_f64().unwrap_or(0.0);
        let base: f64 = if grad { 1e-4 } else { 1e-5 };
        Tolerance { abs: 1e-30, rel: 0.0, of_largest: base.max(20.0 * recorded) }
    }

    /// The tolerance for a parameter on its way from `start`: f32 rounds at the size it has on the way, so the largest
    /// entry is taken over start and step.
    pub fn trajectory_tolerance(&self, start: &Tensor) -> Tolerance {
        match self.dtype {
            DType::F64 => Tolerance { abs: 1e-10, rel: 1e-9, of_largest: 0.0 },
            _ => Tolerance { abs: 1e-5 * largest(start), rel: 0.0, of_largest: 1e-5 },
        }
    }

    pub fn compare(&self, what: &str, have: &Tensor, want: &Tensor, tol: Tolerance) {
        assert_eq!(have.dims(), want.dims(), "{} {what}: shape", self.id());
        let largest = largest(want);
        let (have, want) = (list(have), list(want));
        for (i, (h, w)) in have.iter().zip(&want).enumerate() {
            let limit = tol.abs + tol.rel * w.abs() + tol.of_largest * largest;
            let same = (h.is_nan() && w.is_nan()) || h == w || (h - w).abs() <= limit;
            assert!(same, "{} {what}[{i}]: {h}, expected {w} within {limit:e}", self.id());
        }
    }
}
