//! Gauss-Newton for a handful of unknowns.

/// Steps at most.
const STEPS: usize = 30;
/// Step of the numerical derivative.
const DELTA: f64 = 1e-4;

/// Minimises the sum of squares of `residuals(x)` from `start`. Stops when a step no longer helps.
pub fn least_squares(start: &[f64], residuals: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut x = start.to_vec();
    let mut now = residuals(&x);
    for _ in 0..STEPS {
        let Some(step) = newton_step(&x, &now, &residuals) else { return x };
        let Some((next, value)) = descend(&x, &step, squares(&now), &residuals) else { return x };
        let gain = squares(&now) - squares(&value);
        (x, now) = (next, value);
        if gain < 1e-9 * squares(&now) {
            return x;
        }
    }
    x
}

fn squares(r: &[f64]) -> f64 {
    r.iter().map(|v| v * v).sum()
}

/// The step that solves the normal equations of the linearised problem; `None` when they are singular.
fn newton_step(x: &[f64], now: &[f64], residuals: &impl Fn(&[f64]) -> Vec<f64>) -> Option<Vec<f64>> {
    let n = x.len();
    let columns: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut moved = x.to_vec();
            moved[i] += DELTA;
            residuals(&moved).iter().zip(now).map(|(a, b)| (a - b) / DELTA).collect()
        })
        .collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f64>();
    let mut rows: Vec<Vec<f64>> = (0..n)
        .map(|i| {
            let mut row: Vec<f64> = (0..n).map(|j| dot(&columns[i], &columns[j])).collect();
            row.push(-dot(&columns[i], now));
            row
        })
        .collect();
    eliminate(&mut rows)
}

/// Gaussian elimination with row pivoting of an augmented matrix.
fn eliminate(rows: &mut [Vec<f64>]) -> Option<Vec<f64>> {
    let n = rows.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs()))?;
        rows.swap(i, pivot);
        let head = rows[i][i];
        if head.abs() < 1e-12 || !head.is_finite() {
            return None;
        }
        rows[i].iter_mut().for_each(|v| *v /= head);
        let source = rows[i].clone();
        for (k, row) in rows.iter_mut().enumerate().filter(|(k, _)| *k != i) {
            let factor = row[i];
            debug_assert_ne!(k, i);
            row.iter_mut().zip(&source).for_each(|(v, s)| *v -= factor * s);
        }
    }
    Some(rows.iter().map(|r| r[n]).collect())
}

/// The longest of the halved steps that lowers the sum of squares.
fn descend(x: &[f64], step: &[f64], now: f64, residuals: &impl Fn(&[f64]) -> Vec<f64>) -> Option<(Vec<f64>, Vec<f64>)> {
    let mut scale = 1.0;
    for _ in 0..12 {
        let next: Vec<f64> = x.iter().zip(step).map(|(x, s)| x + scale * s).collect();
        let value = residuals(&next);
        if squares(&value) < now {
            return Some((next, value));
        }
        scale /= 2.0;
    }
    None
}
