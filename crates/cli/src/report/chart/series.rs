//! Points with a name.

use super::axis::Axis;

/// A named series of points.
#[derive(Debug, Clone, Default)]
pub struct Series {
    pub(super) name: String,
    pub(super) points: Vec<(f64, f64)>,
    /// `(x, low, high)`.
    pub(super) band: Vec<(f64, f64, f64)>,
    pub(super) is_faint: bool,
}

impl Series {
    /// Points `(x, y)` in drawing order; a point that is not a number breaks the line.
    pub fn new(name: impl Into<String>, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, ..Self::default() }
    }

    /// A band `(x, low, high)` behind the line: interval or spread.
    #[must_use]
    pub fn band(mut self, band: Vec<(f64, f64, f64)>) -> Self {
        self.band = band;
        self
    }

    /// Drawn thin and pale, without a label, in the colour of the series that follows: raw values behind their mean.
    #[must_use]
    pub fn faint(mut self) -> Self {
        self.is_faint = true;
        self
    }

    /// The points that have a place on both axes.
    pub(super) fn drawable(&self, x: &Axis, y: &Axis) -> impl Iterator<Item = (f64, f64)> {
        self.points.iter().copied().filter(move |point| x.can_draw(point.0) && y.can_draw(point.1))
    }
}

/// The exponential mean of the `y` over about `span` points, corrected for its start; what is not finite passes as it is.
pub fn smooth(points: &[(f64, f64)], span: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / span.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let mean = |&(x, y): &(f64, f64)| {
        if !y.is_finite() {
            return (x, y);
        }
        sum = keep * sum + (1.0 - keep) * y;
        weight = keep * weight + (1.0 - keep);
        (x, sum / weight)
    };
    points.iter().map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smooth_keeps_constants_and_gaps() {
        let points = [(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0)];
        let smoothed = smooth(&points, 10.0);
        assert!((smoothed[0].1 - 2.0).abs() < 1e-12 && smoothed[1].1.is_nan() && (smoothed[2].1 - 2.0).abs() < 1e-12);
        assert_eq!(smooth(&[(0.0, 1.0), (1.0, 5.0)], 1.0), [(0.0, 1.0), (1.0, 5.0)]);
    }
}
