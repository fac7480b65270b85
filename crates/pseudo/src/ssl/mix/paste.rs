//! The pixels of mixed images.

use super::{Blend, Plan, Rect};
use crate::cam::{Corners, taps};
use candle_core::{DType, Device, Result, Tensor, bail};
use rayon::prelude::*;

/// Overwrites the box `dest` of planes [.., h, w] by the box `source` of other planes, resized.
fn paste(out: &mut [f32], other: &[f32], size: (usize, usize), dest: Rect, source: Rect) {
    let (h, w) = size;
    let rows = taps(source.height(), dest.height(), Corners::Aligned);
    let across = taps(source.width(), dest.width(), Corners::Aligned);
    let cols: Vec<(usize, usize, f32)> = across.iter().map(|t| (t.low, t.high, t.weight as f32)).collect();
    for (out, other) in out.chunks_exact_mut(h * w).zip(other.chunks_exact(h * w)) {
        for (i, row) in rows.iter().enumerate() {
            let line = |r: usize| &other[(source.row0 + r) * w + source.col0..];
            let (top, bottom, down) = (line(row.low), line(row.high), row.weight as f32);
            let to = &mut out[(dest.row0 + i) * w + dest.col0..][..dest.width()];
            for (to, &(left, right, across)) in to.iter_mut().zip(&cols) {
                let mix = |line: &[f32]| (1.0 - across) * line[left] + across * line[right];
                *to = (1.0 - down) * mix(top) + down * mix(bottom);
            }
        }
    }
}

impl Plan {
    /// Mixes images `x` [n, c, h, w], of any float type on any device; the work is done in f32 on the host, one image a
    /// thread. No gradient flows back to the images.
    ///
    /// # Errors
    /// If the plan is for another number of images or a box does not lie within them.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let (n, c, h, w) = x.dims4()?;
        if self.partners.len() != n || self.blends.len() != n {
            bail!("mix: the plan is for {} images, got {n}", self.partners.len());
        }
        if let Some(at) = self.partners.iter().find(|&&p| p >= n) {
            bail!("mix: partner {at} is not one of {n} images");
        }
        let fits = |r: &Rect| r.area() > 0 && r.row1 <= h && r.col1 <= w;
        for blend in &self.blends {
            if let Blend::Paste { dest, source } = blend
                && !(fits(dest) && fits(source))
            {
                bail!("mix: boxes {dest:?}, {source:?} do not lie within images of {h} x {w}");
            }
        }
        if self.blends.iter().all(|b| *b == Blend::Keep) {
            return Ok(x.detach());
        }
        let pixels = x.detach().to_dtype(DType::F32)?.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?;
        let mut mixed = pixels.clone();
        let images = mixed.par_chunks_exact_mut((c * h * w).max(1)).zip(&self.partners).zip(&self.blends);
        images.for_each(|((out, &partner), blend)| {
            let other = &pixels[partner * c * h * w..][..c * h * w];
            match *blend {
                Blend::Keep => {}
                Blend::Paste { dest, source } => paste(out, other, (h, w), dest, source),
                Blend::Fade { own } => {
                    let (own, rest) = (own as f32, (1.0 - own) as f32);
                    out.iter_mut().zip(other).for_each(|(out, &other)| *out = own * *out + rest * other);
                }
            }
        });
        Tensor::from_vec(mixed, (n, c, h, w), &Device::Cpu)?.to_device(x.device())?.to_dtype(x.dtype())
    }
}
