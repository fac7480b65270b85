//! Muon.

use super::slice::with_slices;
use super::{Rule, Slot, Step};
use crate::matmul::{Into, Mat, Run, matmul, uncleared};
use crate::simd::simd_fn;
use candle_core::{DType, Result, Tensor, bail};

/// Muon (Jordan et al. 2024) in PyTorch's form: the momentum of a matrix is replaced by the nearest matrix whose rows or
/// columns are orthonormal, found by five steps of a Newton-Schulz iteration.
///
/// For hidden matrices; embeddings, heads, norms and biases belong to another rule. Filters of rank three and more count
/// as matrices of as many rows as their first dimension has. Updates are scaled by `0.2 sqrt(max(rows, columns))`, so
/// that learning rates and decays are those of AdamW (Liu et al., arXiv 2502.16982). Nearly all of a step is matrix
/// products: for a matrix of `r <= c`, `5 (2 r^2 c + r^3)` multiplications, or `2 r^2 c + 17 r^3` on its Gram matrix.
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

simd_fn! {
    fn scale<V>(dst: &mut [f32], src: &[f32], by: f32) {
        dst.iter_mut().zip(src).for_each(|(d, s)| *d = s * by);
    }
}

/// `f(G)` for the Gram matrix `G` [n, n] of a matrix x, so that `f(x xT) x` is what the iteration makes of x.
///
/// A step takes x to `P x` with `P = a + b G + c G^2`, and so G to `P G P`; the factors are gathered in one small matrix and
/// x is touched twice in all. G is lost to rounding where its eigenvalues lie below 1e-7 of the largest: there f is the
/// plain slope `a^5` with an error of the same relative size.
fn by_gram(mut gram: Vec<f32>, n: usize) -> Vec<f32> {
    let [a, b, c5] = QUINTIC.map(|v| v as f32);
    // SAFETY: each is written as a whole by `scale` or by a product that sets before it is read.
    let [mut p, mut next, mut half] = unsafe { [uncleared(n * n), uncleared(n * n), uncleared(n * n)] };
    let mut all: Vec<f32> = Vec::new();
    let square = |dst: &mut [f32], left: &[f32], right: &[f32], scale: f32, into| {
        matmul(dst, n, Mat::new(left, n, n), Mat::new(right, n, n), scale, into, Run::Parallel);
    };
    for iteration in 0..ITERATIONS {
        scale(&mut p, &gram, b);
        square(&mut p, &gram, &gram, c5, Into::Add);
        p.iter_mut().step_by(n + 1).for_each(|diagonal| *diagonal += a);
        if iteration == 0 {
            all.clone_from(&p);
        } else {
            square(&mut next, &p, &all, 1.0, Into::Set);
            std::mem::swap(&mut all, &mut next);
        }
        if iteration + 1 < ITERATIONS {
            square(&mut half, &p, &gram, 1.0, Into::Set);
            square(&mut gram, &half, &p, 1.0, Into::Set);
        }
    }
    all
}

/// [`orthogonal`] of a row-major matrix.
fn orthogonal_f32(m: &[f32], r: usize, c: usize) -> Vec<f32> {
    let norm = m.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
    let by = (1.0 / norm.max(1e-7)) as f32;
    // Rows or columns, whichever are fewer, span the Gram matrix: x xT or xT x.
    let (n, wide) = (r.min(c), r <= c);
    let [a, b, c5] = QUINTIC.map(|v| v as f32);
    // SAFETY: each is written as a whole before it is read: by `scale` or by a product that sets.
    let [mut x, mut next, mut gram, mut even] =
        unsafe { [uncleared(r * c), uncleared(r * c), uncleared(n * n), uncleared(n * n)] };
    scale(&mut x, m, by);
    // What the iteration multiplies on x and on its Gram matrix: 5 (2 n^2 c + n^3) against 2 n^2 c + 17 n^3.
    if 2 * r.max(c) > 3 * n {
        let view = Mat::new(&x, r, c);
        let [left, right] = if wide { [view, view.t()] } else { [view.t(), view] };
        matmul(&mut gram, n, left, right, 1.0, Into::Set, Run::Parallel);
        let factor = by_gram(gram, n);
        let factor = Mat::new(&factor, n, n);
        let [left, right] = if wide { [factor, view] } else { [view, factor] };
        matmul(&mut next, c, left, right, 1.0, Into::Set, Run::Parallel);
        return next;
    }
    for _ in 0..ITERATIONS {
        let view = Mat::new(&x, r, c);
        let [left, right] = if wide { [view, view.t()] } else { [view.t(), view] };
        matmul(&mut gram, n, left, right, 1.0, Into::Set, Run::Parallel);
        scale(&mut even, &gram, b);
        let square = Mat::new(&gram, n, n);
        matmul(&mut even, n, square, square, c5, Into::Add, Run::Parallel);
        scale(&mut next, &x, a);
        let even = Mat::new(&even, n, n);
        let [left, right] = if wide { [even, view] } else { [view, even] };
        matmul(&mut next, c, left, right, 1.0, Into::Add, Run::Parallel);
        std::mem::swap(&mut x, &mut next);
    }
    x
}

