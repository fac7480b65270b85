//! Charts as inline SVG, drawn twice: for a wide page and for a narrow one, so that their type keeps its size on a telephone.
//!
//! Values that cannot be drawn (not finite; not positive on a logarithmic axis) are left out, and the note below the chart
//! says how many. A chart without any value says that there is nothing to draw.

mod axis;
mod canvas;
mod histogram;
mod intervals;
mod lines;
mod plot;
mod scale;
mod scatter;
mod series;

pub use axis::Axis;
pub use intervals::Row;
pub use series::{Series, smooth};

use super::escape::escape;
use canvas::{Canvas, Frame};

/// Colours and type of all charts, for the page and for a picture on its own.
pub const STYLE: &str = include_str!("chart.css");

/// A chart: what it shows, as data.
#[derive(Debug, Clone)]
pub struct Chart {
    title: String,
    note: Option<String>,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Lines { x: Axis, y: Axis, series: Vec<Series> },
    Scatter { x: Axis, y: Axis, series: Vec<Series>, diagonal: bool },
    Intervals { axis: Axis, variants: Vec<String>, rows: Vec<Row> },
    Histogram { x: Axis, samples: Vec<(String, Vec<f64>)>, bins: usize },
}

/// Lines over a common axis, labelled at their ends; short series get markers, gaps stay gaps.
pub fn lines(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Chart {
    Chart::new(title, Kind::Lines { x, y, series })
}

/// Points; those that fall together become one larger point.
pub fn scatter(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Chart {
    Chart::new(title, Kind::Scatter { x, y, series, diagonal: false })
}

/// As [`scatter()`], with both axes over the same range and the diagonal on which the two agree.
pub fn agreement(title: impl Into<String>, x: Axis, y: Axis, series: Vec<Series>) -> Chart {
    Chart::new(title, Kind::Scatter { x, y, series, diagonal: true })
}

/// A dot with its interval for each row and variant, between the row's base rate and ceiling.
pub fn intervals<S: Into<String>>(
    title: impl Into<String>,
    axis: Axis,
    variants: impl IntoIterator<Item = S>,
    rows: Vec<Row>,
) -> Chart {
    let variants = variants.into_iter().map(Into::into).collect();
    Chart::new(title, Kind::Intervals { axis, variants, rows })
}

/// How often each value occurs, in about `bins` equal bins with round bounds: counts for one sample, shares for several.
pub fn histogram<S: Into<String>>(
    title: impl Into<String>,
    x: Axis,
    samples: impl IntoIterator<Item = (S, Vec<f64>)>,
    bins: usize,
) -> Chart {
    let samples = samples.into_iter().map(|(name, values)| (name.into(), values)).collect();
    Chart::new(title, Kind::Histogram { x, samples, bins })
}

impl Chart {
    fn new(title: impl Into<String>, kind: Kind) -> Self {
        Self { title: title.into(), note: None, kind }
    }

    /// How to read the chart, and what it does not show, in small print below it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// The chart as a picture of its own, with its title and its colours inside.
    pub fn svg(&self) -> String {
        self.draw(Frame::WIDE).into_file(&self.title, STYLE)
    }

    /// The chart as a figure in a page that holds [`STYLE`].
    pub(super) fn html(&self) -> String {
        let title = escape(&self.title);
        let wide = self.draw(Frame::WIDE).into_svg("wide", &self.title);
        let narrow = self.draw(Frame::NARROW).into_svg("narrow", &self.title);
        let note =
            self.full_note().map(|note| format!("<p class=\"note\">{}</p>\n", escape(&note))).unwrap_or_default();
        format!("<figure class=\"chart\"><figcaption>{title}</figcaption>\n{wide}{narrow}{note}</figure>\n")
    }

    fn draw(&self, frame: Frame) -> Canvas {
        let drawn = match &self.kind {
            Kind::Lines { x, y, series } => lines::draw(frame, x, y, series),
            Kind::Scatter { x, y, series, diagonal } => scatter::draw(frame, x, y, series, *diagonal),
            Kind::Intervals { axis, variants, rows } => intervals::draw(frame, axis, variants, rows),
            Kind::Histogram { x, samples, bins } => histogram::draw(frame, x, samples, *bins),
        };
        drawn.unwrap_or_else(|| Canvas::nothing(frame))
    }

    fn full_note(&self) -> Option<String> {
        let left_out = match self.left_out() {
            0 => None,
            1 => Some("One value that cannot be drawn is left out.".to_owned()),
            n => Some(format!("{n} values that cannot be drawn are left out.")),
        };
        let parts: Vec<String> = self.note.clone().into_iter().chain(left_out).collect();
        (!parts.is_empty()).then(|| parts.join(" "))
    }

    /// How many of the given values have no place in the chart.
    fn left_out(&self) -> usize {
        match &self.kind {
            Kind::Lines { x, y, series } | Kind::Scatter { x, y, series, .. } => series
                .iter()
                .filter(|series| !series.is_faint)
                .map(|series| series.points.len() - series.drawable(x, y).count())
                .sum(),
            Kind::Intervals { axis, rows, .. } => rows.iter().map(|row| row.left_out(axis)).sum(),
            Kind::Histogram { x, samples, .. } => {
                samples.iter().flat_map(|(_, values)| values).filter(|value| !x.can_draw(**value)).count()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind(points: &[(f64, f64)]) -> Vec<Chart> {
        let axes = || (Axis::new("x"), Axis::new("y"));
        let series = || vec![Series::new("a", points.to_vec()), Series::new("b", points.to_vec())];
        let values: Vec<f64> = points.iter().map(|(_, y)| *y).collect();
        let rows = values.iter().map(|y| Row::new("r").mark(*y, *y, *y).base(*y).ceiling(*y)).collect();
        vec![
            lines("t", axes().0, axes().1, series()),
            lines("t", axes().0.log(), axes().1.log(), series()),
            scatter("t", axes().0, axes().1, series()),
            agreement("t", axes().0, axes().1, series()),
            intervals("t", axes().0, ["v"], rows),
            histogram("t", axes().0, [("a", values.clone()), ("b", values)], 10),
        ]
    }

    #[test]
    fn chart_without_a_drawable_value_says_so() {
        for points in [&[][..], &[(f64::NAN, 1.0), (1.0, f64::NAN), (f64::INFINITY, f64::NEG_INFINITY)]] {
            let points: Vec<_> = points.iter().map(|(x, y)| (*x, if y.is_finite() { f64::NAN } else { *y })).collect();
            for chart in every_kind(&points) {
                assert!(chart.html().contains("nothing to draw"), "{:?}", chart.kind);
            }
        }
    }

    #[test]
    fn extreme_values_leave_no_broken_coordinate() {
        let cases: [&[(f64, f64)]; 6] = [
            &[(0.0, 0.0)],
            &[(1.0, 5.0), (1.0, 5.0)],
            &[(0.0, -1e300), (1.0, 1e300)],
            &[(0.0, 1e-300), (1.0, f64::MIN_POSITIVE)],
            &[(1e15, 1e15 + 1.0), (1e15 + 1.0, 1e15)],
            &[(1.0, f64::MAX), (2.0, 1.0), (3.0, f64::NAN)],
        ];
        for points in cases {
            for chart in every_kind(points) {
                let html = chart.html();
                for word in ["NaN", "inf"] {
                    assert!(!html.contains(word), "{word} in {:?}", chart.kind);
                }
            }
        }
    }

    #[test]
    fn left_out_values_are_counted_in_the_note() {
        let points = vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 2.0)];
        let chart = lines("t", Axis::new("x"), Axis::new("y"), vec![Series::new("a", points)]).note("Mean of three.");
        assert!(chart.html().contains("Mean of three. One value that cannot be drawn is left out."));
        let log = lines(
            "t",
            Axis::new("x").log(),
            Axis::new("y"),
            vec![Series::new("a", vec![(0.0, 1.0), (-1.0, 1.0), (1.0, 1.0)])],
        );
        assert!(log.html().contains("2 values"));
    }

    #[test]
    fn picture_of_its_own_carries_style_and_title() {
        let svg = every_kind(&[(0.0, 1.0), (1.0, 2.0)])[0].svg();
        assert!(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
        assert!(svg.contains("<style>") && svg.contains(">t</text>"));
    }
}
