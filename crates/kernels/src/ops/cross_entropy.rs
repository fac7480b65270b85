//! Cross entropy against class indices or distributions.

use super::softmax::{log_softmax, row_largest, sum_exp};
use crate::matmul::uncleared;
use crate::node::{Arg, Grads, Kernel, apply, fast};
use crate::simd::{math, simd_fn};
use candle_core::{D, DType, Result, Tensor, bail};
use rayon::prelude::*;

/// How the losses of the rows become one number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reduction {
    /// Divided by the summed weight of the rows that count (their number without class weights); for distributions by
    /// the number of rows. NaN where nothing counts.
    #[default]
    Mean,
    /// Added up.
    Sum,
    /// Kept apart: one loss per row, zero where ignored.
    None,
}

impl Reduction {
    /// Values and shape of the result; the sum runs in f64 in the order of the rows.
    fn combine(self, losses: Vec<f32>, denominator: f64) -> (Vec<f32>, Vec<usize>) {
        if self == Self::None {
            let n = losses.len();
            return (losses, vec![n]);
        }
        let sum: f64 = losses.iter().map(|&l| f64::from(l)).sum();
        (vec![(sum / denominator) as f32], vec![])
    }

    /// The factor on the gradient of row `at`.
    fn factor(self, gy: &[f32], at: usize, denominator: f64) -> f32 {
        let g = if self == Self::None { gy[at] } else { gy[0] };
        (f64::from(g) / denominator) as f32
    }

    /// As [`combine`](Self::combine) on a tensor [n].
    fn combine_tensor(self, losses: &Tensor, denominator: f64) -> Result<Tensor> {
        if self == Self::None { Ok(losses.clone()) } else { losses.sum_all()? / denominator }
    }
}

/// Options of the cross entropy, with PyTorch's meaning and defaults.
#[derive(Clone, Debug)]
pub struct CrossEntropy {
    /// Rows with this target count for nothing.
    pub ignore_index: i64,
    /// The target becomes `(1 - e) target + e / c` over `c` classes.
    pub label_smoothing: f64,
    /// One factor per class, `[c]`.
    pub class_weights: Option<Tensor>,
    /// How rows are combined.
    pub reduction: Reduction,
}

impl Default for CrossEntropy {
    fn default() -> Self {
        Self { ignore_index: -100, label_smoothing: 0.0, class_weights: None, reduction: Reduction::Mean }
    }
}

impl CrossEntropy {
    /// The default options with [`Reduction::Sum`].
    pub fn sum() -> Self {
        Self { reduction: Reduction::Sum, ..Self::default() }
    }

    /// Class indices per row, `None` where ignored; checked against `c` classes.
    pub(crate) fn targets(&self, target: &Tensor, n: usize, c: usize) -> Result<Vec<Option<u32>>> {
        if target.dims() != [n] || !matches!(target.dtype(), DType::U32 | DType::I64) {
            bail!("cross_entropy: targets must be u32 or i64 [{n}], got {:?} {:?}", target.dtype(), target.dims());
        }
        let wide: Vec<i64> = match target.dtype() {
            DType::I64 => target.to_vec1()?,
            _ => target.to_vec1::<u32>()?.into_iter().map(|t| i64::from(t as i32)).collect(),
        };
        let class = |(row, t): (usize, i64)| {
            if t == self.ignore_index {
                Ok(None)
            } else if (0..c as i64).contains(&t) {
                Ok(Some(t as u32))
            } else {
                bail!("cross_entropy: target {t} of row {row} is not one of {c} classes")
            }
        };
        wide.into_iter().enumerate().map(class).collect()
    }

    pub(crate) fn weights(&self, c: usize) -> Result<Option<Vec<f32>>> {
        let Some(w) = &self.class_weights else { return Ok(None) };
        if w.dims() != [c] {
            bail!("cross_entropy: class weights must be [{c}], got {:?}", w.dims());
        }
        w.to_dtype(DType::F32)?.to_vec1().map(Some)
    }
}

simd_fn! {
    /// `x = by e^(x - shift)`.
    fn exp_scaled<V>(x: &mut [f32], shift: f32, by: f32) {
        math::map_in_place::<V>(x, |x| math::exp(x.sub(V::splat(shift))).mul(V::splat(by)))
    }
}
simd_fn! {
    fn dot<V>(a: &[f32], b: &[f32]) -> f32 { math::sum2::<V>(a, b, |a, b| a.mul(b)) }
}
simd_fn! {
    fn total<V>(a: &[f32]) -> f32 { math::sum1::<V>(a, 0.0, |a| a) }
}

/// Hard targets with smoothing and class weights, on rows of `c` logits.
pub(crate) struct Rows {
    pub smoothing: f32,
    pub weights: Option<Vec<f32>>,
    /// Sum of the class weights, c without.
    weight_sum: f32,
}

