//! Two-dimensional convolution.

use super::clamp::Clamp;
use super::image;
use candle_core::{Result, Tensor, bail};

/// Geometry of a convolution; [rows, columns] unless stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Distance between the places where the kernel is applied.
    pub stride: [usize; 2],
    /// Zeros around the image: top, bottom, left, right.
    pub padding: [usize; 4],
    /// Distance between the pixels under neighbouring weights.
    pub dilation: [usize; 2],
    /// Number of groups of channels that see only each other.
    pub groups: usize,
}

impl Default for Conv2d {
    fn default() -> Self {
        Self { stride: [1, 1], padding: [0; 4], dilation: [1, 1], groups: 1 }
    }
}

impl Conv2d {
    /// The same stride in both directions and the same padding on all sides.
    pub fn new(stride: usize, padding: usize) -> Self {
        Self { stride: [stride; 2], padding: [padding; 4], ..Self::default() }
    }

    /// The same with `groups`.
    #[must_use]
    pub fn with_groups(self, groups: usize) -> Self {
        Self { groups, ..self }
    }
}

/// All sizes of one call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub b: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub kh: usize,
    pub kw: usize,
    pub oh: usize,
    pub ow: usize,
    pub g: usize,
}

impl Sizes {
    fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2d) -> Result<Self> {
        let [b, c, h, w] = image("conv2d", x)?;
        let &[o, per_group, kh, kw] = weight.dims() else {
            bail!("conv2d: expected a weight [o, c/g, kh, kw], got {:?}", weight.dims());
        };
        let g = config.groups;
        if g == 0 || c % g != 0 || o % g != 0 || per_group * g != c {
            bail!(
                "conv2d: input {:?} in {g} groups needs a weight [o, {c}/{g}, kh, kw], got {:?}",
                x.dims(),
                weight.dims()
            );
        }
        if let Some(bias) = bias.filter(|bias| bias.dims() != [o]) {
            bail!("conv2d: weight {:?} needs a bias [{o}], got {:?}", weight.dims(), bias.dims());
        }
        let [top, bottom, left, right] = config.padding;
        let out = |n: usize, k: usize, d: usize| {
            let (stride, dilation) = (config.stride[d], config.dilation[d]);
            if k == 0 || stride == 0 || dilation == 0 || n < (k - 1) * dilation + 1 {
                bail!("conv2d: kernel {:?} does not fit input {:?} with {config:?}", weight.dims(), x.dims());
            }
            Ok((n - (k - 1) * dilation - 1) / stride + 1)
        };
        let (oh, ow) = (out(h + top + bottom, kh, 0)?, out(w + left + right, kw, 1)?);
        Ok(Self { b, c, h, w, o, kh, kw, oh, ow, g })
    }
}

/// Cross-correlation of images with kernels, as PyTorch's `conv2d`.
///
/// `x`: [b, c, h, w]; `weight`: [o, c/g, kh, kw]; `bias`: [o]; result [b, o, oh, ow].
///
/// # Errors
/// If the shapes do not fit each other or the kernel does not fit the padded image.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2d) -> Result<Tensor> {
    conv2d_fused(x, weight, bias, config, None, None)
}

/// `clamp(conv2d(x) + residual)` as one operation; `residual`: [b, o, oh, ow].
///
/// # Errors
/// As [`conv2d`], and if the shape of `residual` differs from the result's.
pub fn conv2d_fused(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: &Conv2d,
    residual: Option<&Tensor>,
    clamp: Option<Clamp>,
) -> Result<Tensor> {
    let n = Sizes::new(x, weight, bias, config)?;
    if let Some(r) = residual.filter(|r| r.dims() != [n.b, n.o, n.oh, n.ow]) {
        bail!("conv2d: expected a residual {:?}, got {:?}", [n.b, n.o, n.oh, n.ow], r.dims());
    }
    let y = composed(n, x, weight, config)?;
    let y = bias.map_or(Ok(y.clone()), |bias| y.broadcast_add(&bias.reshape((1, n.o, 1, 1))?))?;
    let y = residual.map_or(Ok(y.clone()), |r| &y + r)?;
    clamp.map_or(Ok(y.clone()), |c| c.composed(&y))
}

/// The pixels under each weight side by side, and a product with the weights.
fn composed(n: Sizes, x: &Tensor, weight: &Tensor, config: &Conv2d) -> Result<Tensor> {
    let Sizes { b, c, o, kh, kw, oh, ow, g, .. } = n;
    if b * c * o == 0 {
        return Tensor::zeros((b, o, oh, ow), x.dtype(), x.device());
    }
    let [top, bottom, left, right] = config.padding;
    let padded = x.pad_with_zeros(2, top, bottom)?.pad_with_zeros(3, left, right)?.contiguous()?;
    let places = |out: usize, tap: usize, d: usize| {
        let at = (0..out).map(|i| (i * config.stride[d] + tap * config.dilation[d]) as u32);
        Tensor::from_iter(at, x.device())
    };
    let mut taps = Vec::with_capacity(kh * kw);
    for i in 0..kh {
        let rows = padded.index_select(&places(oh, i, 0)?, 2)?;
        for j in 0..kw {
            taps.push(rows.index_select(&places(ow, j, 1)?, 3)?.reshape((b, c, oh * ow))?);
        }
    }
    // [b, c, kh kw, oh ow] to [b, g, c/g kh kw, oh ow]
    let columns = Tensor::stack(&taps, 2)?.reshape((b, g, c / g * kh * kw, oh * ow))?;
    let weight = weight.contiguous()?.reshape((1, g, o / g, c / g * kh * kw))?;
    weight.broadcast_matmul(&columns)?.reshape((b, o, oh, ow))
}
