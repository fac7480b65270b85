//! One number that makes confidences honest.

use super::Error;

/// Temperature scaling: `softmax(logits / t)` with the t of least log loss on held-out labels (Guo et al. 2017,
/// arXiv 1706.04599, 4.2). It changes no prediction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Temperature {
    /// The temperature, within 0.01 and 100.
    pub t: f64,
    /// Log loss at 1.
    pub before: f64,
    /// Log loss at t.
    pub after: f64,
}

/// Bounds of the inverse temperature: labels that are all right (or all wrong) have their optimum at infinity (0).
const INVERSE: (f64, f64) = (0.01, 100.0);

impl Temperature {
    /// Fits on logits [n, c] (log-probabilities serve as well) with true labels `[n]`.
    ///
    /// The log loss is convex in 1/t; a Newton step that leaves the bracket of the minimum is replaced by its middle, so
    /// the search ends for every input, the same each time. Without examples t is 1.
    ///
    /// # Errors
    /// If the lengths do not fit or a label is no class.
    pub fn fit(logits: &[f32], labels: &[u32], n_classes: usize) -> Result<Self, Error> {
        Error::unless("logits", labels.len() * n_classes, logits.len())?;
        if let Some(row) = labels.iter().position(|&l| l as usize >= n_classes) {
            return Err(Error::Label { row, label: labels[row], n_classes });
        }
        let at = |inverse: f64| loss(logits, labels, n_classes, inverse);
        let before = at(1.0)[0];
        if labels.is_empty() {
            return Ok(Self { t: 1.0, before, after: before });
        }
        let (mut low, mut high) = INVERSE;
        let mut inverse = 1.0;
        for _ in 0..200 {
            let [_, slope, curvature] = at(inverse);
            *(if slope > 0.0 { &mut high } else { &mut low }) = inverse;
            let newton = inverse - slope / curvature;
            let next = if newton > low && newton < high { newton } else { (low + high) / 2.0 };
            let moved = (next - inverse).abs();
            inverse = next;
            if moved <= 1e-12 * inverse {
                break;
            }
        }
        Ok(Self { t: 1.0 / inverse, before, after: at(inverse)[0] })
    }

    /// Probabilities `softmax(logits / t)` of rows [n, c].
    pub fn apply(&self, logits: &[f32], n_classes: usize) -> Vec<f32> {
        let mut probs = Vec::with_capacity(logits.len());
        for row in logits.chunks_exact(n_classes.max(1)) {
            let (largest, sum) = log_sum(row, 1.0 / self.t);
            probs.extend(row.iter().map(|&z| ((f64::from(z) / self.t - largest).exp() / sum) as f32));
        }
        probs
    }
}

/// Largest scaled logit, and the sum of exponentials of what lies below it.
fn log_sum(row: &[f32], inverse: f64) -> (f64, f64) {
    let scaled = row.iter().map(|&z| f64::from(z) * inverse);
    let largest = scaled.clone().fold(f64::NEG_INFINITY, f64::max);
    (largest, scaled.map(|z| (z - largest).exp()).sum())
}

/// Mean log loss at an inverse temperature with its first two derivatives.
fn loss(logits: &[f32], labels: &[u32], n_classes: usize, inverse: f64) -> [f64; 3] {
    let mut sums = [0.0; 3];
    for (row, &label) in logits.chunks_exact(n_classes.max(1)).zip(labels) {
        let (largest, sum) = log_sum(row, inverse);
        let own = f64::from(row[label as usize]);
        let (mut first, mut second) = (0.0, 0.0);
        for &z in row {
            let z = f64::from(z);
            let p = (z * inverse - largest).exp() / sum;
            // A probability of zero silences an infinite logit.
            if p > 0.0 {
                first += p * z;
                second += p * z * z;
            }
        }
        sums[0] += largest + sum.ln() - own * inverse;
        sums[1] += first - own;
        sums[2] += second - first * first;
    }
    sums.map(|s| s / labels.len() as f64)
}

/// Precision to expect of kept pseudo-labels where nobody knows the truth: the mean of their calibrated confidences.
/// `None` where nothing is kept.
///
/// It is as good as the calibration: a temperature fitted on few labels, or on labels that trained the model, flatters.
pub fn estimated_precision(confidences: &[f64], weights: &[f64]) -> Option<f64> {
    let kept: f64 = weights.iter().sum();
    let sum: f64 = confidences.iter().zip(weights).map(|(c, w)| c * w).sum();
    (kept > 0.0).then(|| sum / kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::{Key, Stream};

    /// Logits, and labels drawn from `softmax(logits / t)`.
    fn drawn(n: usize, c: usize, t: f64) -> (Vec<f32>, Vec<u32>) {
        let mut draws = Stream::new(Key::new(5));
        let logits: Vec<f32> = (0..n * c).map(|_| (3.0 * draws.normal()) as f32).collect();
        let truth = Temperature { t, before: 0.0, after: 0.0 }.apply(&logits, c);
        let mut label = |row: &[f32]| {
            let mut left = draws.uniform();
            let pick = row.iter().position(|&p| {
                left -= f64::from(p);
                left < 0.0
            });
            pick.unwrap_or(c - 1) as u32
        };
        let labels = truth.chunks(c).map(&mut label).collect();
        (logits, labels)
    }

    #[test]
    fn finds_the_temperature_that_made_the_labels() {
        for t in [0.5, 1.0, 2.5] {
            let (logits, labels) = drawn(4000, 6, t);
            let fit = Temperature::fit(&logits, &labels, 6).unwrap();
            assert!((fit.t / t - 1.0).abs() < 0.06, "{t}: {fit:?}");
            assert!(fit.after <= fit.before);
            for near in [fit.t * 0.99, fit.t * 1.01] {
                assert!(loss(&logits, &labels, 6, 1.0 / near)[0] >= fit.after, "{near} beats {fit:?}");
            }
        }
    }

    #[test]
    fn labels_without_optimum_end_at_the_bounds() {
        let right = Temperature::fit(&[1.0, 0.0, 0.0, 1.0], &[0, 1], 2).unwrap();
        let wrong = Temperature::fit(&[1.0, 0.0, 0.0, 1.0], &[1, 0], 2).unwrap();
        assert!((right.t - 0.01).abs() < 1e-6 && (wrong.t - 100.0).abs() < 1e-3, "{right:?} {wrong:?}");
        assert_eq!(Temperature::fit(&[], &[], 2).unwrap().t, 1.0);
        assert!(Temperature::fit(&[0.0], &[0], 2).is_err());
    }

    #[test]
    fn kept_confidence_is_the_expected_precision() {
        assert_eq!(estimated_precision(&[0.5, 0.75, 0.1], &[1.0, 1.0, 0.0]), Some(0.625));
        assert_eq!(estimated_precision(&[0.5], &[0.0]), None);
    }
}
