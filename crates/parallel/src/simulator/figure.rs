//! Line charts as SVG.

use std::fmt::Write;

/// One line of a chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y); those that are not finite are left out.
    pub points: Vec<(f64, f64)>,
    /// Marks without a connecting line.
    pub marks_only: bool,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// Text below the horizontal axis.
    pub x_label: String,
    /// Text beside the vertical axis.
    pub y_label: String,
    /// Lines.
    pub series: Vec<Series>,
    /// Horizontal reference lines: value and name.
    pub levels: Vec<(f64, String)>,
    /// Logarithmic horizontal axis.
    pub log_x: bool,
}

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 44.0;
const RIGHT: f64 = 540.0;
const BOTTOM: f64 = 385.0;
const COLOURS: [&str; 8] = ["#1b6ca8", "#d1495b", "#2e8b57", "#8e5ea2", "#c98a00", "#3b3b3b", "#00a6a6", "#a0522d"];

impl Series {
    /// A line through points.
    pub fn line(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, marks_only: false }
    }

    /// Marks without a line.
    pub fn marks(name: &str, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.into(), points, marks_only: true }
    }
}

/// Range of an axis and its ticks.
struct Axis {
    low: f64,
    high: f64,
    log: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, log: bool) -> Self {
        let usable = values.filter(|v| v.is_finite() && (!log || *v > 0.0));
        let (low, high) = usable.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return Self { low: 1.0, high: 2.0, log };
        }
        if log {
            return Self { low, high: if high > low { high } else { low * 2.0 }, log };
        }
        let pad = if high > low { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
        Self { low: low - pad, high: high + pad, log }
    }

    fn share(&self, v: f64) -> f64 {
        if self.log {
            (v / self.low).ln() / (self.high / self.low).ln()
        } else {
            (v - self.low) / (self.high - self.low)
        }
    }

    fn ticks(&self) -> Vec<f64> {
        if self.log {
            let doublings = (self.high / self.low).log2();
            let factor = if doublings > 12.0 { 10.0 } else { 2.0 };
            return std::iter::successors(Some(self.low), |v| Some(v * factor))
                .take_while(|v| *v <= self.high * 1.001)
                .collect();
        }
        let rough = (self.high - self.low) / 6.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|m| m * power).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (self.low / step).ceil() as i64;
        (first..first + 20).map(|i| i as f64 * step).take_while(|v| *v <= self.high).collect()
    }
}

fn number(v: f64) -> String {
    let text = if v != 0.0 && v.abs() < 1e-3 || v.abs() >= 1e6 { format!("{v:.1e}") } else { format!("{v:.3}") };
    if text.contains('e') { text } else { text.trim_end_matches('0').trim_end_matches('.').to_string() }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

impl Chart {
    /// The chart as a self-contained SVG document.
    pub fn svg(&self) -> String {
        let points = || self.series.iter().flat_map(|s| s.points.iter().copied());
        let x = Axis::over(points().map(|p| p.0), self.log_x);
        let y = Axis::over(points().map(|p| p.1).chain(self.levels.iter().map(|l| l.0)), false);
        let mut svg = String::new();
        // Writing to a String cannot fail.
        let _ = self.draw(&mut svg, &x, &y);
        svg
    }

    fn draw(&self, svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        writeln!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
             font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"24\" font-size=\"15\">{}</text>",
            escape(&self.title)
        )?;
        self.draw_axes(svg, x, y)?;
        for (value, name) in &self.levels {
            let at = vertical(y, *value);
            writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#777\" \
                 stroke-dasharray=\"6 4\"/><text x=\"{}\" y=\"{:.1}\" fill=\"#555\">{}</text>",
                LEFT + 6.0,
                at + 14.0,
                escape(name)
            )?;
        }
        for (i, series) in self.series.iter().enumerate() {
            draw_series(svg, series, COLOURS[i % COLOURS.len()], i, (x, y))?;
        }
        svg.push_str("</svg>\n");
        Ok(())
    }

    fn draw_axes(&self, svg: &mut String, x: &Axis, y: &Axis) -> std::fmt::Result {
        for v in x.ticks() {
            let at = horizontal(x, v);
            writeln!(
                svg,
                "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{BOTTOM}\" stroke=\"#eee\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                BOTTOM + 16.0,
                number(v)
            )?;
        }
        for v in y.ticks() {
            let at = vertical(y, v);
            writeln!(
                svg,
                "<line x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#eee\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(v)
            )?;
        }
        let (middle_x, middle_y) = ((LEFT + RIGHT) / 2.0, (TOP + BOTTOM) / 2.0);
        writeln!(
            svg,
            "<rect x=\"{LEFT}\" y=\"{TOP}\" width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#333\"/>\n\
             <text x=\"{middle_x}\" y=\"{}\" text-anchor=\"middle\">{}</text>\n\
             <text transform=\"translate(18 {middle_y}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            RIGHT - LEFT,
            BOTTOM - TOP,
            BOTTOM + 40.0,
            escape(&self.x_label),
            escape(&self.y_label)
        )
    }
}

fn horizontal(x: &Axis, v: f64) -> f64 {
    LEFT + x.share(v) * (RIGHT - LEFT)
}

fn vertical(y: &Axis, v: f64) -> f64 {
    BOTTOM - y.share(v) * (BOTTOM - TOP)
}

fn draw_series(
    svg: &mut String,
    series: &Series,
    colour: &str,
    index: usize,
    (x, y): (&Axis, &Axis),
) -> std::fmt::Result {
    let usable = series.points.iter().filter(|p| p.0.is_finite() && p.1.is_finite() && (!x.log || p.0 > 0.0));
    let places: Vec<(f64, f64)> = usable.map(|p| (horizontal(x, p.0), vertical(y, p.1))).collect();
    if !series.marks_only {
        let path: Vec<String> = places.iter().map(|p| format!("{:.1},{:.1}", p.0, p.1)).collect();
        writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        )?;
    }
    if series.marks_only || places.len() <= 24 {
        for (px, py) in places {
            writeln!(svg, "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3\" fill=\"{colour}\"/>")?;
        }
    }
    let top = TOP + 14.0 + 18.0 * index as f64;
    writeln!(
        svg,
        "<circle cx=\"{}\" cy=\"{:.1}\" r=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{top:.1}\">{}</text>",
        RIGHT + 14.0,
        top - 4.0,
        RIGHT + 24.0,
        escape(&series.name)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_shows_every_finite_point_and_escapes_its_texts() {
        let chart = Chart {
            title: "a < b".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            series: vec![Series::marks("s", vec![(1.0, 2.0), (f64::NAN, 1.0), (4.0, 3.0), (0.0, 1.0)])],
            levels: vec![(2.5, "half".into())],
            log_x: true,
        };
        let svg = chart.svg();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("a &lt; b") && !svg.contains("NaN") && !svg.contains("inf"));
        assert_eq!(svg.matches("r=\"3\"").count(), 2);
    }

    #[test]
    fn an_empty_chart_is_still_a_document() {
        let chart = Chart {
            title: String::new(),
            x_label: String::new(),
            y_label: String::new(),
            series: vec![],
            levels: vec![],
            log_x: false,
        };
        assert!(!chart.svg().contains("NaN"));
    }
}
