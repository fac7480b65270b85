//! What convolutional networks are built of.

use candle_core::{Result, Tensor};
use chandlery_kernels::{self as ck, Clamp};
use chandlery_nn::{BatchNorm2d, BatchNormConfig, Conv2d, Mode, Scope};

/// Zeros around an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Padding {
    /// Half the kernel on every side, as torchvision's networks.
    Half,
    /// TensorFlow's "same": as much as [`same`] says.
    Same,
}

/// Shape of a unit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub i: usize,
    pub o: usize,
    pub kernel: usize,
    pub stride: usize,
    pub groups: usize,
    pub padding: Padding,
}

/// Convolution without bias, then batch norm.
pub(super) struct Unit {
    conv: Conv2d,
    norm: BatchNorm2d,
    padding: Padding,
}

impl Unit {
    /// Its convolution's parameters stand in the first place, those of its norm in the second.
    pub fn new((conv, norm): (&Scope, &Scope), shape: Shape, config: BatchNormConfig) -> Result<Self> {
        let Shape { i, o, kernel, stride, groups, padding } = shape;
        let zeros = if padding == Padding::Half { kernel / 2 } else { 0 };
        let geometry = ck::Conv2d::new(stride, zeros).with_groups(groups);
        let conv = Conv2d::new(conv, (i, o), kernel, false, geometry)?;
        Ok(Self { conv, norm: BatchNorm2d::new(norm, o, config)?, padding })
    }

    /// [b, i, h, w] to [b, o, ceil(h / stride), ceil(w / stride)]; `residual` is added before the bounds.
    pub fn forward(&self, x: &Tensor, mode: Mode, residual: Option<&Tensor>, clamp: Option<Clamp>) -> Result<Tensor> {
        if self.padding == Padding::Half {
            return self.norm.after(&self.conv, x, mode, residual, clamp);
        }
        let (_, _, h, w) = x.dims4()?;
        let (_, _, kh, kw) = self.conv.weight.dims4()?;
        let [down, right] = self.conv.geometry.stride;
        let ([top, bottom], [left, right]) = (same(h, kh, down), same(w, kw, right));
        let geometry = ck::Conv2d { padding: [top, bottom, left, right], ..self.conv.geometry };
        self.norm.after(&Conv2d { geometry, ..self.conv.clone() }, x, mode, residual, clamp)
    }
}

/// TensorFlow's "same" padding before and after: the odd pixel stands after.
fn same(n: usize, kernel: usize, stride: usize) -> [usize; 2] {
    let total = ((n.div_ceil(stride).max(1) - 1) * stride + kernel).saturating_sub(n);
    [total / 2, total - total / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        // Even image, odd kernel, stride 2: one pixel more after than before.
        assert_eq!(same(224, 3, 2), [0, 1]);
        assert_eq!(same(112, 5, 2), [1, 2]);
        assert_eq!(same(7, 3, 2), [1, 1]);
        assert_eq!(same(14, 5, 1), [2, 2]);
        assert_eq!(same(5, 1, 2), [0, 0]);
    }
}
