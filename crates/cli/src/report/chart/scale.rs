//! From values to pixels, and the round values in between.

/// A linear or logarithmic map from `low..high` to a distance in pixels.
#[derive(Debug, Clone, Copy)]
pub struct Scale {
    low: f64,
    high: f64,
    is_log: bool,
    pixels: (f64, f64),
}

impl Scale {
    /// A scale over `low..=high`; a range without extent is widened around its value.
    pub fn new(low: f64, high: f64, is_log: bool, pixels: (f64, f64)) -> Self {
        let (low, high) = if is_log { widened_log(low, high) } else { widened(low, high) };
        Self { low, high, is_log, pixels }
    }

    /// The pixel at which `value` lies.
    pub fn at(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        };
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// The same range over another distance.
    pub fn over(self, pixels: (f64, f64)) -> Self {
        Self { pixels, ..self }
    }

    /// The values at both ends.
    pub fn ends(&self) -> (f64, f64) {
        (self.low, self.high)
    }

    /// The same distance over a range that begins and ends at round values, about `want` of them apart.
    pub fn rounded(self, want: usize) -> Self {
        if self.is_log {
            let low = round_log(self.low, f64::floor, |candidate| candidate <= self.low * (1.0 + 1e-9));
            let high = round_log(self.high, f64::ceil, |candidate| candidate >= self.high * (1.0 - 1e-9));
            return Self { low: low.max(f64::MIN_POSITIVE), high, ..self };
        }
        let step = self.step(want);
        let low = (self.low / step + 1e-9).floor() * step;
        let high = (self.high / step - 1e-9).ceil() * step;
        if low.is_finite() && high.is_finite() && high > low { Self { low, high, ..self } } else { self }
    }

    /// About `want` round values inside the range, and at least three.
    pub fn ticks(&self, want: usize) -> Vec<f64> {
        let powers = if self.is_log { self.log_ticks(want) } else { Vec::new() };
        if powers.len() > 2 {
            return powers;
        }
        let finer = (want..=2 * want + 3).map(|want| self.linear_ticks(want)).find(|ticks| ticks.len() > 2);
        finer.unwrap_or_else(|| self.linear_ticks(want))
    }

    fn linear_ticks(&self, want: usize) -> Vec<f64> {
        let step = self.step(want);
        let first = (self.low / step - 1e-9).ceil();
        let last = (self.high / step + 1e-9).floor();
        let count = (last - first).clamp(0.0, 40.0) as usize;
        let ticks: Vec<f64> = (0..=count).map(|i| rounded_to(first + i as f64, step)).collect();
        if ticks.iter().all(|tick| tick.is_finite()) { ticks } else { vec![self.low, self.high] }
    }

    /// Powers of ten, thinned to at most `want`; with 2 and 5 in between where the range is short.
    fn log_ticks(&self, want: usize) -> Vec<f64> {
        let (first, last) = (self.low.log10().floor() as i32, self.high.log10().ceil() as i32);
        let decades = (last - first).max(1) as usize;
        let factors: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let every = decades.div_ceil(want.max(1)).max(1);
        let powers = (first..=last).step_by(every);
        let inside = |tick: &f64| *tick >= self.low * (1.0 - 1e-9) && *tick <= self.high * (1.0 + 1e-9);
        powers.flat_map(|power| factors.iter().map(move |factor| power_of_ten(power, *factor))).filter(inside).collect()
    }

    fn step(&self, want: usize) -> f64 {
        round_step((self.high - self.low) / want.max(1) as f64)
    }
}

/// The round number 1, 2 or 5 times a power of ten that is nearest above `step`.
pub fn round_step(step: f64) -> f64 {
    if !step.is_finite() || step < 1e-307 {
        return 1e-307;
    }
    let power = step.log10().floor();
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| step <= factor * 10f64.powf(power) * (1.0 + 1e-9));
    power_of_ten(power as i32 + i32::from(factor.is_none()), factor.unwrap_or(1.0))
}

/// `factor * 10^power`, exact where the decimal number is (`0.3`, not `0.30000000000000004`).
fn power_of_ten(power: i32, factor: f64) -> f64 {
    if (-300..0).contains(&power) { factor / 10f64.powi(-power) } else { factor * 10f64.powi(power) }
}

/// `n` steps, computed so that a step such as 0.1 yields the nearest number to each decimal.
fn rounded_to(n: f64, step: f64) -> f64 {
    let per_unit = (1.0 / step).round();
    let exact = step < 1.0 && (per_unit * step - 1.0).abs() < 1e-9;
    let value = if exact { n / per_unit } else { n * step };
    if value == 0.0 { 0.0 } else { value }
}

