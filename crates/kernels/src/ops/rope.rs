//! Rotary position embedding.

use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::simd_fn;
use candle_core::{D, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Which two values are rotated together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RopeStyle {
    /// `x[i]` with `x[i + d/2]` (GPT-NeoX, Llama checkpoints of the hub).
    #[default]
    Halves,
    /// `x[2i]` with `x[2i + 1]` (the paper, GGUF files of Llama).
    Interleaved,
}

/// Cosines and sines of all positions, `[t, d/2]` row-major.
#[derive(Clone, Debug)]
pub struct RopeTable {
    cos: Vec<f32>,
    sin: Vec<f32>,
    half: usize,
}

impl RopeTable {
    /// Angles `position * base^(-2i/d)` for `positions` positions and heads of width `d` (Su et al., arXiv 2104.09864).
    ///
    /// # Errors
    /// If `d` is odd.
    pub fn new(d: usize, positions: usize, base: f64) -> Result<Self> {
        if !d.is_multiple_of(2) {
            bail!("rope: the head width must be even, got {d}");
        }
        let half = d / 2;
        let rates: Vec<f64> = (0..half).map(|i| base.powf(-2.0 * i as f64 / d as f64)).collect();
        let angle = |at: usize| (at / half) as f64 * rates[at % half];
        let all = 0..positions * half;
        Ok(Self {
            cos: all.clone().map(|at| angle(at).cos() as f32).collect(),
            sin: all.map(|at| angle(at).sin() as f32).collect(),
            half,
        })
    }

    /// Number of positions.
    pub fn positions(&self) -> usize {
        self.cos.len().checked_div(self.half).unwrap_or(0)
    }

    /// Cosines and sines of positions `first .. first + t` for heads of width `d`.
    fn checked(&self, first: usize, t: usize, d: usize) -> Result<(&[f32], &[f32])> {
        if d != 2 * self.half || first + t > self.positions() {
            let (have, width) = (self.positions(), 2 * self.half);
            bail!("rope: the table has {have} positions of width {width}, needed {} of {d}", first + t);
        }
        let at = first * self.half..(first + t) * self.half;
        Ok((&self.cos[at.clone()], &self.sin[at]))
    }
}

simd_fn! {
    /// Rotates the values `x[i]` with `x[i + d/2]` of one head vector by the angles of one position.
    fn turn_halves<V>(cos: &[f32], sin: &[f32], sign: f32, x: &[f32], y: &mut [f32]) {
        let (half, sign) = (cos.len(), V::splat(sign));
        let ((x0, x1), (y0, y1)) = (x.split_at(half), y.split_at_mut(half));
        let whole = half / V::N * V::N;
        for i in (0..whole).step_by(V::N) {
            let (a, b) = (V::load(&x0[i..]), V::load(&x1[i..]));
            let (c, s) = (V::load(&cos[i..]), V::load(&sin[i..]).mul(sign));
            a.mul(c).sub(b.mul(s)).store(&mut y0[i..]);
            b.mul(c).add(a.mul(s)).store(&mut y1[i..]);
        }
        if whole < half {
            let (a, b) = (V::load_part(&x0[whole..], 0.0), V::load_part(&x1[whole..half], 0.0));
            let (c, s) = (V::load_part(&cos[whole..], 0.0), V::load_part(&sin[whole..], 0.0).mul(sign));
            a.mul(c).sub(b.mul(s)).store_part(&mut y0[whole..]);
            b.mul(c).add(a.mul(s)).store_part(&mut y1[whole..half]);
        }
    }
}

/// Rotates one head vector by the angles of one position, backwards where `sign` is -1.
fn turn(style: RopeStyle, (cos, sin): (&[f32], &[f32]), sign: f32, x: &[f32], y: &mut [f32]) {
    match style {
        RopeStyle::Halves => turn_halves(cos, sin, sign, x, y),
        RopeStyle::Interleaved => {
            for (i, (y, x)) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)).enumerate() {
                y[0] = x[0] * cos[i] - sign * x[1] * sin[i];
                y[1] = x[1] * cos[i] + sign * x[0] * sin[i];
            }
        }
    }
}

/// Rows of `heads` vectors side by side (and what follows them, left as it is); row `i` stands at position `i % t`.
struct Rope {
    cos: Vec<f32>,
    sin: Vec<f32>,
    style: RopeStyle,
    t: usize,
    heads: usize,
}

