//! Parameters by name.

use crate::{Error, Init, Result, file};
use candle_core::{DType, Device, Shape, Tensor, Var};
use chandlery_kernels::Key;
use safetensors::SafeTensors;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The parameters of a model, ordered by name.
///
/// Cloning shares the parameters. The start value of each depends on the store's seed and the parameter's name alone,
/// so adding a layer changes no other.
#[derive(Clone)]
pub struct ParamStore(Arc<Inner>);

struct Inner {
    key: Key,
    dtype: DType,
    device: Device,
    params: Mutex<BTreeMap<String, Var>>,
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
        Self(Arc::new(Inner { key, dtype, device: device.clone(), params: Mutex::default() }))
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

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Var>> {
        self.0.params.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names in order.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Parameters with their names, in order of name.
    pub fn named_vars(&self) -> Vec<(String, Var)> {
        self.lock().iter().map(|(name, var)| (name.clone(), var.clone())).collect()
    }

    /// One parameter.
    pub fn get(&self, name: &str) -> Option<Var> {
        self.lock().get(name).cloned()
    }

    /// Number of values in all parameters.
    pub fn n_params(&self) -> usize {
        self.lock().values().map(|v| v.elem_count()).sum()
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
            params: Mutex::default(),
        }));
        for (name, var) in self.named_vars() {
            copy.lock().insert(name, Var::from_tensor(&var.as_detached_tensor().copy()?)?);
        }
        Ok(copy)
    }

    /// Writes all parameters to a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.named_vars().into_iter().map(|(name, var)| (name, var.as_detached_tensor()));
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
        for (name, var) in self.named_vars() {
            match tensors.remove(&name) {
                None => report.missing.push(name),
                Some(t) if t.dims() != var.dims() => {
                    report.mismatched.push((name, var.dims().to_vec(), t.dims().to_vec()));
                }
                Some(t) => fitting.push((name, var, t)),
            }
        }
        report.unexpected.extend(tensors.into_keys());
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
    /// Parameters that were set.
    pub loaded: Vec<String>,
    /// Parameters that the file lacks.
    pub missing: Vec<String>,
    /// Tensors of the file that are no parameters.
    pub unexpected: Vec<String>,
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
    /// If it exists with another shape, or does not exist and the scope is frozen.
    pub fn param(&self, name: &str, shape: impl Into<Shape>, init: Init) -> candle_core::Result<Tensor> {
        let (name, shape) = (self.join(name), shape.into());
        let mut params = self.store.lock();
        let var = match params.get(&name) {
            Some(var) if var.shape() == &shape => var.clone(),
            Some(var) => candle_core::bail!("parameter {name} is {:?}, asked for as {:?}", var.dims(), shape.dims()),
            None if self.frozen => candle_core::bail!("parameter {name} does not exist in the frozen store"),
            None => {
                let inner = &self.store.0;
                let start = init.tensor(inner.key.named(&name), &shape, &inner.device)?.to_dtype(inner.dtype)?;
                let var = Var::from_tensor(&start)?;
                params.insert(name, var.clone());
                var
            }
        };
        Ok(if self.frozen { var.as_detached_tensor() } else { var.as_tensor().clone() })
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
