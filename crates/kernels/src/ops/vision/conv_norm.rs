//! Convolution, batch norm, residual and bounds as one operation.
//!
//! One node of the graph instead of two or four: the gradient between convolution and norm never becomes a tensor, and
//! the normalised values are made again in backward from the convolution's result.

use super::batch_norm::{
    Core, Found, Moments, batch_norm_eval_fused, batch_norm_train_fused, channels, check_residual, found, rstd,
};
use super::clamp::{Clamp, chained};
use super::conv::{Conv2d, Finish, Method, Sizes, channel_sums, conv2d};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
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
/// `x`: [b, c, h, w]; `weight`: [o, c/g, kh, kw]; `gamma`, `beta`: `[o]`; `residual`: [b, o, oh, ow].
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

simd_fn! {
    fn dot<V>(a: &[f32], b: &[f32]) -> f32 { math::sum2::<V>(a, b, |a, b| a.mul(b)) }
}

/// A convolution whose results are scaled and shifted as the norm with given moments does; inputs are x, weight, gamma,
/// beta and, where there is one, residual.
struct Fixed {
    method: Method,
    dims: Vec<usize>,
    clamp: Option<Clamp>,
    mean: Vec<f32>,
    rstd: Vec<f32>,
}

impl Fixed {
    fn scales(&self, gamma: &[f32]) -> Vec<f32> {
        gamma.iter().zip(&self.rstd).map(|(gamma, rstd)| gamma * rstd).collect()
    }

    /// The weights of a convolution that scales its results itself.
    fn scaled(&self, weight: &[f32], gamma: &[f32]) -> Vec<f32> {
        let (row, mut all) = (weight.len() / gamma.len(), Vec::with_capacity(weight.len()));
        for (weight, scale) in weight.chunks_exact(row).zip(self.scales(gamma)) {
            all.extend(weight.iter().map(|w| w * scale));
        }
        all
    }

    /// Gradients of weight and gamma from that of the scaled weight, which becomes the first of them.
    fn unfold(&self, mut grad: Vec<f32>, sums: &[f32], weight: &[f32], gamma: &[f32]) -> (Vec<f32>, Vec<f32>) {
        let row = weight.len() / gamma.len();
        let rows = grad.chunks_exact_mut(row).zip(weight.chunks_exact(row)).enumerate();
        let slopes = rows.map(|(o, (grad, weight))| {
            let along = dot(grad, weight);
            grad.iter_mut().for_each(|g| *g *= gamma[o] * self.rstd[o]);
            (along - self.mean[o] * sums[o]) * self.rstd[o]
        });
        let slopes = slopes.collect();
        (grad, slopes)
    }
}

impl Kernel for Fixed {
    type Saved = ();
    const NAME: &'static str = "conv2d_batch_norm_eval";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let scales = self.scales(x[2].data);
        let shifts = x[3].data.iter().zip(&self.mean).zip(&scales).map(|((beta, mean), scale)| beta - mean * scale);
        let (shifts, residual): (Vec<f32>, _) = (shifts.collect(), x.get(4).map(|r| r.data));
        let finish = Finish { scale: Some(&scales), bias: Some(&shifts), residual, clamp: self.clamp };
        Ok((self.method.run(x[0].data, x[1].data, &finish), self.dims.clone(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), y: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let before = self.clamp.map(|clamp| chained(clamp, y, gy));
        let g = before.as_deref().unwrap_or(gy);
        let (weight, gamma) = (x[1].data, x[2].data);
        let dx = wants[0].then(|| self.method.input_grad(&self.scaled(weight, gamma), g));
        let mut grads = vec![dx, None, None, None];
        if wants[1] || wants[2] || wants[3] {
            let sums = channel_sums(g, self.dims[0], self.dims[1]);
            let (dw, slopes) = self.unfold(self.method.weight_grad(x[0].data, g), &sums, weight, gamma);
            grads[1..].clone_from_slice(&[Some(dw), Some(slopes), Some(sums)]);
        }
        if x.len() > 4 {
            grads.push(Some(before.unwrap_or_else(|| gy.to_vec())));
        }
        Ok(grads)
    }
}

/// `clamp(batch_norm_eval(conv2d(x, weight)) + residual)` as one operation, which keeps no intermediate result; `params` are gamma,
/// beta, mean and variance, of which the last two get no gradient.
///
/// `x`: [b, c, h, w]; `weight`: [o, c/g, kh, kw]; `params`: `[o]` each; `residual`: [b, o, oh, ow].
///
/// # Errors
/// As [`conv2d`](crate::conv2d) and [`batch_norm_eval_fused`](crate::batch_norm_eval_fused).
pub fn conv2d_batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    config: &Conv2d,
    params: [&Tensor; 4],
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<Tensor> {
    let n = Sizes::new(x, weight, None, config)?;
    let [gamma, beta, mean, var] = params;
    let mut inputs = vec![x, weight, gamma, beta];
    inputs.extend(residual);
    if !fast(&inputs) || !fast(&[mean, var]) || n.b * n.c * n.o == 0 {
        return batch_norm_eval_fused(&conv2d(x, weight, None, config)?, params, eps, residual, clamp);
    }
    let dims = vec![n.b, n.o, n.oh, n.ow];
    channels("conv2d_batch_norm_eval", &dims, &params)?;
    check_residual("conv2d_batch_norm_eval", &dims, residual)?;
    let (mean, var) = (mean.to_vec1::<f32>()?, var.to_vec1::<f32>()?);
    let rstd = var.into_iter().map(|var| rstd(var, eps)).collect();
    apply(Fixed { method: Method::new(n, *config), dims, clamp, mean, rstd }, &inputs)
}
