//! Stochastic gradient descent with momentum, and RMSProp.

use super::adam::CHUNK;
use super::slice::with_slices;
use super::{Rule, Slot, Step};
use crate::simd::simd_fn;
use candle_core::{Result, bail};
use rayon::prelude::*;

/// Gradient descent with L2 decay and heavy-ball or Nesterov momentum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sgd {
    /// Momentum; 0 keeps no state.
    pub momentum: f64,
    /// Look ahead along the momentum (Sutskever et al. 2013).
    pub nesterov: bool,
    /// L2 decay, added to the gradient.
    pub weight_decay: f64,
}

#[derive(Clone, Copy)]
struct SgdConstants {
    scale: f32,
    l2: f32,
    lr: f32,
    momentum: f32,
    nesterov: bool,
}

simd_fn! {
    fn sgd_chunk<V>(k: SgdConstants, p: &mut [f32], buf: &mut [f32], g: &[f32]) {
        for ((p, b), g) in p.iter_mut().zip(buf).zip(g) {
            let g = *g * k.scale + k.l2 * *p;
            *b = k.momentum * *b + g;
            *p -= k.lr * if k.nesterov { g + k.momentum * *b } else { *b };
        }
    }
}
simd_fn! {
    fn descend_chunk<V>(k: SgdConstants, p: &mut [f32], g: &[f32]) {
        p.iter_mut().zip(g).for_each(|(p, g)| *p -= k.lr * (*g * k.scale + k.l2 * *p));
    }
}

impl Rule for Sgd {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        if self.momentum == 0.0 { vec![] } else { vec![("momentum", dims.to_vec())] }
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let k = SgdConstants {
            scale: step.grad_scale as f32,
            l2: self.weight_decay as f32,
            lr: step.lr as f32,
            momentum: self.momentum as f32,
            nesterov: self.nesterov,
        };
        let mut open = vec![slot.param.as_tensor()];
        open.extend(slot.state.iter().map(|s| s.as_tensor()));
        let done = with_slices(&open, slot.grad, &mut |values, g| match values {
            [p, b] => {
                let chunks = p.par_chunks_mut(CHUNK).zip(b.par_chunks_mut(CHUNK)).zip(g.par_chunks(CHUNK));
                chunks.for_each(|((p, b), g)| sgd_chunk(k, p, b, g));
            }
            [p] => p.par_chunks_mut(CHUNK).zip(g.par_chunks(CHUNK)).for_each(|(p, g)| descend_chunk(k, p, g)),
            _ => {}
        })?;
        if done.is_some() {
            return Ok(());
        }
        let p = slot.param.as_detached_tensor();
        let g = ((slot.grad * step.grad_scale)? + (&p * self.weight_decay)?)?;
        let direction = match slot.state {
            [] => g,
            [b] => {
                let new = ((b.as_detached_tensor() * self.momentum)? + &g)?;
                b.set(&new)?;
                if self.nesterov { (g + (new * self.momentum)?)? } else { new }
            }
            _ => bail!("sgd: expected at most one state tensor"),
        };
        slot.param.set(&(p - (direction * step.lr)?)?)
    }
}

/// RMSProp (Hinton 2012) in PyTorch's form: L2 decay, optional centring and momentum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RmsProp {
    /// Decay of the mean square.
    pub alpha: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// L2 decay, added to the gradient.
    pub weight_decay: f64,
    /// Momentum; 0 keeps no buffer.
    pub momentum: f64,
    /// Divide by an estimate of the variance instead of the mean square.
    pub centered: bool,
}

impl Default for RmsProp {
    fn default() -> Self {
        Self { alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

#[derive(Clone, Copy)]
struct RmsConstants {
    scale: f32,
    l2: f32,
    lr: f32,
    alpha: f32,
    rest: f32,
    eps: f32,
    momentum: f32,
}

simd_fn! {
    /// `mean` and `buf` are empty where not used.
    fn rms_chunk<V>(k: RmsConstants, p: &mut [f32], square: &mut [f32], mean: &mut [f32], buf: &mut [f32], g: &[f32]) {
        for i in 0..p.len() {
            let g = g[i] * k.scale + k.l2 * p[i];
            square[i] = k.alpha * square[i] + k.rest * g * g;
            let mut spread = square[i];
            if !mean.is_empty() {
                mean[i] = k.alpha * mean[i] + k.rest * g;
                spread -= mean[i] * mean[i];
            }
            let mut direction = g / (spread.sqrt() + k.eps);
            if !buf.is_empty() {
                buf[i] = k.momentum * buf[i] + direction;
                direction = buf[i];
            }
            p[i] -= k.lr * direction;
        }
    }
}

impl RmsProp {
    fn composed(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let p = slot.param.as_detached_tensor();
        let g = ((slot.grad * step.grad_scale)? + (&p * self.weight_decay)?)?;
        let mut state = slot.state.iter();
        let mut decay = |add: candle_core::Tensor, keep: f64| {
            let Some(s) = state.next() else { bail!("rmsprop: a state tensor is missing") };
            s.set(&((s.as_detached_tensor() * keep)? + add)?)?;
            Ok(s.as_detached_tensor())
        };
        let mut spread = decay((g.sqr()? * (1.0 - self.alpha))?, self.alpha)?;
        if self.centered {
            spread = (spread - decay((&g * (1.0 - self.alpha))?, self.alpha)?.sqr()?)?;
        }
        let mut direction = (g / (spread.sqrt()? + self.eps)?)?;
        if self.momentum != 0.0 {
            direction = decay(direction, self.momentum)?;
        }
        slot.param.set(&(p - (direction * step.lr)?)?)
    }
}

impl Rule for RmsProp {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        let wanted = [("square", true), ("mean", self.centered), ("momentum", self.momentum != 0.0)];
        wanted.into_iter().filter(|(_, want)| *want).map(|(name, _)| (name, dims.to_vec())).collect()
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let k = RmsConstants {
            scale: step.grad_scale as f32,
            l2: self.weight_decay as f32,
            lr: step.lr as f32,
            alpha: self.alpha as f32,
            rest: (1.0 - self.alpha) as f32,
            eps: self.eps as f32,
            momentum: self.momentum as f32,
        };
        let mut open = vec![slot.param.as_tensor()];
        open.extend(slot.state.iter().map(|s| s.as_tensor()));
        let (centered, momentum) = (self.centered, self.momentum != 0.0);
        let done = with_slices(&open, slot.grad, &mut |values, g| {
            let mut values = values.iter_mut();
            let mut next =
                |used: bool| if used { values.next().map(|v| &mut **v).unwrap_or_default() } else { &mut [] };
            let (p, square, mean, buf) = (next(true), next(true), next(centered), next(momentum));
            rms_chunk(k, p, square, mean, buf, g);
        })?;
        done.map_or_else(|| self.composed(step, slot), Ok)
    }
}
