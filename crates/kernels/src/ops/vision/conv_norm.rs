//! Convolution, batch norm, residual and bounds as one operation.
//!
//! One node of the graph instead of two or four: the gradient between convolution and norm never becomes a tensor, and
//! the normalised values are made again in backward from the convolution's result.

use super::batch_norm::{Core, Found, Moments, batch_norm_train_fused, channels, check_residual, found};
use super::clamp::Clamp;
use super::conv::{Conv2d, Finish, Method, Sizes, conv2d};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{Result, Tensor};

/// Inputs are x, weight, gamma, beta and, where there is one, residual.
struct ConvNorm {
    method: Method,
    core: Core,
    dims: Vec<usize>,
    found: Found,
}

/// The convolution's result and its moments.
struct Kept {
    z: Vec<f32>,
    moments: Vec<Moments>,
}

impl Kernel for ConvNorm {
    type Saved = Kept;
    const NAME: &'static str = "conv2d_batch_norm";

    fn forward(&self, x: &[Arg<'_>], wants: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Kept)> {
        let z = self.method.run(x[0].data, x[1].data, &Finish::default());
        let (y, moments) = self.core.forward(&z, x[2].data, x[3].data, x.get(4).map(|r| r.data), None);
        self.found.get_or_init(|| moments.clone());
        let z = if wants.contains(&true) { z } else { vec![] };
        Ok((y, self.dims.clone(), Kept { z, moments }))
    }

    fn backward(&self, x: &[Arg<'_>], kept: &Kept, y: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let norm = self.core.backward(&kept.z, x[2].data, &kept.moments, false, (y, gy), x.len() > 4);
        let mut grads = vec![
            wants[0].then(|| self.method.input_grad(x[1].data, &norm.x)),
            wants[1].then(|| self.method.weight_grad(x[0].data, &norm.x)),
            Some(norm.weight),
            Some(norm.bias),
        ];
        if x.len() > 4 {
            grads.push(norm.residual);
        }
        Ok(grads)
    }
}

/// `clamp(batch_norm_train(conv2d(x, weight)) + residual)`; returns as [`batch_norm_train`](crate::batch_norm_train).
///
/// `x`: [b, c, h, w]; `weight`: [o, c/g, kh, kw]; `gamma`, `beta`: [o]; `residual`: [b, o, oh, ow].
///
/// # Errors
/// As [`conv2d`](crate::conv2d) and [`batch_norm_train_fused`](crate::batch_norm_train_fused).
#[allow(clippy::too_many_arguments)]
pub fn conv2d_batch_norm(
    x: &Tensor,
    weight: &Tensor,
    config: &Conv2d,
    gamma: &Tensor,
    beta: &Tensor,
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let n = Sizes::new(x, weight, None, config)?;
    let mut inputs = vec![x, weight, gamma, beta];
    inputs.extend(residual);
    if !fast(&inputs) || n.b == 0 {
        return batch_norm_train_fused(&conv2d(x, weight, None, config)?, gamma, beta, eps, residual, clamp);
    }
    let dims = vec![n.b, n.o, n.oh, n.ow];
    channels("conv2d_batch_norm", &dims, &[gamma, beta])?;
    check_residual("conv2d_batch_norm", &dims, residual)?;
    let stats = Found::default();
    let core = Core::new(&dims, eps, clamp);
    let y = apply(ConvNorm { method: Method::new(n, *config), core, dims, found: stats.clone() }, &inputs)?;
    let (mean, var) = found(&stats)?;
    Ok((y, mean, var))
}
