//! What attention may see.

use candle_core::{DType, Result, Tensor, bail};
use std::ops::Range;

/// Visibility of keys to queries; every part that is present must allow a pair.
///
/// A query that sees no key gets zeros.
#[derive(Clone, Debug, Default)]
pub struct Mask {
    /// Query `i` sees key `j` only where `j <= i + offset`. With a cache of `n` earlier keys the offset is `n`.
    pub causal: Option<usize>,
    /// u8 [b, s]: keys with 0 are hidden (padding).
    pub keys: Option<Tensor>,
    /// u32 [b, t] and [b, s]: a query sees keys of its own segment only (packed documents).
    pub segments: Option<(Tensor, Tensor)>,
    /// u8, broadcastable to [b, h, t, s]: any other pattern.
    pub pairs: Option<Tensor>,
    /// Float, broadcastable to [b, h, t, s]: added to the scaled scores, `-inf` hides; receives a gradient. It makes
    /// attention hold all scores, so it is for biases that are quadratic themselves.
    pub bias: Option<Tensor>,
}

impl Mask {
    /// Everything is visible.
    pub fn none() -> Self {
        Self::default()
    }

    /// Each query sees itself and what came before.
    pub fn causal() -> Self {
        Self { causal: Some(0), ..Self::default() }
    }

    /// The mask as one u8 tensor, broadcastable to [b, h, t, s], for the composed path.
    pub(crate) fn to_keep(&self, t: usize, s: usize, like: &Tensor) -> Result<Option<Tensor>> {
        let device = like.device();
        let mut parts: Vec<Tensor> = Vec::new();
        if let Some(offset) = self.causal {
            let keep: Vec<u8> = (0..t * s).map(|at| u8::from(at % s <= at / s + offset)).collect();
            parts.push(Tensor::from_vec(keep, (1, 1, t, s), device)?);
        }
        if let Some(keys) = &self.keys {
            parts.push(keys.unsqueeze(1)?.unsqueeze(1)?);
        }
        if let Some((q, k)) = &self.segments {
            parts.push(q.unsqueeze(2)?.broadcast_eq(&k.unsqueeze(1)?)?.unsqueeze(1)?);
        }
        if let Some(pairs) = &self.pairs {
            let mut dims = vec![1; 4_usize.saturating_sub(pairs.rank())];
            dims.extend(pairs.dims());
            parts.push(pairs.reshape(dims)?);
        }
        if let Some(bias) = &self.bias {
            parts.push(bias.ne(f64::NEG_INFINITY)?);
        }
        let mut parts = parts.into_iter();
        let Some(first) = parts.next() else { return Ok(None) };
        parts.try_fold(first, |a, b| a.broadcast_mul(&b)).map(Some)
    }

    /// Checks every part against the sizes of the scores.
    pub(crate) fn check(&self, b: usize, h: usize, t: usize, s: usize) -> Result<()> {
        if let Some(keys) = &self.keys
            && (keys.dims() != [b, s] || keys.dtype() != DType::U8)
        {
            bail!("attention: mask.keys must be u8 [{b}, {s}], got {:?} {:?}", keys.dtype(), keys.dims());
        }
        if let Some((q, k)) = &self.segments
            && (q.dims() != [b, t] || k.dims() != [b, s] || q.dtype() != DType::U32 || k.dtype() != DType::U32)
        {
            bail!(
                "attention: mask.segments must be u32 [{b}, {t}] and [{b}, {s}], got {:?} and {:?}",
                q.dims(),
                k.dims()
            );
        }
        if let Some(pairs) = &self.pairs {
            let goal = [b, h, t, s];
            let fits = pairs.rank() <= 4
                && pairs.dims().iter().rev().zip(goal.iter().rev()).all(|(&have, &want)| have == want || have == 1);
            if !fits || pairs.dtype() != DType::U8 {
                bail!(
                    "attention: mask.pairs must be u8 and broadcast to {goal:?}, got {:?} {:?}",
                    pairs.dtype(),
                    pairs.dims()
                );
            }
        }
        Ok(())
    }
}

