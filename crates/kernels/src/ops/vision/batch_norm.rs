//! Batch norm, alone and together with what follows it in a residual network.

use super::clamp::Clamp;
use candle_core::{Result, Tensor, bail};

/// Number of channels of `x`: [n, c, ..], after checking all `params` to be [c].
fn channels(op: &str, x: &Tensor, params: &[&Tensor]) -> Result<usize> {
    let Some(&c) = x.dims().get(1) else { bail!("{op}: expected an input [n, c, ..], got {:?}", x.dims()) };
    for p in params {
        if p.dims() != [c] {
            bail!("{op}: input {:?} needs parameters of shape [{c}], got {:?}", x.dims(), p.dims());
        }
    }
    Ok(c)
}

fn check_residual(op: &str, x: &Tensor, residual: Option<&Tensor>) -> Result<()> {
    match residual {
        Some(r) if r.dims() != x.dims() => bail!("{op}: expected a residual {:?}, got {:?}", x.dims(), r.dims()),
        _ => Ok(()),
    }
}

/// [c] to [1, c, 1, ..].
fn along_channels(p: &Tensor, rank: usize) -> Result<Tensor> {
    let mut dims = vec![1; rank];
    dims[1] = p.dims()[0];
    p.reshape(dims)
}

fn finish(y: Tensor, residual: Option<&Tensor>, clamp: Option<Clamp>) -> Result<Tensor> {
    let y = residual.map_or(Ok(y.clone()), |r| y + r)?;
    clamp.map_or(Ok(y.clone()), |c| c.composed(&y))
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` with the statistics of the batch (Ioffe and Szegedy, arXiv
/// 1502.03167); returns `y` and, without gradient, the mean [c] and the biased variance [c].
///
/// `x`: [n, c, ..]; `weight`, `bias`: [c].
///
/// # Errors
/// If a parameter is not of shape [c], or there is no value to take statistics of.
pub fn batch_norm_train(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<(Tensor, Tensor, Tensor)> {
    batch_norm_train_fused(x, weight, bias, eps, None, None)
}

/// `clamp(batch_norm_train(x) + residual)` as one operation, which keeps no intermediate result; returns as
/// [`batch_norm_train`].
///
/// `residual`: as `x`.
///
/// # Errors
/// As [`batch_norm_train`], and if the shape of `residual` differs.
pub fn batch_norm_train_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<(Tensor, Tensor, Tensor)> {
    let c = channels("batch_norm_train", x, &[weight, bias])?;
    check_residual("batch_norm_train", x, residual)?;
    if x.elem_count() == 0 {
        bail!("batch_norm_train: expected values to take statistics of, got an input {:?}", x.dims());
    }
    let rank = x.rank();
    // [n, c, l] to sums over n and l
    let mean = |t: &Tensor| t.reshape((t.dims()[0], c, ()))?.sum(2)?.sum(0)? / (t.elem_count() / c) as f64;
    let x = x.contiguous()?;
    let average = mean(&x)?;
    let centered = x.broadcast_sub(&along_channels(&average, rank)?)?;
    let var = mean(&centered.sqr()?)?;
    let scale = (weight / (&var + eps)?.sqrt()?)?;
    let y = centered.broadcast_mul(&along_channels(&scale, rank)?)?.broadcast_add(&along_channels(bias, rank)?)?;
    Ok((finish(y, residual, clamp)?, average.detach(), var.detach()))
}

/// `y = (x - mean) / sqrt(var + eps) * weight + bias` with given statistics.
///
/// `x`: [n, c, ..]; `weight`, `bias`, `mean`, `var`: [c].
///
/// # Errors
/// If a parameter is not of shape [c].
pub fn batch_norm_eval(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<Tensor> {
    batch_norm_eval_fused(x, [weight, bias, mean, var], eps, None, None)
}

/// `clamp(batch_norm_eval(x) + residual)` as one operation; `params` are weight, bias, mean and variance.
///
/// # Errors
/// As [`batch_norm_eval`], and if the shape of `residual` differs.
pub fn batch_norm_eval_fused(
    x: &Tensor,
    params: [&Tensor; 4],
    eps: f64,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<Tensor> {
    channels("batch_norm_eval", x, &params)?;
    check_residual("batch_norm_eval", x, residual)?;
    let [weight, bias, mean, var] = params;
    let rank = x.rank();
    let scale = (weight / (var + eps)?.sqrt()?)?;
    let centered = x.broadcast_sub(&along_channels(mean, rank)?)?;
    let y = centered.broadcast_mul(&along_channels(&scale, rank)?)?.broadcast_add(&along_channels(bias, rank)?)?;
    finish(y, residual, clamp)
}

/// The weight and bias of a convolution that does what the given one does followed by
/// [`batch_norm_eval`]: `weight * s` and `(bias - mean) * s + beta` with `s = gamma / sqrt(var + eps)`.
///
/// `weight`: [o, c/g, kh, kw]; all others: [o].
///
/// # Errors
/// If a parameter is not of shape [o].
pub fn fold_batch_norm(
    weight: &Tensor,
    bias: Option<&Tensor>,
    gamma: &Tensor,
    beta: &Tensor,
    mean: &Tensor,
    var: &Tensor,
    eps: f64,
) -> Result<(Tensor, Tensor)> {
    let o = weight.dims().first().copied().unwrap_or(0);
    for p in [gamma, beta, mean, var].into_iter().chain(bias) {
        if p.dims() != [o] {
            bail!("fold_batch_norm: weight {:?} needs parameters of shape [{o}], got {:?}", weight.dims(), p.dims());
        }
    }
    let scale = (gamma / (var + eps)?.sqrt()?)?;
    let mut dims = vec![1; weight.rank()];
    dims[0] = o;
    let folded = weight.broadcast_mul(&scale.reshape(dims)?)?;
    let shift = match bias {
        Some(bias) => (bias - mean)?,
        None => mean.neg()?,
    };
    Ok((folded, ((shift * scale)? + beta)?))
}
