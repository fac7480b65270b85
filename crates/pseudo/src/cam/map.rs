//! One map over an image: its values, bilinear resizing, and the scalings that papers apply to it.
//!
//! A map never holds a NaN or an infinity: [`Map::new`] refuses them. A constant map has no shape to scale, so every
//! scaling states what becomes of it.

use super::error::{Error, Result, expect};

/// Where the samples of a resized grid lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Corners {
    /// Pixels are areas: sample `i` lies at `(i + 1/2) * from / to - 1/2`, clamped to the grid (`align_corners=false`
    /// of PyTorch, `INTER_LINEAR` of OpenCV; no averaging when shrinking).
    Half,
    /// First and last samples coincide: sample `i` lies at `i * (from - 1) / (to - 1)` (`align_corners=true`).
    Aligned,
}

/// One sample of a resized line: `(1 - weight) * line[low] + weight * line[high]`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tap {
    pub(crate) low: usize,
    pub(crate) high: usize,
    pub(crate) weight: f64,
}

/// The samples of a line of `from > 0` values resized to `to`.
pub(crate) fn taps(from: usize, to: usize, corners: Corners) -> Vec<Tap> {
    let place = |i: usize| match corners {
        Corners::Half => ((i as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0),
        Corners::Aligned if to > 1 => i as f64 * (from - 1) as f64 / (to - 1) as f64,
        Corners::Aligned => 0.0,
    };
    (0..to)
        .map(|i| {
            let low = (place(i) as usize).min(from - 1);
            Tap { low, high: (low + 1).min(from - 1), weight: place(i) - low as f64 }
        })
        .collect()
}

/// Resizes a row-major plane `[from.0, from.1]` to `[to.0, to.1]` (rows, columns), bilinearly.
///
/// # Panics
/// If `plane` has not `from.0 * from.1` values.
pub fn resize_bilinear(plane: &[f32], from: (usize, usize), to: (usize, usize), corners: Corners) -> Vec<f32> {
    assert_eq!(plane.len(), from.0 * from.1, "plane of {from:?}");
    if from == to || plane.is_empty() {
        return plane.to_vec();
    }
    let mix = |a: f64, b: f64, weight: f64| a + (b - a) * weight;
    let columns = taps(from.1, to.1, corners);
    // [h, W]: each source row is stretched once.
    let wide: Vec<f64> = plane
        .chunks_exact(from.1)
        .flat_map(|row| columns.iter().map(|t| mix(f64::from(row[t.low]), f64::from(row[t.high]), t.weight)))
        .collect();
    let mut out = Vec::with_capacity(to.0 * to.1);
    for t in taps(from.0, to.0, corners) {
        let (low, high) = (&wide[t.low * to.1..][..to.1], &wide[t.high * to.1..][..to.1]);
        out.extend(low.iter().zip(high).map(|(&a, &b)| mix(a, b, t.weight) as f32));
    }
    out
}

/// A map over an image: finite values, row-major `[height, width]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Map {
    /// A map of the `values` of `[height, width]`.
    ///
    /// # Errors
    /// If a side is zero, if the number of values is another one, or at the first value that is not finite.
    pub fn new(height: usize, width: usize, values: Vec<f32>) -> Result<Self> {
        if height == 0 || width == 0 {
            let got = format!("[{height}, {width}]");
            return Err(Error::Shape { what: "map", expected: "sides of at least 1".into(), got });
        }
        expect("values of the map", &[height * width], &[values.len()])?;
        match values.iter().position(|v| !v.is_finite()) {
            Some(index) => Err(Error::NonFinite { what: "map", index, value: f64::from(values[index]) }),
            None => Ok(Self { height, width, values }),
        }
    }

    /// [`Map::new`] of sums made in f64.
    pub(super) fn from_sums(height: usize, width: usize, values: &[f64]) -> Result<Self> {
        Self::new(height, width, values.iter().map(|&v| v as f32).collect())
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// The values, row-major.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// The values, row-major, without a copy.
    pub fn into_values(self) -> Vec<f32> {
        self.values
    }

    /// The value in a row and a column.
    ///
    /// # Panics
    /// Outside the map.
    pub fn at(&self, row: usize, column: usize) -> f32 {
        assert!(column < self.width, "column {column} of {}", self.width);
        self.values[row * self.width + column]
    }

    /// The smallest and the largest value.
    pub fn range(&self) -> (f32, f32) {
        self.values.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
    }

    /// Column and row of the first maximum in row-major order.
    pub fn peak(&self) -> (usize, usize) {
        let best = (0..self.values.len()).fold(0, |best, i| if self.values[i] > self.values[best] { i } else { best });
        (best % self.width, best / self.width)
    }

    /// Whether all values are equal, so that the map prefers no place.
    pub fn is_constant(&self) -> bool {
        let (low, high) = self.range();
        low == high
    }

    /// The map at another size.
    ///
    /// # Errors
    /// If a side is zero.
    pub fn resized(&self, height: usize, width: usize, corners: Corners) -> Result<Self> {
        Self::new(height, width, resize_bilinear(&self.values, self.size(), (height, width), corners))
    }

    /// Negative values become zero.
    pub fn rectified(&self) -> Self {
        self.each(|v| v.max(0.0))
    }

    /// The map with the opposite sign.
    pub fn negated(&self) -> Self {
        self.each(|v| -v)
    }

    /// Mirrored left to right.
    pub fn flipped(&self) -> Self {
        let values = self.values.chunks_exact(self.width).flat_map(|row| row.iter().rev().copied()).collect();
        Self { values, ..*self }
    }

    /// Scaled to [0, 1] by minimum and maximum; a constant map becomes zeros.
    pub fn min_max(&self) -> Self {
        self.shifted(0.0)
    }

    /// For the eye, in [0, 1] at the image's size: rectified, scaled, resized, scaled again (the pipeline of
    /// pytorch-grad-cam 1.5, its 1e-7 in the denominators included). A map without a positive value, and a constant
    /// one, become zeros.
    ///
    /// # Errors
    /// If a side is zero.
    pub fn scaled(&self, height: usize, width: usize) -> Result<Self> {
        const TINY: f64 = 1e-7;
        Ok(self.rectified().shifted(TINY).resized(height, width, Corners::Half)?.shifted(TINY))
    }

    /// The semantic percent map of SnapMix (arXiv 2012.04846, eq. 1-2) at the image's size: resized, shifted to a
    /// minimum of zero, divided by its sum, so that the values of a region are its share of the meaning. A constant map
    /// becomes uniform.
    ///
    /// # Errors
    /// If a side is zero.
    pub fn percent(&self, height: usize, width: usize) -> Result<Self> {
        Ok(self.resized(height, width, Corners::Half)?.shares())
    }

    /// Shifted to a minimum of zero and divided by the sum; a constant map becomes uniform.
    pub fn shares(&self) -> Self {
        let low = f64::from(self.range().0);
        let total: f64 = self.values.iter().map(|&v| f64::from(v) - low).sum();
        if total == 0.0 {
            let even = 1.0 / self.values.len() as f64;
            return self.each(|_| even as f32);
        }
        self.each(|v| ((f64::from(v) - low) / total) as f32)
    }

    /// `(v - min) / (max - min + tiny)`, zeros for a constant map.
    fn shifted(&self, tiny: f64) -> Self {
        let (low, high) = self.range();
        let (low, span) = (f64::from(low), f64::from(high) - f64::from(low));
        if span == 0.0 { self.each(|_| 0.0) } else { self.each(|v| ((f64::from(v) - low) / (span + tiny)) as f32) }
    }

    fn each(&self, f: impl Fn(f32) -> f32) -> Self {
        Self { values: self.values.iter().map(|&v| f(v)).collect(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(height: usize, width: usize, values: &[f32]) -> Map {
        Map::new(height, width, values.to_vec()).unwrap()
    }

    #[test]
    fn half_pixel_centres_give_quarters_when_doubling() {
        let wide = resize_bilinear(&[0.0, 4.0], (1, 2), (1, 4), Corners::Half);
        assert_eq!(wide, [0.0, 1.0, 3.0, 4.0]);
        let tall = resize_bilinear(&[0.0, 4.0], (2, 1), (4, 1), Corners::Half);
        assert_eq!(tall, [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn aligned_corners_keep_the_ends() {
        assert_eq!(resize_bilinear(&[1.0, 3.0], (1, 2), (1, 5), Corners::Aligned), [1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(resize_bilinear(&[1.0, 3.0], (1, 2), (1, 1), Corners::Aligned), [1.0]);
        assert_eq!(resize_bilinear(&[2.0], (1, 1), (2, 2), Corners::Aligned), [2.0; 4]);
    }

    #[test]
    fn shrinking_samples_without_averaging() {
        // Sample 0 of 4 -> 2 lies at 0.5, sample 1 at 2.5.
        assert_eq!(resize_bilinear(&[0.0, 2.0, 10.0, 20.0], (1, 4), (1, 2), Corners::Half), [1.0, 15.0]);
    }

    #[test]
    fn shares_sum_to_one_and_are_not_rectified() {
        let shares = map(2, 2, &[-1.0, 0.0, 1.0, 2.0]).shares();
        assert_eq!(shares.values(), [0.0, 1.0 / 6.0, 2.0 / 6.0, 3.0 / 6.0]);
        let percent = map(2, 3, &[3.0, -1.0, 0.5, 0.25, 9.0, 1.0]).percent(14, 9).unwrap();
        let sum: f64 = percent.values().iter().map(|&v| f64::from(v)).sum();
        assert!((sum - 1.0).abs() < 1e-6 && percent.range().0 == 0.0);
    }

    #[test]
    fn constant_maps_become_zeros_or_uniform() {
        let flat = map(2, 2, &[7.0; 4]);
        assert_eq!(flat.min_max().values(), [0.0; 4]);
        assert_eq!(flat.scaled(3, 3).unwrap().values(), [0.0; 9]);
        assert_eq!(flat.percent(4, 4).unwrap().values(), [1.0 / 16.0; 16]);
        assert_eq!(map(1, 2, &[-3.0, -1.0]).scaled(1, 2).unwrap().values(), [0.0; 2]);
    }

    #[test]
    fn ranges_beyond_f32_stay_finite() {
        let wild = map(1, 3, &[f32::MIN, 0.0, f32::MAX]);
        assert_eq!(wild.min_max().values(), [0.0, 0.5, 1.0]);
        assert!(wild.percent(5, 5).unwrap().values().iter().all(|v| v.is_finite()));
    }

    #[test]
    fn no_map_of_nan_or_of_nothing() {
        let error = Map::new(1, 2, vec![0.0, f32::NAN]).unwrap_err();
        assert!(matches!(error, Error::NonFinite { index: 1, .. }), "{error}");
        assert!(matches!(Map::new(0, 2, vec![]), Err(Error::Shape { .. })));
        assert!(matches!(Map::new(2, 2, vec![0.0; 3]), Err(Error::Shape { .. })));
    }

    #[test]
    fn the_peak_is_the_first_maximum() {
        assert_eq!(map(2, 3, &[1.0, 2.0, 0.0, 5.0, 5.0, -1.0]).peak(), (0, 1));
    }

    #[test]
    fn flipping_mirrors_rows() {
        assert_eq!(map(2, 2, &[1.0, 2.0, 3.0, 4.0]).flipped().values(), [2.0, 1.0, 4.0, 3.0]);
    }
}
