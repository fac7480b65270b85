//! Histograms.

use super::super::number;
use super::axis::Axis;
use super::canvas::{Canvas, Frame};
use super::plot::{Entry, Plot, Swatch};
use super::scale::round_step;

/// More bins than this say no more on a page.
const MOST_BINS: f64 = 200.0;

/// Bins of equal width, the first one beginning at `first`.
#[derive(Debug, PartialEq)]
struct Bins {
    first: f64,
    width: f64,
    count: usize,
}

/// Draws the samples' counts, or their shares when there are several; none when no value can be drawn.
pub fn draw(frame: Frame, x: &Axis, samples: &[(String, Vec<f64>)], want: usize) -> Option<Canvas> {
    let samples: Vec<(&str, Vec<f64>)> = samples
        .iter()
        .map(|(name, values)| (name.as_str(), values.iter().copied().filter(|value| x.can_draw(*value)).collect()))
        .collect();
    let x = x.linear();
    let all: Vec<f64> = samples.iter().flat_map(|(_, values)| values).copied().collect();
    let bins = Bins::fit(&all, want)?;
    let is_share = samples.len() > 1;
    let heights: Vec<Vec<f64>> = samples.iter().map(|(_, values)| bins.heights(values, is_share)).collect();
    let y = if is_share { Axis::new("share").percent() } else { Axis::new("count") };
    let x_scale = x.scale([bins.edge(0), bins.edge(bins.count)].into_iter(), (0.0, 1.0))?;
    let y_scale = y.clone().from(0.0).scale(heights.iter().flatten().copied(), (0.0, 1.0))?.rounded(frame.ticks().1);
    let key: Vec<Entry> = match &samples[..] {
        [_] => Vec::new(),
        several => several.iter().enumerate().map(|(i, (name, _))| ((*name).to_owned(), Swatch::Block(i))).collect(),
    };
    let mut plot = Plot::new(frame, (&x, &y), (x_scale, y_scale), 14.0, &key);
    for (i, heights) in heights.iter().enumerate() {
        plot.canvas.open_series(i, "");
        if is_share {
            draw_steps(&mut plot, &bins, heights)
        } else {
            draw_bars(&mut plot, &bins, heights)
        }
        plot.canvas.close();
    }
    Some(plot.canvas)
}

fn draw_bars(plot: &mut Plot, bins: &Bins, heights: &[f64]) {
    let floor = plot.y.at(0.0);
    for (i, height) in heights.iter().enumerate().filter(|(_, height)| **height > 0.0) {
        let (left, top) = plot.at((bins.edge(i), *height));
        let width = plot.x.at(bins.edge(i + 1)) - left;
        let gap = if width > 6.0 { 1.0 } else { 0.0 };
        let tip = format!(
            "{} to {}: {}",
            number::short(bins.edge(i)),
            number::short(bins.edge(i + 1)),
            number::short(*height)
        );
        plot.canvas.rect("bar", (left + gap, top), (width - 2.0 * gap, floor - top), &tip);
    }
}

/// One outline over all bins, with a pale area below it, so that several samples can lie over each other.
fn draw_steps(plot: &mut Plot, bins: &Bins, heights: &[f64]) {
    let mut outline = vec![plot.at((bins.edge(0), 0.0))];
    for (i, height) in heights.iter().enumerate() {
        outline.push(plot.at((bins.edge(i), *height)));
        outline.push(plot.at((bins.edge(i + 1), *height)));
    }
    outline.push(plot.at((bins.edge(bins.count), 0.0)));
    plot.canvas.path("band", &outline, true);
    plot.canvas.path("line", &outline, false);
}

impl Bins {
    /// About `want` bins with round bounds over all values; whole numbers get bins of whole width around them.
    fn fit(values: &[f64], want: usize) -> Option<Self> {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        if low > high {
            return None;
        }
        let is_whole = values.iter().all(|value| value.fract() == 0.0 && value.abs() < 1e9);
        let span = if high > low { high - low } else { low.abs().max(1.0) };
        let least = (span / MOST_BINS).max(low.abs().max(high.abs()) * 1e-12);
        let width = round_step((span / want.max(1) as f64).max(least));
        if is_whole && width <= 1.0 {
            return Some(Self { first: low - 0.5, width: 1.0, count: (high - low) as usize + 1 });
        }
        let first = (low / width).floor() * width;
        let count = ((high - first) / width).floor().clamp(0.0, 2.0 * MOST_BINS) as usize + 1;
        Some(Self { first, width, count })
    }

    fn edge(&self, i: usize) -> f64 {
        self.first + i as f64 * self.width
    }

    /// How many of the values fall into each bin, or which share of them.
    fn heights(&self, values: &[f64], is_share: bool) -> Vec<f64> {
        let one = if is_share { 1.0 / values.len().max(1) as f64 } else { 1.0 };
        let mut counts = vec![0u64; self.count];
        for value in values {
            let bin = ((value - self.first) / self.width).max(0.0) as usize;
            counts[bin.min(self.count - 1)] += 1;
        }
        counts.into_iter().map(|count| count as f64 * one).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_lie_in_the_middle_of_their_bins() {
        let bins = Bins::fit(&[4.0, 5.0, 5.0, 7.0], 10).unwrap();
        assert_eq!(bins, Bins { first: 3.5, width: 1.0, count: 4 });
        assert_eq!(bins.heights(&[4.0, 5.0, 5.0, 7.0], false), [1.0, 2.0, 0.0, 1.0]);
    }

    #[test]
    fn bounds_are_round_and_every_value_has_its_bin() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i) * 0.037).collect();
        let bins = Bins::fit(&values, 10).unwrap();
        assert_eq!((bins.first, bins.width), (0.0, 0.5));
        assert_eq!(bins.heights(&values, false).iter().sum::<f64>(), 100.0);
        assert!((bins.heights(&values, true).iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn equal_values_and_far_outliers_keep_the_number_of_bins_small() {
        assert_eq!(Bins::fit(&[3.0; 5], 10).unwrap().count, 1);
        assert!(Bins::fit(&[0.5, 0.5], 10).unwrap().count >= 1);
        assert!(Bins::fit(&[0.0, 0.1, 1e300], 10).unwrap().count < 500);
        assert!(Bins::fit(&[], 10).is_none());
    }
}
