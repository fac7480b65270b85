//! Named tensors in files.

use crate::{Error, Result};
use candle_core::{DType, Tensor};
use std::path::{Path, PathBuf};

/// Files with named tensors; opening one reads no tensor.
pub(super) trait Source {
    /// Names in order.
    fn names(&self) -> Vec<&str>;
    /// The file that holds a tensor, or the main file.
    fn path(&self, name: &str) -> &Path;
    /// One tensor on the CPU, in the type it is stored in or f32 where that is quantised.
    fn read(&self, name: &str) -> Result<Tensor>;
}

/// A damaged or foreign file.
pub(super) fn format(path: &Path, what: impl Into<String>) -> Error {
    Error::Format { path: path.to_path_buf(), what: what.into() }
}

/// A file that cannot be read.
pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { path, source }
}

/// One tensor as f32, refused where a value is not finite: training and generation would only spread it.
pub(super) fn read_finite(source: &dyn Source, name: &str) -> Result<Tensor> {
    let t = source.read(name)?.to_dtype(DType::F32)?;
    // NaN and infinities survive a sum.
    if t.elem_count() > 0 && !t.sum_all()?.to_scalar::<f32>()?.is_finite() {
        return Err(format(source.path(name), format!("tensor {name}: holds NaN or infinity")));
    }
    Ok(t)
}