fn widened(low: f64, high: f64) -> (f64, f64) {
    let size = low.abs().max(high.abs());
    if high - low > size * 1e-12 && high - low > 1e-300 {
        return (low, high);
    }
    let margin = if size < 1e-290 { 1.0 } else { size * 0.5 };
    (low - margin, high + margin)
}

fn widened_log(low: f64, high: f64) -> (f64, f64) {
    if high > low * (1.0 + 1e-9) { (low, high) } else { ((low / 2.0).max(f64::MIN_POSITIVE), high * 2.0) }
}

/// 1, 2 or 5 times a power of ten near `value` that `fits`, as near as can be.
fn round_log(value: f64, direction: fn(f64) -> f64, fits: impl Fn(f64) -> bool) -> f64 {
    let power = direction(value.log10()) as i32;
    let mut candidates: Vec<f64> = (power - 1..=power + 1)
        .flat_map(|power| [1.0, 2.0, 5.0].map(|factor| power_of_ten(power, factor)))
        .filter(|c| fits(*c))
        .collect();
    candidates.sort_by(|a, b| (a.ln() - value.ln()).abs().total_cmp(&(b.ln() - value.ln()).abs()));
    candidates.first().copied().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(low: f64, high: f64, want: usize) -> Vec<f64> {
        Scale::new(low, high, false, (0.0, 1.0)).ticks(want)
    }

    fn log_ticks(low: f64, high: f64, want: usize) -> Vec<f64> {
        Scale::new(low, high, true, (0.0, 1.0)).ticks(want)
    }

    #[test]
    fn ticks_are_round_and_exact() {
        assert_eq!(ticks(0.0, 1.0, 5), [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        assert_eq!(ticks(-0.31, 0.32, 6), [-0.2, 0.0, 0.2]);
        assert_eq!(ticks(3.0, 9_700.0, 5), [2_000.0, 4_000.0, 6_000.0, 8_000.0]);
        assert_eq!(ticks(0.0, 0.3, 3), [0.0, 0.1, 0.2, 0.3]);
        assert_eq!(ticks(-4.5, 4.5, 4), [-4.0, -2.0, 0.0, 2.0, 4.0]);
    }

    #[test]
    fn log_ticks_are_powers_or_one_two_five() {
        assert_eq!(log_ticks(1.0, 1e4, 6), [1.0, 10.0, 100.0, 1e3, 1e4]);
        assert_eq!(log_ticks(1.5, 60.0, 6), [2.0, 5.0, 10.0, 20.0, 50.0]);
        assert_eq!(log_ticks(1e-6, 1e6, 4).len(), 5);
    }

    #[test]
    fn short_log_range_falls_back_to_even_ticks() {
        assert_eq!(log_ticks(3.1, 4.1, 5), [3.2, 3.4, 3.6, 3.8, 4.0]);
    }

    #[test]
    fn rounding_widens_to_ticks() {
        assert_eq!(Scale::new(0.13, 0.87, false, (0.0, 1.0)).rounded(5).ends(), (0.0, 1.0));
        assert_eq!(Scale::new(3.0, 70.0, true, (0.0, 1.0)).rounded(5).ends(), (2.0, 100.0));
        assert_eq!(Scale::new(0.0, 1.0, false, (0.0, 1.0)).rounded(5).ends(), (0.0, 1.0));
    }

    #[test]
    fn value_without_extent_lies_in_the_middle() {
        assert_eq!(Scale::new(5.0, 5.0, false, (0.0, 100.0)).at(5.0), 50.0);
        assert_eq!(Scale::new(0.0, 0.0, false, (0.0, 100.0)).at(0.0), 50.0);
        assert!((Scale::new(5.0, 5.0, true, (0.0, 100.0)).at(5.0) - 50.0).abs() < 1e-9);
    }

    #[test]
    fn any_range_has_few_finite_ticks() {
        for (low, high) in [(-1e300, 1e300), (0.0, 1e-300), (1e15, 1e15 + 1.0), (f64::MIN_POSITIVE, 1e300)] {
            for is_log in [false, true] {
                let scale = Scale::new(low, high, is_log && low > 0.0, (0.0, 1.0));
                for scale in [scale, scale.rounded(5)] {
                    let ticks = scale.ticks(5);
                    assert!(ticks.len() < 50 && ticks.iter().all(|tick| tick.is_finite()), "{low} {high} {ticks:?}");
                }
            }
        }
    }
}
