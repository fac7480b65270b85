//! Are confidences what they say?

use super::Judged;

/// Where a confidence of exactly 1 belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastBin {
    /// Into a bucket of its own after the last bin, as torchmetrics counts.
    OwnBucket,
    /// Into the last bin.
    Closed,
}

/// The examples whose confidence lies in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Their number.
    pub n: usize,
    /// Mean confidence; 0 where empty.
    pub confidence: f64,
    /// Share of right predictions; 0 where empty.
    pub accuracy: f64,
}

impl Bin {
    /// Accuracy less confidence.
    pub fn gap(&self) -> f64 {
        self.accuracy - self.confidence
    }
}

/// Reliability diagram: accuracy against confidence in bins of equal width on [0, 1] (Guo et al. 2017, arXiv 1706.04599).
///
/// A confidence on an edge between two bins belongs to the upper one.
#[derive(Clone, Debug, PartialEq)]
pub struct Reliability {
    /// The bins from 0 to 1; with [`LastBin::OwnBucket`] one more for exactly 1.
    pub bins: Vec<Bin>,
    n: usize,
}

impl Reliability {
    /// Sorts the predictions into `n_bins` bins (at least one).
    pub fn new(judged: &[Judged], n_bins: usize, last: LastBin) -> Self {
        let n_bins = n_bins.max(1);
        let n_buckets = n_bins + usize::from(last == LastBin::OwnBucket);
        let mut sums = vec![(0_usize, 0.0, 0.0); n_buckets];
        for j in judged {
            let sum = &mut sums[bucket(j.confidence, n_bins).min(n_buckets - 1)];
            *sum = (sum.0 + 1, sum.1 + j.confidence, sum.2 + f64::from(u8::from(j.correct)));
        }
        let bin = |(n, confidence, right): (usize, f64, f64)| {
            let by = n.max(1) as f64;
            Bin { n, confidence: confidence / by, accuracy: right / by }
        };
        Self { bins: sums.into_iter().map(bin).collect(), n: judged.len() }
    }

    /// Sums `f(gap)` over the bins, each weighted by its share of the examples.
    fn weighted(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.bins.iter().map(|b| b.n as f64 / self.n as f64 * f(b.gap())).sum()
    }

    /// Expected calibration error: mean absolute gap.
    pub fn ece(&self) -> f64 {
        self.weighted(f64::abs)
    }

    /// Root of the mean squared gap.
    pub fn ece_l2(&self) -> f64 {
        self.weighted(|g| g * g).sqrt()
    }

    /// Largest absolute gap.
    pub fn max_gap(&self) -> f64 {
        self.bins.iter().filter(|b| b.n > 0).map(|b| b.gap().abs()).fold(0.0, f64::max)
    }
}

/// The number of edges `1/n, 2/n, .., 1` that do not lie above `confidence`. They are compared in single precision, in
/// which networks speak: a confidence of 0.9 lies on the edge 9/10 whether it comes as f32 or f64.
fn bucket(confidence: f64, n_bins: usize) -> usize {
    let edge = |i: usize| (i as f64 / n_bins as f64) as f32;
    let at = (confidence * n_bins as f64).clamp(0.0, n_bins as f64) as usize;
    // The product may round across an edge, up or down.
    let near = [at + 1, at, at.saturating_sub(1)];
    near.into_iter().find(|&i| i <= n_bins && edge(i) <= confidence as f32).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_belongs_to_the_upper_bin_for_any_number_of_bins() {
        for n in 1..200 {
            for i in 0..=n {
                let edge = i as f64 / n as f64;
                assert_eq!(bucket(edge, n), i, "{i}/{n}");
                assert_eq!(bucket(f64::from(edge as f32), n), i, "{i}/{n} in f32");
                let below = f64::from((edge as f32).next_down().max(0.0));
                assert_eq!(bucket(below, n), i.saturating_sub(1), "below {i}/{n}");
            }
        }
    }

    #[test]
    fn exact_one_has_a_bucket_of_its_own_or_shares_the_last() {
        let judged = [(1.0, true), (0.9, false)].map(|(confidence, correct)| Judged { confidence, correct });
        let own = Reliability::new(&judged, 2, LastBin::OwnBucket);
        assert!((own.ece() - 0.45).abs() < 1e-15);
        assert!((own.max_gap() - 0.9).abs() < 1e-15);
        let shared = Reliability::new(&judged, 2, LastBin::Closed);
        assert_eq!(shared.bins.iter().map(|b| b.n).collect::<Vec<_>>(), [0, 2]);
        assert!((shared.ece() - 0.45).abs() < 1e-15);
        assert!((shared.max_gap() - 0.45).abs() < 1e-15);
    }
}
