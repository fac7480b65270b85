//! Table look-up by index, with repeated ids.

use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{DType, Result, Tensor, bail};
use rayon::prelude::*;

struct Embedding {
    ids: Vec<u32>,
    dims: Vec<usize>,
}

/// Table rows per task of the backward pass.
const SHARD: usize = 1024;

impl Kernel for Embedding {
    type Saved = ();
    const NAME: &'static str = "embedding";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let d = x[0].width();
        // SAFETY: each row is copied whole below.
        let mut y = unsafe { uncleared(self.ids.len() * d) };
        if d > 0 {
            y.par_chunks_mut(d).with_min_len(64).zip(&self.ids).for_each(|(y, &id)| {
                y.copy_from_slice(&x[0].data[id as usize * d..][..d]);
            });
        }
        Ok((y, [&self.dims[..], &[d]].concat(), ()))
    }

    /// Each task owns a range of the table and walks all ids in their order, so repeated ids add up in one order.
    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let d = x[0].width();
        // SAFETY: each task clears its range first.
        let mut dw = unsafe { uncleared(x[0].data.len()) };
        if d > 0 {
            dw.par_chunks_mut(SHARD * d).enumerate().for_each(|(shard, dw)| {
                dw.fill(0.0);
                let first = shard * SHARD;
                for (&id, g) in self.ids.iter().zip(gy.chunks_exact(d)) {
                    if let Some(row) = (id as usize).checked_sub(first).and_then(|r| dw.get_mut(r * d..(r + 1) * d)) {
                        row.iter_mut().zip(g).for_each(|(w, g)| *w += g);
                    }
                }
            });
        }
        Ok(vec![Some(dw)])
    }
}

/// Rows of `weight` ([v, d]) picked by `ids` (u32 or i64, any shape): [.., d].
///
/// # Errors
/// If an id is not below v; the message names it and its place.
pub fn embedding(ids: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let (v, d) = weight.dims2()?;
    let host = ids.to_dtype(DType::U32)?.flatten_all()?.to_vec1::<u32>()?;
    if let Some(at) = host.iter().position(|&id| id as usize >= v) {
        bail!("embedding: id {} at position {at} is not below the table size {v}", host[at]);
    }
    if fast(&[weight]) {
        return apply(Embedding { ids: host, dims: ids.dims().to_vec() }, &[weight]);
    }
    let flat = ids.to_dtype(DType::U32)?.to_device(weight.device())?.flatten_all()?;
    weight.contiguous()?.index_select(&flat, 0)?.reshape([ids.dims(), &[d]].concat())
}
