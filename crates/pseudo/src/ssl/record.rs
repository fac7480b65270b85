//! What training shows of its pseudo-labels and mixes, step by step and epoch by epoch.

use super::mix::{Blend, Shares};
use super::weighting::Verdict;
use crate::trust::{Collapse, Error, Flips, Histogram, Tally, quantile};
use serde::{Deserialize, Serialize};

/// One pass over the unlabelled images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochSummary {
    /// Mean weight of the pseudo-labels.
    pub coverage: Option<f64>,
    /// Right share of the kept ones, by hidden labels.
    pub precision: Option<f64>,
    /// Coverage times precision.
    pub effective_precision: Option<f64>,
    /// Mean confidence of the kept ones.
    pub estimated_precision: Option<f64>,
    /// Share of images whose pseudo-label differs from the one before.
    pub flip_rate: Option<f64>,
    /// Exponential of the entropy of the pseudo-labels' classes.
    pub effective_classes: f64,
    /// Whether this is below the configured share of all classes.
    pub collapsed: bool,
}

/// Distributions of the shares of mixed images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixAudit {
    /// Share of the own label: rho_a.
    pub own: Histogram,
    /// Share of the partner's label: rho_b.
    pub partner: Histogram,
    /// Their sum, which need not be 1.
    pub sum: Histogram,
    /// `|rho_b - area|` with the area of the pasted box: how far meaning and area disagree.
    pub gap: Histogram,
}

impl Default for MixAudit {
    fn default() -> Self {
        let bins = |high| Histogram::new(0.0, high, 20);
        Self { own: bins(1.0), partner: bins(1.0), sum: bins(2.0), gap: bins(1.0) }
    }
}

impl MixAudit {
    /// Counts the pasted images among these of `size`; returns the means over them of own and partner's share, and of
    /// the gap, unless there are none.
    pub fn add(&mut self, blends: &[Blend], shares: &[Shares], size: (usize, usize)) -> Option<[f64; 3]> {
        let (mut sums, mut n) = ([0.0; 3], 0.0);
        for (blend, s) in blends.iter().zip(shares) {
            let Blend::Paste { dest, .. } = blend else { continue };
            let gap = (s.partner - dest.area() as f64 / (size.0 * size.1) as f64).abs();
            self.own.add(s.own);
            self.partner.add(s.partner);
            self.sum.add(s.own + s.partner);
            self.gap.add(gap);
            for (sum, x) in sums.iter_mut().zip([s.own, s.partner, gap]) {
                *sum += x;
            }
            n += 1.0;
        }
        (n > 0.0).then(|| sums.map(|s| s / n))
    }
}

/// Everything that is counted; part of every checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Of the epoch that runs.
    pub tally: Tally,
    /// Of the last whole epoch.
    pub last_tally: Option<Tally>,
    /// All whole epochs.
    pub epochs: Vec<EpochSummary>,
    /// Shares of mixed images in the epoch that runs.
    pub mixes: MixAudit,
    /// Shares of mixed images in the last whole epoch.
    pub last_mixes: Option<MixAudit>,
    flips: Flips,
    flipped: (usize, usize),
    n_unlabelled: usize,
}

