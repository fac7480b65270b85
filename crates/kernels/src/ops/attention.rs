//! Scaled dot product attention in memory linear in the sequence length.
//!
//! Queries are taken in blocks; only one block of scores exists per thread. Forward keeps the logarithm of each row's
//! normaliser, from which backward rebuilds the block (Dao et al., arXiv 2205.14135, without tiling over keys: a
//! CPU core's cache holds whole rows). Keys that no query of a block sees, after it or of other segments, are left out.

use super::mask::{HostMask, Mask};
use super::softmax::{exp_in_place, masked, row_largest, scale_in_place, softmax};
use crate::matmul::{Into, Mat, Run, matmul, matmul_at};
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::shared::Shared;
use crate::simd::{math, simd_fn};
use candle_core::{D, Result, Tensor, bail};
use rayon::prelude::*;
use std::ops::Range;

/// Queries per block.
const BLOCK: usize = 64;

/// Sizes: batch, query heads, key heads, queries, keys, width of queries and keys, width of values.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    b: usize,
    h: usize,
    g: usize,
    t: usize,
    s: usize,
    d: usize,
    e: usize,
}

/// Where the rows of one operand lie in a slice.
#[derive(Clone, Copy)]
struct Place {
    offset: usize,
    batch: usize,
    head: usize,
    row: usize,
}

impl Place {
    /// [b, h, t, d], contiguous.
    fn heads_first(h: usize, t: usize, d: usize) -> Self {
        Self { offset: 0, batch: h * t * d, head: t * d, row: d }
    }

    /// Heads side by side in rows of `row` values: [b, t, row], starting at column `offset`.
    fn packed(offset: usize, t: usize, d: usize, row: usize) -> Self {
        Self { offset, batch: t * row, head: d, row }
    }

    fn at(self, b: usize, h: usize, i: usize) -> usize {
        self.offset + b * self.batch + h * self.head + i * self.row
    }
}

/// Where queries, keys, values and outputs lie.
#[derive(Clone, Copy)]
struct Places {
    q: Place,
    k: Place,
    v: Place,
    o: Place,
}

/// One attention call on slices.
struct Core<'a> {
    n: Sizes,
    at: Places,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mask: &'a HostMask,
    scale: f32,
}

impl<'a> Core<'a> {
    fn mat(&self, data: &'a [f32], place: Place, [b, h, i]: [usize; 3], rows: usize, width: usize) -> Mat<'a> {
        Mat::strided(&data[place.at(b, h, i).min(data.len())..], rows, width, place.row)
    }

    fn queries(&self, at: [usize; 3], rows: usize) -> Mat<'a> {
        self.mat(self.q, self.at.q, at, rows, self.n.d)
    }

