//! Do pseudo-labels change their mind, and do they still speak of all classes?

use serde::{Deserialize, Serialize};

/// The last pseudo-label of every unlabelled image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flips {
    /// -1 where an image has had none.
    last: Vec<i64>,
}

impl Flips {
    /// None seen, of `n_items` images.
    pub fn new(n_items: usize) -> Self {
        Self { last: vec![-1; n_items] }
    }

    /// Takes in new pseudo-labels of the images `indices`. Returns how many of them had one before, and how many of
    /// these have another now. Indices outside the set are passed over.
    pub fn observe(&mut self, indices: &[usize], labels: &[u32]) -> (usize, usize) {
        let (mut before, mut flipped) = (0, 0);
        for (&i, &label) in indices.iter().zip(labels) {
            let Some(last) = self.last.get_mut(i) else { continue };
            before += usize::from(*last >= 0);
            flipped += usize::from(*last >= 0 && *last != i64::from(label));
            *last = i64::from(label);
        }
        (before, flipped)
    }
}

/// How evenly labels spread over classes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Collapse {
    /// Exponential of the entropy of the class shares, from 1 to c; 0 of nothing.
    pub effective_classes: f64,
    /// Share of the most frequent class.
    pub largest_share: f64,
    /// Classes without any label.
    pub missing: usize,
    /// Kullback-Leibler divergence from the even distribution, in nats, from 0 to ln c.
    pub divergence: f64,
    n_classes: usize,
}

impl Collapse {
    /// From counts, weights or probabilities per class, which need not sum to 1.
    pub fn new(mass: &[f64]) -> Self {
        let total: f64 = mass.iter().sum();
        let shares = mass.iter().filter(|&&m| m > 0.0).map(|m| m / total);
        let entropy: f64 = shares.clone().map(|p| -p * p.ln()).sum();
        let any = total > 0.0;
        Self {
            effective_classes: if any { entropy.exp() } else { 0.0 },
            largest_share: shares.fold(0.0, f64::max),
            missing: mass.iter().filter(|&&m| m <= 0.0).count(),
            divergence: if any { (mass.len() as f64).ln() - entropy } else { 0.0 },
            n_classes: mass.len(),
        }
    }

    /// Whether fewer than the share `limit` of the classes are effectively in use. Nothing counted is no alarm.
    pub fn is_alarm(&self, limit: f64) -> bool {
        self.effective_classes > 0.0 && self.effective_classes < limit * self.n_classes as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flips_are_counted_against_the_last_label() {
        let mut flips = Flips::new(3);
        assert_eq!(flips.observe(&[0, 2, 9], &[1, 1, 1]), (0, 0));
        assert_eq!(flips.observe(&[0, 1, 2], &[1, 1, 0]), (2, 1));
        assert_eq!(flips.observe(&[1, 2], &[0, 0]), (2, 1));
    }

    #[test]
    fn collapse_is_told_from_balance() {
        let even = Collapse::new(&[2.0; 4]);
        assert!((even.effective_classes - 4.0).abs() < 1e-12 && even.divergence.abs() < 1e-12);
        assert!(!even.is_alarm(0.9));
        let one = Collapse::new(&[0.0, 8.0, 0.0, 0.0]);
        assert_eq!((one.effective_classes, one.largest_share, one.missing), (1.0, 1.0, 3));
        assert!(one.is_alarm(0.5) && !one.is_alarm(0.25));
        assert!(!Collapse::new(&[0.0; 4]).is_alarm(0.5));
    }
}
