//! Mutable access to the values of f32 CPU tensors.

use crate::node::{fast, with_args};
use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, bail};
use std::sync::{Mutex, PoisonError};

/// Works on the values of one tensor.
type OnValues<'a> = dyn FnMut(&mut [f32]) -> Result<()> + Send + 'a;
/// Works on the values of several tensors and of a gradient.
type OnSlices<'a> = dyn FnMut(&mut [&mut [f32]], &[f32]) + Send + 'a;

struct Access<'a, 'b>(Mutex<&'a mut OnValues<'b>>);

impl InplaceOp1 for Access<'_, '_> {
    fn name(&self) -> &'static str {
        "optimiser step"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (CpuStorage::F32(values), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
            bail!("optimiser: expected contiguous f32 values")
        };
        (self.0.lock().unwrap_or_else(PoisonError::into_inner))(&mut values[start..end])
    }
}

fn with_mut(t: &Tensor, f: &mut OnValues<'_>) -> Result<()> {
    t.inplace_op1(&Access(Mutex::new(f)))
}

/// Calls `f(values of each tensor of mutated, values of grad)`; `None` where a tensor is not f32 on the CPU.
pub(super) fn with_slices(mutated: &[&Tensor], grad: &Tensor, f: &mut OnSlices<'_>) -> Result<Option<()>> {
    if !fast(mutated) || !fast(&[grad]) {
        return Ok(None);
    }
    let grad = grad.contiguous()?;
    with_args(&[&grad], |args| nest(mutated, &mut Vec::new(), args[0].data, f))?;
    Ok(Some(()))
}

/// Opens one tensor after the other, then calls `f` with all of them.
fn nest(rest: &[&Tensor], open: &mut Vec<&mut [f32]>, grad: &[f32], f: &mut OnSlices<'_>) -> Result<()> {
    match rest.split_first() {
        None => {
            f(open, grad);
            Ok(())
        }
        Some((t, rest)) => with_mut(t, &mut |values| {
            let mut all: Vec<&mut [f32]> = open.iter_mut().map(|s| &mut **s).collect();
            all.push(values);
            nest(rest, &mut all, grad, f)
        }),
    }
}
