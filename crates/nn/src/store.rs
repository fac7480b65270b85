//! Parameters by name.

use crate::{Error, Init, Result, file};
use candle_core::{DType, Device, Shape, Tensor, Var};
use chandlery_kernels::Key;
use safetensors::SafeTensors;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The parameters of a model, ordered by name, and its buffers: values that belong to it, are saved and loaded with it,
/// but are not trained (running statistics of batch norm).
///
/// Cloning shares both. The start value of each depends on the store's seed and the parameter's name alone,
/// so adding a layer changes no other.
#[derive(Clone)]
pub struct ParamStore(Arc<Inner>);

struct Inner {
    key: Key,
    dtype: DType,
    device: Device,
    content: Mutex<Content>,
}

#[derive(Default)]
struct Content {
    params: BTreeMap<String, Var>,
    buffers: BTreeMap<String, Var>,
    /// Paths whose parameters are not trained.
    frozen: BTreeSet<String>,
}

impl Content {
    /// Whether `name` is, or lies below, a frozen path.
    fn is_frozen(&self, name: &str) -> bool {
        let below = |path: &String| {
            name.strip_prefix(path.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.frozen.iter().any(below)
    }
}

impl fmt::Debug for ParamStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ParamStore({} parameters, {} values)", self.names().len(), self.n_params())
    }
}

impl ParamStore {
    /// An empty store whose parameters will have this type and place.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        let key = Key::new(seed).named("parameters");
        Self(Arc::new(Inner { key, dtype, device: device.clone(), content: Mutex::default() }))
    }

    /// The place to build a trainable model.
    pub fn root(&self) -> Scope {
        Scope { store: self.clone(), path: String::new(), frozen: false }
    }

    /// The place to build the same model on the same values without a graph: for evaluation and teachers.
    pub fn frozen(&self) -> Scope {
        Scope { frozen: true, ..self.root() }
    }

    /// Type of all parameters.
    pub fn dtype(&self) -> DType {
        self.0.dtype
    }

    /// Place of all parameters.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.content.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of the parameters in order, frozen ones too.
    pub fn names(&self) -> Vec<String> {
        self.lock().params.keys().cloned().collect()
    }

    /// Parameters that are trained with their names, in order of name.
    pub fn named_vars(&self) -> Vec<(String, Var)> {
        let content = self.lock();
        let trained = content.params.iter().filter(|(name, _)| !content.is_frozen(name));
        trained.map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Parameters that were [frozen](Self::freeze) with their names, in order of name.
    pub fn named_frozen(&self) -> Vec<(String, Var)> {
        let content = self.lock();
        let frozen = content.params.iter().filter(|(name, _)| content.is_frozen(name));
        frozen.map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Buffers with their names, in order of name.
    pub fn named_buffers(&self) -> Vec<(String, Var)> {
        self.lock().buffers.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// Everything that a file of the model holds, in order of name.
    fn named_all(&self) -> Vec<(String, Var)> {
        let content = self.lock();
        let all: BTreeMap<&String, &Var> = content.params.iter().chain(&content.buffers).collect();
        all.into_iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// One parameter or buffer.
    pub fn get(&self, name: &str) -> Option<Var> {
        let content = self.lock();
        content.params.get(name).or_else(|| content.buffers.get(name)).cloned()
    }

    /// Number of values in all parameters; buffers do not count.
    pub fn n_params(&self) -> usize {
        self.lock().params.values().map(|v| v.elem_count()).sum()
    }

    /// Excludes the parameters at and below `path` (`"layer1"` for `layer1.0.conv1.weight`) from training: models that
    /// are built afterwards get them without a graph, [`named_vars`](Self::named_vars) leaves them out, and batch norms
    /// there use and keep their running statistics. They stay part of every file.
    pub fn freeze(&self, path: &str) {
        self.lock().frozen.insert(path.to_string());
    }

    /// Whether the parameters at `path` are excluded from training.
    pub fn is_frozen(&self, path: &str) -> bool {
        self.lock().is_frozen(path)
    }

    /// A store of its own with the same names and values.
    ///
    /// # Errors
    /// If a tensor cannot be copied.
    pub fn deep_copy(&self) -> Result<Self> {
        let copy = Self(Arc::new(Inner {
            key: self.0.key,
            dtype: self.0.dtype,
            device: self.0.device.clone(),
            content: Mutex::default(),
        }));
        let content = self.lock();
        let twin =
            |(name, var): (&String, &Var)| Ok((name.clone(), Var::from_tensor(&var.as_detached_tensor().copy()?)?));
        let params = content.params.iter().map(twin).collect::<Result<_>>()?;
        let buffers = content.buffers.iter().map(twin).collect::<Result<_>>()?;
        *copy.lock() = Content { params, buffers, frozen: content.frozen.clone() };
        Ok(copy)
    }

    /// Writes all parameters and buffers to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.named_all().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
        save_tensors(path, tensors.collect())
    }

    /// Loads a safetensors file by name, converting the type where it differs.
    ///
    /// # Errors
    /// If the file is damaged or, under [`Strictness::Exact`], if names or shapes are not those of the store; then
    /// nothing is changed.
    pub fn load(&self, path: &Path, strictness: Strictness) -> Result<LoadReport> {
        self.assign(path, load_tensors(path)?, strictness)
    }

    /// As [`load`](Self::load), from tensors that were read from `path` before.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn assign(
        &self,
        path: &Path,
        mut tensors: BTreeMap<String, Tensor>,
        strictness: Strictness,
    ) -> Result<LoadReport> {
        let mut report = LoadReport::default();
        let mut fitting = Vec::new();
        for (name, var) in self.named_all() {
            match tensors.remove(&name) {
                None => report.missing.push(name),
                Some(t) if t.dims() != var.dims() => {
                    report.mismatched.push((name, var.dims().to_vec(), t.dims().to_vec()));
                }
                Some(t) => fitting.push((name, var, t)),
            }
        }
        let counter = |name: &String| name.ends_with(".num_batches_tracked");
        (report.ignored, report.unexpected) = tensors.into_keys().partition(counter);
        if strictness == Strictness::Exact && !report.is_exact() {
            return Err(Error::Mismatch { path: path.to_path_buf(), report: Box::new(report) });
        }
        for (name, var, t) in fitting {
            var.set(&t.to_device(&self.0.device)?.to_dtype(self.0.dtype)?)?;
            report.loaded.push(name);
        }
        Ok(report)
    }
}

/// Whether a file must hold exactly the parameters of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strictness {
    /// Every name and shape must agree.
    Exact,
    /// What fits is taken, the rest reported.
    Partial,
}

