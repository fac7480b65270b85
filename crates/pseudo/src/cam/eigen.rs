//! The main direction of a matrix: what Eigen-CAM projects on.

/// Relative rest of all other directions at which the squared matrix counts as one direction.
const ONE_DIRECTION: f64 = 1e-14;

/// Enough squarings to part directions whose strengths differ by 1e-11 of themselves.
const SQUARINGS: usize = 40;

/// The projection `[n]` of the column-centred rows of `x` `[n, k]` on their first right singular vector `v`.
///
/// A singular vector has no sign of its own; the one taken is that of a positive sum of `v`, which makes the projection
/// grow with the summed activation (the first element decides where the sum is zero). Deterministic: no start vector is
/// drawn. Relative accuracy 1e-10 where the two strongest directions differ by 1e-6 or more of their strength; of equal
/// ones, some vector of their plane. Zeros if all rows are equal.
///
/// Work grows with `n k min(n, k) + 12 min(n, k)^3`.
pub(super) fn main_projection(mut x: Vec<f64>, n: usize, k: usize) -> Vec<f64> {
    centre(&mut x, n, k);
    let right = if k < n {
        let columns = transposed(&x, n, k);
        leading(&gram(&columns, k, n), k)
    } else {
        // v = x' u up to its length.
        let u = leading(&gram(&x, n, k), n);
        unit((0..k).map(|j| (0..n).map(|i| x[i * k + j] * u[i]).sum()).collect())
    };
    let sum: f64 = right.iter().sum();
    let first = right.iter().copied().find(|v| *v != 0.0).unwrap_or(0.0);
    let sign = if sum.abs() > 1e-12 { sum.signum() } else { first.signum() };
    x.chunks_exact(k).map(|row| sign * dot(row, &right)).collect()
}

fn centre(x: &mut [f64], n: usize, k: usize) {
    for j in 0..k {
        let mean = (0..n).map(|i| x[i * k + j]).sum::<f64>() / n as f64;
        (0..n).for_each(|i| x[i * k + j] -= mean);
    }
}

fn transposed(x: &[f64], n: usize, k: usize) -> Vec<f64> {
    (0..k).flat_map(|j| (0..n).map(move |i| x[i * k + j])).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn unit(v: Vec<f64>) -> Vec<f64> {
    let norm = dot(&v, &v).sqrt();
    if norm > 0.0 { v.into_iter().map(|v| v / norm).collect() } else { v }
}

/// All products of the rows of `x` `[n, k]` with each other, `[n, n]`.
fn gram(x: &[f64], n: usize, k: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        for j in i..n {
            let product = dot(&x[i * k..][..k], &x[j * k..][..k]);
            (out[i * n + j], out[j * n + i]) = (product, product);
        }
    }
    out
}

/// The unit eigenvector of the largest eigenvalue of a positive semi-definite `matrix` `[n, n]`; zeros for a zero matrix.
///
/// Repeated squaring raises the ratio of the eigenvalues to a power that doubles each time, so the matrix of trace 1
/// turns into `u u'`, and then the trace of its square is 1 too.
fn leading(matrix: &[f64], n: usize) -> Vec<f64> {
    let trace = |m: &[f64]| (0..n).map(|i| m[i * n + i]).sum::<f64>();
    let scaled = |m: Vec<f64>| {
        let by = trace(&m);
        (m.into_iter().map(|v| v / by).collect::<Vec<_>>(), by)
    };
    if trace(matrix) <= 0.0 {
        return vec![0.0; n];
    }
    let (mut power, _) = scaled(matrix.to_vec());
    for _ in 0..SQUARINGS {
        // Symmetric, so the products of its rows are its square.
        let (squared, one) = scaled(gram(&power, n, n));
        power = squared;
        if 1.0 - one < ONE_DIRECTION {
            break;
        }
    }
    let column = (0..n).max_by(|&a, &b| power[a * n + a].total_cmp(&power[b * n + b])).unwrap_or(0);
    // One step with the matrix itself takes off what the squarings rounded.
    let u = unit(power[column * n..][..n].to_vec());
    unit(matrix.chunks_exact(n).map(|row| dot(row, &u)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::{Key, Stream};

    /// How far `v' X' X v` falls short of the largest eigenvalue found by long power iteration.
    fn check(n: usize, k: usize, seed: u64) {
        let mut stream = Stream::new(Key::new(seed));
        let x: Vec<f64> = (0..n * k).map(|_| stream.normal()).collect();
        let projection = main_projection(x.clone(), n, k);
        let mut centred = x;
        centre(&mut centred, n, k);
        let mut v = vec![1.0; k];
        for _ in 0..20_000 {
            let u: Vec<f64> = centred.chunks_exact(k).map(|row| dot(row, &v)).collect();
            v = unit((0..k).map(|j| (0..n).map(|i| centred[i * k + j] * u[i]).sum()).collect());
        }
        let sign = v.iter().sum::<f64>().signum();
        for (row, p) in centred.chunks_exact(k).zip(&projection) {
            assert!((sign * dot(row, &v) - p).abs() < 1e-7, "{n} {k}: {} {p}", sign * dot(row, &v));
        }
    }

    #[test]
    fn equals_long_power_iteration_for_wide_and_tall_matrices() {
        [(5, 12), (12, 5), (7, 7), (1, 4), (6, 1)].into_iter().for_each(|(n, k)| check(n, k, 11));
    }

    #[test]
    fn two_points_lie_on_their_line() {
        // Centred rows are +-(1.5, 2), of length 2.5.
        let p = main_projection(vec![0.0, 0.0, 3.0, 4.0], 2, 2);
        assert!((p[0] + 2.5).abs() < 1e-12 && (p[1] - 2.5).abs() < 1e-12, "{p:?}");
    }

    #[test]
    fn equal_rows_project_to_zero_and_tied_directions_stay_finite() {
        assert_eq!(main_projection(vec![2.0; 6], 3, 2), [0.0; 3]);
        let square = vec![1.0, 0.0, -1.0, 0.0, 0.0, 1.0, 0.0, -1.0];
        let p = main_projection(square, 4, 2);
        assert!((dot(&p, &p) - 2.0).abs() < 1e-9, "{p:?}");
    }
}