    fn keys(&self, b: usize, g: usize, seen: &Range<usize>) -> Mat<'a> {
        self.mat(self.k, self.at.k, [b, g, seen.start], seen.len(), self.n.d)
    }

    fn values(&self, b: usize, g: usize, seen: &Range<usize>) -> Mat<'a> {
        self.mat(self.v, self.at.v, [b, g, seen.start], seen.len(), self.n.e)
    }

    fn group(&self, h: usize) -> usize {
        h / (self.n.h / self.n.g)
    }

    /// Scores of queries `i0 .. i0 + rows` against the keys `seen`, hidden ones at `-inf`.
    fn scores(&self, [b, h, i0]: [usize; 3], rows: usize, seen: &Range<usize>, scores: &mut [f32]) {
        let q = self.queries([b, h, i0], rows);
        matmul(scores, seen.len(), q, self.keys(b, self.group(h), seen).t(), self.scale, Into::Set, Run::Here);
        for (r, row) in scores.chunks_exact_mut(seen.len()).enumerate() {
            self.mask.hide([b, h, i0 + r], self.n.t, self.n.s, seen.start, row);
        }
    }

    /// Returns the output and, per (b, h, i), the logarithm of the normaliser.
    fn forward(&self, len: usize) -> (Vec<f32>, Vec<f32>) {
        let Sizes { b, h, t, s, e, .. } = self.n;
        let (mut out, mut lse) = (vec![0.0; len], vec![f32::NEG_INFINITY; b * h * t]);
        let o = Shared::new(&mut out);
        let tasks = lse.par_chunks_mut(t.max(1)).enumerate().flat_map_iter(|(bh, lse)| {
            lse.chunks_mut(BLOCK).enumerate().map(move |(block, lse)| (bh, block * BLOCK, lse))
        });
        tasks.for_each_init(Vec::new, |scratch, (bh, i0, lse)| {
            let (b, h, rows) = (bh / h, bh % h, lse.len());
            let seen = self.mask.window([b, i0], rows, t, s);
            let n = seen.len();
            if n == 0 {
                return;
            }
            scratch.resize(rows * n, 0.0);
            self.scores([b, h, i0], rows, &seen, scratch);
            scratch.chunks_exact_mut(n).zip(lse).for_each(|(row, l)| *l = normalise(row));
            let values = self.values(b, self.group(h), &seen);
            let dst = o.rows(self.at.o.at(b, h, i0), rows, self.at.o.row, e);
            // SAFETY: each (b, h, block of rows) belongs to one task, and only its `e` values a row are written.
            unsafe { matmul_at(dst, self.at.o.row, Mat::new(scratch, rows, n), values, 1.0, Into::Set, Run::Here) };
        });
        (out, lse)
    }

    /// Adds the gradients of q, k and v into three buffers that are laid out like the inputs.
    fn backward(&self, o: &[f32], lse: &[f32], go: &[f32], dq: &Shared, dk: &Shared, dv: &Shared) {
        let Sizes { b, g, .. } = self.n;
        (0..b * g).into_par_iter().for_each_init(Scratch::default, |scratch, task| {
            let (b, g) = (task / g, task % g);
            let per_group = self.n.h / self.n.g;
            for h in g * per_group..(g + 1) * per_group {
                for i0 in (0..self.n.t).step_by(BLOCK) {
                    self.backward_block([b, h, i0], o, lse, go, scratch, (dq, dk, dv));
                }
            }
        });
    }

    fn backward_block(
        &self,
        [b, h, i0]: [usize; 3],
        o: &[f32],
        lse: &[f32],
        go: &[f32],
        scratch: &mut Scratch,
        (dq, dk, dv): (&Shared, &Shared, &Shared),
    ) {
        let Sizes { h: heads, t, s, d, e, .. } = self.n;
        let rows = BLOCK.min(t - i0);
        let seen = self.mask.window([b, i0], rows, t, s);
        let n = seen.len();
        if n == 0 {
            return;
        }
        let g = self.group(h);
        scratch.p.resize(rows * n, 0.0);
        scratch.ds.resize(rows * n, 0.0);
        let (p, ds) = (&mut scratch.p[..], &mut scratch.ds[..]);
        self.scores([b, h, i0], rows, &seen, p);
        let lse = &lse[(b * heads + h) * t + i0..][..rows];
        p.chunks_exact_mut(n).zip(lse).for_each(|(row, &l)| probabilities(row, l));
        let grad = self.mat(go, self.at.o, [b, h, i0], rows, e);
        matmul(ds, n, grad, self.values(b, g, &seen).t(), 1.0, Into::Set, Run::Here);
        for (r, (ds, p)) in ds.chunks_exact_mut(n).zip(p.chunks_exact(n)).enumerate() {
            let at = self.at.o.at(b, h, i0 + r);
            score_grad(p, &o[at..at + e], &go[at..at + e], ds);
        }
        let q = self.queries([b, h, i0], rows);
        let (p, ds) = (Mat::new(p, rows, n), Mat::new(ds, rows, n));
        let rows_of = |to: &Shared, at: usize, n: usize, place: Place, width: usize| to.rows(at, n, place.row, width);
        let dq = rows_of(dq, self.at.q.at(b, h, i0), rows, self.at.q, d);
        let dk = rows_of(dk, self.at.k.at(b, g, seen.start), n, self.at.k, d);
        let dv = rows_of(dv, self.at.v.at(b, g, seen.start), n, self.at.v, e);
        // SAFETY: keys and values of (b, g) and the queries that use them belong to the one task for (b, g), and a
        // product touches only the values of its own head in each row.
        unsafe {
            matmul_at(dv, self.at.v.row, p.t(), grad, 1.0, Into::Add, Run::Here);
            matmul_at(dk, self.at.k.row, ds.t(), q, self.scale, Into::Add, Run::Here);
            matmul_at(dq, self.at.q.row, ds, self.keys(b, g, &seen), self.scale, Into::Set, Run::Here);
        }
    }
}