/// What a file had for a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadReport {
    /// Parameters and buffers that were set.
    pub loaded: Vec<String>,
    /// Parameters and buffers that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file that the store does not know.
    pub unexpected: Vec<String>,
    /// Counters `num_batches_tracked` of PyTorch's batch norm, on which no result depends.
    pub ignored: Vec<String>,
    /// Name, shape in the store, shape in the file.
    pub mismatched: Vec<(String, Vec<usize>, Vec<usize>)>,
}

impl LoadReport {
    /// Whether file and store agree.
    pub fn is_exact(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.mismatched.is_empty()
    }
}

impl Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => String::new(),
            few if few.len() <= 4 => format!(" ({})", few.join(", ")),
            many => format!(" ({}, ..)", many[..3].join(", ")),
        };
        write!(f, "{} loaded, {} missing{}", self.loaded.len(), self.missing.len(), list(&self.missing))?;
        write!(f, ", {} unexpected{}", self.unexpected.len(), list(&self.unexpected))?;
        write!(f, ", {} of another shape", self.mismatched.len())?;
        for (name, have, found) in self.mismatched.iter().take(3) {
            write!(f, " ({name}: expected {have:?}, found {found:?})")?;
        }
        Ok(())
    }
}

/// A place in the tree of parameter names.
#[derive(Clone, Debug)]
pub struct Scope {
    store: ParamStore,
    path: String,
    frozen: bool,
}

impl Scope {
    /// The place called `name` below this one.
    pub fn pp(&self, name: impl Display) -> Self {
        Self { path: self.join(&name.to_string()), ..self.clone() }
    }

