//! Draws from the beta distribution.

use chandlery_kernels::Stream;

/// A draw from Gamma(a, 1), a > 0 (Marsaglia and Tsang 2000; for a < 1 through a + 1).
fn gamma(a: f64, draws: &mut Stream) -> f64 {
    if a < 1.0 {
        let boost = (1.0 - draws.uniform()).powf(1.0 / a);
        return gamma(a + 1.0, draws) * boost;
    }
    let d = a - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = draws.normal();
        let v = (1.0 + c * x).powi(3);
        let u = 1.0 - draws.uniform();
        if v > 0.0 && u.ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A draw from Beta(a, a), a > 0.
pub fn beta(a: f64, draws: &mut Stream) -> f64 {
    let (x, y) = (gamma(a, draws), gamma(a, draws));
    // Both vanish only for tiny a, where the draw is 0 or 1.
    if x + y > 0.0 { x / (x + y) } else { (draws.uniform() < 0.5).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::Key;

    #[test]
    fn beta_has_its_moments() {
        for a in [0.3, 1.0, 5.0] {
            let mut draws = Stream::new(Key::new(4));
            let n = 20_000;
            let x: Vec<f64> = (0..n).map(|_| beta(a, &mut draws)).collect();
            let mean = x.iter().sum::<f64>() / n as f64;
            let var = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            let expected = 1.0 / (4.0 * (2.0 * a + 1.0));
            assert!((mean - 0.5).abs() < 5.0 * (expected / n as f64).sqrt(), "{a}: mean {mean}");
            assert!((var / expected - 1.0).abs() < 0.05, "{a}: variance {var}, expected {expected}");
            assert!(x.iter().all(|x| (0.0..=1.0).contains(x)));
        }
    }
}