#[derive(Default)]
struct Scratch {
    p: Vec<f32>,
    ds: Vec<f32>,
}

simd_fn! {
    /// `ds = p (ds - sum(o g))` for one query: the gradient of its scores from that of its probabilities.
    fn score_grad<V>(p: &[f32], o: &[f32], g: &[f32], ds: &mut [f32]) {
        let dot = V::splat(math::sum2::<V>(o, g, |o, g| o.mul(g)));
        math::update::<V>(ds, p, |ds, p| p.mul(ds.sub(dot)));
    }
}

/// Softmax in place; returns the logarithm of the normaliser (`-inf` where nothing is visible).
fn normalise(row: &mut [f32]) -> f32 {
    let max = row_largest(row);
    if max == f32::NEG_INFINITY {
        row.fill(0.0);
        return max;
    }
    let sum = exp_in_place(row, max);
    scale_in_place(row, 1.0 / sum);
    max + sum.ln()
}

fn probabilities(row: &mut [f32], lse: f32) {
    if lse == f32::NEG_INFINITY {
        row.fill(0.0);
    } else {
        exp_in_place(row, lse);
    }
}

/// Inputs q, k, v with heads first, or one packed tensor.
struct Attention {
    n: Sizes,
    packed: bool,
    mask: HostMask,
    scale: f32,
}

impl Attention {
    fn places(&self) -> Places {
        let Sizes { h, g, t, s, d, e, .. } = self.n;
        if self.packed {
            let row = (h + 2 * g) * d;
            let part = |offset| Place::packed(offset, t, d, row);
            return Places { q: part(0), k: part(h * d), v: part((h + g) * d), o: Place::packed(0, t, d, h * d) };
        }
        let keys = |width| Place::heads_first(g, s, width);
        Places { q: Place::heads_first(h, t, d), k: keys(d), v: keys(e), o: Place::heads_first(h, t, e) }
    }

    fn core<'a>(&'a self, x: &[Arg<'a>]) -> Core<'a> {
        let (q, k, v) = if self.packed { (x[0], x[0], x[0]) } else { (x[0], x[1], x[2]) };
        let (mask, scale) = (&self.mask, self.scale);
        Core { n: self.n, at: self.places(), q: q.data, k: k.data, v: v.data, mask, scale }
    }
}

impl Kernel for Attention {
    type Saved = Vec<f32>;
    const NAME: &'static str = "attention";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Vec<f32>)> {
        let Sizes { b, h, t, e, .. } = self.n;
        let (out, lse) = self.core(x).forward(b * h * t * e);
        let dims = if self.packed { vec![b, t, h * e] } else { vec![b, h, t, e] };
        Ok((out, dims, lse))
    }