impl Rows {
    pub fn new(options: &CrossEntropy, c: usize) -> Result<Self> {
        let weights = options.weights(c)?;
        let weight_sum = weights.as_ref().map_or(c as f32, |w| total(w));
        Ok(Self { smoothing: options.label_smoothing as f32, weights, weight_sum })
    }

    fn weight(&self, class: u32) -> f32 {
        self.weights.as_ref().map_or(1.0, |w| w[class as usize])
    }

    /// What the sum of losses is divided by.
    pub fn denominator(&self, targets: &[Option<u32>], reduction: Reduction) -> f64 {
        match reduction {
            Reduction::Mean => targets.iter().flatten().map(|&t| f64::from(self.weight(t))).sum(),
            Reduction::Sum | Reduction::None => 1.0,
        }
    }

    /// Loss and log-normaliser of one row.
    pub fn loss(&self, x: &[f32], target: u32) -> (f32, f32) {
        let max = row_largest(x);
        let lse = max + sum_exp(x, max).ln();
        let hard = (1.0 - self.smoothing) * self.weight(target) * (lse - x[target as usize]);
        if self.smoothing == 0.0 {
            return (hard, lse);
        }
        let weighted = self.weights.as_ref().map_or_else(|| total(x), |w| dot(x, w));
        let spread = self.smoothing / x.len() as f32;
        (hard + spread * (lse * self.weight_sum - weighted), lse)
    }

    /// Writes `by d(loss)/dx` of one row.
    pub fn grad(&self, x: &[f32], target: u32, lse: f32, by: f32, dx: &mut [f32]) {
        dx.copy_from_slice(x);
        self.grad_in_place(dx, target, lse, by);
    }

    /// Turns a row of logits into `by d(loss)/dx`.
    pub fn grad_in_place(&self, x: &mut [f32], target: u32, lse: f32, by: f32) {
        let hard = (1.0 - self.smoothing) * self.weight(target);
        let spread = self.smoothing / x.len() as f32;
        exp_scaled(x, lse, by * (hard + spread * self.weight_sum));
        if self.smoothing > 0.0 {
            let weights = self.weights.as_deref();
            x.iter_mut().enumerate().for_each(|(i, d)| *d -= by * spread * weights.map_or(1.0, |w| w[i]));
        }
        x[target as usize] -= by * hard;
    }
}

struct Hard {
    rows: Rows,
    targets: Vec<Option<u32>>,
    denominator: f64,
    reduction: Reduction,
}

impl Kernel for Hard {
    /// Log-normaliser per row.
    type Saved = Vec<f32>;
    const NAME: &'static str = "cross_entropy";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Vec<f32>)> {
        let c = x[0].width();
        let row = |(x, target): (&[f32], &Option<u32>)| target.map_or((0.0, 0.0), |t| self.rows.loss(x, t));
        let (losses, lse): (Vec<f32>, Vec<f32>) =
            x[0].data.par_chunks(c.max(1)).zip(&self.targets).with_min_len(16).map(row).unzip();
        let (y, dims) = self.reduction.combine(losses, self.denominator);
        Ok((y, dims, lse))
    }

    fn backward(&self, x: &[Arg<'_>], lse: &Vec<f32>, _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let c = x[0].width().max(1);
        // SAFETY: each row is filled below, or overwritten by a copy of the logits first.
        let mut dx = unsafe { uncleared(x[0].data.len()) };
        let rows = dx.par_chunks_mut(c).zip(x[0].data.par_chunks(c)).zip(self.targets.par_iter().zip(lse)).enumerate();
        rows.with_min_len(16).for_each(|(at, ((dx, x), (target, &lse)))| match target {
            Some(t) => self.rows.grad(x, *t, lse, self.reduction.factor(gy, at, self.denominator), dx),
            None => dx.fill(0.0),
        });
        Ok(vec![Some(dx)])
    }
}

/// Cross entropy of `logits` ([n, c]) against class indices `target` (u32 or i64, `[n]`); a u32 target whose bits are
/// those of `ignore_index` as i32 is ignored, too. Returns a scalar (`[n]` without
/// reduction).
///
/// # Errors
/// If a target is neither a class nor `ignore_index`; the message names the row.
pub fn cross_entropy(logits: &Tensor, target: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let (n, c) = logits.dims2()?;
    let targets = options.targets(target, n, c)?;
    let rows = Rows::new(options, c)?;
    let denominator = rows.denominator(&targets, options.reduction);
    if fast(&[logits]) {
        return apply(Hard { rows, targets, denominator, reduction: options.reduction }, &[logits]);
    }
    let logp = log_softmax(logits, 1)?;
    let losses = weighted_sum(&logp, &hard_coefficients(options, &targets, c)?)?.neg()?;
    options.reduction.combine_tensor(&losses, denominator)
}

