//! Images with channels side by side, for operations that work on all channels of a place at once.

use super::multiply::transpose;
use std::ops::Range;

/// Channels that are turned to planes together.
pub(super) const PLANES: usize = 16;

/// Rows of places in one image, and the number of places before them in the batch.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    pub image: usize,
    pub rows: Range<usize>,
    pub first: usize,
}

impl Strip {
    /// `b` images of `rows` rows of `wide` places in strips of at most `most` places (but at least a row), cut evenly.
    pub fn cut(b: usize, rows: usize, wide: usize, most: usize) -> Vec<Self> {
        let parts = rows.div_ceil((most / wide).clamp(1, rows));
        let strip = |at: usize| {
            let (image, part) = (at / parts, at % parts);
            let own = part * rows / parts..(part + 1) * rows / parts;
            Self { image, first: (image * rows + own.start) * wide, rows: own }
        };
        (0..b * parts).map(strip).collect()
    }
}

/// Images [b, c, h, w].
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub data: &'a [f32],
    pub c: usize,
    pub h: usize,
    pub w: usize,
}

impl Images<'_> {
    /// Pixels of `image` from row `y` and column `x` on, zeros outside, channels side by side: [rows, wide, c].
    pub fn fill(&self, image: usize, (y, x): (isize, isize), wide: usize, to: &mut [f32]) {
        let &Self { data, c, h, w } = self;
        let first = usize::try_from(-x).unwrap_or(0).min(wide);
        let from = usize::try_from(x).unwrap_or(0);
        let n = w.saturating_sub(from).min(wide - first);
        for (r, to) in to.chunks_exact_mut(wide * c).enumerate() {
            let row = y + r as isize;
            if row < 0 || row >= h as isize || n == 0 {
                to.fill(0.0);
                continue;
            }
            to[..first * c].fill(0.0);
            to[(first + n) * c..].fill(0.0);
            let at = (image * c * h + row as usize) * w + from;
            transpose(&data[at..], h * w, c, n, &mut to[first * c..], c);
        }
    }
}
