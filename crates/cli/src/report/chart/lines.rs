//! Line charts.

use super::super::number;
use super::axis::Axis;
use super::canvas::{Anchor, Canvas, Frame, text_width};
use super::plot::{Entry, Plot, Swatch};
use super::series::Series;

/// Series of at most this many points get a marker on each.
const MARKED: usize = 24;
/// Labels at the line's end are at most this wide; longer names go into a key above.
const WIDEST_LABEL: f64 = 190.0;
/// The least distance between two labels at the lines' ends.
const LABEL_GAP: f64 = 16.0;

/// Draws the series; none when no point can be drawn.
pub fn draw(frame: Frame, x: &Axis, y: &Axis, series: &[Series]) -> Option<Canvas> {
    let drawable = || series.iter().flat_map(|series| series.drawable(x, y));
    let bounds = || series.iter().flat_map(|series| &series.band).flat_map(|(_, low, high)| [*low, *high]);
    let x_scale = x.scale(drawable().map(|point| point.0), (0.0, 1.0))?;
    let y_scale = y.scale(drawable().map(|point| point.1).chain(bounds()), (0.0, 1.0))?.rounded(frame.ticks().1);
    let named = named(series);
    let widest = named.iter().map(|(_, name)| text_width(name)).fold(0.0, f64::max);
    let at_ends = !frame.is_narrow && widest <= WIDEST_LABEL;
    let key: Vec<Entry> = if at_ends {
        Vec::new()
    } else {
        named.iter().map(|(i, name)| ((*name).to_owned(), Swatch::Line(*i))).collect()
    };
    let right = if at_ends && !named.is_empty() { widest + 14.0 } else { 12.0 };
    let mut plot = Plot::new(frame, (x, y), (x_scale, y_scale), right, &key);
    for (one, colour) in series.iter().zip(colours(series)) {
        plot.canvas.open_series(colour, if one.is_faint { "faint" } else { "" });
        draw_band(&mut plot, one, (x, y));
        draw_line(&mut plot, one, (x, y), colour);
        plot.canvas.close();
    }
    if at_ends {
        label_ends(&mut plot, series, (x, y), &named);
    }
    Some(plot.canvas)
}

/// The colour of each series: a faint one shares that of the series after it.
fn colours(series: &[Series]) -> Vec<usize> {
    let mut next = 0;
    series
        .iter()
        .map(|series| {
            let colour = next;
            next += usize::from(!series.is_faint);
            colour
        })
        .collect()
}

/// Colour and name of the series to be labelled; one line alone needs no label.
fn named(series: &[Series]) -> Vec<(usize, &str)> {
    let named: Vec<(usize, &str)> = series
        .iter()
        .zip(colours(series))
        .filter(|(series, _)| !series.is_faint)
        .map(|(series, colour)| (colour, series.name.as_str()))
        .collect();
    if named.len() > 1 { named } else { Vec::new() }
}

fn draw_band(plot: &mut Plot, series: &Series, (x, y): (&Axis, &Axis)) {
    let inside = |(at, low, high): &&(f64, f64, f64)| x.can_draw(*at) && y.can_draw(*low) && y.can_draw(*high);
    let band: Vec<_> = series.band.iter().filter(inside).collect();
    if band.len() > 1 {
        let upper = band.iter().map(|(at, _, high)| plot.at((*at, *high)));
        let lower = band.iter().rev().map(|(at, low, _)| plot.at((*at, *low)));
        let outline: Vec<_> = upper.chain(lower).collect();
        plot.canvas.path("band", &outline, true);
    }
}

fn draw_line(plot: &mut Plot, series: &Series, (x, y): (&Axis, &Axis), colour: usize) {
    let pieces = series.points.split(|point| !(x.can_draw(point.0) && y.can_draw(point.1)));
    for piece in pieces.filter(|piece| !piece.is_empty()) {
        let pixels: Vec<_> = piece.iter().map(|point| plot.at(*point)).collect();
        plot.canvas.path("line", &thinned(&pixels), false);
    }
    let count = series.drawable(x, y).count();
    if count <= MARKED && !series.is_faint {
        for point in series.drawable(x, y) {
            let tip = format!("{} ({}, {})", series.name, number::short(point.0), number::short(point.1));
            let at = plot.at(point);
            plot.canvas.marker(colour, at, 3.5, &tip);
        }
    }
}

