//! What a classifier said beside what is true.

use super::{Error, Reliability, RiskCoverage};

/// Rows of class probabilities with the true label of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    n_classes: usize,
    probs: Vec<f64>,
    labels: Vec<u32>,
}

/// One prediction with its confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judged {
    /// Probability of the predicted class.
    pub confidence: f64,
    /// Whether the prediction is right.
    pub correct: bool,
}

/// Index and value of the first largest entry; `(0, NaN)` of nothing.
pub(crate) fn largest<P: Copy + Into<f64>>(row: &[P]) -> (u32, f64) {
    let mut best = (0, row.first().map_or(f64::NAN, |&p| p.into()));
    for (class, &p) in row.iter().enumerate().skip(1) {
        let p = p.into();
        if p > best.1 {
            best = (class as u32, p);
        }
    }
    best
}

/// A sum in f64 over a count; NaN of nothing.
pub(crate) fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (sum, n) = values.fold((0.0, 0_usize), |(sum, n), x| (sum + x, n + 1));
    sum / n as f64
}

impl Predictions {
    /// None yet, over `n_classes` classes.
    pub fn new(n_classes: usize) -> Self {
        Self { n_classes, probs: vec![], labels: vec![] }
    }

    /// Adds rows of probabilities (f32 or f64), [n, c] row-major, with their labels `[n]`.
    ///
    /// # Errors
    /// If the lengths do not fit or a label is no class; then nothing is added.
    pub fn push<P: Copy + Into<f64>>(&mut self, probs: &[P], labels: &[u32]) -> Result<(), Error> {
        Error::unless("probabilities", labels.len() * self.n_classes, probs.len())?;
        if let Some(at) = labels.iter().position(|&l| l as usize >= self.n_classes) {
            let (row, label) = (self.len() + at, labels[at]);
            return Err(Error::Label { row, label, n_classes: self.n_classes });
        }
        self.probs.extend(probs.iter().map(|&p| p.into()));
        self.labels.extend_from_slice(labels);
        Ok(())
    }

    /// Number of examples n.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes c.
    pub fn n_classes(&self) -> usize {
        self.n_classes
    }

    /// True labels, `[n]`.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Probabilities with the label of each row.
    pub fn rows(&self) -> impl Iterator<Item = (&[f64], u32)> {
        self.probs.chunks_exact(self.n_classes.max(1)).zip(self.labels.iter().copied())
    }

    /// Predicted class of each row: the first of the most probable.
    pub fn predicted(&self) -> Vec<u32> {
        self.rows().map(|(row, _)| largest(row).0).collect()
    }

    /// Confidence of each prediction and whether it is right.
    pub fn judged(&self) -> Vec<Judged> {
        let judge = |(row, label)| {
            let (class, confidence) = largest(row);
            Judged { confidence, correct: class == label }
        };
        self.rows().map(judge).collect()
    }

    /// Share of right predictions.
    pub fn accuracy(&self) -> f64 {
        self.top_k(1)
    }

    /// Share of rows whose label is among the `k` most probable classes; the first of equals counts as the more probable.
    pub fn top_k(&self, k: usize) -> f64 {
        mean(self.rows().map(|(row, label)| f64::from(u8::from(rank(row, label) < k))))
    }

    /// Share of right predictions among the examples of each class; NaN where there is no example.
    pub fn class_accuracies(&self) -> Vec<f64> {
        let (mut right, mut all) = (vec![0.0; self.n_classes], vec![0.0; self.n_classes]);
        for (judged, &label) in self.judged().iter().zip(&self.labels) {
            all[label as usize] += 1.0;
            right[label as usize] += f64::from(u8::from(judged.correct));
        }
        right.iter().zip(&all).map(|(r, n)| r / n).collect()
    }

    /// Mean of the class accuracies over the classes that have examples.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.class_accuracies().into_iter().filter(|a| !a.is_nan()))
    }

    /// Mean squared distance of the row to the one-hot label, from 0 to 2.
    pub fn brier(&self) -> f64 {
        mean(self.rows().map(|(row, label)| brier_row(row, label)))
    }

    /// Mean negative log-probability of the label. Probabilities below `floor` are raised to it and the row is divided
    /// by its sum.
    pub fn log_loss(&self, floor: f64) -> f64 {
        mean(self.rows().map(|(row, label)| {
            let raised = |p: &f64| p.max(floor);
            let sum: f64 = row.iter().map(raised).sum();
            (sum / raised(&row[label as usize])).ln()
        }))
    }

    /// Reliability diagram of the confidences in `n_bins` bins of equal width.
    pub fn reliability(&self, n_bins: usize) -> Reliability {
        Reliability::new(&self.judged(), n_bins, super::LastBin::OwnBucket)
    }

    /// Error rate against coverage.
    pub fn risk_coverage(&self) -> RiskCoverage {
        RiskCoverage::new(&self.judged())
    }
}

/// Number of classes more probable than `label`.
pub(crate) fn rank(row: &[f64], label: u32) -> usize {
    let own = row[label as usize];
    let above = |(class, &p): (usize, &f64)| p > own || (p == own && class < label as usize);
    row.iter().enumerate().filter(|&entry| above(entry)).count()
}

/// Squared distance of a row to its one-hot label.
pub(crate) fn brier_row(row: &[f64], label: u32) -> f64 {
    let square = |(class, &p): (usize, &f64)| {
        let hit = f64::from(u8::from(class == label as usize));
        (p - hit).powi(2)
    };
    row.iter().enumerate().map(square).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Predictions {
        let mut all = Predictions::new(3);
        all.push(&[0.5, 0.25, 0.25, 0.25, 0.25, 0.5, 0.125, 0.75, 0.125], &[0, 1, 2]).unwrap();
        all
    }

    #[test]
    fn counts_by_rank() {
        let all = three();
        assert_eq!(all.predicted(), [0, 2, 1]);
        assert_eq!((all.top_k(1), all.top_k(2), all.top_k(3)), (1.0 / 3.0, 1.0 / 3.0, 1.0));
        assert_eq!(all.class_accuracies(), [1.0, 0.0, 0.0]);
        assert_eq!(all.balanced_accuracy(), 1.0 / 3.0);
    }

    #[test]
    fn what_does_not_fit_is_named_and_leaves_nothing() {
        let mut all = three();
        let say = |e: Result<(), Error>| e.unwrap_err().to_string();
        assert_eq!(say(all.push(&[0.5], &[0])), "probabilities: expected 3, got 1");
        assert_eq!(say(all.push(&[0.0, 0.0, 1.0], &[3])), "label 3 of example 3 is not one of 3 classes");
        assert_eq!(all.len(), 3);
        assert!(Predictions::new(3).accuracy().is_nan());
    }
}
