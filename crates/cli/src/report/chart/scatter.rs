//! Scatter plots, and the agreement of two quantities.

use std::collections::BTreeMap;

use super::super::number;
use super::axis::Axis;
use super::canvas::{Canvas, Frame};
use super::plot::{Entry, Plot, Swatch};
use super::series::Series;

/// Above this many points, those within a few pixels become one.
const CROWD: usize = 1500;
const SMALLEST: f64 = 3.0;
const LARGEST: f64 = 11.0;

/// Draws the points; none when no point can be drawn.
pub fn draw(frame: Frame, x: &Axis, y: &Axis, series: &[Series], diagonal: bool) -> Option<Canvas> {
    let drawable = || series.iter().flat_map(|series| series.drawable(x, y));
    let frame = if diagonal { Frame { height: frame.height * 1.25, ..frame } } else { frame };
    let (want_x, want_y) = frame.ticks();
    let xs = drawable().map(|point| point.0);
    let ys = drawable().map(|point| point.1);
    let (x_scale, y_scale) = if diagonal {
        let both = x.scale(xs.chain(ys), (0.0, 1.0))?.rounded(want_y);
        (both, both)
    } else {
        (x.scale(xs, (0.0, 1.0))?.rounded(want_x), y.scale(ys, (0.0, 1.0))?.rounded(want_y))
    };
    let key: Vec<Entry> = match series {
        [_] => Vec::new(),
        several => several.iter().enumerate().map(|(i, series)| (series.name.clone(), Swatch::Mark(i))).collect(),
    };
    let mut plot = Plot::new(frame, (x, y), (x_scale, y_scale), 14.0, &key);
    if diagonal {
        let (low, high) = plot.x.ends();
        let ends = (plot.at((low, low)), plot.at((high, high)));
        plot.canvas.line("diagonal", ends.0, ends.1);
    }
    for (i, one) in series.iter().enumerate() {
        plot.canvas.open_series(i, "cloud");
        draw_points(&mut plot, i, one, (x, y));
        plot.canvas.close();
    }
    Some(plot.canvas)
}

/// Draws one series, the largest points first so that none hides a smaller one.
fn draw_points(plot: &mut Plot, i: usize, series: &Series, (x, y): (&Axis, &Axis)) {
    let points: Vec<(f64, f64)> = series.drawable(x, y).collect();
    let cell = if points.len() > CROWD { 4.0 } else { 1.0 };
    let mut places: BTreeMap<(i64, i64), (usize, (f64, f64))> = BTreeMap::new();
    for point in points {
        let at = plot.at(point);
        let place = places.entry(((at.0 / cell).round() as i64, (at.1 / cell).round() as i64)).or_insert((0, point));
        place.0 += 1;
    }
    let most = places.values().map(|(count, _)| *count).max().unwrap_or(1);
    let mut places: Vec<_> = places.into_values().collect();
    places.sort_by_key(|(count, _)| std::cmp::Reverse(*count));
    for (count, point) in places {
        let tip = format!("{} ({}, {}) ×{count}", series.name, number::short(point.0), number::short(point.1));
        let at = plot.at(point);
        plot.canvas.marker(i, at, radius(count, most), &tip);
    }
}

/// The radius of a point that stands for `count`: its area grows with the count, and the largest still fits.
fn radius(count: usize, most: usize) -> f64 {
    let unit = SMALLEST.min(LARGEST / (most as f64).sqrt());
    (unit * (count as f64).sqrt()).max(1.2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_points_become_one_larger_point() {
        let series = Series::new("a", vec![(1.0, 1.0), (1.0, 1.0), (1.0, 1.0), (2.0, 2.0)]);
        let svg = draw(Frame::WIDE, &Axis::new("x"), &Axis::new("y"), &[series], true).unwrap().into_svg("", "");
        assert_eq!(svg.matches("<circle").count(), 2);
        assert!(svg.contains("×3") && svg.contains("class=\"diagonal\""));
    }

    #[test]
    fn areas_follow_counts_up_to_the_largest() {
        assert_eq!(radius(1, 1), SMALLEST);
        assert_eq!(radius(400, 400), LARGEST);
        assert!((radius(4, 4) / radius(1, 4) - 2.0).abs() < 1e-12);
    }
}
