//! How far to trust a label: a temperature and a bound, both from held-out labels.

use crate::Result;
use chandlery::nn::file::write_atomic;
use chandlery::pseudo::trust::Temperature;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Fitted on held-out labels; written into the run, and used when it labels images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Held-out labels that it was fitted on; without any the temperature is 1.
    pub n: usize,
    /// Logits are divided by this.
    pub temperature: f64,
    /// Held-out log loss at temperature 1.
    pub nll_before: f64,
    /// Held-out log loss at the temperature.
    pub nll_after: f64,
    /// Share of right labels that was asked for.
    pub target: f64,
    /// A label of at least this calibrated probability is kept.
    pub keep_above: f64,
    /// Share of the held-out images that are kept.
    pub coverage: f64,
    /// Share of right labels among these, where any is kept; of few images it promises more than it can keep.
    pub precision: Option<f64>,
}

const FILE: &str = "calibration.json";

impl Calibration {
    /// Fits on held-out `logits` `[n, c]`.
    pub fn fit(logits: &[f32], labels: &[u32], n_classes: usize, target: f64) -> Result<Self> {
        let fitted = Temperature::fit(logits, labels, n_classes)?;
        let probs = fitted.apply(logits, n_classes);
        let judged = |(row, &label): (&[f32], &u32)| {
            let (class, p) = most(row);
            (f64::from(p), class == label as usize)
        };
        let judged = probs.chunks_exact(n_classes).zip(labels).map(judged).collect();
        let (keep_above, coverage, precision) = bound(judged, target);
        let (n, temperature) = (labels.len(), fitted.t);
        Ok(Self {
            n,
            temperature,
            nll_before: fitted.before,
            nll_after: fitted.after,
            target,
            keep_above,
            coverage,
            precision,
        })
    }

    /// Calibrated probabilities of rows of logits.
    pub fn apply(&self, logits: &[f32], n_classes: usize) -> Vec<f32> {
        Temperature { t: self.temperature, before: self.nll_before, after: self.nll_after }.apply(logits, n_classes)
    }

    /// Writes it into a run.
    pub fn save(&self, run: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        Ok(write_atomic(&run.join(FILE), |w| w.write_all(json.as_bytes()))?)
    }

    /// That of a run.
    pub fn load(run: &Path) -> Result<Self> {
        let path = run.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

/// Class and value of the first largest entry.
pub fn most(row: &[f32]) -> (usize, f32) {
    let better = |best: (usize, f32), (class, &p): (usize, &f32)| if p > best.1 { (class, p) } else { best };
    row.iter().enumerate().fold((0, f32::NEG_INFINITY), better)
}

/// The lowest bound above which the share `target` of the predictions is right, with coverage and precision at it. Where
/// no bound reaches the target, the target itself is the bound: a calibrated probability promises it.
fn bound(mut judged: Vec<(f64, bool)>, target: f64) -> (f64, f64, Option<f64>) {
    judged.sort_by(|a, b| b.0.total_cmp(&a.0));
    let n = judged.len().max(1) as f64;
    let (mut right, mut found) = (0.0, None);
    for (i, &(p, is_right)) in judged.iter().enumerate() {
        right += f64::from(u8::from(is_right));
        let kept = (i + 1) as f64;
        // Equal probabilities are kept together or not at all.
        let last_of_equals = judged.get(i + 1).is_none_or(|next| next.0 < p);
        if last_of_equals && right / kept >= target {
            found = Some((p, kept / n, Some(right / kept)));
        }
    }
    found.unwrap_or_else(|| {
        let kept: Vec<bool> = judged.iter().filter(|j| j.0 >= target).map(|j| j.1).collect();
        let right = kept.iter().filter(|right| **right).count() as f64;
        (target, kept.len() as f64 / n, (!kept.is_empty()).then(|| right / kept.len() as f64))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_keeps_as_much_as_the_target_allows() {
        let judged = vec![(0.6, false), (0.9, true), (0.8, true), (0.7, false), (0.75, true)];
        assert_eq!(bound(judged.clone(), 1.0), (0.75, 0.6, Some(1.0)));
        assert_eq!(bound(judged.clone(), 0.75), (0.7, 0.8, Some(0.75)));
        assert_eq!(bound(judged, 0.0), (0.6, 1.0, Some(0.6)));
        assert_eq!(bound(vec![(0.9, false)], 0.95), (0.95, 0.0, None));
        assert_eq!(bound(vec![], 0.95).0, 0.95);
    }

    #[test]
    fn equal_probabilities_stay_together() {
        assert_eq!(bound(vec![(0.95, true), (0.95, false)], 0.9), (0.9, 1.0, Some(0.5)));
        assert_eq!(bound(vec![(0.8, true), (0.7, true), (0.7, false)], 0.9), (0.8, 1.0 / 3.0, Some(1.0)));
    }

    #[test]
    fn first_largest_wins() {
        assert_eq!(most(&[0.25, 0.5, 0.5]), (1, 0.5));
    }
}
