//! Labels of mixed images as rows of class weights.

use super::config::{PairMask, PseudoLabels};
use super::mix::{Plan, Shares};

/// What is known of the images of a step: labelled ones first, then unlabelled.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    /// Class, or most probable class, of each.
    pub labels: Vec<u32>,
    /// How much it is to be trusted: 1 for labels.
    pub weights: Vec<f32>,
    /// Rows [n, c] in the place of the classes, where pseudo-labels are soft.
    pub rows: Option<Vec<f32>>,
}

/// A row sharpened by `q^(1/t)`.
pub(super) fn sharpened(row: &[f32], temperature: f64) -> Vec<f32> {
    let powers: Vec<f64> = row.iter().map(|&p| f64::from(p).powf(1.0 / temperature)).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|p| (p / sum) as f32).collect()
}

impl Known {
    /// Labelled images.
    pub fn of_labels(labels: &[u32]) -> Self {
        Self { labels: labels.to_vec(), weights: vec![1.0; labels.len()], rows: None }
    }

    /// Adds unlabelled images with their probabilities [m, c].
    pub fn extend(&mut self, labels: &[u32], weights: &[f32], probs: &[f32], n_classes: usize, pseudo: PseudoLabels) {
        if let PseudoLabels::Soft { temperature } = pseudo {
            let mut rows = vec![0.0; self.labels.len() * n_classes];
            self.labels.iter().enumerate().for_each(|(i, &l)| rows[i * n_classes + l as usize] = 1.0);
            probs.chunks_exact(n_classes).for_each(|row| rows.extend(sharpened(row, temperature)));
            self.rows = Some(rows);
        }
        self.labels.extend_from_slice(labels);
        self.weights.extend_from_slice(weights);
    }

    /// Adds `by` times the label of image `i` to a row.
    fn add(&self, row: &mut [f32], i: usize, by: f32) {
        let c = row.len();
        match &self.rows {
            Some(rows) => row.iter_mut().zip(&rows[i * c..][..c]).for_each(|(t, y)| *t += by * y),
            None => row[self.labels[i] as usize] += by,
        }
    }

    /// The hybrid labels `w_a rho_a y_a + w_b rho_b y_b`, [n, c], which need not sum to 1.
    pub fn targets(&self, plan: &Plan, shares: &[Shares], mask: PairMask, n_classes: usize) -> Vec<f32> {
        let mut targets = vec![0.0; self.labels.len() * n_classes];
        for (i, row) in targets.chunks_exact_mut(n_classes).enumerate() {
            let (partner, share) = (plan.partners[i], shares[i]);
            let (own, other) = (self.weights[i], self.weights[partner]);
            if share == Shares::WHOLE {
                self.add(row, i, own);
                continue;
            }
            let (own, other) = match mask {
                PairMask::PerTerm => (own, other),
                PairMask::Both => (own * other, own * other),
                PairMask::Either => (own.max(other), own.max(other)),
            };
            self.add(row, i, own * share.own as f32);
            self.add(row, partner, other * share.partner as f32);
        }
        targets
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ssl::mix::Blend;

    #[test]
    fn pair_masks_weigh_as_named() {
        let mut known = Known::of_labels(&[0]);
        known.extend(&[1, 2], &[1.0, 0.0], &[], 3, PseudoLabels::Hard);
        let plan = Plan { partners: vec![0, 2, 1], blends: vec![Blend::Keep; 3] };
        let mixed = Shares { own: 0.75, partner: 0.5 };
        let shares = [Shares::WHOLE, mixed, mixed];
        let row = |mask, i: usize| known.targets(&plan, &shares, mask, 3)[3 * i..3 * i + 3].to_vec();
        assert_eq!(row(PairMask::PerTerm, 0), [1.0, 0.0, 0.0]);
        assert_eq!(row(PairMask::PerTerm, 1), [0.0, 0.75, 0.0]);
        assert_eq!(row(PairMask::PerTerm, 2), [0.0, 0.5, 0.0]);
        assert_eq!(row(PairMask::Both, 1), [0.0; 3]);
        assert_eq!(row(PairMask::Either, 2), [0.0, 0.5, 0.75]);
    }

    #[test]
    fn soft_labels_are_sharpened_rows() {
        let mut known = Known::of_labels(&[1]);
        known.extend(&[0], &[1.0], &[0.75, 0.25], 2, PseudoLabels::Soft { temperature: 0.5 });
        let plan = Plan { partners: vec![0, 1], blends: vec![Blend::Keep; 2] };
        let targets = known.targets(&plan, &[Shares::WHOLE; 2], PairMask::PerTerm, 2);
        assert_eq!(targets, [0.0, 1.0, 0.9, 0.1]);
    }
}
