//! The affine map.

use crate::matmul::{Into, Mat, Run, column_sums, matmul, product, uncleared};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use candle_core::{D, Result, Tensor, bail};

/// `y = x w^T + b` on slices; `x`: [n, i], `w`: [o, i], `b`: [o].
pub(crate) fn affine(x: &[f32], w: &[f32], b: Option<&[f32]>, n: usize, i: usize, o: usize) -> Vec<f32> {
    // SAFETY: the product is set and not added.
    let mut y = unsafe { uncleared(n * o) };
    matmul(&mut y, o, Mat::new(x, n, i), Mat::new(w, o, i).t(), 1.0, b.map_or(Into::Set, Into::Bias), Run::Parallel);
    y
}

struct Linear;

impl Kernel for Linear {
    type Saved = ();
    const NAME: &'static str = "linear";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let [o, i] = [x[1].dims[0], x[1].dims[1]];
        let n = x[0].dims[..x[0].dims.len() - 1].iter().product();
        let mut dims = x[0].dims.to_vec();
        dims.pop();
        dims.push(o);
        Ok((affine(x[0].data, x[1].data, x.get(2).map(|b| b.data), n, i, o), dims, ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let [o, i] = [x[1].dims[0], x[1].dims[1]];
        let n = gy.len().checked_div(o).unwrap_or(0);
        let g = Mat::new(gy, n, o);
        let mut grads = vec![
            wants[0].then(|| product(g, Mat::new(x[1].data, o, i))),
            wants[1].then(|| product(g.t(), Mat::new(x[0].data, n, i))),
        ];
        if x.len() > 2 {
            grads.push(wants[2].then(|| column_sums(gy, o)));
        }
        Ok(grads)
    }
}

/// `y = x w^T + b`; `x`: [.., i], `w`: [o, i], `b`: `[o]`, `y`: [.., o].
///
/// # Errors
/// If the inner dimensions differ or the bias is not of shape `[o]`.
pub fn linear(x: &Tensor, w: &Tensor, b: Option<&Tensor>) -> Result<Tensor> {
    let (o, i) = w.dims2()?;
    if x.rank() == 0 || x.dim(D::Minus1)? != i {
        bail!("linear: weight [{o}, {i}] needs input [.., {i}], got {:?}", x.dims());
    }
    if let Some(b) = b
        && b.dims() != [o]
    {
        bail!("linear: weight [{o}, {i}] needs bias [{o}], got {:?}", b.dims());
    }
    let mut inputs = vec![x, w];
    inputs.extend(b);
    if fast(&inputs) {
        return apply(Linear, &inputs);
    }
    let mut dims = x.dims().to_vec();
    dims.pop();
    let n = dims.iter().product::<usize>();
    dims.push(o);
    let y = x.reshape((n, i))?.matmul(&w.t()?)?.reshape(dims)?;
    b.map_or(Ok(y.clone()), |b| y.broadcast_add(b))
}
