//! Two-dimensional convolution.

use super::abreast::Abreast;
use super::clamp::{Clamp, chained};
use super::depthwise::Depthwise;
use super::direct::Direct;
use super::im2col::Im2col;
use super::image;
use super::winograd::{Kernels, Winograd};
use crate::matmul::{buffer, uncleared};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
use candle_core::{Result, Tensor, bail};
use rayon::prelude::*;

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
    pub fn new(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: &Conv2d) -> Result<Self> {
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

/// What happens to the sums of a convolution on their way into the result.
#[derive(Clone, Copy, Default)]
pub(super) struct Finish<'a> {
    pub scale: Option<&'a [f32]>,
    pub bias: Option<&'a [f32]>,
    pub residual: Option<&'a [f32]>,
    pub clamp: Option<Clamp>,
}

simd_fn! {
    /// `dst = clamp(src scale + bias + residual)`; no residual if it is empty.
    fn finish_row<V>(src: &[f32], scale: f32, bias: f32, residual: &[f32], clamp: Option<Clamp>, dst: &mut [f32]) {
        let (scale, bias) = (V::splat(scale), V::splat(bias));
        if residual.is_empty() {
            math::map1::<V>(src, dst, |x| Clamp::value(clamp, x.fma(scale, bias)));
        } else {
            math::map2::<V>(src, residual, dst, |x, r| Clamp::value(clamp, x.fma(scale, bias).add(r)));
        }
    }
}

impl Finish<'_> {
    /// Finishes `src`, sums of channel `channel` that belong at `place` of the result, into `dst`.
    pub fn row(&self, channel: usize, place: usize, src: &[f32], dst: &mut [f32]) {
        if self.scale.or(self.bias).or(self.residual).is_none() && self.clamp.is_none() {
            return dst.copy_from_slice(src);
        }
        let (scale, bias) = (self.scale.map_or(1.0, |s| s[channel]), self.bias.map_or(0.0, |b| b[channel]));
        let residual = self.residual.map_or(&[][..], |r| &r[place..place + src.len()]);
        finish_row(src, scale, bias, residual, self.clamp, dst);
    }
}

/// The algorithm for a geometry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Method {
    Winograd(Winograd),
    Depthwise(Depthwise),
    Abreast(Abreast),
    Direct(Direct),
    Im2col(Im2col),
    /// Nothing to compute.
    Empty(Sizes),
}

/// Channels below which the gradient of the input is better laid out than taken from where it is.
const DIRECT_CHANNELS: usize = 16;
/// Channels below which transforms cost more than Winograd's products save.
const WINOGRAD_CHANNELS: usize = 16;

impl Method {
    pub fn new(n: Sizes, config: Conv2d) -> Self {
        let Sizes { b, c, h, w, o, kh, kw, oh, ow, g } = n;
        let [top, _, left, _] = config.padding;
        let simple = config.stride == [1, 1] && config.dilation == [1, 1] && config.padding.iter().all(|&p| p <= 2);
        if b * c * o == 0 {
            Self::Empty(n)
        } else if simple && [kh, kw, g] == [3, 3, 1] && c.min(o) >= WINOGRAD_CHANNELS && h.min(w) > 1 {
            Self::Winograd(Winograd { b, c, h, w, o, oh, ow, top, left })
        } else if g > 1 && c == g {
            Abreast::new(n, config).map_or(Self::Depthwise(Depthwise { n, config }), Self::Abreast)
        } else if g == 1 && kh * kw > 1 {
            Self::Direct(Direct { n, config })
        } else {
            Self::Im2col(Im2col { n, config })
        }
    }

    /// The convolution of `x` with `weight`.
    pub fn run(&self, x: &[f32], weight: &[f32], finish: &Finish<'_>) -> Vec<f32> {
        match self {
            Self::Empty(n) => buffer(n.b * n.o * n.oh * n.ow),
            Self::Depthwise(d) => d.run(x, weight, finish),
            Self::Abreast(a) => a.run(x, weight, finish),
            Self::Direct(d) => d.run(x, weight, finish),
            Self::Im2col(m) => m.run(x, weight, finish),
            Self::Winograd(w) => {
                // SAFETY: every strip is written.
                let mut y = unsafe { uncleared(w.b * w.o * w.oh * w.ow) };
                w.run(x, &Kernels::forward(weight, w.o, w.c), finish, &mut y);
                y
            }
        }
    }

