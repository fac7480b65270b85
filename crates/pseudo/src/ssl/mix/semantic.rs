//! How much of a class's evidence lies in a box, from the small map alone.
//!
//! The percent map of SnapMix (arXiv 2012.04846, eq. 1-2) is the activation map of a class, resized to the image, less its
//! minimum, divided by its sum. Resizing is separable and linear, so the sum over a box is `a^T M b` with the column sums
//! a, b of the interpolation weights over the box's rows and columns: O(h w) for a map [h, w], whatever the image's size.

use super::Rect;
use crate::cam::{Corners, Tap, taps};
use candle_core::{DType, Result, Tensor};
use serde::{Deserialize, Serialize};

/// Which minimum a map is shifted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SampleMin {
    /// The smallest value of the resized map, as in the definition.
    #[default]
    Exact,
    /// The smallest value of the small map, which lies below it: a little less contrast.
    Cells,
}

/// Total weight of each of `from` cells in the samples `range` of `to`.
fn line_sums(from: usize, to: usize, range: std::ops::Range<usize>) -> Vec<f64> {
    let mut sums = vec![0.0; from];
    for t in &taps(from, to, Corners::Half)[range.start.min(to)..range.end.min(to)] {
        sums[t.low] += 1.0 - t.weight;
        sums[t.high] += t.weight;
    }
    sums
}

/// Samples among which a piecewise linear line takes its extremes: first and last of each stretch between two cells.
fn corners(from: usize, to: usize) -> Vec<Tap> {
    let taps = taps(from, to, Corners::Half);
    // Before the first centre the line is constant, and so is it after the last.
    let stretch = |t: &Tap| (t.low, t.weight > 0.0);
    let ends = (0..to).filter(|&i| {
        let differs = |j: Option<usize>| j.and_then(|j| taps.get(j)).is_none_or(|t| stretch(t) != stretch(&taps[i]));
        differs(i.checked_sub(1)) || differs(Some(i + 1))
    });
    ends.map(|i| taps[i]).collect()
}

/// The percent map of one image and class.
#[derive(Clone, Debug, PartialEq)]
pub struct PercentMap {
    /// [h, w] row-major.
    cells: Vec<f64>,
    from: (usize, usize),
    to: (usize, usize),
    minimum: f64,
    /// Sum of the resized map above its minimum; NaN for a constant map.
    total: f64,
}

/// A map whose mean height above its minimum is below this share of its largest value is constant up to f32 rounding.
const FLAT: f64 = 1e-6;

impl PercentMap {
    /// From the activation map `map` [h, w] of a class, with or without the class's bias, over an image of `to` (rows,
    /// columns), all at least 1.
    ///
    /// # Panics
    /// If the map has not h w values.
    pub fn new(map: &[f32], from: (usize, usize), to: (usize, usize), minimum: SampleMin) -> Self {
        assert_eq!(map.len(), from.0 * from.1, "map of {from:?}");
        let cells: Vec<f64> = map.iter().map(|&m| f64::from(m)).collect();
        let mut percent = Self { cells, from, to, minimum: 0.0, total: f64::NAN };
        percent.minimum = match minimum {
            SampleMin::Exact => percent.smallest_sample(),
            SampleMin::Cells => percent.cells.iter().copied().fold(f64::INFINITY, f64::min),
        };
        let whole = Rect { row0: 0, col0: 0, row1: to.0, col1: to.1 };
        let total = percent.above_minimum(whole);
        let height = percent.cells.iter().fold(0.0_f64, |a, m| a.max(m.abs()));
        if total > FLAT * height * whole.area() as f64 {
            percent.total = total;
        }
        percent
    }

    fn sample(&self, row: Tap, col: Tap) -> f64 {
        let cell = |r: usize, c: usize| self.cells[r * self.from.1 + c];
        let line = |r: usize| cell(r, col.low) * (1.0 - col.weight) + cell(r, col.high) * col.weight;
        line(row.low) * (1.0 - row.weight) + line(row.high) * row.weight
    }

    /// A bilinear patch is smallest at one of its corners, so 2 (h + 1) by 2 (w + 1) samples tell the minimum of all.
    fn smallest_sample(&self) -> f64 {
        let columns = corners(self.from.1, self.to.1);
        let row_min = |row: &Tap| columns.iter().map(|&col| self.sample(*row, col)).fold(f64::INFINITY, f64::min);
        corners(self.from.0, self.to.0).iter().map(row_min).fold(f64::INFINITY, f64::min)
    }

    /// Sum over the samples of a box, each less the minimum.
    fn above_minimum(&self, rect: Rect) -> f64 {
        let rows = line_sums(self.from.0, self.to.0, rect.row0..rect.row1);
        let cols = line_sums(self.from.1, self.to.1, rect.col0..rect.col1);
        let lines = self.cells.chunks_exact(self.from.1).zip(&rows);
        lines.map(|(line, r)| r * line.iter().zip(&cols).map(|(m, c)| (m - self.minimum) * c).sum::<f64>()).sum()
    }

    /// Share of the class's evidence that lies in a box, from 0 to 1; NaN for a constant map, which says nothing. What
    /// lies outside the image counts nothing.
    pub fn mass(&self, rect: Rect) -> f64 {
        self.above_minimum(rect) / self.total
    }

    /// The percent map itself at the image's size, row-major; NaN throughout for a constant map.
    pub fn dense(&self) -> Vec<f64> {
        let columns = taps(self.from.1, self.to.1, Corners::Half);
        let mut out = Vec::with_capacity(self.to.0 * self.to.1);
        for row in taps(self.from.0, self.to.0, Corners::Half) {
            out.extend(columns.iter().map(|&col| (self.sample(row, col) - self.minimum) / self.total));
        }
        out
    }
}

/// Maps, row-major, and their common height and width.
pub type Maps = (Vec<Vec<f32>>, (usize, usize));

/// The map of one class per image: `sum_k W[c_n, k] A[n, k, i, j]` (Zhou et al. 2016, arXiv 1512.04150), without bias.
///
/// Head weight W is [c, k], feature maps A are [n, k, h, w]; gives n maps of h w values with (h, w).
///
/// # Errors
/// If the shapes do not fit or a label is no class.
pub fn class_maps(weight: &Tensor, features: &Tensor, labels: &[u32]) -> Result<Maps> {
    let (n, _, h, w) = features.dims4()?;
    let rows = weight.detach().index_select(&Tensor::new(labels, weight.device())?, 0)?; // [n, k]
    let flat = features.detach().flatten_from(2)?.contiguous()?; // [n, k, h w]
    let maps = rows.unsqueeze(1)?.matmul(&flat)?.reshape((n, h * w))?;
    Ok((maps.to_dtype(DType::F32)?.to_vec2()?, (h, w)))
}
