//! The two-layer feed-forward block as one node.
//!
//! Fused, it keeps one hidden activation instead of two and leaves no hidden gradient in candle's store: at width d and
//! 4d hidden units that is 8 of 14 values per token.

use super::activation::{Activation, activate, activate_and_chain};
use super::linear::{affine, linear};
use crate::matmul::{Mat, column_sums, product};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{D, Result, Tensor, bail};

/// Inputs: x, w1, w2, b1, b2 (the biases may be missing together).
struct Mlp {
    act: Activation,
}

/// Tokens, width in, hidden units, width out.
fn sizes(x: &[Arg<'_>]) -> [usize; 4] {
    let (hidden, d) = (x[1].dims[0], x[1].dims[1]);
    [x[0].data.len().checked_div(d).unwrap_or(0), d, hidden, x[2].dims[0]]
}

impl Kernel for Mlp {
    /// The hidden units before the nonlinearity.
    type Saved = Vec<f32>;
    const NAME: &'static str = "mlp";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Vec<f32>)> {
        let [n, d, hidden, o] = sizes(x);
        let h = affine(x[0].data, x[1].data, x.get(3).map(|b| b.data), n, d, hidden);
        let y = affine(&activate(self.act, &h), x[2].data, x.get(4).map(|b| b.data), n, hidden, o);
        let mut dims = x[0].dims.to_vec();
        dims.pop();
        dims.push(o);
        Ok((y, dims, h))
    }

    fn backward(&self, x: &[Arg<'_>], h: &Vec<f32>, _: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let [n, d, hidden, o] = sizes(x);
        let g = Mat::new(gy, n, o);
        let mut gh = product(g, Mat::new(x[2].data, o, hidden));
        let a = activate_and_chain(self.act, h, &mut gh);
        let dw2 = wants[2].then(|| product(g.t(), Mat::new(&a, n, hidden)));
        drop(a);
        let gh_mat = Mat::new(&gh, n, hidden);
        let mut grads = vec![
            wants[0].then(|| product(gh_mat, Mat::new(x[1].data, hidden, d))),
            wants[1].then(|| product(gh_mat.t(), Mat::new(x[0].data, n, d))),
            dw2,
        ];
        if x.len() > 3 {
            grads.push(wants[3].then(|| column_sums(&gh, hidden)));
            grads.push(wants[4].then(|| column_sums(gy, o)));
        }
        Ok(grads)
    }
}

/// `y = act(x w1^T + b1) w2^T + b2`; `x`: [.., d], `w1`: [h, d], `w2`: [o, h], `b1`: `[h]`, `b2`: `[o]`.
///
/// # Errors
/// If the shapes do not chain, or only one bias is given.
pub fn mlp(
    x: &Tensor,
    w1: &Tensor,
    b1: Option<&Tensor>,
    w2: &Tensor,
    b2: Option<&Tensor>,
    act: Activation,
) -> Result<Tensor> {
    let ((hidden, d), (o, inner)) = (w1.dims2()?, w2.dims2()?);
    if x.rank() == 0 || x.dim(D::Minus1)? != d || inner != hidden {
        bail!("mlp: [{hidden}, {d}] and [{o}, {inner}] do not chain on input {:?}", x.dims());
    }
    let biases = match (b1, b2) {
        (Some(b1), Some(b2)) if b1.dims() == [hidden] && b2.dims() == [o] => vec![b1, b2],
        (None, None) => vec![],
        _ => bail!("mlp: give both biases, [{hidden}] and [{o}], or none"),
    };
    let inputs = [vec![x, w1, w2], biases].concat();
    if fast(&inputs) {
        return apply(Mlp { act }, &inputs);
    }
    linear(&act.composed(&linear(x, w1, b1)?)?, w2, b2)
}