impl Rope {
    fn rotate(&self, x: &Arg<'_>, values: &[f32], sign: f32) -> Vec<f32> {
        let (row, half) = (x.width(), self.cos.len() / self.t.max(1));
        if row * half == 0 {
            return values.to_vec();
        }
        // SAFETY: the turned part and the rest of each row are written below.
        let mut y = unsafe { uncleared(values.len()) };
        let turned = 2 * half * self.heads;
        let rows = y.par_chunks_mut(row).zip(values.par_chunks(row)).enumerate();
        rows.with_min_len(16).for_each(|(i, (y, x))| {
            let at = i % self.t * half..(i % self.t + 1) * half;
            let angles = (&self.cos[at.clone()], &self.sin[at]);
            for (y, x) in y[..turned].chunks_exact_mut(2 * half).zip(x.chunks_exact(2 * half)) {
                turn(self.style, angles, sign, x, y);
            }
            y[turned..].copy_from_slice(&x[turned..]);
        });
        y
    }
}

impl Kernel for Rope {
    type Saved = ();
    const NAME: &'static str = "rope";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        Ok((self.rotate(&x[0], x[0].data, 1.0), x[0].dims.to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        Ok(vec![Some(self.rotate(&x[0], gy, -1.0))])
    }
}

/// Rotates queries and keys where they lie side by side with the values, as one projection makes them.
///
/// `qkv`: [b, t, (heads + 2 kv_heads) d], as in [`attention_qkv`](crate::attention_qkv); positions `first .. first + t`.
///
/// # Errors
/// If the width is not a multiple of `heads + 2 kv_heads`, or the table is for another width or too short.
pub fn rope_qkv(
    qkv: &Tensor,
    heads: usize,
    kv_heads: usize,
    table: &RopeTable,
    first: usize,
    style: RopeStyle,
) -> Result<Tensor> {
    let (b, t, width) = qkv.dims3()?;
    let parts = heads + 2 * kv_heads;
    if parts == 0 || !width.is_multiple_of(parts) {
        bail!("rope_qkv: width {width} with {heads} heads and {kv_heads} key heads");
    }
    let (d, turned) = (width / parts, heads + kv_heads);
    let (cos, sin) = table.checked(first, t, d)?;
    if fast(&[qkv]) {
        return apply(Rope { cos: cos.to_vec(), sin: sin.to_vec(), style, t, heads: turned }, &[qkv]);
    }
    // [b, t, n d] -> [b, n, t, d] and back
    let apart = qkv.narrow(D::Minus1, 0, turned * d)?.reshape((b, t, turned, d))?.transpose(1, 2)?.contiguous()?;
    let rotated = composed(&apart, cos, sin, [t, d / 2], style)?;
    let together = rotated.transpose(1, 2)?.contiguous()?.reshape((b, t, turned * d))?;
    Tensor::cat(&[together, qkv.narrow(D::Minus1, turned * d, kv_heads * d)?], D::Minus1)
}

/// Rotates `x` ([.., t, d]) at positions `first .. first + t`.
///
/// # Errors
/// If the table is for another width or has too few positions.
pub fn rope(x: &Tensor, table: &RopeTable, first: usize, style: RopeStyle) -> Result<Tensor> {
    if x.rank() < 2 {
        bail!("rope: expected [.., t, d], got {:?}", x.dims());
    }
    let (t, d) = (x.dim(D::Minus2)?, x.dim(D::Minus1)?);
    let (cos, sin) = table.checked(first, t, d)?;
    if fast(&[x]) {
        return apply(Rope { cos: cos.to_vec(), sin: sin.to_vec(), style, t, heads: 1 }, &[x]);
    }
    composed(x, cos, sin, [t, d / 2], style)
}

fn composed(x: &Tensor, cos: &[f32], sin: &[f32], shape: [usize; 2], style: RopeStyle) -> Result<Tensor> {
    let table = |v: &[f32]| {
        Tensor::from_slice(v, (shape[0], shape[1]), &Device::Cpu)?.to_device(x.device())?.to_dtype(x.dtype())
    };
    let (cos, sin, half) = (table(cos)?, table(sin)?, shape[1]);
    let rotate = |a: &Tensor, b: &Tensor| -> Result<(Tensor, Tensor)> {
        let y0 = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
        Ok((y0, (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?))
    };
    match style {
        RopeStyle::Halves => {
            let (y0, y1) = rotate(&x.narrow(D::Minus1, 0, half)?, &x.narrow(D::Minus1, half, half)?)?;
            Tensor::cat(&[y0, y1], D::Minus1)
        }
        RopeStyle::Interleaved => {
            let pairs = x.reshape([&x.dims()[..x.rank() - 1], &[half, 2]].concat())?;
            let part = |i| pairs.narrow(D::Minus1, i, 1)?.squeeze(D::Minus1);
            let (y0, y1) = rotate(&part(0)?, &part(1)?)?;
            Tensor::stack(&[y0, y1], D::Minus1)?.reshape(x.shape())
        }
    }
}