/// The flags of `keep`, broadcast to `dims`, row-major.
pub(crate) fn expand_keep(keep: &Tensor, dims: &[usize]) -> Result<Vec<u8>> {
    keep.broadcast_as(dims)?.contiguous()?.flatten_all()?.to_vec1::<u8>()
}

/// The host form of a [`Mask`] for the CPU kernel.
#[derive(Default)]
pub(crate) struct HostMask {
    pub causal: Option<usize>,
    keys: Option<Vec<u8>>,
    segments: Option<(Vec<u32>, Vec<u32>)>,
    pairs: Option<(Vec<u8>, [usize; 4])>,
}

impl HostMask {
    pub fn new(mask: &Mask) -> Result<Self> {
        let flags = |t: &Tensor| t.contiguous()?.flatten_all()?.to_vec1::<u8>();
        let ids = |t: &Tensor| t.contiguous()?.flatten_all()?.to_vec1::<u32>();
        let pairs = match &mask.pairs {
            Some(p) => {
                let mut strides = [0; 4];
                let (dims, mut stride) = (p.dims(), 1);
                for (at, &n) in dims.iter().enumerate().rev() {
                    strides[4 - dims.len() + at] = if n == 1 { 0 } else { stride };
                    stride *= n;
                }
                Some((flags(p)?, strides))
            }
            None => None,
        };
        Ok(Self {
            causal: mask.causal,
            keys: mask.keys.as_ref().map(flags).transpose()?,
            segments: mask
                .segments
                .as_ref()
                .map(|(q, k)| Ok::<_, candle_core::Error>((ids(q)?, ids(k)?)))
                .transpose()?,
            pairs,
        })
    }

    /// How many leading keys query `i` can see at most, of `s`.
    fn limit(&self, i: usize, s: usize) -> usize {
        self.causal.map_or(s, |offset| (i + offset + 1).min(s))
    }

    /// The keys, of `s`, outside of which the queries `i0 .. i0 + rows` of `t` see nothing.
    pub fn window(&self, [b, i0]: [usize; 2], rows: usize, t: usize, s: usize) -> Range<usize> {
        let limit = self.limit(i0 + rows - 1, s);
        let Some((q, k)) = &self.segments else { return 0..limit };
        let mut ids = q[b * t + i0..][..rows].to_vec();
        ids.dedup();
        let keys = &k[b * s..][..limit];
        match (keys.iter().position(|k| ids.contains(k)), keys.iter().rposition(|k| ids.contains(k))) {
            // A start at whole vectors keeps the products' shapes simple.
            (Some(first), Some(last)) => first / 16 * 16..last + 1,
            _ => 0..0,
        }
    }

    /// Sets the scores of hidden keys to `-inf`; `row` holds those from key `first` on, of `s`, for query `i` of `t`.
    pub fn hide(&self, [b, h, i]: [usize; 3], t: usize, s: usize, first: usize, row: &mut [f32]) {
        let low = f32::NEG_INFINITY;
        let seen = self.limit(i, s).saturating_sub(first).min(row.len());
        row[seen..].fill(low);
        let row = &mut row[..seen];
        if let Some(keys) = &self.keys {
            row.iter_mut().zip(&keys[b * s + first..]).filter(|(_, k)| **k == 0).for_each(|(x, _)| *x = low);
        }
        if let Some((q, k)) = &self.segments {
            let own = q[b * t + i];
            row.iter_mut().zip(&k[b * s + first..]).filter(|(_, k)| **k != own).for_each(|(x, _)| *x = low);
        }
        if let Some((flags, [sb, sh, st, ss])) = &self.pairs {
            let base = b * sb + h * sh + i * st + first * ss;
            row.iter_mut().enumerate().filter(|(j, _)| flags[base + j * ss] == 0).for_each(|(_, x)| *x = low);
        }
    }
}
