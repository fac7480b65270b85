//! Norms over many gradients, and clipping.

use crate::node::{fast, with_args};
use crate::simd::simd_fn;
use candle_core::{DType, Result, Tensor};
use rayon::prelude::*;

/// Which norm of all gradients taken together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Norm {
    /// Root of the summed squares.
    #[default]
    L2,
    /// Sum of the absolute values.
    L1,
    /// Largest absolute value.
    Max,
}

/// Values per partial sum: fixed, so that the number of threads changes no bit.
const CHUNK: usize = 64 * 1024;

simd_fn! {
    /// Sum of squares of whole groups of 16, one sum per place in the group.
    fn squares<V>(values: &[f32]) -> [f64; 16] {
        let mut acc = [0.0_f64; 16];
        for group in values.chunks_exact(16) {
            for i in 0..16 {
                let x = f64::from(group[i]);
                acc[i] += x * x;
            }
        }
        acc
    }
}

/// Sum of squares, sum of sizes or largest size.
fn partial(norm: Norm, values: &[f32]) -> f64 {
    let size = |x: &f32| f64::from(x.abs());
    match norm {
        Norm::L2 => {
            let tail = values.chunks_exact(16).remainder().iter().map(|&x| f64::from(x) * f64::from(x));
            combine(norm, squares(values).into_iter().chain(tail))
        }
        Norm::L1 | Norm::Max => combine(norm, values.iter().map(size)),
    }
}

fn combine(norm: Norm, parts: impl IntoIterator<Item = f64>) -> f64 {
    parts.into_iter().fold(0.0, |a, b| match norm {
        Norm::Max => {
            if b > a || b.is_nan() {
                b
            } else {
                a
            }
        }
        _ => a + b,
    })
}

fn of_tensor(norm: Norm, t: &Tensor) -> Result<f64> {
    if fast(&[t]) {
        let t = t.contiguous()?;
        return with_args(&[&t], |args| {
            let parts: Vec<f64> = args[0].data.par_chunks(CHUNK).map(|c| partial(norm, c)).collect();
            Ok(combine(norm, parts))
        });
    }
    let t = t.to_dtype(DType::F64)?;
    match norm {
        Norm::L2 => t.sqr()?.sum_all()?.to_scalar(),
        Norm::L1 => t.abs()?.sum_all()?.to_scalar(),
        Norm::Max => t.abs()?.flatten_all()?.max(0)?.to_scalar(),
    }
}

/// The norm of all values of all `grads` in f64; NaN or infinite if any value is.
///
/// # Errors
/// If a gradient cannot be read.
pub fn global_norm(grads: &[&Tensor], norm: Norm) -> Result<f64> {
    let parts = grads.iter().filter(|g| g.elem_count() > 0).map(|g| of_tensor(norm, g)).collect::<Result<Vec<_>>>()?;
    let total = combine(norm, parts);
    Ok(if norm == Norm::L2 { total.sqrt() } else { total })
}

/// The factor that brings a gradient of norm `total` down to `max_norm`: `min(1, max_norm / (total + 1e-6))`.
pub fn clip_factor(total: f64, max_norm: f64) -> f64 {
    (max_norm / (total + 1e-6)).min(1.0)
}

/// `grad` with every value brought into `-limit..=limit`.
///
/// # Errors
/// If the tensor cannot be read.
pub fn clip_values(grad: &Tensor, limit: f64) -> Result<Tensor> {
    grad.clamp(-limit, limit)
}
