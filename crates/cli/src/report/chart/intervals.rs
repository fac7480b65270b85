//! Dots with intervals between a base rate and a ceiling, one row a quantity.

use super::super::number;
use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Frame, LINE, text_width};
use super::plot::{self, Entry, Swatch};
use super::scale::Scale;

/// Height of one variant's dot, and the space between two rows.
const LANE: f64 = 17.0;
const SPACE: f64 = 13.0;

/// One quantity, measured for one or more variants.
#[derive(Debug, Clone, Default)]
pub struct Row {
    label: String,
    marks: Vec<(f64, f64, f64)>,
    base: Option<f64>,
    ceiling: Option<f64>,
}

impl Row {
    /// A row without measurements.
    pub fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), ..Self::default() }
    }

    /// The next variant's value and its interval.
    #[must_use]
    pub fn mark(mut self, value: f64, low: f64, high: f64) -> Self {
        self.marks.push((value, low, high));
        self
    }

    /// What is reached without trying.
    #[must_use]
    pub fn base(mut self, base: f64) -> Self {
        self.base = Some(base);
        self
    }

    /// What real data reach.
    #[must_use]
    pub fn ceiling(mut self, ceiling: f64) -> Self {
        self.ceiling = Some(ceiling);
        self
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        let marks = self.marks.iter().flat_map(|(value, low, high)| [*value, *low, *high]);
        marks.chain(self.base).chain(self.ceiling)
    }

    pub(super) fn left_out(&self, axis: &Axis) -> usize {
        self.values().filter(|value| !axis.can_draw(*value)).count()
    }
}

/// Where things stand in the picture.
struct Sheet {
    canvas: Canvas,
    scale: Scale,
    /// Right edge of the labels at the left; none on a narrow page, where they stand above their row.
    labels: Option<f64>,
}

/// Draws the rows; none when no value can be drawn.
pub fn draw(frame: Frame, axis: &Axis, variants: &[String], rows: &[Row]) -> Option<Canvas> {
    let scale = axis.scale(rows.iter().flat_map(Row::values), (0.0, 1.0))?.rounded(5);
    let widest = rows.iter().map(|row| text_width(&row.label)).fold(0.0, f64::max).min(frame.width * 0.35);
    let printed =
        rows.iter().flat_map(|row| &row.marks).map(|mark| text_width(&print(axis, mark.0))).fold(0.0, f64::max);
    let left = if frame.is_narrow { 8.0 } else { widest + 16.0 };
    let key = key(variants, rows);
    let key_rows = plot::rows(&key, frame.width);
    let top = key_rows.len() as f64 * LINE + 8.0;
    let heights: Vec<f64> = rows.iter().map(|row| height(row, frame)).collect();
    let bottom = top + heights.iter().sum::<f64>();
    let mut sheet = Sheet {
        canvas: Canvas::new(frame.width, bottom + 2.0 * LINE + 8.0),
        scale: scale.over((left, frame.width - printed - 16.0)),
        labels: (!frame.is_narrow).then_some(left - 14.0),
    };
    plot::draw_key(&mut sheet.canvas, &key, &key_rows);
    sheet.draw_axis(axis, (top, bottom), frame);
    let mut y = top;
    for (row, height) in rows.iter().zip(heights) {
        sheet.draw_row(axis, row, y, frame.width);
        y += height;
    }
    Some(sheet.canvas)
}

fn height(row: &Row, frame: Frame) -> f64 {
    let label = if frame.is_narrow { LINE } else { 0.0 };
    row.marks.len().max(1) as f64 * LANE + SPACE + label
}

fn print(axis: &Axis, value: f64) -> String {
    if axis.is_percent { number::percent(value) } else { number::short(value) }
}

fn key(variants: &[String], rows: &[Row]) -> Vec<Entry> {
    let mut key: Vec<Entry> = match variants {
        [_] => Vec::new(),
        several => several.iter().enumerate().map(|(i, name)| (name.clone(), Swatch::Mark(i))).collect(),
    };
    if rows.iter().any(|row| row.base.is_some()) {
        key.push(("base rate".into(), Swatch::Tick("base")));
    }
    if rows.iter().any(|row| row.ceiling.is_some()) {
        key.push(("ceiling".into(), Swatch::Tick("ceiling")));
    }
    key
}

