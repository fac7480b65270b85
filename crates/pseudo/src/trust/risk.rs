//! Which predictions would one rather leave unsaid?

use super::Judged;

/// Error rate of the `k` most confident predictions, for k = 1 to n (selective risk, Geifman and El-Yaniv 2017).
///
/// Where confidences tie, the errors of the tied examples count in equal shares, so the order of the examples is of no
/// account.
#[derive(Clone, Debug, PartialEq)]
pub struct RiskCoverage {
    /// `risks[k - 1]` is the error rate at coverage k/n.
    pub risks: Vec<f64>,
}

impl RiskCoverage {
    /// Sorts the predictions by confidence.
    pub fn new(judged: &[Judged]) -> Self {
        let mut sorted: Vec<&Judged> = judged.iter().collect();
        sorted.sort_by(|a, b| b.confidence.total_cmp(&a.confidence));
        let (mut risks, mut before) = (Vec::with_capacity(sorted.len()), 0.0);
        for tied in sorted.chunk_by(|a, b| a.confidence == b.confidence) {
            let wrong = tied.iter().filter(|j| !j.correct).count() as f64;
            for taken in 1..=tied.len() {
                let errors = before + wrong * taken as f64 / tied.len() as f64;
                risks.push(errors / (risks.len() + 1) as f64);
            }
            before += wrong;
        }
        Self { risks }
    }

    /// Area under the risk-coverage curve by the trapezoid rule over coverages 1/n to 1, divided by the width
    /// `1 - 1/n`. NaN for fewer than two predictions.
    pub fn aurc(&self) -> f64 {
        if self.risks.len() < 2 {
            return f64::NAN;
        }
        let n = self.risks.len() as f64;
        let area: f64 = self.risks.windows(2).map(|w| (w[0] + w[1]) / 2.0 / n).sum();
        area / (1.0 - 1.0 / n)
    }

    /// Plain mean of the error rates; NaN of nothing.
    pub fn mean_selective_risk(&self) -> f64 {
        super::predictions::mean(self.risks.iter().copied())
    }

    /// Precision of the most confident share `coverage` of the predictions (at least one); `None` of nothing.
    pub fn precision_at(&self, coverage: f64) -> Option<f64> {
        let k = (coverage * self.risks.len() as f64).round().max(1.0) as usize;
        self.risks.get(k.min(self.risks.len()).checked_sub(1)?).map(|risk| 1.0 - risk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(pairs: &[(f64, bool)]) -> Vec<Judged> {
        pairs.iter().map(|&(confidence, correct)| Judged { confidence, correct }).collect()
    }

    #[test]
    fn order_of_ties_is_of_no_account() {
        let a = RiskCoverage::new(&judged(&[(0.9, true), (0.5, false), (0.5, true), (0.1, false)]));
        let b = RiskCoverage::new(&judged(&[(0.5, true), (0.1, false), (0.9, true), (0.5, false)]));
        assert_eq!(a, b);
        assert_eq!(a.risks, [0.0, 0.25, 1.0 / 3.0, 0.5]);
        assert_eq!((a.precision_at(0.25), a.precision_at(1.0)), (Some(1.0), Some(0.5)));
    }

    #[test]
    fn too_few_predictions_have_no_area() {
        assert!(RiskCoverage::new(&[]).aurc().is_nan());
        assert!(RiskCoverage::new(&judged(&[(0.5, true)])).aurc().is_nan());
        assert_eq!(RiskCoverage::new(&[]).precision_at(0.5), None);
    }
}
