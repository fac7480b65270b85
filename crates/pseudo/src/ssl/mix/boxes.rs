//! Boxes in an image.

/// Rows `row0..row1` and columns `col0..col1` of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rect {
    /// First row.
    pub row0: usize,
    /// First column.
    pub col0: usize,
    /// Row after the last.
    pub row1: usize,
    /// Column after the last.
    pub col1: usize,
}

/// The part of `0..n` around `centre` that has the share `share` of its length, cut off at the ends.
fn interval(n: usize, share: f64, centre: usize) -> (usize, usize) {
    let half = (n as f64 * share) as usize / 2;
    (centre.saturating_sub(half), (centre + half).min(n))
}

impl Rect {
    /// The box that leaves the share `lam` of an image of `rows` by `cols`: its sides are `sqrt(1 - lam)` of the image's,
    /// rounded down to an even number, before the part outside is cut off (CutMix, arXiv 1905.04899, eq. 2).
    pub fn around(rows: usize, cols: usize, lam: f64, centre: (usize, usize)) -> Self {
        let share = (1.0 - lam).max(0.0).sqrt();
        let (row0, row1) = interval(rows, share, centre.0);
        let (col0, col1) = interval(cols, share, centre.1);
        Self { row0, col0, row1, col1 }
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.row1.saturating_sub(self.row0)
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.col1.saturating_sub(self.col0)
    }

    /// Number of pixels.
    pub fn area(&self) -> usize {
        self.height() * self.width()
    }
}
