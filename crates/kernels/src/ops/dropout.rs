//! Dropout from a named key.

use crate::key::Key;
use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::ops::activation::BLOCK;
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

struct Dropout {
    p: f64,
    key: Key,
}

impl Dropout {
    /// `x` with dropped values zeroed and the rest scaled by `1 / (1 - p)`.
    fn mask(&self, x: &[f32]) -> Vec<f32> {
        let scale = (1.0 / (1.0 - self.p)) as f32;
        // 32 random bits a value: two values share one draw.
        let limit = (self.p * 4_294_967_296.0) as u64;
        // SAFETY: every value of each chunk is written below.
        let mut y = unsafe { uncleared(x.len()) };
        y.par_chunks_mut(BLOCK).zip(x.par_chunks(BLOCK)).enumerate().for_each(|(block, (y, x))| {
            let first = (block * BLOCK / 2) as u64;
            for (pair, (y, x)) in y.chunks_mut(2).zip(x.chunks(2)).enumerate() {
                let bits = self.key.u64(first + pair as u64);
                y[0] = if bits & 0xffff_ffff < limit { 0.0 } else { x[0] * scale };
                if let (Some(y), Some(x)) = (y.get_mut(1), x.get(1)) {
                    *y = if bits >> 32 < limit { 0.0 } else { *x * scale };
                }
            }
        });
        y
    }
}

impl Kernel for Dropout {
    type Saved = ();
    const NAME: &'static str = "dropout";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        Ok((self.mask(x[0].data), x[0].dims.to_vec(), ()))
    }

    fn backward(&self, _: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        Ok(vec![Some(self.mask(gy))])
    }
}

/// Zeroes each value with probability `p` and scales the rest by `1 / (1 - p)` (Srivastava et al. 2014). The values that
/// are dropped depend on `key` and on their position alone.
///
/// # Errors
/// If `p` is not in [0, 1).
pub fn dropout(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout: the probability must be in [0, 1), got {p}");
    }
    if p == 0.0 {
        return Ok(x.clone());
    }
    let op = Dropout { p, key };
    if fast(&[x]) {
        return apply(op, &[x]);
    }
    let mask = op.mask(&vec![1.0; x.elem_count()]);
    x * Tensor::from_vec(mask, x.shape(), x.device())?.to_dtype(x.dtype())?
}

/// [`dropout`] of whole channels: each of the channels of each example is kept or zeroed as one (Tompson et al., arXiv
/// 1411.4280). `x`: [n, c, ..].
///
/// # Errors
/// If `p` is not in [0, 1), or `x` has fewer than two dimensions.
pub fn dropout_channels(x: &Tensor, p: f64, key: Key) -> Result<Tensor> {
    if !(0.0..1.0).contains(&p) {
        bail!("dropout_channels: the probability must be in [0, 1), got {p}");
    }
    let &[n, c, ..] = x.dims() else { bail!("dropout_channels: expected an input [n, c, ..], got {:?}", x.dims()) };
    if p == 0.0 {
        return Ok(x.clone());
    }
    let mut dims = vec![1; x.rank()];
    (dims[0], dims[1]) = (n, c);
    let mask = Dropout { p, key }.mask(&vec![1.0; n * c]);
    x.broadcast_mul(&Tensor::from_vec(mask, dims, x.device())?.to_dtype(x.dtype())?)
}
