//! Axis-aligned boxes of a tensor's elements.

use serde::Serialize;

/// A box: offset and size per dimension. Empty when a size is zero.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Region {
    /// First element per dimension.
    pub offset: Vec<u64>,
    /// Number of elements per dimension.
    pub size: Vec<u64>,
}

impl Region {
    /// All of a tensor.
    pub fn whole(shape: &[u64]) -> Self {
        Self { offset: vec![0; shape.len()], size: shape.to_vec() }
    }

    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.size.iter().product()
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.size.contains(&0)
    }

    /// The common part, or none.
    pub fn intersect(&self, other: &Self) -> Option<Self> {
        let span = |d: usize| {
            let end = (self.offset[d] + self.size[d]).min(other.offset[d] + other.size[d]);
            (self.offset[d].max(other.offset[d]), end)
        };
        let dims = 0..self.size.len();
        if dims.clone().any(|d| span(d).0 >= span(d).1) {
            return None;
        }
        let offset = dims.clone().map(|d| span(d).0).collect();
        Some(Self { offset, size: dims.map(|d| span(d).1 - span(d).0).collect() })
    }

    /// What is left when `hole`, which lies inside, is cut out: disjoint boxes, at most two per dimension.
    pub fn without(&self, hole: &Self) -> Vec<Self> {
        let mut rest = self.clone();
        let mut pieces = Vec::new();
        for d in 0..self.size.len() {
            let (start, end) = (rest.offset[d], rest.offset[d] + rest.size[d]);
            let (hole_start, hole_end) = (hole.offset[d], hole.offset[d] + hole.size[d]);
            for (from, to) in [(start, hole_start), (hole_end, end)] {
                if from < to {
                    let mut piece = rest.clone();
                    (piece.offset[d], piece.size[d]) = (from, to - from);
                    pieces.push(piece);
                }
            }
            (rest.offset[d], rest.size[d]) = (hole_start, hole.size[d]);
        }
        pieces
    }
}
