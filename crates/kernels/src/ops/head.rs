//! Vocabulary projection and cross entropy as one operation.
//!
//! The logits of a block of rows are made, turned into loss and gradient and multiplied back before the next block is
//! made, so memory holds one block and rows whose target is ignored cost nothing (Hsu et al., arXiv 2410.10989).

use super::cross_entropy::{CrossEntropy, Reduction, Rows, cross_entropy};
use super::linear::linear;
use crate::matmul::{Into, Mat, RightOperand, Run, column_sums, matmul};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

/// Logits held at a time: 16 MiB.
const BLOCK: usize = 4 << 20;

struct Head {
    rows: Rows,
    targets: Vec<Option<u32>>,
    denominator: f64,
}

/// Gradients for an incoming gradient of one.
#[derive(Default)]
struct Kept {
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Head {
    /// Indices of the rows that count, with their targets.
    fn live(&self) -> Vec<(usize, u32)> {
        self.targets.iter().enumerate().filter_map(|(i, t)| t.map(|t| (i, t))).collect()
    }

    /// Loss of the rows `live`; their logits become `by` times their gradient.
    fn rows_in_place(&self, logits: &mut [f32], v: usize, live: &[(usize, u32)], grad: bool) -> f64 {
        let by = (1.0 / self.denominator) as f32;
        let row = |(x, &(_, target)): (&mut [f32], &(usize, u32))| {
            let (loss, lse) = self.rows.loss(x, target);
            if grad {
                self.rows.grad_in_place(x, target, lse, by);
            }
            loss
        };
        let losses: Vec<f32> = logits.par_chunks_mut(v).zip(live).with_min_len(4).map(row).collect();
        losses.iter().map(|&l| f64::from(l)).sum()
    }
}

impl Kernel for Head {
    type Saved = Kept;
    const NAME: &'static str = "linear_cross_entropy";

    fn forward(&self, x: &[Arg<'_>], wants: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Kept)> {
        let [v, d] = [x[1].dims[0], x[1].dims[1]];
        let (w, b) = (Mat::new(x[1].data, v, d), x.get(2).map(|b| b.data));
        let wants_bias = wants.get(2).is_some_and(|&w| w);
        let grad = wants.contains(&true);
        let mut kept = Kept {
            dx: if wants[0] { vec![0.0; x[0].data.len()] } else { vec![] },
            dw: if wants[1] { vec![0.0; v * d] } else { vec![] },
            db: if wants_bias { vec![0.0; v] } else { vec![] },
        };
        let mut sum = 0.0;
        // Laid out once for all blocks of rows.
        let live = self.live();
        let (forward, back) =
            (RightOperand::new(w.t(), live.len()), RightOperand::new(w, if wants[0] { live.len() } else { 0 }));
        for live in live.chunks((BLOCK / v.max(1)).max(16)) {
            let n = live.len();
            let rows = gather(x[0].data, d, live);
            let mut logits = forward.product(Mat::new(&rows, n, d), b);
            sum += self.rows_in_place(&mut logits, v, live, grad);
            let dl = Mat::new(&logits, n, v);
            if wants[0] {
                let dx = back.product(dl, None);
                for (dx, &(at, _)) in dx.chunks_exact(d).zip(live) {
                    kept.dx[at * d..(at + 1) * d].copy_from_slice(dx);
                }
            }
            if wants[1] {
                matmul(&mut kept.dw, d, dl.t(), Mat::new(&rows, n, d), 1.0, Into::Add, Run::Parallel);
            }
            if wants_bias {
                kept.db.iter_mut().zip(column_sums(&logits, v)).for_each(|(b, g)| *b += g);
            }
        }
        Ok((vec![(sum / self.denominator) as f32], vec![], kept))
    }

    fn backward(&self, _: &[Arg<'_>], kept: &Kept, _: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let parts = [&kept.dx, &kept.dw, &kept.db];
        let scaled = |g: &[f32]| g.par_iter().map(|g| g * gy[0]).collect();
        Ok(wants.iter().zip(parts).map(|(&want, part)| want.then(|| scaled(part))).collect())
    }
}

/// The rows of `x` that count, one after the other.
fn gather(x: &[f32], d: usize, live: &[(usize, u32)]) -> Vec<f32> {
    let mut rows = Vec::with_capacity(live.len() * d);
    live.iter().for_each(|&(at, _)| rows.extend_from_slice(&x[at * d..(at + 1) * d]));
    rows
}

/// `cross_entropy(x weight^T + bias, target)` without ever holding all logits; `x`: [n, d], `weight`: [v, d],
/// `bias`: `[v]`, `target`: u32 or i64 `[n]`. Returns a scalar (`[n]`, and then through all logits, without reduction).
///
/// # Errors
/// As [`linear`](crate::linear) and [`cross_entropy`](crate::cross_entropy).
pub fn linear_cross_entropy(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    target: &Tensor,
    options: &CrossEntropy,
) -> Result<Tensor> {
    let ((n, d), (v, inner)) = (x.dims2()?, weight.dims2()?);
    if inner != d || bias.is_some_and(|b| b.dims() != [v]) {
        bail!("linear_cross_entropy: input {:?}, weight {:?}", x.dims(), weight.dims());
    }
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    if !fast(&inputs) || options.reduction == Reduction::None {
        return cross_entropy(&linear(x, weight, bias)?, target, options);
    }
    let targets = options.targets(target, n, v)?;
    let rows = Rows::new(options, v)?;
    let denominator = rows.denominator(&targets, options.reduction);
    apply(Head { rows, targets, denominator }, &inputs)
}
