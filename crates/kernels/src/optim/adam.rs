//! Adam, AdamW and NAdam.

use super::slice::with_slices;
use super::{Rule, Slot, Step};
use crate::simd::simd_fn;
use candle_core::Result;
use rayon::prelude::*;

/// Values per task of a fused step.
pub(super) const CHUNK: usize = 32 * 1024;

/// Adam (Kingma and Ba, arXiv 1412.6980), by default with decoupled weight decay (AdamW, arXiv 1711.05101).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// True: the parameter shrinks by `lr * weight_decay` (AdamW). False: `weight_decay * parameter` is added to the
    /// gradient (Adam with L2).
    pub decoupled: bool,
}

impl Default for Adam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.01, decoupled: true }
    }
}

/// Constants of one step.
#[derive(Clone, Copy)]
struct Constants {
    scale: f32,
    l2: f32,
    keep: f32,
    beta1: f32,
    rest1: f32,
    beta2: f32,
    rest2: f32,
    root_correction: f32,
    eps: f32,
    size_m: f32,
    size_g: f32,
}

simd_fn! {
    fn adam_chunk<V>(k: Constants, p: &mut [f32], m: &mut [f32], v: &mut [f32], g: &[f32]) {
        for (((p, m), v), g) in p.iter_mut().zip(m).zip(v).zip(g) {
            let g = *g * k.scale + k.l2 * *p;
            *m = k.beta1 * *m + k.rest1 * g;
            *v = k.beta2 * *v + k.rest2 * g * g;
            let denominator = v.sqrt() * k.root_correction + k.eps;
            *p = *p * k.keep - (k.size_m * *m + k.size_g * g) / denominator;
        }
    }
}

fn moments(dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
    vec![("m", dims.to_vec()), ("v", dims.to_vec())]
}

/// The step shared by Adam and NAdam: `p = keep p - (size_m m + size_g g) / (sqrt(v / correction2) + eps)`.
struct Moments {
    step: Step,
    betas: (f64, f64),
    eps: f64,
    l2: f64,
    keep: f64,
    size_m: f64,
    size_g: f64,
}

impl Moments {
    fn apply(&self, slot: Slot<'_>) -> Result<()> {
        let (b1, b2) = self.betas;
        let correction2 = 1.0 - b2.powf(self.step.t as f64);
        let k = Constants {
            scale: self.step.grad_scale as f32,
            l2: self.l2 as f32,
            keep: self.keep as f32,
            beta1: b1 as f32,
            rest1: (1.0 - b1) as f32,
            beta2: b2 as f32,
            rest2: (1.0 - b2) as f32,
            root_correction: (1.0 / correction2.sqrt()) as f32,
            eps: self.eps as f32,
            size_m: self.size_m as f32,
            size_g: self.size_g as f32,
        };
        let [m, v] = slot.state else { candle_core::bail!("adam: expected the states m and v") };
        let done = with_slices(&[slot.param.as_tensor(), m, v], slot.grad, &mut |values, g| {
            if let [p, m, v] = values {
                let chunks = p.par_chunks_mut(CHUNK).zip(m.par_chunks_mut(CHUNK)).zip(v.par_chunks_mut(CHUNK));
                chunks.zip(g.par_chunks(CHUNK)).for_each(|(((p, m), v), g)| adam_chunk(k, p, m, v, g));
            }
        })?;
        if done.is_some() {
            return Ok(());
        }
        let p = slot.param.as_detached_tensor();
        let g = ((slot.grad * self.step.grad_scale)? + (&p * self.l2)?)?;
        m.set(&((m.as_detached_tensor() * b1)? + (&g * (1.0 - b1))?)?)?;
        v.set(&((v.as_detached_tensor() * b2)? + (g.sqr()? * (1.0 - b2))?)?)?;
        let denominator = ((v.as_detached_tensor() / correction2)?.sqrt()? + self.eps)?;
        let direction = ((m.as_detached_tensor() * self.size_m)? + (g * self.size_g)?)?;
        slot.param.set(&((p * self.keep)? - (direction / denominator)?)?)
    }
}

impl Rule for Adam {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        moments(dims)
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let correction1 = 1.0 - self.beta1.powf(step.t as f64);
        let (l2, keep) =
            if self.decoupled { (0.0, 1.0 - step.lr * self.weight_decay) } else { (self.weight_decay, 1.0) };
        let (size_m, betas) = (step.lr / correction1, (self.beta1, self.beta2));
        Moments { step, betas, eps: self.eps, l2, keep, size_m, size_g: 0.0 }.apply(slot)
    }
}

/// Adam with Nesterov momentum (Dozat 2016), PyTorch's form with L2 decay.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NAdam {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// L2 decay, added to the gradient.
    pub weight_decay: f64,
    /// Decay of the momentum schedule.
    pub momentum_decay: f64,
}

impl Default for NAdam {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, momentum_decay: 0.004 }
    }
}

impl NAdam {
    fn mu(&self, t: u64) -> f64 {
        self.beta1 * (1.0 - 0.5 * 0.96_f64.powf(t as f64 * self.momentum_decay))
    }
}

impl Rule for NAdam {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        moments(dims)
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let product: f64 = (1..=step.t).map(|t| self.mu(t)).product();
        let (mu, next) = (self.mu(step.t), self.mu(step.t + 1));
        let moments = Moments {
            step,
            betas: (self.beta1, self.beta2),
            eps: self.eps,
            l2: self.weight_decay,
            keep: 1.0,
            size_m: step.lr * next / (1.0 - product * next),
            size_g: step.lr * (1.0 - mu) / (1.0 - product),
        };
        moments.apply(slot)
    }
}
