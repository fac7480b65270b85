//! Adafactor.

use super::{Rule, Slot, Step};
use candle_core::{DType, Result, Tensor, bail};

/// Adafactor (Shazeer and Stern, arXiv 1804.04235) in PyTorch's form: the second moment of a tensor with two or more
/// dimensions is kept as row and column means over the last two.
///
/// The step is composed of candle operations on every device: its row and column means make it bound by reductions,
/// not by the passes that fusion saves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adafactor {
    /// The decay of the second moment at step t is `1 - t^beta2_decay`.
    pub beta2_decay: f64,
    /// Floor of the second moment; `None`: the machine epsilon of the parameter's type.
    pub eps1: Option<f64>,
    /// Floor of the parameter scale.
    pub eps2: f64,
    /// The update is scaled down where its root mean square exceeds this.
    pub clip: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

impl Default for Adafactor {
    fn default() -> Self {
        Self { beta2_decay: -0.8, eps1: None, eps2: 1e-3, clip: 1.0, weight_decay: 0.0 }
    }
}

fn rms(t: &Tensor) -> Result<f64> {
    let square = t.to_dtype(DType::F64)?.sqr()?.mean_all()?;
    Ok(square.to_scalar::<f64>()?.sqrt())
}

impl Adafactor {
    /// `1 / sqrt(second moment)` after taking in `g`.
    fn inverse_root(&self, t: u64, g: &Tensor, slot: Slot<'_>) -> Result<Tensor> {
        let machine = if g.dtype() == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
        let eps1 = self.eps1.unwrap_or(machine);
        let fresh = (t as f64).powf(self.beta2_decay);
        let mix = |state: &candle_core::Var, new: Tensor| -> Result<Tensor> {
            let mixed = ((state.as_detached_tensor() * (1.0 - fresh))? + (new * fresh)?)?;
            state.set(&mixed)?;
            Ok(mixed)
        };
        let g2 = g.sqr()?;
        let (row, col) = match slot.state {
            [v] => return mix(v, g2)?.maximum(eps1 * eps1)?.sqrt()?.recip(),
            [row, col] => (row, col),
            _ => bail!("adafactor: expected one or two state tensors"),
        };
        let last = g.rank() - 1;
        let row = mix(row, g2.mean_keepdim(last)?)?;
        let col = mix(col, g2.mean_keepdim(last - 1)?)?;
        let scale = row.mean_keepdim(last - 1)?.maximum(eps1)?;
        row.broadcast_mul(&col)?.broadcast_div(&scale)?.maximum(eps1 * eps1)?.sqrt()?.recip()
    }
}

impl Rule for Adafactor {
    fn state(&self, dims: &[usize]) -> Vec<(&'static str, Vec<usize>)> {
        if dims.len() < 2 {
            return vec![("v", dims.to_vec())];
        }
        let (mut row, mut col) = (dims.to_vec(), dims.to_vec());
        row[dims.len() - 1] = 1;
        col[dims.len() - 2] = 1;
        vec![("row", row), ("col", col)]
    }

    fn update(&self, step: Step, slot: Slot<'_>) -> Result<()> {
        let p = slot.param.as_detached_tensor();
        let g = (slot.grad * step.grad_scale)?;
        let rho = step.lr.min(1.0 / (step.t as f64).sqrt());
        let alpha = self.eps2.max(rms(&p)?) * rho;
        let update = (self.inverse_root(step.t, &g, slot)? * g)?;
        let size = alpha / (rms(&update)? / self.clip).max(1.0);
        slot.param.set(&((p * (1.0 - step.lr * self.weight_decay))? - (update * size)?)?)
    }
}
