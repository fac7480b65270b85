//! Distributions of numbers.

use serde::{Deserialize, Serialize};

/// Counts in bins of equal width; what lies outside counts in the first or last bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Histogram {
    /// Lower end of the first bin.
    pub low: f64,
    /// Upper end of the last bin.
    pub high: f64,
    /// Number of values in each bin.
    pub counts: Vec<u64>,
    /// Sum of all values.
    pub sum: f64,
}

impl Histogram {
    /// Empty, with `n_bins` bins from `low` to `high`.
    pub fn new(low: f64, high: f64, n_bins: usize) -> Self {
        Self { low, high, counts: vec![0; n_bins.max(1)], sum: 0.0 }
    }

    /// Counts a value; NaN is passed over.
    pub fn add(&mut self, value: f64) {
        if value.is_nan() {
            return;
        }
        let n = self.counts.len();
        let at = (value - self.low) / (self.high - self.low) * n as f64;
        self.counts[at.clamp(0.0, (n - 1) as f64) as usize] += 1;
        self.sum += value;
    }

    /// Number of values.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their mean; NaN of nothing.
    pub fn mean(&self) -> f64 {
        self.sum / self.n() as f64
    }
}

/// The `q`-quantile with linear interpolation between neighbours, at position `q (n - 1)` of the sorted values. NaN of
/// nothing.
pub fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let at = q.clamp(0.0, 1.0) * last as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[(at.ceil() as usize).min(last)]);
    low + (high - low) * at.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_outside_count_at_the_ends() {
        let mut h = Histogram::new(0.0, 1.0, 4);
        [-1.0, 0.0, 0.25, 0.99, 1.0, 7.0, f64::NAN].into_iter().for_each(|x| h.add(x));
        assert_eq!((h.counts.clone(), h.n()), (vec![2, 1, 0, 3], 6));
    }

    #[test]
    fn quantile_interpolates() {
        assert_eq!(quantile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert_eq!((quantile(&[7.0], 0.8), quantile(&[1.0, 2.0], 1.0)), (7.0, 2.0));
        assert!(quantile(&[], 0.5).is_nan());
    }
}