/// The factor of each log-probability in the summed loss, [n, c] row-major.
fn hard_coefficients(options: &CrossEntropy, targets: &[Option<u32>], c: usize) -> Result<Vec<f64>> {
    let weights = match &options.class_weights {
        Some(w) => w.to_dtype(DType::F64)?.to_vec1()?,
        None => vec![1.0; c],
    };
    let e = options.label_smoothing;
    let mut all = vec![0.0; targets.len() * c];
    for (row, target) in all.chunks_exact_mut(c.max(1)).zip(targets) {
        if let Some(t) = *target {
            row.iter_mut().zip(&weights).for_each(|(a, w)| *a = e / c as f64 * w);
            row[t as usize] += (1.0 - e) * weights[t as usize];
        }
    }
    Ok(all)
}

/// Rows of `sum_c a_c logp_c`, where a zero factor silences even an infinite log-probability.
fn weighted_sum(logp: &Tensor, factors: &[f64]) -> Result<Tensor> {
    let a = Tensor::from_slice(factors, logp.shape(), logp.device())?;
    let zeros = logp.zeros_like()?;
    let kept = a.ne(0.0)?.where_cond(logp, &zeros)?;
    (kept * a.to_dtype(logp.dtype())?)?.sum(D::Minus1)
}

/// Cross entropy of `logits` ([n, c]) against distributions `probs` ([n, c], taken as constants). Returns a scalar.
///
/// `ignore_index` has no meaning here; the mean is over the n rows.
///
/// # Errors
/// If the shapes differ.
pub fn cross_entropy_soft(logits: &Tensor, probs: &Tensor, options: &CrossEntropy) -> Result<Tensor> {
    let (n, c) = logits.dims2()?;
    if probs.dims() != [n, c] {
        bail!("cross_entropy_soft: logits are {:?}, probabilities {:?}", logits.dims(), probs.dims());
    }
    let e = options.label_smoothing;
    let mut factors = probs.detach().to_dtype(logits.dtype())?.affine(1.0 - e, e / c as f64)?;
    if let Some(w) = &options.class_weights {
        factors = factors.broadcast_mul(&w.to_dtype(logits.dtype())?)?;
    }
    let denominator = if options.reduction == Reduction::Mean { n as f64 } else { 1.0 };
    if fast(&[logits, &factors]) {
        let factors = factors.contiguous()?.flatten_all()?.to_vec1()?;
        return apply(Soft { factors, denominator, reduction: options.reduction }, &[logits]);
    }
    let losses = (log_softmax(logits, 1)? * factors)?.sum(D::Minus1)?.neg()?;
    options.reduction.combine_tensor(&losses, denominator)
}

struct Soft {
    /// Factor of each negative log-probability.
    factors: Vec<f32>,
    denominator: f64,
    reduction: Reduction,
}

impl Kernel for Soft {
    /// Log-normaliser and summed factor per row.
    type Saved = Vec<(f32, f32)>;
    const NAME: &'static str = "cross_entropy_soft";

    fn forward(&self, x: &[Arg<'_>], _: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Self::Saved)> {
        let c = x[0].width().max(1);
        let row = |(x, a): (&[f32], &[f32])| {
            let max = row_largest(x);
            let (lse, mass) = (max + sum_exp(x, max).ln(), total(a));
            (lse * mass - dot(x, a), (lse, mass))
        };
        let (losses, saved): (Vec<f32>, Vec<(f32, f32)>) =
            x[0].data.par_chunks(c).zip(self.factors.par_chunks(c)).map(row).unzip();
        let (y, dims) = self.reduction.combine(losses, self.denominator);
        Ok((y, dims, saved))
    }

    fn backward(&self, x: &[Arg<'_>], saved: &Self::Saved, _: &[f32], gy: &[f32], _: &[bool]) -> Result<Grads> {
        let c = x[0].width().max(1);
        // SAFETY: each row starts as a copy of the logits.
        let mut dx = unsafe { uncleared(x[0].data.len()) };
        let inputs = x[0].data.par_chunks(c).zip(self.factors.par_chunks(c)).zip(saved);
        dx.par_chunks_mut(c).zip(inputs).enumerate().for_each(|(at, (dx, ((x, a), &(lse, mass))))| {
            let by = self.reduction.factor(gy, at, self.denominator);
            dx.copy_from_slice(x);
            exp_scaled(dx, lse, by * mass);
            dx.iter_mut().zip(a).for_each(|(d, a)| *d -= by * a);
        });
        Ok(vec![Some(dx)])
    }
}
