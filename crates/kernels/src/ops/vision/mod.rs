//! Operations on images [b, c, h, w].

mod abreast;
pub(crate) mod batch_norm;
pub(crate) mod clamp;
pub(crate) mod conv;
pub(crate) mod conv_norm;
mod depthwise;
mod direct;
mod im2col;
mod multiply;
mod pixels;
pub(crate) mod pool;
mod product;
pub(crate) mod separable;
mod winograd;

use candle_core::{Result, Tensor, bail};

/// Sizes of an image batch, of one pixel at least, or an error that names the operation.
fn image(op: &str, x: &Tensor) -> Result<[usize; 4]> {
    match x.dims() {
        &[_, _, h, w] if h * w == 0 => {
            bail!("{op}: expected images of at least one pixel, got an input {:?}", x.dims())
        }
        &[b, c, h, w] => Ok([b, c, h, w]),
        other => bail!("{op}: expected an input [b, c, h, w], got {other:?}"),
    }
}
