//! FreeMatch: self-adaptive thresholds and a loss that keeps the predictions diverse.

use super::adaptive::{AdaptiveConfig, SelfAdaptive, ema};
use super::weighting::{Observation, Verdict, Weighting};
use candle_core::{Result, Tensor};
use chandlery_kernels as ck;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Settings of FreeMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreeMatchConfig {
    /// Thresholds.
    pub adaptive: AdaptiveConfig,
    /// Factor of the fairness loss; the published configurations take 0.01 or 0.001.
    pub fairness: f64,
}

impl Default for FreeMatchConfig {
    fn default() -> Self {
        Self { adaptive: AdaptiveConfig::default(), fairness: 0.01 }
    }
}

/// [`SelfAdaptive`] thresholds and the fairness loss of arXiv 2205.07246, eq. 10-13.
#[derive(Clone, Debug)]
pub struct FreeMatch {
    config: FreeMatchConfig,
    adaptive: SelfAdaptive,
    /// Running histogram of the pseudo-labels.
    label_hist: Vec<f64>,
}

impl FreeMatch {
    /// Starts at 1/c throughout.
    pub fn new(config: FreeMatchConfig, n_classes: usize) -> Self {
        let adaptive = SelfAdaptive::new(config.adaptive, n_classes);
        Self { config, adaptive, label_hist: vec![1.0 / n_classes as f64; n_classes] }
    }

    /// The fairness loss without its factor, see [`fairness`].
    ///
    /// # Errors
    /// If a tensor operation fails.
    pub fn fairness(&self, logits: &Tensor, verdict: &Verdict) -> Result<Option<Tensor>> {
        fairness(logits, verdict, &self.adaptive.p_model(), &self.label_hist)
    }
}

impl Weighting for FreeMatch {
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict {
        let guesses = batch.guesses();
        self.adaptive.update(batch, &guesses);
        if !guesses.is_empty() {
            let hist = histogram(guesses.iter().map(|g| g.0), self.label_hist.len());
            self.label_hist.iter_mut().zip(hist).for_each(|(h, new)| ema(self.config.adaptive.ema, h, new));
        }
        self.adaptive.judge(&guesses)
    }

    fn thresholds(&self) -> Option<Vec<f64>> {
        self.adaptive.thresholds()
    }

    fn series(&self) -> Vec<(&'static str, f64)> {
        self.adaptive.series()
    }

    fn auxiliary(&self, logits: &Tensor, verdict: &Verdict) -> Result<Option<Tensor>> {
        if self.config.fairness == 0.0 {
            return Ok(None);
        }
        self.fairness(logits, verdict)?.map(|loss| loss * self.config.fairness).transpose()
    }

    fn save(&self) -> serde_json::Result<Value> {
        Ok(json!({"adaptive": self.adaptive.save()?, "label_hist": self.label_hist}))
    }

    fn load(&mut self, mut state: Value) -> serde_json::Result<()> {
        let label_hist: Vec<f64> = serde_json::from_value(state["label_hist"].take())?;
        if label_hist.len() != self.label_hist.len() {
            return Err(serde::de::Error::custom(format!("label_hist has {} classes", label_hist.len())));
        }
        self.adaptive.load(state["adaptive"].take())?;
        self.label_hist = label_hist;
        Ok(())
    }
}

/// Shares of the classes among labels.
fn histogram(labels: impl ExactSizeIterator<Item = u32>, n_classes: usize) -> Vec<f64> {
    let by = labels.len() as f64;
    let mut counts = vec![0.0; n_classes];
    labels.for_each(|l| counts[l as usize] += 1.0);
    counts.iter_mut().for_each(|c| *c /= by);
    counts
}

/// `a / b`, 0 where b is 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { 0.0 } else { a / b }
}

/// `sum_c P'(c) log(q'(c) + 1e-12)`: P' is the running mean prediction divided by the running label histogram, q' the
/// mean prediction on the kept rows of `logits` [n, c] divided by their own histogram, both brought to sum 1 (a class
/// without label counts 0). Minimising it spreads the predictions. The gradient runs through the mean prediction alone.
///
/// `None` where no row is kept.
///
/// # Errors
/// If a tensor operation fails.
pub fn fairness(logits: &Tensor, verdict: &Verdict, p_model: &[f64], label_hist: &[f64]) -> Result<Option<Tensor>> {
    let kept: Vec<u32> = (0..).zip(&verdict.weights).filter(|(_, w)| **w > 0.0).map(|(i, _)| i).collect();
    if kept.is_empty() {
        return Ok(None);
    }
    let (device, dtype, c) = (logits.device(), logits.dtype(), p_model.len());
    let rows = logits.index_select(&Tensor::new(kept, device)?, 0)?;
    let probs = ck::softmax(&rows, 1)?; // [k, c]
    let own = histogram(probs.argmax(1)?.to_vec1::<u32>()?.into_iter(), c);
    let own: Vec<f64> = own.into_iter().map(|h| ratio(1.0, h)).collect();
    let target: Vec<f64> = p_model.iter().zip(label_hist).map(|(&p, &h)| ratio(p, h)).collect();
    let total: f64 = target.iter().sum();
    let target: Vec<f64> = target.into_iter().map(|t| t / total).collect();
    let constant = |v: Vec<f64>| Tensor::from_vec(v, c, device)?.to_dtype(dtype);
    let spread = (probs.mean(0)? * constant(own)?)?; // [c]
    let spread = spread.broadcast_div(&spread.sum_all()?)?;
    (constant(target)? * (spread + 1e-12)?.log()?)?.sum_all().map(Some)
}
