//! How many pseudo-labels are kept, and how many of these are right.

use super::Error;
use serde::{Deserialize, Serialize};

/// Counts of pseudo-labels by predicted class; sample weights between 0 and 1 count as parts.
///
/// Hidden labels only measure here; they never reach training.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tally {
    /// Pseudo-labels of each class, kept or not.
    pub seen: Vec<f64>,
    /// Their weight.
    pub kept: Vec<f64>,
    /// Weight of those whose hidden label is known.
    pub known: Vec<f64>,
    /// Weight of those that agree with it.
    pub right: Vec<f64>,
    /// Weighted sum of their confidences.
    pub confidence: Vec<f64>,
}

fn share(part: f64, whole: f64) -> Option<f64> {
    (whole > 0.0).then(|| part / whole)
}

fn sum(values: &[f64]) -> f64 {
    values.iter().sum()
}

impl Tally {
    /// Nothing counted, over `n_classes` classes.
    pub fn new(n_classes: usize) -> Self {
        let zeros = vec![0.0; n_classes];
        Self { seen: zeros.clone(), kept: zeros.clone(), known: zeros.clone(), right: zeros.clone(), confidence: zeros }
    }

    /// Counts a batch: pseudo-label, confidence and weight of each image, and the hidden labels where there are any.
    ///
    /// # Errors
    /// If the lengths differ or a pseudo-label is no class; then nothing is counted.
    pub fn add(
        &mut self,
        labels: &[u32],
        confidences: &[f32],
        weights: &[f32],
        hidden: Option<&[u32]>,
    ) -> Result<(), Error> {
        let n = labels.len();
        Error::unless("confidences", n, confidences.len())?;
        Error::unless("weights", n, weights.len())?;
        Error::unless("hidden labels", n, hidden.map_or(n, <[u32]>::len))?;
        let n_classes = self.seen.len();
        if let Some(row) = labels.iter().position(|&l| l as usize >= n_classes) {
            return Err(Error::Label { row, label: labels[row], n_classes });
        }
        for (i, &label) in labels.iter().enumerate() {
            let (class, weight) = (label as usize, f64::from(weights[i]));
            self.seen[class] += 1.0;
            self.kept[class] += weight;
            self.confidence[class] += weight * f64::from(confidences[i]);
            if let Some(hidden) = hidden {
                self.known[class] += weight;
                self.right[class] += if hidden[i] == label { weight } else { 0.0 };
            }
        }
        Ok(())
    }

    /// Kept share of all pseudo-labels; `None` before the first.
    pub fn coverage(&self) -> Option<f64> {
        share(sum(&self.kept), sum(&self.seen))
    }

    /// Right share of the kept whose truth is known.
    pub fn precision(&self) -> Option<f64> {
        share(sum(&self.right), sum(&self.known))
    }

    /// Coverage times precision: share of the unlabelled images that teach something true.
    pub fn effective_precision(&self) -> Option<f64> {
        Some(self.coverage()? * self.precision()?)
    }

    /// Mean confidence of the kept: their expected precision if the confidences are calibrated.
    pub fn estimated_precision(&self) -> Option<f64> {
        share(sum(&self.confidence), sum(&self.kept))
    }

    /// [`coverage`](Self::coverage) of each predicted class.
    pub fn class_coverage(&self) -> Vec<Option<f64>> {
        self.kept.iter().zip(&self.seen).map(|(k, n)| share(*k, *n)).collect()
    }

    /// [`precision`](Self::precision) of each predicted class.
    pub fn class_precision(&self) -> Vec<Option<f64>> {
        self.right.iter().zip(&self.known).map(|(r, n)| share(*r, *n)).collect()
    }

    /// Wrong share of the kept of each predicted class.
    pub fn class_impurity(&self) -> Vec<Option<f64>> {
        self.class_precision().into_iter().map(|p| Some(1.0 - p?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_whole_and_part_weights() {
        let mut tally = Tally::new(3);
        tally.add(&[0, 0, 1, 1], &[0.5, 1.0, 0.75, 0.25], &[1.0, 1.0, 0.5, 0.0], Some(&[0, 2, 1, 1])).unwrap();
        assert_eq!(tally.coverage(), Some(0.625));
        assert_eq!(tally.precision(), Some(0.6));
        assert_eq!(tally.effective_precision(), Some(0.375));
        assert_eq!(tally.estimated_precision(), Some(0.75));
        assert_eq!(tally.class_coverage(), [Some(1.0), Some(0.25), None]);
        assert_eq!(tally.class_impurity(), [Some(0.5), Some(0.0), None]);
    }

    #[test]
    fn without_hidden_labels_nothing_is_said_of_precision() {
        let mut tally = Tally::new(2);
        assert_eq!(tally.coverage(), None);
        tally.add(&[0], &[1.0], &[1.0], None).unwrap();
        assert_eq!((tally.coverage(), tally.precision()), (Some(1.0), None));
        assert!(tally.add(&[2], &[1.0], &[1.0], None).is_err());
        assert!(tally.add(&[1], &[1.0], &[1.0], Some(&[])).is_err());
    }
}
