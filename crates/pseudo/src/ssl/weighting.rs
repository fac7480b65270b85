//! Which pseudo-labels count, and how much: what all methods have in common.

use super::adaptive::{AdaptiveConfig, SelfAdaptive};
use super::flexmatch::{FlexMatch, FlexMatchConfig};
use super::freematch::{FreeMatch, FreeMatchConfig};
use super::softmatch::{SoftMatch, SoftMatchConfig};
use super::threshold::{Threshold, ThresholdConfig};
use crate::trust;
use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a method sees of a batch: probabilities of the weak views, without gradient.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// Rows of the unlabelled images, [n, c] row-major.
    pub probs: &'a [f32],
    /// Number of classes c, at least 1.
    pub n_classes: usize,
    /// Place of each image in the unlabelled set, `[n]`.
    pub indices: &'a [usize],
    /// Rows of the labelled images, where the method wants them, [m, c].
    pub labelled: Option<&'a [f32]>,
}

impl<'a> Observation<'a> {
    /// Rows of the unlabelled images.
    pub fn rows(&self) -> impl Iterator<Item = &'a [f32]> {
        self.probs.chunks_exact(self.n_classes)
    }

    /// Pseudo-labels and confidences.
    pub fn guesses(&self) -> Vec<(u32, f64)> {
        self.rows().map(trust::largest).collect()
    }
}

/// What a method says of a batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Pseudo-labels: the first most probable class, `[n]`.
    pub labels: Vec<u32>,
    /// Their probabilities, `[n]`.
    pub confidences: Vec<f32>,
    /// Their weights in the loss, from 0 to 1, `[n]`.
    pub weights: Vec<f32>,
}

impl Verdict {
    /// Weighs each guess, a pair of class and confidence.
    pub fn new(guesses: &[(u32, f64)], mut weight: impl FnMut(usize, u32, f64) -> f64) -> Self {
        let mut verdict = Self::default();
        for (i, &(label, confidence)) in guesses.iter().enumerate() {
            verdict.labels.push(label);
            verdict.confidences.push(confidence as f32);
            verdict.weights.push(weight(i, label, confidence) as f32);
        }
        verdict
    }

    /// Mean weight; 0 of nothing.
    pub fn coverage(&self) -> f64 {
        let sum: f64 = self.weights.iter().map(|&w| f64::from(w)).sum();
        sum / self.weights.len().max(1) as f64
    }
}

