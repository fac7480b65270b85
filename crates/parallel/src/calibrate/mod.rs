//! Calibration: least squares in the logarithm of the constants, held by priors.
//!
//! Every constant is positive and has a plausible range, so a [`Factors`] is fitted as `x = ln(factor)` with a Gaussian prior
//! around 1. With many rows the data decide; with two rows only what they can tell moves, the rest stays where physics puts
//! it. A factor fitted on one device applies to others in proportion. Solved by Gauss-Newton with a numerical Jacobian and
//! step halving: deterministic.

mod readings;
mod solve;

pub use readings::{Moved, Product, Readings};
pub use solve::least_squares;

use crate::cost::{Constants, Platform};
use serde::{Deserialize, Serialize};

/// Width of one row's measurement and model error, as a share.
pub const ROW_WIDTH: f64 = 0.03;

/// How far each constant may stray from its prior, as a share (one standard deviation): matrix, half size, memory, inner,
/// outer.
pub const PRIOR_WIDTH: [f64; 5] = [0.15, 0.40, 0.25, 0.20, 0.20];

/// Matrix peak of the device on which `half_size` is stated, FLOP/s (A100).
const REFERENCE_PEAK: f64 = 312e12;

/// Factors on the constants of a platform.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Factors {
    /// On [`Constants::matrix`].
    pub matrix: f64,
    /// On [`Constants::half_size`].
    pub half_size: f64,
    /// On [`Constants::memory`].
    pub memory: f64,
    /// On [`Constants::inner`].
    pub inner: f64,
    /// On [`Constants::outer`].
    pub outer: f64,
}

impl Default for Factors {
    fn default() -> Self {
        Self { matrix: 1.0, half_size: 1.0, memory: 1.0, inner: 1.0, outer: 1.0 }
    }
}

impl Factors {
    /// The constants times the factors; shares stay at or below 1.
    pub fn apply(&self, c: &Constants) -> Constants {
        Constants {
            matrix: (c.matrix * self.matrix).min(1.0),
            half_size: c.half_size * self.half_size,
            memory: (c.memory * self.memory).min(1.0),
            inner: c.inner * self.inner,
            outer: c.outer * self.outer,
            ..*c
        }
    }

    /// Names and factors, in the order of printing.
    pub fn named(&self) -> [(&'static str, f64); 5] {
        [
            ("matrix", self.matrix),
            ("half size", self.half_size),
            ("memory", self.memory),
            ("inner", self.inner),
            ("outer", self.outer),
        ]
    }

    fn from_logarithms(x: &[f64]) -> Self {
        Self { matrix: x[0].exp(), half_size: x[1].exp(), memory: x[2].exp(), inner: x[3].exp(), outer: x[4].exp() }
    }
}

/// Constants before any of the published tables was seen: three quarters of the matrix peak for large products (cuBLAS on
/// V100 and A100), half rate at 64 on the A100 and in proportion to the peak elsewhere, 85 % of the memory bandwidth
/// (STREAM-like kernels).
pub fn prior(platform: &Platform) -> Constants {
    Constants { matrix: 0.75, half_size: 64.0 * platform.peak / REFERENCE_PEAK, memory: 0.85, ..platform.constants }
}

/// Fits factors so that `predict(row, factors)` comes near `measured[row]` for each row. Rows without a prediction (`None`)
/// are left out; without rows the factors are 1.
pub fn fit(measured: &[f64], predict: impl Fn(usize, &Factors) -> Option<f64>) -> Factors {
    if measured.is_empty() {
        return Factors::default();
    }
    let residuals = |x: &[f64]| {
        let factors = Factors::from_logarithms(x);
        let rows =
            measured.iter().enumerate().filter_map(|(row, m)| Some((predict(row, &factors)? / m).ln() / ROW_WIDTH));
        let held = x.iter().zip(PRIOR_WIDTH).map(|(x, width)| x / width);
        rows.chain(held).collect::<Vec<_>>()
    };
    Factors::from_logarithms(&least_squares(&[0.0; 5], residuals))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_row_leaves_the_prior() {
        assert_eq!(fit(&[], |_, _| None), Factors::default());
    }

    #[test]
    fn many_rows_find_the_factor_that_made_them() {
        let work: Vec<f64> = (1..40).map(f64::from).collect();
        let measured: Vec<f64> = work.iter().map(|w| w / 0.7).collect();
        let fitted = fit(&measured, |row, f| Some(work[row] / f.matrix));
        assert!((fitted.matrix - 0.7).abs() < 0.005, "{fitted:?}");
        assert_eq!(fitted.memory, 1.0);
    }

    #[test]
    fn two_rows_move_a_constant_only_as_far_as_the_prior_lets_them() {
        let fitted = fit(&[1.3, 1.3], |_, f| Some(1.0 / f.matrix));
        assert!((1.0 / 1.3..0.85).contains(&fitted.matrix), "{fitted:?}");
    }
}