/// At most four points for each pixel column: first, lowest, highest and last, so that no peak is lost.
fn thinned(pixels: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for column in pixels.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            kept.extend_from_slice(column);
            continue;
        }
        let by_height = |a: &usize, b: &usize| column[*a].1.total_cmp(&column[*b].1);
        let low = (0..column.len()).min_by(by_height).unwrap_or(0);
        let high = (0..column.len()).max_by(by_height).unwrap_or(0);
        let mut indices = [0, low, high, column.len() - 1];
        indices.sort_unstable();
        kept.extend(indices.map(|i| column[i]));
    }
    kept
}

/// Writes each name at the right end of its line, pushed apart where they would overlap.
fn label_ends(plot: &mut Plot, series: &[Series], (x, y): (&Axis, &Axis), named: &[(usize, &str)]) {
    let lines = series.iter().filter(|series| !series.is_faint);
    let ends = lines.zip(named).filter_map(|(series, (colour, name))| {
        series.drawable(x, y).last().map(|end| (plot.at(end).1, *colour, *name))
    });
    let mut ends: Vec<_> = ends.collect();
    ends.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (top, bottom) = (plot.y.at(plot.y.ends().1), plot.y.at(plot.y.ends().0));
    let heights = spread(&ends.iter().map(|end| end.0).collect::<Vec<_>>(), LABEL_GAP, (top, bottom));
    let left = plot.x.at(plot.x.ends().1) + 8.0;
    for ((_, colour, name), height) in ends.into_iter().zip(heights) {
        plot.canvas.open_series(colour, "");
        plot.canvas.text("end", (left, height + 4.0), Anchor::Start, name);
        plot.canvas.close();
    }
}

/// The sorted `heights`, moved as little as a simple sweep can so that they lie `gap` apart and, if there is room, inside.
fn spread(heights: &[f64], gap: f64, (top, bottom): (f64, f64)) -> Vec<f64> {
    let mut placed: Vec<f64> = heights.to_vec();
    for i in 1..placed.len() {
        placed[i] = placed[i].max(placed[i - 1] + gap);
    }
    let mut floor = bottom;
    for height in placed.iter_mut().rev() {
        *height = height.min(floor);
        floor = *height - gap;
    }
    let above = placed.first().map_or(0.0, |first| (top - first).max(0.0));
    placed.iter().map(|height| height + above).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinning_keeps_peaks_and_ends() {
        let pixels: Vec<_> =
            (0..1000).map(|i| (f64::from(i) / 1000.0, if i == 500 { 99.0 } else { f64::from(i % 7) })).collect();
        let kept = thinned(&pixels);
        assert_eq!(kept.len(), 4);
        assert!(kept.contains(&pixels[0]) && kept.contains(&pixels[999]) && kept.contains(&(0.5, 99.0)));
    }

    #[test]
    fn labels_keep_their_distance_and_stay_inside() {
        let placed = spread(&[10.0, 11.0, 12.0, 95.0], 16.0, (0.0, 100.0));
        assert!(placed.windows(2).all(|pair| pair[1] - pair[0] >= 16.0));
        assert!(placed[3] <= 100.0 && placed[0] >= 0.0);
        assert!(spread(&[], 16.0, (0.0, 100.0)).is_empty());
    }

    #[test]
    fn faint_series_share_the_colour_of_the_next() {
        let series = [Series::new("raw", vec![]).faint(), Series::new("mean", vec![]), Series::new("other", vec![])];
        assert_eq!(colours(&series), [0, 0, 1]);
        assert_eq!(named(&series), [(0, "mean"), (1, "other")]);
        assert!(named(&series[..2]).is_empty());
    }

    #[test]
    fn gap_divides_the_line() {
        let points = vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 2.0)];
        let canvas = draw(Frame::WIDE, &Axis::new("x"), &Axis::new("y"), &[Series::new("a", points)]).unwrap();
        assert_eq!(canvas.into_svg("", "").matches("<path class=\"line\"").count(), 2);
    }
}