/// 1 where it holds.
pub(super) fn indicator(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A method: pure arithmetic on probabilities, with state that can be saved.
pub trait Weighting: Send {
    /// Takes in a batch and weighs its pseudo-labels.
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict;

    /// The confidence that each class needs now, `[c]`; none for methods without thresholds.
    fn thresholds(&self) -> Option<Vec<f64>> {
        None
    }

    /// Running numbers worth recording, by name.
    fn series(&self) -> Vec<(&'static str, f64)> {
        vec![]
    }

    /// Whether [`observe`](Self::observe) needs the probabilities of the labelled images.
    fn wants_labelled(&self) -> bool {
        false
    }

    /// A loss beside the cross entropy on the logits [n, c] that carry the gradient, already weighted.
    ///
    /// # Errors
    /// If a tensor operation fails.
    fn auxiliary(&self, logits: &Tensor, verdict: &Verdict) -> candle_core::Result<Option<Tensor>> {
        let _ = (logits, verdict);
        Ok(None)
    }

    /// The whole state.
    ///
    /// # Errors
    /// If a number is not finite.
    fn save(&self) -> serde_json::Result<Value>;

    /// Takes back what [`save`](Self::save) gave.
    ///
    /// # Errors
    /// If the state is of another method or size.
    fn load(&mut self, state: Value) -> serde_json::Result<()>;
}

/// Implements `save` and `load` on a field `state`, whose size (classes, images) a loaded one must have.
macro_rules! saved_state {
    ($size:expr) => {
        fn save(&self) -> serde_json::Result<serde_json::Value> {
            serde_json::to_value(&self.state)
        }

        fn load(&mut self, state: serde_json::Value) -> serde_json::Result<()> {
            let size: fn(&State) -> usize = $size;
            let state: State = serde_json::from_value(state)?;
            if size(&state) != size(&self.state) {
                let what = format!("state of size {}, expected {}", size(&state), size(&self.state));
                return Err(serde::de::Error::custom(what));
            }
            self.state = state;
            Ok(())
        }
    };
}
pub(super) use saved_state;

/// The choice of a method and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum WeightingConfig {
    /// Unlabelled images are not used.
    Supervised,
    /// Lee 2013: confident predictions become labels of the same view.
    PseudoLabel(ThresholdConfig),
    /// Sohn et al. 2020, arXiv 2001.07685: confident predictions on the weak view become labels of the strong view.
    Fixmatch(ThresholdConfig),
    /// Zhang et al. 2021, arXiv 2110.08263: a class that is learnt slowly needs less confidence.
    Flexmatch(FlexMatchConfig),
    /// Wang et al. 2023, arXiv 2205.07246: thresholds follow the confidence, and a fairness loss.
    Freematch(FreeMatchConfig),
    /// Chen et al. 2023, arXiv 2301.10921: no threshold but a Gaussian weight, and aligned distributions.
    Softmatch(SoftMatchConfig),
    /// Tian et al. 2024, arXiv 2409.03192, phase 1: self-adaptive thresholds; see `docs/methods/pepl.md`.
    Pepl(AdaptiveConfig),
}

impl WeightingConfig {
    /// A fresh method over `n_classes` classes and `n_unlabelled` images; none without unlabelled images.
    pub fn build(&self, n_classes: usize, n_unlabelled: usize) -> Option<Box<dyn Weighting>> {
        Some(match self {
            Self::Supervised => return None,
            Self::PseudoLabel(config) | Self::Fixmatch(config) => Box::new(Threshold::new(*config)),
            Self::Flexmatch(config) => Box::new(FlexMatch::new(*config, n_classes, n_unlabelled)),
            Self::Freematch(config) => Box::new(FreeMatch::new(*config, n_classes)),
            Self::Softmatch(config) => Box::new(SoftMatch::new(*config, n_classes)),
            Self::Pepl(config) => Box::new(SelfAdaptive::new(*config, n_classes)),
        })
    }

    /// Whether the gradient runs through the weak view where images are not mixed.
    pub fn trains_weak_view(&self) -> bool {
        matches!(self, Self::PseudoLabel(_))
    }

    /// Names every value out of range, with its key below `weighting`.
    pub(super) fn wrong(&self) -> Option<(&'static str, String)> {
        let share = |key, value: f64| {
            (!(0.0..=1.0).contains(&value)).then(|| (key, format!("expected a number from 0 to 1, got {value}")))
        };
        match self {
            Self::Supervised => None,
            Self::PseudoLabel(c) | Self::Fixmatch(c) => share("threshold", c.threshold),
            Self::Flexmatch(c) => share("threshold", c.threshold),
            Self::Freematch(c) => share("ema", c.adaptive.ema)
                .or_else(|| share("quantile", c.adaptive.quantile.unwrap_or(0.0)))
                .or_else(|| share("start", c.adaptive.start.unwrap_or(0.0)))
                .or_else(|| (c.fairness < 0.0).then(|| ("fairness", format!("must not be negative: {}", c.fairness)))),
            Self::Softmatch(c) => share("ema", c.ema)
                .or_else(|| (c.n_sigma <= 0.0).then(|| ("n_sigma", format!("must be positive, got {}", c.n_sigma)))),
            Self::Pepl(c) => share("ema", c.ema)
                .or_else(|| share("quantile", c.quantile.unwrap_or(0.0)))
                .or_else(|| share("start", c.start.unwrap_or(0.0))),
        }
    }
}
