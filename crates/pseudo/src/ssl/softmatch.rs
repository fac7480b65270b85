//! SoftMatch: a Gaussian weight on the confidence, and aligned distributions.

use super::adaptive::{column_means, ema};
use super::weighting::{Observation, Verdict, Weighting, saved_state};
use crate::trust;
use serde::{Deserialize, Serialize};

/// Towards which distribution of classes predictions are aligned before they are weighed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Align {
    /// Not at all.
    None,
    /// The even distribution.
    #[default]
    Uniform,
    /// The running mean prediction on labelled images.
    Model,
}

/// Settings of SoftMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SoftMatchConfig {
    /// Share of the old statistics that a step keeps.
    pub ema: f64,
    /// Standard deviations are divided by this number.
    pub n_sigma: f64,
    /// Alignment of the distribution.
    pub align: Align,
    /// Take mean and variance from the aligned predictions, as the reference code does; the paper takes the plain ones.
    pub aligned_moments: bool,
    /// Keep a mean and variance for each class.
    pub per_class: bool,
}

impl Default for SoftMatchConfig {
    fn default() -> Self {
        Self { ema: 0.999, n_sigma: 2.0, align: Align::Uniform, aligned_moments: true, per_class: false }
    }
}

/// `w = exp(-min(max q' - mu, 0)^2 / (2 var / n_sigma^2))` with running mean mu and variance of the confidences (arXiv
/// 2301.10921, eq. 5-9); q' is aligned for the weight alone, the label comes from the plain prediction.
///
/// The batch is taken into the statistics before it is weighed. A batch of one leaves the variance as it was.
#[derive(Clone, Debug)]
pub struct SoftMatch {
    config: SoftMatchConfig,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// One value, or one a class.
    mu: Vec<f64>,
    var: Vec<f64>,
    /// Running mean prediction on unlabelled images; empty before the first batch.
    p_model: Vec<f64>,
    p_target: Vec<f64>,
}

/// Keeps the alignment from dividing by zero.
const TINY: f64 = 1e-6;

/// Mean, and variance with divisor n - 1 where there are two or more.
fn moments(values: &[f64]) -> (f64, Option<f64>) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| squares / (n - 1.0)))
}

impl SoftMatch {
    /// Starts at mean 1/c and variance 1.
    pub fn new(config: SoftMatchConfig, n_classes: usize) -> Self {
        let (even, k) = (1.0 / n_classes as f64, if config.per_class { n_classes } else { 1 });
        let p_target = vec![even; n_classes];
        Self { config, state: State { mu: vec![even; k], var: vec![1.0; k], p_model: vec![], p_target } }
    }

    /// Rows with the alignment applied, [n, c].
    fn aligned(&mut self, batch: &Observation<'_>) -> Vec<f64> {
        if self.config.align == Align::None {
            return batch.probs.iter().map(|&p| f64::from(p)).collect();
        }
        let (keep, c) = (self.config.ema, batch.n_classes);
        let State { p_model, p_target, .. } = &mut self.state;
        let means = column_means(batch.probs, c);
        if p_model.is_empty() {
            *p_model = means;
        } else {
            p_model.iter_mut().zip(means).for_each(|(p, new)| ema(keep, p, new));
        }
        if let (Align::Model, Some(labelled)) = (self.config.align, batch.labelled) {
            p_target.iter_mut().zip(column_means(labelled, c)).for_each(|(p, new)| ema(keep, p, new));
        }
        let mut out = Vec::with_capacity(batch.probs.len());
        for row in batch.rows() {
            let scaled = |(class, &p): (usize, &f32)| f64::from(p) * (p_target[class] + TINY) / (p_model[class] + TINY);
            let sum: f64 = row.iter().enumerate().map(scaled).sum();
            out.extend(row.iter().enumerate().map(|entry| scaled(entry) / sum));
        }
        out
    }

    fn update(&mut self, guesses: &[(u32, f64)]) {
        let keep = self.config.ema;
        let State { mu, var, .. } = &mut self.state;
        if !self.config.per_class {
            let (mean, variance) = moments(&guesses.iter().map(|g| g.1).collect::<Vec<_>>());
            ema(keep, &mut mu[0], mean);
            let variance = variance.unwrap_or(var[0]);
            ema(keep, &mut var[0], variance);
            return;
        }
        for class in 0..mu.len() {
            let of_class = guesses.iter().filter(|g| g.0 as usize == class).map(|g| g.1);
            let (mean, variance) = match moments(&of_class.collect::<Vec<_>>()) {
                (mean, Some(variance)) => (mean, variance),
                _ => (0.0, 1.0),
            };
            ema(keep, &mut mu[class], mean);
            ema(keep, &mut var[class], variance);
        }
    }
}

impl Weighting for SoftMatch {
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict {
        let guesses = batch.guesses();
        if guesses.is_empty() {
            return Verdict::default();
        }
        let aligned = self.aligned(batch);
        let aligned: Vec<(u32, f64)> = aligned.chunks_exact(batch.n_classes).map(trust::largest).collect();
        self.update(if self.config.aligned_moments { &aligned } else { &guesses });
        let per_class = self.config.per_class;
        let State { mu, var, .. } = &self.state;
        Verdict::new(&guesses, |i, _, _| {
            let (class, confidence) = aligned[i];
            let at = if per_class { class as usize } else { 0 };
            let below = (confidence - mu[at]).min(0.0);
            // Where all confidences agree the variance dies out; what lies at the mean still counts whole.
            if below == 0.0 { 1.0 } else { (-below * below / (2.0 * var[at] / self.config.n_sigma.powi(2))).exp() }
        })
    }

    fn series(&self) -> Vec<(&'static str, f64)> {
        if self.config.per_class {
            return vec![];
        }
        vec![("mu", self.state.mu[0]), ("var", self.state.var[0])]
    }

    fn wants_labelled(&self) -> bool {
        self.config.align == Align::Model
    }

    saved_state!(|s| s.p_target.len() + s.mu.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_of_one_leaves_everything_finite() {
        for per_class in [false, true] {
            let mut method = SoftMatch::new(SoftMatchConfig { per_class, ..Default::default() }, 2);
            let verdict =
                method.observe(&Observation { probs: &[0.75, 0.25], n_classes: 2, indices: &[0], labelled: None });
            assert!(verdict.weights[0].is_finite() && verdict.labels == [0]);
            assert!(method.save().is_ok());
            let none = Observation { probs: &[], n_classes: 2, indices: &[], labelled: None };
            assert_eq!(method.observe(&none), Verdict::default());
        }
    }
}