/// A named number.
pub(super) type Scalar = (&'static str, f64);

fn ratio((flipped, of): (usize, usize)) -> Option<f64> {
    (of > 0).then(|| flipped as f64 / of as f64)
}

impl Record {
    /// Nothing counted.
    pub fn new(n_classes: usize, n_unlabelled: usize) -> Self {
        Self {
            tally: Tally::new(n_classes),
            last_tally: None,
            epochs: vec![],
            mixes: MixAudit::default(),
            last_mixes: None,
            flips: Flips::new(n_unlabelled),
            flipped: (0, 0),
            n_unlabelled,
        }
    }

    /// Whether both are for the same data.
    pub(super) fn fits(&self, other: &Self) -> bool {
        self.n_unlabelled == other.n_unlabelled && self.tally.seen.len() == other.tally.seen.len()
    }

    /// Counts the pseudo-labels of a batch; returns its numbers. `collapse` is the share of effective classes below which
    /// the alarm is raised.
    pub(super) fn add(
        &mut self,
        verdict: &Verdict,
        indices: &[usize],
        hidden: Option<&[u32]>,
        collapse: f64,
    ) -> Result<Vec<Scalar>, Error> {
        let n_classes = self.tally.seen.len();
        let mut batch = Tally::new(n_classes);
        batch.add(&verdict.labels, &verdict.confidences, &verdict.weights, hidden)?;
        self.tally.add(&verdict.labels, &verdict.confidences, &verdict.weights, hidden)?;
        let (before, flipped) = self.flips.observe(indices, &verdict.labels);
        self.flipped = (self.flipped.0 + flipped, self.flipped.1 + before);
        let confidence: f64 = verdict.confidences.iter().map(|&c| f64::from(c)).sum();
        let mut scalars = vec![("confidence", confidence / verdict.labels.len().max(1) as f64)];
        let mut note = |name, value: Option<f64>| scalars.extend(value.map(|v| (name, v)));
        note("coverage", batch.coverage());
        note("estimated_precision", batch.estimated_precision());
        note("precision", batch.precision());
        note("effective_precision", batch.effective_precision());
        note("flip_rate", ratio((flipped, before)));
        if self.tally.seen.iter().sum::<f64>() >= self.n_unlabelled as f64 {
            let summary = self.close(collapse);
            note("epoch.coverage", summary.coverage);
            note("epoch.precision", summary.precision);
            note("epoch.flip_rate", summary.flip_rate);
            note("epoch.effective_classes", Some(summary.effective_classes));
            note("epoch.collapsed", Some(f64::from(u8::from(summary.collapsed))));
        }
        Ok(scalars)
    }

    fn close(&mut self, limit: f64) -> EpochSummary {
        let n_classes = self.tally.seen.len();
        let tally = std::mem::replace(&mut self.tally, Tally::new(n_classes));
        let collapse = Collapse::new(&tally.seen);
        let summary = EpochSummary {
            coverage: tally.coverage(),
            precision: tally.precision(),
            effective_precision: tally.effective_precision(),
            estimated_precision: tally.estimated_precision(),
            flip_rate: ratio(std::mem::take(&mut self.flipped)),
            effective_classes: collapse.effective_classes,
            collapsed: collapse.is_alarm(limit),
        };
        self.last_tally = Some(tally);
        self.last_mixes = Some(std::mem::take(&mut self.mixes));
        self.epochs.push(summary.clone());
        summary
    }
}

/// Smallest, median and largest threshold.
pub(super) fn threshold_scalars(thresholds: &[f64]) -> [Scalar; 3] {
    let at = |q| quantile(thresholds, q);
    [("threshold.min", at(0.0)), ("threshold.median", at(0.5)), ("threshold.max", at(1.0))]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epochs_close_after_as_many_images_as_there_are() {
        let mut record = Record::new(2, 4);
        let verdict = Verdict { labels: vec![0, 0], confidences: vec![0.75, 0.5], weights: vec![1.0, 0.0] };
        let hidden = [0, 1];
        let first = record.add(&verdict, &[0, 1], Some(&hidden), 0.9).unwrap();
        assert!(first.contains(&("precision", 1.0)) && first.contains(&("coverage", 0.5)), "{first:?}");
        assert!(record.epochs.is_empty());
        record.add(&Verdict { labels: vec![0, 1], ..verdict.clone() }, &[2, 3], None, 0.9).unwrap();
        let summary = record.epochs[0].clone();
        assert_eq!((summary.coverage, summary.flip_rate), (Some(0.5), None));
        assert!(summary.collapsed, "{summary:?}");
        let turned = Verdict { labels: vec![1, 0], ..verdict };
        assert!(record.add(&turned, &[0, 1], None, 0.9).unwrap().contains(&("flip_rate", 0.5)));
        let text = serde_json::to_string(&record).unwrap();
        assert_eq!(serde_json::from_str::<Record>(&text).unwrap(), record);
    }
}
