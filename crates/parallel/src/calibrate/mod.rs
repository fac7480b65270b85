//! Calibration: least squares in the logarithm of the constants, held by priors.
//!
//! Every constant is positive and has a plausible range, so it is fitted as `x = ln(constant)` with a Gaussian prior around
//! its published or assumed value. With many rows the data decide; with two rows only what they can tell moves, the rest
//! stays where physics puts it. Solved by Gauss-Newton with a numerical Jacobian and step halving: deterministic.

mod solve;

pub use solve::least_squares;

use crate::cost::Constants;

/// Width of one row's measurement and model error, as a share.
pub const ROW_WIDTH: f64 = 0.03;

/// How far each constant may stray from its prior, as a share (one standard deviation): matrix, half size, memory, inner,
/// outer.
pub const PRIOR_WIDTH: [f64; 5] = [0.15, 0.40, 0.25, 0.20, 0.20];

/// The fitted constants as logarithms.
pub fn logarithms(c: &Constants) -> [f64; 5] {
    [c.matrix.ln(), c.half_size.max(1e-3).ln(), c.memory.ln(), c.inner.ln(), c.outer.ln()]
}

/// Constants from logarithms; shares stay at or below 1.
pub fn constants(x: &[f64], rest: &Constants) -> Constants {
    Constants {
        matrix: x[0].exp().min(1.0),
        half_size: x[1].exp(),
        memory: x[2].exp().min(1.0),
        inner: x[3].exp(),
        outer: x[4].exp(),
        ..*rest
    }
}

/// Fits constants so that `predict(row, constants)` comes near `measured[row]` for each row. Rows without a prediction
/// (`None`) are left out. Returns `prior` itself when there are no rows.
pub fn fit(prior: &Constants, measured: &[f64], predict: impl Fn(usize, &Constants) -> Option<f64>) -> Constants {
    let start = logarithms(prior);
    let residuals = |x: &[f64]| {
        let c = constants(x, prior);
        let rows = measured.iter().enumerate().filter_map(|(row, m)| Some((predict(row, &c)? / m).ln() / ROW_WIDTH));
        let held = x.iter().zip(&start).zip(PRIOR_WIDTH).map(|((x, x0), width)| (x - x0) / width);
        rows.chain(held).collect::<Vec<_>>()
    };
    if measured.is_empty() {
        return *prior;
    }
    constants(&least_squares(&start, residuals), prior)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prior() -> Constants {
        Constants {
            matrix: 0.7,
            half_size: 64.0,
            memory: 0.7,
            inner: 1.0,
            outer: 1.0,
            launch_s: 0.0,
            overlap_slowdown: 1.2,
        }
    }

    #[test]
    fn no_row_leaves_the_prior() {
        assert_eq!(fit(&prior(), &[], |_, _| None), prior());
    }

    #[test]
    fn many_rows_find_the_constant_that_made_them() {
        let work: Vec<f64> = (1..40).map(f64::from).collect();
        let time = |row: usize, c: &Constants| Some(work[row] / c.matrix);
        let measured: Vec<f64> = work.iter().map(|w| w / 0.5).collect();
        let fitted = fit(&prior(), &measured, time);
        assert!((fitted.matrix - 0.5).abs() < 0.005, "{fitted:?}");
        assert_eq!(fitted.memory, 0.7);
    }
}
