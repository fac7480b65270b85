//! FlexMatch: curriculum thresholds from the number of confident predictions of each class.

use super::weighting::{Observation, Verdict, Weighting, indicator, saved_state};
use serde::{Deserialize, Serialize};

/// Settings of FlexMatch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlexMatchConfig {
    /// Confidence from which a prediction is remembered (tau).
    pub threshold: f64,
    /// Let the images without a confident prediction yet compete for the largest count (arXiv 2110.08263, eq. 11).
    pub warmup: bool,
}

impl Default for FlexMatchConfig {
    fn default() -> Self {
        Self { threshold: 0.95, warmup: true }
    }
}

/// `w = 1[max q >= tau beta_c / (2 - beta_c)]`, where `beta_c` is the number of images whose last confident prediction
/// is c, divided by the largest such number (arXiv 2110.08263, eq. 5-11, convex mapping).
///
/// A batch is judged by the thresholds that the batches before it left, then remembered.
#[derive(Clone, Debug)]
pub struct FlexMatch {
    config: FlexMatchConfig,
    state: State,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct State {
    /// Last confident prediction of every unlabelled image; -1: none yet.
    selected_label: Vec<i64>,
    /// beta of each class.
    classwise_acc: Vec<f64>,
}

impl FlexMatch {
    /// Remembers nothing; every threshold is 0.
    pub fn new(config: FlexMatchConfig, n_classes: usize, n_unlabelled: usize) -> Self {
        Self { config, state: State { selected_label: vec![-1; n_unlabelled], classwise_acc: vec![0.0; n_classes] } }
    }

    fn threshold(&self, class: usize) -> f64 {
        let beta = self.state.classwise_acc[class];
        self.config.threshold * (beta / (2.0 - beta))
    }

    /// Counts the remembered labels anew. While all images share one answer (in particular none), nothing changes.
    fn count(&mut self) {
        let State { selected_label, classwise_acc } = &mut self.state;
        let mut counts = vec![0_usize; classwise_acc.len()];
        let mut unused = 0;
        for &label in selected_label.iter() {
            match usize::try_from(label).ok().and_then(|label| counts.get_mut(label)) {
                Some(count) => *count += 1,
                None => unused += 1,
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        if most.max(unused) >= selected_label.len() {
            return;
        }
        let by = if self.config.warmup { most.max(unused) } else { most };
        classwise_acc.iter_mut().zip(&counts).for_each(|(beta, &n)| *beta = n as f64 / by as f64);
    }
}

impl Weighting for FlexMatch {
    fn observe(&mut self, batch: &Observation<'_>) -> Verdict {
        let guesses = batch.guesses();
        let verdict =
            Verdict::new(&guesses, |_, class, confidence| indicator(confidence >= self.threshold(class as usize)));
        for (&i, &(class, confidence)) in batch.indices.iter().zip(&guesses) {
            if let Some(memory) = self.state.selected_label.get_mut(i).filter(|_| confidence >= self.config.threshold) {
                *memory = i64::from(class);
            }
        }
        self.count();
        verdict
    }

    fn thresholds(&self) -> Option<Vec<f64>> {
        Some((0..self.state.classwise_acc.len()).map(|c| self.threshold(c)).collect())
    }

    saved_state!(|s| s.classwise_acc.len() + s.selected_label.len());
}
