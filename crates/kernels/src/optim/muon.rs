//! Muon.

use super::{Rule, Slot, Step};
use candle_core::{DType, Result, Tensor, bail};

/// Muon (Jordan et al. 2024) in PyTorch's form: the momentum of a matrix is replaced by the nearest matrix whose rows or
/// columns are orthonormal, found by five steps of a Newton-Schulz iteration.
///
/// For hidden matrices; embeddings, heads, norms and biases belong to another rule. Filters of rank three and more count
/// as matrices of as many rows as their first dimension has. Updates are scaled by `0.2 sqrt(max(rows, columns))`, so
/// that learning rates and decays are those of AdamW (Liu et al., arXiv 2502.16982). The step is composed of candle
/// operations on every device: it consists of matrix products.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Muon {
    /// Decay of the momentum.
    pub momentum: f64,
    /// Look ahead along the momentum.
    pub nesterov: bool,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for Muon {
    fn default() -> Self {
        Self { momentum: 0.95, nesterov: true, weight_decay: 0.0 }
    }
}

/// Coefficients of the quintic iteration, chosen by its authors for a steep slope at zero.
const QUINTIC: [f64; 3] = [3.4445, -4.7750, 2.0315];
const ITERATIONS: usize = 5;

/// Brings the singular values of `m` [r, c] near one, roughly between 0.7 and 1.2.
fn orthogonal(m: &Tensor) -> Result<Tensor> {
    let (r, c) = m.dims2()?;
    // The Gram matrix is the smaller one.
    let mut x = if r > c { m.t()?.contiguous()? } else { m.clone() };
    let norm = x.to_dtype(DType::F64)?.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt();
    x = (x / norm.max(1e-7))?;
    let [a, b, c5] = QUINTIC;
    for _ in 0..ITERATIONS {
        let gram = x.matmul(&x.t()?)?;
        let even = ((&gram * b)? + (gram.matmul(&gram)? * c5)?)?;
        x = ((&x * a)? + even.matmul(&x)?)?;
    }
    if r > c { x.t()?.contiguous() } else { Ok(x) }
}

impl Rule for Muon {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        vec![("momentum", dims.to_vec())]
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let ([buf], [rows, rest @ ..]) = (slot.state, slot.grad.dims()) else {
            bail!("muon: expected a matrix and one state tensor, got a parameter of shape {:?}", slot.grad.dims())
        };
        let columns: usize = rest.iter().product();
        if rest.is_empty() || slot.grad.elem_count() == 0 {
            bail!("muon: expected a matrix, got a parameter of shape {:?}", slot.grad.dims())
        }
        let g = (slot.grad * step.grad_scale)?;
        let mix = |old: &Tensor| (old * self.momentum)? + (&g * (1.0 - self.momentum))?;
        let new = mix(buf.as_detached_tensor().as_ref())?;
        buf.set(&new)?;
        let direction = if self.nesterov { mix(&new)? } else { new };
        let update = orthogonal(&direction.reshape((*rows, columns))?)?.reshape(slot.grad.shape())?;
        let size = step.lr * 0.2 * (*rows.max(&columns) as f64).sqrt();
        let kept = (slot.param.as_detached_tensor() * (1.0 - step.lr * self.weight_decay))?;
        slot.param.set(&(kept - (update * size)?)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{Key, Stream};
    use candle_core::{Device, Var};

    fn random(r: usize, c: usize) -> Tensor {
        let mut draw = Stream::new(Key::new(3));
        let values: Vec<f64> = (0..r * c).map(|_| draw.uniform() - 0.5).collect();
        Tensor::from_vec(values, (r, c), &Device::Cpu).unwrap()
    }

    #[test]
    fn singular_values_come_near_one() {
        // The quintic does not converge: large singular values end anywhere between about 0.68 and 1.13.
        for (r, c) in [(8, 8), (5, 20), (20, 5), (1, 7)] {
            let x = orthogonal(&random(r, c)).unwrap();
            let x = if r > c { x.t().unwrap().contiguous().unwrap() } else { x };
            let gram: Vec<Vec<f64>> = x.matmul(&x.t().unwrap()).unwrap().to_vec2().unwrap();
            // The mean square singular value of a matrix is the trace of its Gram matrix over its rows.
            let mean = (0..gram.len()).map(|i| gram[i][i]).sum::<f64>() / gram.len() as f64;
            assert!((0.4..1.4).contains(&mean), "{r} x {c}: {mean}");
        }
    }

    #[test]
    fn update_has_the_size_of_adamws_and_follows_the_gradient() {
        let (param, buf) =
            (Var::from_tensor(&random(6, 10)).unwrap(), Var::zeros((6, 10), DType::F64, &Device::Cpu).unwrap());
        let (before, grad) = (param.as_detached_tensor().copy().unwrap(), random(6, 10));
        let slot = Slot { param: &param, grad: &grad, state: std::slice::from_ref(&buf) };
        Muon::default().update(Step { t: 1, lr: 0.1, grad_scale: 1.0 }, slot).unwrap();
        let moved = (param.as_detached_tensor() - before).unwrap();
        let rms = moved.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
        assert!((0.1 * 0.15..0.1 * 0.25).contains(&rms), "{rms}");
        let along = (moved * grad).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(along < 0.0);
    }

    #[test]
    fn vector_is_refused() {
        let (param, buf) =
            (Var::zeros(3, DType::F32, &Device::Cpu).unwrap(), Var::zeros(3, DType::F32, &Device::Cpu).unwrap());
        let grad = param.as_detached_tensor();
        let slot = Slot { param: &param, grad: &grad, state: std::slice::from_ref(&buf) };
        let error = Muon::default().update(Step { t: 1, lr: 0.1, grad_scale: 1.0 }, slot).unwrap_err();
        assert!(error.to_string().contains("expected a matrix, got a parameter of shape [3]"), "{error}");
    }
}