    fn backward(&self, x: &[Arg<'_>], lse: &Vec<f32>, y: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let mut grads: Vec<Vec<f32>> = x.iter().map(|x| vec![0.0; x.data.len()]).collect();
        let core = self.core(x);
        match &mut grads[..] {
            [qkv] => {
                let d = Shared::new(qkv);
                core.backward(y, lse, gy, &d, &d, &d);
            }
            [q, k, v] => core.backward(y, lse, gy, &Shared::new(q), &Shared::new(k), &Shared::new(v)),
            _ => bail!("attention: expected one packed input or three"),
        }
        Ok(grads.into_iter().map(Some).collect())
    }
}

/// `softmax(scale q k^T + mask) v` (Vaswani et al., arXiv 1706.03762).
///
/// `q`: [b, h, t, d]; `k`: [b, g, s, d]; `v`: [b, g, s, e], where g divides h (grouped queries: query head i uses key
/// head `i / (h / g)`); result [b, h, t, e]. A query that sees no key gets zeros.
///
/// # Errors
/// If shapes or mask do not fit each other.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, mask: &Mask, scale: f64) -> Result<Tensor> {
    let ((b, h, t, d), (kb, g, s, kd)) = (q.dims4()?, k.dims4()?);
    let e = v.dim(3)?;
    if kb != b || kd != d || v.dims() != [b, g, s, e] || g == 0 || h % g != 0 {
        bail!("attention: q {:?}, k {:?} and v {:?} do not fit", q.dims(), k.dims(), v.dims());
    }
    mask.check(b, h, t, s)?;
    if fast(&[q, k, v]) && mask.bias.is_none() {
        let n = Sizes { b, h, g, t, s, d, e };
        return apply(Attention { n, packed: false, mask: HostMask::new(mask)?, scale: scale as f32 }, &[q, k, v]);
    }
    let repeat = |x: &Tensor| {
        // [b, g, s, width] -> [b, h, s, width]
        let width = x.dim(3)?;
        x.unsqueeze(2)?.broadcast_as((b, g, h / g, s, width))?.contiguous()?.reshape((b, h, s, width))
    };
    let (k, v) = (repeat(k)?, repeat(v)?);
    let mut scores = (q.contiguous()?.matmul(&k.transpose(2, 3)?.contiguous()?)? * scale)?;
    if let Some(bias) = &mask.bias {
        scores = scores.broadcast_add(bias)?;
    }
    let probs = match mask.to_keep(t, s, q)? {
        Some(keep) => masked(&scores, &keep)?,
        None => softmax(&scores, 3)?,
    };
    probs.matmul(&v)
}

/// Attention on queries, keys and values side by side, as one projection makes them, without moving them apart.
///
/// `qkv`: [b, t, (heads + 2 kv_heads) d] with the query heads first, then the key heads, then the value heads; result
/// [b, t, heads d].
///
/// # Errors
/// If the width is not a multiple of `heads + 2 kv_heads`, or heads and mask do not fit.
pub fn attention_qkv(qkv: &Tensor, heads: usize, kv_heads: usize, mask: &Mask, scale: f64) -> Result<Tensor> {
    let (b, t, width) = qkv.dims3()?;
    let parts = heads + 2 * kv_heads;
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || !width.is_multiple_of(parts) {
        bail!("attention_qkv: width {width} with {heads} heads and {kv_heads} key heads");
    }
    let d = width / parts;
    mask.check(b, heads, t, t)?;
    if fast(&[qkv]) && mask.bias.is_none() {
        let n = Sizes { b, h: heads, g: kv_heads, t, s: t, d, e: d };
        return apply(Attention { n, packed: true, mask: HostMask::new(mask)?, scale: scale as f32 }, &[qkv]);
    }
    // [b, t, n d] -> [b, n, t, d]
    let part = |first: usize, n: usize| {
        qkv.narrow(D::Minus1, first * d, n * d)?.reshape((b, t, n, d))?.transpose(1, 2)?.contiguous()
    };
    let (q, k, v) = (part(0, heads)?, part(heads, kv_heads)?, part(heads + kv_heads, kv_heads)?);
    attention(&q, &k, &v, mask, scale)?.transpose(1, 2)?.reshape((b, t, heads * d))
}
