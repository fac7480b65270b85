//! Is a difference more than luck?

use super::{Error, quantile};
use chandlery_kernels::{Key, Stream};

/// Mean and sample standard deviation of a few runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Number of runs.
    pub n: usize,
    /// Their mean; NaN of none.
    pub mean: f64,
    /// Their standard deviation with divisor n - 1; NaN of fewer than two.
    pub sd: f64,
}

/// Summarises runs that differ in their seed.
pub fn spread(values: &[f64]) -> Spread {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n as f64;
    let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
    let sd = if n < 2 { f64::NAN } else { (squares / (n - 1) as f64).sqrt() };
    Spread { n, mean, sd }
}

/// Difference of two methods on the same examples.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PairedBootstrap {
    /// Mean of `a - b`.
    pub difference: f64,
    /// Lower end of the 95 % interval.
    pub low: f64,
    /// Upper end of the 95 % interval.
    pub high: f64,
    /// Two-sided: twice the smaller share of resamples on either side of no difference, at most 1.
    pub p_value: f64,
}

/// Draws the examples anew `n_resamples` times, each with its scores under both methods (Efron and Tibshirani 1993, 16;
/// percentile interval).
///
/// # Errors
/// If the methods were scored on different numbers of examples, or on none.
pub fn paired_bootstrap(a: &[f64], b: &[f64], n_resamples: usize, key: Key) -> Result<PairedBootstrap, Error> {
    Error::unless("scores of the second method", a.len(), b.len())?;
    Error::unless("examples", a.len().max(1), a.len())?;
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    let n = differences.len();
    let resample = |r: usize| {
        let mut draws = Stream::new(key.at(r as u64));
        (0..n).map(|_| differences[draws.below(n)]).sum::<f64>() / n as f64
    };
    let means: Vec<f64> = (0..n_resamples).map(resample).collect();
    let share = |side: fn(f64) -> bool| {
        let count = means.iter().filter(|&&m| side(m)).count();
        (count + 1) as f64 / (n_resamples + 1) as f64
    };
    Ok(PairedBootstrap {
        difference: differences.iter().sum::<f64>() / n as f64,
        low: quantile(&means, 0.025),
        high: quantile(&means, 0.975),
        p_value: (2.0 * share(|m| m <= 0.0).min(share(|m| m >= 0.0))).min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spread_of_runs() {
        assert_eq!(spread(&[1.0, 2.0, 3.0]), Spread { n: 3, mean: 2.0, sd: 1.0 });
        assert!(spread(&[1.0]).sd.is_nan() && spread(&[]).mean.is_nan());
    }

    #[test]
    fn difference_is_told_from_luck() {
        let mut draws = Stream::new(Key::new(1));
        let b: Vec<f64> = (0..400).map(|_| draws.normal()).collect();
        let shifted: Vec<f64> = b.iter().map(|x| x + 0.2 + draws.normal()).collect();
        let real = paired_bootstrap(&shifted, &b, 500, Key::new(2)).unwrap();
        assert!(real.low > 0.0 && real.low < real.difference && real.difference < real.high, "{real:?}");
        assert!(real.p_value < 0.02);
        let even: Vec<f64> = b.iter().enumerate().map(|(i, x)| x + if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
        let luck = paired_bootstrap(&even, &b, 500, Key::new(2)).unwrap();
        assert!(luck.low < 0.0 && luck.high > 0.0 && luck.p_value > 0.5, "{luck:?}");
        assert_eq!(luck, paired_bootstrap(&even, &b, 500, Key::new(2)).unwrap());
        assert!(paired_bootstrap(&[1.0], &[], 5, Key::new(2)).is_err());
    }
}
