//! Rotary position embedding.

use crate::matmul::buffer;
use crate::node::{Arg, Grads, Kernel, apply, fast};
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
        let angle = |at: usize| (at / half) as f64 * base.powf(-2.0 * (at % half) as f64 / d as f64);
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

    fn rows(&self, first: usize, t: usize) -> (&[f32], &[f32]) {
        let at = first * self.half..(first + t) * self.half;
        (&self.cos[at.clone()], &self.sin[at])
    }
}

struct Rope {
    cos: Vec<f32>,
    sin: Vec<f32>,
    style: RopeStyle,
}

impl Rope {
    /// Rotates every row by its angle, backwards where `sign` is -1.
    fn rotate(&self, x: &[f32], t: usize, d: usize, sign: f32) -> Vec<f32> {
        let mut y = buffer(x.len());
        if t * d == 0 {
            return y;
        }
        let half = d / 2;
        y.par_chunks_mut(t * d).zip(x.par_chunks(t * d)).for_each(|(y, x)| {
            let angles = self.cos.chunks_exact(half).zip(self.sin.chunks_exact(half));
            for ((y, x), (cos, sin)) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(angles) {
                match self.style {
                    RopeStyle::Halves => {
                        let ((y0, y1), (x0, x1)) = (y.split_at_mut(half), x.split_at(half));
                        for i in 0..half {
                            y0[i] = x0[i] * cos[i] - sign * x1[i] * sin[i];
                            y1[i] = x1[i] * cos[i] + sign * x0[i] * sin[i];
                        }
                    }
                    RopeStyle::Interleaved => {
                        for (i, (y, x)) in y.chunks_exact_mut(2).zip(x.chunks_exact(2)).enumerate() {
                            y[0] = x[0] * cos[i] - sign * x[1] * sin[i];
                            y[1] = x[1] * cos[i] + sign * x[0] * sin[i];
                        }
                    }
                }
            }
        });
        y
    }
}

impl Kernel for Rope {
    type Saved = ();
    const NAME: &'static str = "rope";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, ())> {
        let [.., t, d] = *x[0].dims else { bail!("rope: expected [.., t, d], got {:?}", x[0].dims) };
        Ok((self.rotate(x[0].data, t, d, 1.0), x[0].dims.to_vec(), ()))
    }

    fn backward(&self, x: &[Arg<'_>], (): &(), _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let [.., t, d] = *x[0].dims else { bail!("rope: expected [.., t, d], got {:?}", x[0].dims) };
        Ok(vec![Some(self.rotate(gy, t, d, -1.0))])
    }
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
    if d != 2 * table.half || first + t > table.positions() {
        let (have, width) = (table.positions(), 2 * table.half);
        bail!("rope: the table has {have} positions of width {width}, needed {} of {d}", first + t);
    }
    let (cos, sin) = table.rows(first, t);
    if fast(&[x]) {
        return apply(Rope { cos: cos.to_vec(), sin: sin.to_vec(), style }, &[x]);
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