    /// The gradient of `x`.
    pub fn input_grad(&self, weight: &[f32], dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Empty(n) => buffer(n.b * n.c * n.h * n.w),
            Self::Depthwise(d) => d.input_grad(weight, dy),
            Self::Abreast(a) => a.input_grad(weight, dy),
            // Few channels fill no vectors where they stand side by side.
            Self::Direct(Direct { n, config }) if n.c < DIRECT_CHANNELS => {
                Im2col { n: *n, config: *config }.input_grad(weight, dy)
            }
            Self::Direct(d) => d.input_grad(weight, dy),
            Self::Im2col(m) => m.input_grad(weight, dy),
            Self::Winograd(w) => {
                // SAFETY: every strip is written.
                let mut dx = unsafe { uncleared(w.b * w.c * w.h * w.w) };
                let back = Winograd {
                    c: w.o,
                    h: w.oh,
                    w: w.ow,
                    o: w.c,
                    oh: w.h,
                    ow: w.w,
                    top: 2 - w.top,
                    left: 2 - w.left,
                    ..*w
                };
                back.run(dy, &Kernels::turned(weight, w.o, w.c), &Finish::default(), &mut dx);
                dx
            }
        }
    }

    /// The gradient of `weight`.
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        match self {
            Self::Empty(n) => vec![0.0; n.o * n.c / n.g * n.kh * n.kw],
            Self::Depthwise(d) => d.weight_grad(x, dy),
            Self::Abreast(a) => a.weight_grad(x, dy),
            Self::Direct(d) => d.weight_grad(x, dy),
            Self::Im2col(m) => m.weight_grad(x, dy),
            Self::Winograd(w) => w.weight_grad(x, dy),
        }
    }
}

simd_fn! {
    fn row_sum<V>(x: &[f32]) -> f32 { math::sum1::<V>(x, 0.0, |x| x) }
}

/// Sums of `x`: [b, c, pixels] per channel, images in their order.
pub(super) fn channel_sums(x: &[f32], b: usize, c: usize) -> Vec<f32> {
    let pixels = x.len().checked_div(b * c).unwrap_or(0);
    let sum = |k: usize| {
        let rows = (0..b).map(|i| f64::from(row_sum(&x[(i * c + k) * pixels..][..pixels])));
        rows.sum::<f64>() as f32
    };
    (0..c).into_par_iter().map(sum).collect()
}

/// Convolution with bias, residual and bounds; inputs are x, weight, then bias and residual where there are any.
struct Conv {
    n: Sizes,
    method: Method,
    has_bias: bool,
    clamp: Option<Clamp>,
}

impl Kernel for Conv {
    type Saved = ();
    const NAME: &'static str = "conv2d";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let bias = self.has_bias.then(|| x[2].data);
        let residual = x.get(2 + usize::from(self.has_bias)).map(|r| r.data);
        let finish = Finish { scale: None, bias, residual, clamp: self.clamp };
        let y = self.method.run(x[0].data, x[1].data, &finish);
        Ok((y, vec![self.n.b, self.n.o, self.n.oh, self.n.ow], ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), y: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads> {
        let before = self.clamp.map(|clamp| chained(clamp, y, gy));
        let g = before.as_deref().unwrap_or(gy);
        let mut grads = vec![
            wants[0].then(|| self.method.input_grad(x[1].data, g)),
            wants[1].then(|| self.method.weight_grad(x[0].data, g)),
        ];
        if self.has_bias {
            grads.push(wants[2].then(|| channel_sums(g, self.n.b, self.n.o)));
        }
        if x.len() > grads.len() {
            grads.push(wants[x.len() - 1].then(|| g.to_vec()));
        }
        Ok(grads)
    }
}

/// Cross-correlation of images with kernels, as PyTorch's `conv2d`.
///
/// `x`: [b, c, h, w]; `weight`: [o, c/g, kh, kw]; `bias`: `[o]`; result [b, o, oh, ow].
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
    let mut inputs = vec![x, weight];
    inputs.extend(bias);
    inputs.extend(residual);
    if fast(&inputs) {
        let conv = Conv { n, method: Method::new(n, *config), has_bias: bias.is_some(), clamp };
        return apply(conv, &inputs);
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
