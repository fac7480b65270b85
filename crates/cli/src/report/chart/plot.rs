//! The frame that charts with two axes share: margins, grid, tick labels, axis labels and the key.

use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Frame, LINE, text_width};
use super::scale::Scale;

/// Room of a swatch in the key, with its gap.
const SWATCH: f64 = 22.0;

/// A canvas with both axes drawn, and the scales to place data on it.
pub struct Plot {
    pub canvas: Canvas,
    pub x: Scale,
    pub y: Scale,
}

/// How an entry of the key is drawn.
#[derive(Debug, Clone, Copy)]
pub enum Swatch {
    Line(usize),
    Mark(usize),
    Block(usize),
    /// A neutral upright line of this class.
    Tick(&'static str),
}

/// One entry of the key: what is drawn how.
pub type Entry = (String, Swatch);

impl Plot {
    /// Draws axes and key; `right` is the room kept free at the right of the data.
    pub fn new(frame: Frame, axes: (&Axis, &Axis), scales: (Scale, Scale), right: f64, key: &[Entry]) -> Self {
        let (x_axis, y_axis) = axes;
        let (want_x, want_y) = frame.ticks();
        let y_ticks = y_axis.ticks(&scales.1, want_y);
        let y_labels = y_axis.labels(&y_ticks);
        let left = y_labels.iter().map(|label| text_width(label)).fold(0.0, f64::max) + 8.0;
        let key_rows = rows(key, frame.width);
        let head = if key.is_empty() { 0.0 } else { key_rows.len() as f64 * LINE + 8.0 };
        let height = frame.height + head;
        let x = scales.0.over((left, frame.width - right));
        let y = scales.1.over((height - 2.0 * LINE - 8.0, head + LINE + 10.0));
        let mut plot = Self { canvas: Canvas::new(frame.width, height), x, y };
        draw_key(&mut plot.canvas, key, &key_rows);
        plot.canvas.text("label", (0.0, head + 12.0), Anchor::Start, &y_axis.label);
        plot.horizontal_grid(&y_ticks, &y_labels, left);
        plot.bottom_axis(x_axis, want_x, left, height);
        plot
    }

    fn horizontal_grid(&mut self, ticks: &[f64], labels: &[String], left: f64) {
        let right = self.x.at(self.x.ends().1);
        for (tick, label) in ticks.iter().zip(labels) {
            let y = self.y.at(*tick);
            self.canvas.line("grid", (left, y), (right, y));
            self.canvas.text("tick", (left - 8.0, y + 4.0), Anchor::End, label);
        }
    }

    fn bottom_axis(&mut self, axis: &Axis, want: usize, left: f64, height: f64) {
        let floor = self.y.at(self.y.ends().0);
        let right = self.x.at(self.x.ends().1);
        self.canvas.line("axis", (left, floor), (right, floor));
        let ticks = axis.ticks(&self.x, want);
        let mut free_from = f64::NEG_INFINITY;
        for (tick, label) in ticks.iter().zip(axis.labels(&ticks)) {
            let (x, half) = (self.x.at(*tick), text_width(&label) / 2.0);
            self.canvas.line("axis", (x, floor), (x, floor + 4.0));
            if x - half > free_from {
                self.canvas.text("tick", (x, floor + LINE), Anchor::Middle, &label);
                free_from = x + half + 6.0;
            }
        }
        self.canvas.text("label", (right, height - 4.0), Anchor::End, &axis.label);
    }

    /// Where a point lies on the canvas.
    pub fn at(&self, point: (f64, f64)) -> (f64, f64) {
        (self.x.at(point.0), self.y.at(point.1))
    }
}

/// The entries of the key, divided into rows that fit `width`, as indices and left edges.
pub fn rows(key: &[Entry], width: f64) -> Vec<Vec<(usize, f64)>> {
    let mut rows: Vec<Vec<(usize, f64)>> = Vec::new();
    let mut x = f64::INFINITY;
    for (i, (name, _)) in key.iter().enumerate() {
        let room = SWATCH + text_width(name) + 16.0;
        if x + room > width {
            rows.push(Vec::new());
            x = 0.0;
        }
        if let Some(row) = rows.last_mut() {
            row.push((i, x));
        }
        x += room;
    }
    rows
}

/// Draws the key into the canvas's first rows.
pub fn draw_key(canvas: &mut Canvas, key: &[Entry], rows: &[Vec<(usize, f64)>]) {
    for (row, entries) in rows.iter().enumerate() {
        let y = row as f64 * LINE + 12.0;
        for &(i, x) in entries {
            let (name, swatch) = &key[i];
            draw_swatch(canvas, *swatch, (x, y - 4.0));
            canvas.text("label", (x + SWATCH, y), Anchor::Start, name);
        }
    }
}

fn draw_swatch(canvas: &mut Canvas, swatch: Swatch, (x, y): (f64, f64)) {
    match swatch {
        Swatch::Line(i) => {
            canvas.open_series(i, "");
            canvas.line("line", (x, y), (x + 16.0, y));
            canvas.close();
        }
        Swatch::Mark(i) => {
            canvas.open_series(i, "");
            canvas.marker(i, (x + 8.0, y), 4.5, "");
            canvas.close();
        }
        Swatch::Block(i) => {
            canvas.open_series(i, "");
            canvas.rect("bar", (x + 2.0, y - 5.0), (12.0, 10.0), "");
            canvas.close();
        }
        Swatch::Tick(class) => canvas.line(class, (x + 8.0, y - 6.0), (x + 8.0, y + 6.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_breaks_into_rows_that_fit() {
        let key: Vec<Entry> = (0..5).map(|i| ("x".repeat(10), Swatch::Line(i))).collect();
        let rows = rows(&key, 240.0);
        assert_eq!(rows.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(rows[1][0], (2, 0.0));
    }

    #[test]
    fn key_without_entries_takes_no_room() {
        assert!(rows(&[], 100.0).is_empty());
    }
}
