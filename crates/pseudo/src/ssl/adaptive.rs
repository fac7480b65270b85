//! PEPL, phase 1: thresholds that follow the model's own confidence.

use super::weighting::{Observation, Verdict, Weighting, indicator, saved_state};
use crate::trust;
use serde::{Deserialize, Serialize};

/// Settings of self-adaptive thresholds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AdaptiveConfig {
    /// Share of the old statistics that a step keeps (beta).
    pub ema: f64,
    /// Take this quantile of a batch's confidences for the global threshold instead of their mean.
    pub quantile: Option<f64>,
    /// Keep the global threshold at 0.95 or below.
    pub clip: bool,
    /// Global threshold at the start; by default 1/c.
    pub start: Option<f64>,
    /// Divide the start values out of the averages (as Adam does), so that the thresholds follow from the first step.
    pub corrected: bool,
}

impl Default for AdaptiveConfig {
    fn default() -> Self {
        Self { ema: 0.999, quantile: None, clip: false, start: None, corrected: false }
    }
}

/// `w = 1[max q >= tau P(c) / max P]` with running means tau of the confidences and P of the predictions (FreeMatch,
/// arXiv 2205.07246, eq. 5-9; PEPL, arXiv 2409.03192, after second-hand accounts).
///
/// The batch is taken into the statistics before it is judged by them.
#[derive(Clone, Debug)]
pub struct SelfAdaptive {
    config: AdaptiveConfig,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    tau: f64,
    p_model: Vec<f64>,
    steps: u64,
}

/// Where [`AdaptiveConfig::clip`] ends the global threshold.
const HIGHEST: f64 = 0.95;

/// `ema old + (1 - ema) new`.
pub(super) fn ema(keep: f64, old: &mut f64, new: f64) {
    *old = keep * *old + (1.0 - keep) * new;
}

/// Column means of rows [n, c] in f64; zeros of nothing.
pub(super) fn column_means(probs: &[f32], n_classes: usize) -> Vec<f64> {
    let mut means = vec![0.0; n_classes];
    for row in probs.chunks_exact(n_classes) {
        means.iter_mut().zip(row).for_each(|(m, &p)| *m += f64::from(p));
    }
    let n = (probs.len() / n_classes).max(1) as f64;
    means.iter_mut().for_each(|m| *m /= n);
    means
}

impl SelfAdaptive {
    /// Starts at 1/c throughout.
    pub fn new(config: AdaptiveConfig, n_classes: usize) -> Self {
        let even = 1.0 / n_classes as f64;
        let tau = config.start.unwrap_or(even);
        Self { config, state: State { tau, p_model: vec![even; n_classes], steps: 0 } }
    }

    /// Takes a batch into the statistics.
    pub(super) fn update(&mut self, batch: &Observation<'_>, guesses: &[(u32, f64)]) {
        if guesses.is_empty() {
            return;
        }
        let confidences: Vec<f64> = guesses.iter().map(|g| g.1).collect();
        let level = match self.config.quantile {
            Some(q) => trust::quantile(&confidences, q),
            None => confidences.iter().sum::<f64>() / confidences.len() as f64,
        };
        let keep = self.config.ema;
        ema(keep, &mut self.state.tau, level);
        // A clipped value cannot be corrected any more: there, `tau` clips.
        if self.config.clip && !self.config.corrected {
            self.state.tau = self.state.tau.clamp(0.0, HIGHEST);
        }
        let means = column_means(batch.probs, batch.n_classes);
        self.state.p_model.iter_mut().zip(means).for_each(|(p, new)| ema(keep, p, new));
        self.state.steps += 1;
    }

    /// A running mean, without its start value where so configured.
    fn corrected(&self, value: f64, start: f64) -> f64 {
        if !self.config.corrected || self.state.steps == 0 || self.config.ema >= 1.0 {
            return value;
        }
        let left = self.config.ema.powf(self.state.steps as f64);
        (value - left * start) / (1.0 - left)
    }

    /// Global threshold tau.
    pub fn tau(&self) -> f64 {
        let start = self.config.start.unwrap_or(1.0 / self.state.p_model.len() as f64);
        let tau = self.corrected(self.state.tau, start);
        if self.config.clip { tau.clamp(0.0, HIGHEST) } else { tau }
    }

    /// Running mean P of the predictions, `[c]`.
    pub fn p_model(&self) -> Vec<f64> {
        let even = 1.0 / self.state.p_model.len() as f64;
        self.state.p_model.iter().map(|&p| self.corrected(p, even)).collect()
    }

    /// Threshold of each class, [c].
    pub(super) fn per_class(&self) -> Vec<f64> {
        let (tau, p) = (self.tau(), self.p_model());
        let largest = p.iter().copied().fold(0.0, f64::max);
        p.iter().map(|p| tau * (p / largest)).collect()
    }

    /// Judges guesses by the thresholds of their classes.
    pub(super) fn judge(&self, guesses: &[(u32, f64)]) -> Verdict {
        let thresholds = self.per_class();
        Verdict::new(guesses, |_, class, confidence| indicator(confidence >= thresholds[class as usize]))
    }
}

impl Weighting for SelfAdaptive {
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict {
        let guesses = batch.guesses();
        self.update(batch, &guesses);
        self.judge(&guesses)
    }

    fn thresholds(&self) -> Option<Vec<f64>> {
        Some(self.per_class())
    }

    fn series(&self) -> Vec<(&'static str, f64)> {
        vec![("tau", self.tau()), ("p_divergence", trust::Collapse::new(&self.p_model()).divergence)]
    }

    saved_state!(|s| s.p_model.len());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(probs: &[f32]) -> Observation<'_> {
        Observation { probs, n_classes: 2, indices: &[0, 1], labelled: None }
    }

    #[test]
    fn correction_makes_the_first_threshold_the_first_mean() {
        let probs = [0.75, 0.25, 0.0, 1.0];
        let config = AdaptiveConfig { corrected: true, ..Default::default() };
        let mut method = SelfAdaptive::new(config, 2);
        method.observe(&batch(&probs));
        assert!((method.tau() - 0.875).abs() < 1e-9, "{}", method.tau());
        assert!((method.p_model()[0] - 0.375).abs() < 1e-9);
        let mut slow = SelfAdaptive::new(AdaptiveConfig::default(), 2);
        slow.observe(&batch(&probs));
        assert!((slow.tau() - (0.999 * 0.5 + 0.001 * 0.875)).abs() < 1e-12);
    }

    #[test]
    fn state_of_another_size_is_refused() {
        let saved = SelfAdaptive::new(AdaptiveConfig::default(), 3).save().unwrap();
        let mut method = SelfAdaptive::new(AdaptiveConfig::default(), 2);
        assert!(method.load(saved).unwrap_err().to_string().contains("state of size 3, expected 2"));
        assert!(method.load(serde_json::json!({"tau": 1.0})).is_err());
    }
}