    /// Full name of this place.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The store behind.
    pub fn store(&self) -> &ParamStore {
        &self.store
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_string() } else { format!("{}.{name}", self.path) }
    }

    /// The parameter `name`, made with `init` at the first call and shared at later ones (tied weights).
    ///
    /// # Errors
    /// If it exists with another shape or as a buffer, or does not exist and the scope is frozen.
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> candle_core::Result<Tensor> {
        self.param_from(name, shape, |key, shape, device| init.tensor(key, shape, device))
    }

    /// As [`param`](Self::param), with start values that `start` makes from the parameter's key, for those that depend
    /// on other parameters.
    ///
    /// # Errors
    /// As [`param`](Self::param), or if `start` fails or gives another shape.
    pub fn param_from(
        &self,
        name: &str,
        shape: impl Into<Shape>,
        start: impl FnOnce(Key, &Shape, &Device) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Tensor> {
        let (name, shape) = (self.join(name), shape.into());
        let mut content = self.store.lock();
        let frozen = self.frozen || content.is_frozen(&name);
        if content.buffers.contains_key(&name) {
            candle_core::bail!("{name} is a buffer, asked for as a parameter");
        }
        let var = self.get_or_insert(&mut content.params, ("parameter", name), shape, start)?;
        Ok(if frozen { var.as_detached_tensor() } else { var.as_tensor().clone() })
    }

    /// The buffer `name`, made with `init` at the first call and shared at later ones.
    ///
    /// # Errors
    /// If it exists with another shape or as a parameter, or does not exist and the scope is frozen.
    pub fn buffer(&self, name: &str, shape: impl Into<Shape>, init: Init) -> candle_core::Result<Buffer> {
        let (name, shape) = (self.join(name), shape.into());
        let mut content = self.store.lock();
        let frozen = self.frozen || content.is_frozen(&name);
        if content.params.contains_key(&name) {
            candle_core::bail!("{name} is a parameter, asked for as a buffer");
        }
        let var = self.get_or_insert(&mut content.buffers, ("buffer", name), shape, |k, s, d| init.tensor(k, s, d))?;
        Ok(Buffer { var, frozen })
    }

    fn get_or_insert(
        &self,
        among: &mut BTreeMap<String, Var>,
        (what, name): (&str, String),
        shape: Shape,
        start: impl FnOnce(Key, &Shape, &Device) -> candle_core::Result<Tensor>,
    ) -> candle_core::Result<Var> {
        match among.get(&name) {
            Some(var) if var.shape() == &shape => Ok(var.clone()),
            Some(var) => candle_core::bail!("{what} {name} is {:?}, asked for as {:?}", var.dims(), shape.dims()),
            None if self.frozen => candle_core::bail!("{what} {name} does not exist in the frozen store"),
            None => {
                let inner = &self.store.0;
                let start = start(inner.key.named(&name), &shape, &inner.device)?.to_dtype(inner.dtype)?;
                if start.shape() != &shape {
                    candle_core::bail!(
                        "parameter {name} is to start as {:?}, expected {:?}",
                        start.dims(),
                        shape.dims()
                    );
                }
                let var = Var::from_tensor(&start)?;
                among.insert(name, var.clone());
                Ok(var)
            }
        }
    }
}

/// A value that belongs to a model but is not trained. Clones share it.
#[derive(Clone, Debug)]
pub struct Buffer {
    var: Var,
    frozen: bool,
}

impl Buffer {
    /// Its value, without a graph.
    pub fn get(&self) -> Tensor {
        self.var.as_detached_tensor()
    }

    /// Whether it was asked for in a frozen place; then it is only read.
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Puts another value in its place, for all who share it.
    ///
    /// # Errors
    /// If the shape differs, or the buffer is frozen.
    pub fn set(&self, value: &Tensor) -> candle_core::Result<()> {
        if self.frozen {
            candle_core::bail!("a frozen buffer is only read");
        }
        self.var.set(&value.detach())
    }
}

/// Reads every tensor of a safetensors file.
///
/// # Errors
/// If the file cannot be read, is cut short or is no safetensors file; the message names it.
pub fn load_tensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    let bytes = std::fs::read(path).map_err(Error::io(path))?;
    let format = |what: String| Error::Format { path: path.to_path_buf(), what };
    let views = SafeTensors::deserialize(&bytes).map_err(|e| format(format!("not a whole safetensors file: {e}")))?;
    let mut tensors = BTreeMap::new();
    for (name, view) in views.tensors() {
        let dtype = DType::try_from(view.dtype()).map_err(|e| format(format!("tensor {name}: {e}")))?;
        let t = Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)?;
        tensors.insert(name, t);
    }
    Ok(tensors)
}

/// Writes tensors to a safetensors file, whole or not at all.
///
/// # Errors
/// If the file cannot be written.
pub fn save_tensors(path: &Path, tensors: BTreeMap<String, Tensor>) -> Result<()> {
    let format = |e: safetensors::SafeTensorError| Error::Format { path: path.to_path_buf(), what: e.to_string() };
    let contiguous = tensors.into_iter().map(|(name, t)| Ok((name, t.contiguous()?)));
    let bytes = safetensors::serialize(contiguous.collect::<Result<Vec<_>>>()?, None).map_err(format)?;
    file::write_atomic(path, |w| w.write_all(&bytes))
}