#[derive(Clone, Copy)]
struct MuonConstants {
    scale: f32,
    momentum: f32,
    nesterov: bool,
    kept: f32,
    size: f32,
}

simd_fn! {
    /// Moves the momentum, and says along which direction to step.
    fn gather<V>(k: MuonConstants, buf: &mut [f32], direction: &mut [f32], g: &[f32]) {
        for ((b, d), g) in buf.iter_mut().zip(direction).zip(g) {
            let g = (1.0 - k.momentum) * (k.scale * g);
            *b = k.momentum * *b + g;
            *d = if k.nesterov { k.momentum * *b + g } else { *b };
        }
    }
}
simd_fn! {
    fn descend<V>(k: MuonConstants, p: &mut [f32], update: &[f32]) {
        p.iter_mut().zip(update).for_each(|(p, u)| *p = k.kept * *p - k.size * u);
    }
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
        let size = step.lr * 0.2 * (*rows.max(&columns) as f64).sqrt();
        let kept = 1.0 - step.lr * self.weight_decay;
        let k = MuonConstants {
            scale: step.grad_scale as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
            kept: kept as f32,
            size: size as f32,
        };
        let open = [slot.param.as_tensor(), buf.as_tensor()];
        let done = with_slices(&open, slot.grad, &mut |values, g| {
            if let [p, buf] = values {
                // SAFETY: `gather` writes every value.
                let mut direction = unsafe { uncleared(g.len()) };
                gather(k, buf, &mut direction, g);
                descend(k, p, &orthogonal_f32(&direction, *rows, columns));
            }
        })?;
        if done.is_some() {
            return Ok(());
        }
        let g = (slot.grad * step.grad_scale)?;
        let mix = |old: &Tensor| (old * self.momentum)? + (&g * (1.0 - self.momentum))?;
        let new = mix(buf.as_detached_tensor().as_ref())?;
        buf.set(&new)?;
        let direction = if self.nesterov { mix(&new)? } else { new };
        let update = orthogonal(&direction.reshape((*rows, columns))?)?.reshape(slot.grad.shape())?;
        let kept = (slot.param.as_detached_tensor() * kept)?;
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
    fn f32_steps_as_the_composed_f64() {
        // Square ones step on themselves, long ones on their Gram matrices.
        for (dims, nesterov) in [
            (vec![8, 8], true),
            (vec![5, 20], true),
            (vec![20, 5], false),
            (vec![4, 3, 2, 2], true),
            (vec![6, 10], true),
        ] {
            let rule = Muon { nesterov, weight_decay: 0.1, ..Muon::default() };
            let n: usize = dims.iter().product();
            let steps = |dtype| {
                let make = |i: usize| random(n, 3).narrow(1, i, 1).unwrap().reshape(dims.as_slice()).unwrap();
                let param = Var::from_tensor(&make(0).to_dtype(dtype).unwrap()).unwrap();
                let buf = Var::zeros(dims.as_slice(), dtype, &Device::Cpu).unwrap();
                for t in 1..=2 {
                    let grad = make(t).to_dtype(dtype).unwrap().contiguous().unwrap();
                    let slot = Slot { param: &param, grad: &grad, state: std::slice::from_ref(&buf) };
                    rule.update(Step { t: t as u64, lr: 0.1, grad_scale: 0.5 }, slot).unwrap();
                }
                let both = [param.as_detached_tensor(), buf.as_detached_tensor()];
                both.map(|x| x.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap())
            };
            for (fast, exact) in steps(DType::F32).into_iter().flatten().zip(steps(DType::F64).into_iter().flatten()) {
                assert!((fast - exact).abs() < 2e-5, "{dims:?}: {fast} instead of {exact}");
            }
        }
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