impl Sheet {
    fn draw_axis(&mut self, axis: &Axis, (top, bottom): (f64, f64), frame: Frame) {
        let ticks = axis.ticks(&self.scale, if frame.is_narrow { 4 } else { 5 });
        for (tick, label) in ticks.iter().zip(axis.labels(&ticks)) {
            let x = self.scale.at(*tick);
            self.canvas.line("grid", (x, top), (x, bottom));
            self.canvas.text("tick", (x, bottom + LINE), Anchor::Middle, &label);
        }
        let (low, high) = self.scale.ends();
        let ends = (self.scale.at(low), self.scale.at(high));
        self.canvas.line("axis", (ends.0, bottom), (ends.1, bottom));
        self.canvas.text("label", (ends.1, bottom + 2.0 * LINE + 2.0), Anchor::End, &axis.label);
    }

    fn draw_row(&mut self, axis: &Axis, row: &Row, y: f64, width: f64) {
        let lanes = row.marks.len().max(1) as f64 * LANE;
        let mut top = y + SPACE / 2.0;
        if let Some(edge) = self.labels {
            self.canvas.text("row", (edge, top + lanes / 2.0 + 4.5), Anchor::End, &row.label);
        } else {
            self.canvas.text("row", (0.0, top + 12.0), Anchor::Start, &row.label);
            top += LINE;
        }
        self.draw_room(axis, row, (top, top + lanes));
        for (i, mark) in row.marks.iter().enumerate() {
            self.draw_mark(axis, i, *mark, top + (i as f64 + 0.5) * LANE, width);
        }
    }

    /// The span from base rate to ceiling, and a line for each of them.
    fn draw_room(&mut self, axis: &Axis, row: &Row, (top, bottom): (f64, f64)) {
        let [base, ceiling] = [row.base, row.ceiling].map(|end| end.filter(|value| axis.can_draw(*value)));
        if let (Some(base), Some(ceiling)) = (base, ceiling) {
            let (from, to) = (self.scale.at(base.min(ceiling)), self.scale.at(base.max(ceiling)));
            self.canvas.rect("room", (from, top), (to - from, bottom - top), "");
        }
        for (end, class, name) in [(base, "base", "base rate"), (ceiling, "ceiling", "ceiling")] {
            if let Some(value) = end {
                let x = self.scale.at(value);
                self.canvas.line(class, (x, top - 2.0), (x, bottom + 2.0));
                let tip = format!("{}: {name} {}", row.label, print(axis, value));
                self.canvas.rect("tip", (x - 3.0, top), (6.0, bottom - top), &tip);
            }
        }
    }

    fn draw_mark(&mut self, axis: &Axis, i: usize, (value, low, high): (f64, f64, f64), y: f64, width: f64) {
        self.canvas.open_series(i, "");
        if axis.can_draw(low) && axis.can_draw(high) {
            let (from, to) = (self.scale.at(low), self.scale.at(high));
            self.canvas.line("whisker", (from, y), (to, y));
        }
        if axis.can_draw(value) {
            let tip = format!("{} [{}, {}]", print(axis, value), print(axis, low), print(axis, high));
            self.canvas.marker(i, (self.scale.at(value), y), 4.5, &tip);
        }
        self.canvas.close();
        self.canvas.text("value", (width, y + 4.5), Anchor::End, &print(axis, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn svg(frame: Frame, rows: &[Row]) -> String {
        let axis = Axis::new("accuracy").percent().from(0.0).to(1.0);
        draw(frame, &axis, &["plain".into(), "guided".into()], rows).unwrap().into_svg("", "")
    }

    #[test]
    fn each_variant_has_dot_whisker_and_value() {
        let rows = [Row::new("form").mark(0.5, 0.4, 0.6).mark(0.9, 0.85, 0.95).base(0.2).ceiling(0.99)];
        let svg = svg(Frame::WIDE, &rows);
        assert_eq!(svg.matches("class=\"whisker\"").count(), 2);
        assert!(svg.contains(">90.0\u{202f}%</text>") && svg.contains(">guided</text>"));
        assert!(svg.contains("class=\"room\"") && svg.contains(">base rate</text>") && svg.contains(">ceiling</text>"));
    }

    #[test]
    fn missing_interval_or_value_leaves_the_rest() {
        let rows = [Row::new("a").mark(0.5, f64::NAN, f64::NAN), Row::new("b").mark(f64::NAN, 0.1, 0.2), Row::new("c")];
        let svg = svg(Frame::NARROW, &rows);
        assert_eq!(svg.matches("class=\"whisker\"").count(), 1);
        assert!(svg.contains(&format!(">{}</text>", number::ABSENT)));
        assert!(!svg.contains("base rate"));
    }
}
