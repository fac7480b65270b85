//! What an axis measures, and the scale that follows from the data.

use super::scale::Scale;

/// Larger values would overflow on the way to a coordinate.
const LARGEST: f64 = 1e300;

/// An axis: its label and how values lie along it.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    pub(super) label: String,
    pub(super) is_log: bool,
    pub(super) is_percent: bool,
    low: Option<f64>,
    high: Option<f64>,
    marks: Vec<f64>,
}

impl Axis {
    /// A linear axis that fits the data; the label names quantity and unit.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// Logarithmic, for positive values.
    #[must_use]
    pub fn log(mut self) -> Self {
        self.is_log = true;
        self
    }

    /// Values are shares, labelled as percentages.
    #[must_use]
    pub fn percent(mut self) -> Self {
        self.is_percent = true;
        self
    }

    /// Begins at this value or below.
    #[must_use]
    pub fn from(mut self, low: f64) -> Self {
        self.low = Some(low);
        self
    }

    /// Ends at this value or above.
    #[must_use]
    pub fn to(mut self, high: f64) -> Self {
        self.high = Some(high);
        self
    }

    /// Has its ticks at these values, as far as they lie inside, and not where they would be round.
    #[must_use]
    pub fn marks(mut self, values: impl IntoIterator<Item = f64>) -> Self {
        self.marks = values.into_iter().collect();
        self
    }

    /// The ticks along `scale`: those given, or about `want` round ones.
    pub(super) fn ticks(&self, scale: &Scale, want: usize) -> Vec<f64> {
        let (low, high) = scale.ends();
        let given: Vec<f64> = self.marks.iter().copied().filter(|mark| (low..=high).contains(mark)).collect();
        if given.is_empty() { scale.ticks(want) } else { given }
    }

    /// The same axis with even distances.
    pub(super) fn linear(&self) -> Self {
        Self { is_log: false, ..self.clone() }
    }

    /// Whether `value` has a place on this axis.
    pub(super) fn can_draw(&self, value: f64) -> bool {
        value.abs() <= LARGEST && !(self.is_log && value < f64::MIN_POSITIVE)
    }

    /// The scale for these values over a distance in pixels; none when no value can be drawn.
    pub(super) fn scale(&self, values: impl Iterator<Item = f64>, pixels: (f64, f64)) -> Option<Scale> {
        let drawable = values.filter(|value| self.can_draw(*value));
        let (low, high) = drawable.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)));
        if low > high {
            return None;
        }
        let ends = [self.low, self.high].into_iter().flatten().filter(|end| self.can_draw(*end));
        let (low, high) = ends.fold((low, high), |(low, high), end| (low.min(end), high.max(end)));
        Some(Scale::new(low, high, self.is_log, pixels))
    }

    /// The labels of these ticks.
    pub(super) fn labels(&self, ticks: &[f64]) -> Vec<String> {
        use super::super::number;
        let step =
            if ticks.len() > 1 { (ticks[1] - ticks[0]).abs() } else { ticks.first().map_or(1.0, |tick| tick.abs()) };
        if self.is_percent {
            let shares: Vec<f64> = ticks.iter().map(|tick| tick * 100.0).collect();
            return number::ticks(&shares, step * 100.0).into_iter().map(|text| text + "\u{202f}%").collect();
        }
        if self.is_log {
            return ticks.iter().flat_map(|tick| number::ticks(&[*tick], *tick)).collect();
        }
        number::ticks(ticks, step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fixed_ends_widen_the_range_and_never_narrow_it() {
        let scale = Axis::new("").from(0.0).to(1.0).scale([0.2, 1.4].into_iter(), (0.0, 100.0)).unwrap();
        assert_eq!((scale.at(0.0), scale.at(1.4)), (0.0, 100.0));
    }

    #[test]
    fn axis_without_drawable_values_has_no_scale() {
        assert!(Axis::new("").scale([f64::NAN, f64::INFINITY].into_iter(), (0.0, 1.0)).is_none());
        assert!(Axis::new("").log().scale([0.0, -1.0].into_iter(), (0.0, 1.0)).is_none());
        assert!(Axis::new("").from(0.0).to(1.0).scale(std::iter::empty(), (0.0, 1.0)).is_none());
    }

    #[test]
    fn given_marks_replace_round_ticks_inside_the_range() {
        let axis = Axis::new("").marks([64.0, 128.0, 256.0]);
        let scale = axis.scale([100.0, 300.0].into_iter(), (0.0, 1.0)).unwrap();
        assert_eq!(axis.ticks(&scale, 5), [128.0, 256.0]);
        assert_eq!(Axis::new("").marks([1.0]).ticks(&scale, 2), [100.0, 200.0, 300.0]);
    }

    #[test]
    fn shares_and_powers_get_their_labels() {
        assert_eq!(Axis::new("").percent().labels(&[0.0, 0.5, 1.0]), ["0\u{202f}%", "50\u{202f}%", "100\u{202f}%"]);
        assert_eq!(Axis::new("").log().labels(&[0.01, 1.0, 10_000.0]), ["0.01", "1", "10k"]);
    }
}
