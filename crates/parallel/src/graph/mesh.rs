//! Process meshes and the layout of a tensor over them.

use super::GraphError;
use super::region::Region;
use serde::{Deserialize, Serialize};

/// Largest number of ranks in a mesh.
pub const MAX_RANKS: usize = 1 << 20;

/// An n-dimensional array of ranks, listed row by row, none twice.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Mesh {
    shape: Vec<usize>,
    ranks: Vec<usize>,
}

impl Mesh {
    /// A mesh of the given shape over `ranks`, row-major.
    ///
    /// # Errors
    /// No dimension, a dimension of size zero, a product other than the number of ranks, more than [`MAX_RANKS`], or a
    /// rank listed twice.
    pub fn new(shape: &[usize], ranks: &[usize]) -> Result<Self, GraphError> {
        let fail = |problem: String| GraphError::Mesh { shape: shape.to_vec(), ranks: ranks.len(), problem };
        if shape.is_empty() || shape.contains(&0) {
            return Err(fail("expected one or more dimensions of size 1 or more".into()));
        }
        let count = shape.iter().try_fold(1usize, |p, &n| p.checked_mul(n).filter(|&p| p <= MAX_RANKS));
        let Some(count) = count else { return Err(fail(format!("expected at most {MAX_RANKS} ranks"))) };
        if count != ranks.len() {
            return Err(fail(format!("expected {count} ranks")));
        }
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        if let Some(pair) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(fail(format!("rank {} is listed twice", pair[0])));
        }
        Ok(Self { shape: shape.to_vec(), ranks: ranks.to_vec() })
    }

    /// A mesh over the ranks `first..first + product(shape)`.
    ///
    /// # Errors
    /// As [`Mesh::new`].
    pub fn contiguous(shape: &[usize], first: usize) -> Result<Self, GraphError> {
        let count = shape.iter().try_fold(1usize, |p, &n| p.checked_mul(n)).unwrap_or(usize::MAX).min(MAX_RANKS + 1);
        let ranks: Vec<usize> = (0..count).map(|i| first.saturating_add(i)).collect();
        Self::new(shape, &ranks)
    }

    /// Sizes of the mesh dimensions.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Ranks, row-major.
    pub fn ranks(&self) -> &[usize] {
        &self.ranks
    }

    /// Coordinates of the rank at `position` in [`Mesh::ranks`].
    pub fn coordinates(&self, position: usize) -> Vec<usize> {
        let mut rest = position;
        let mut coordinates = vec![0; self.shape.len()];
        for (coordinate, &n) in coordinates.iter_mut().zip(&self.shape).rev() {
            *coordinate = rest % n;
            rest /= n;
        }
        coordinates
    }

    /// Groups of ranks that differ only along mesh dimension `axis`, each in order of that coordinate.
    pub fn groups(&self, axis: usize) -> Vec<Vec<usize>> {
        let stride: usize = self.shape[axis + 1..].iter().product();
        let n = self.shape[axis];
        let starts = (0..self.ranks.len()).filter(|p| (p / stride).is_multiple_of(n));
        starts.map(|p| (0..n).map(|i| self.ranks[p + i * stride]).collect()).collect()
    }
}

/// What one mesh dimension does to a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Placement {
    /// Every rank along the dimension holds the same.
    Replicate,
    /// The ranks along the dimension split this dimension of the tensor.
    Shard(usize),
    /// The ranks along the dimension hold summands of the value.
    Partial,
}

impl std::fmt::Display for Placement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Replicate => f.write_str("replicate"),
            Self::Shard(dim) => write!(f, "shard({dim})"),
            Self::Partial => f.write_str("partial(sum)"),
        }
    }
}

impl From<Placement> for String {
    fn from(placement: Placement) -> Self {
        placement.to_string()
    }
}

impl TryFrom<String> for Placement {
    type Error = GraphError;

    fn try_from(text: String) -> Result<Self, GraphError> {
        let dim = text.strip_prefix("shard(").and_then(|t| t.strip_suffix(')')).and_then(|t| t.parse().ok());
        match (text.as_str(), dim) {
            ("replicate", _) => Ok(Self::Replicate),
            ("partial(sum)" | "partial", _) => Ok(Self::Partial),
            (_, Some(dim)) => Ok(Self::Shard(dim)),
            _ => Err(GraphError::Placement {
                what: "a mesh dimension".into(),
                expected: "`replicate`, `shard(DIM)` or `partial(sum)`".into(),
                got: format!("`{text}`"),
            }),
        }
    }
}

/// For each tensor dimension the mesh dimension that splits it, if any.
pub type DimsMapping = Vec<Option<usize>>;

/// A mesh and what each of its dimensions does to a tensor.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Layout {
    /// The mesh.
    pub mesh: Mesh,
    /// One entry per mesh dimension.
    pub placements: Vec<Placement>,
}

impl Layout {
    /// A layout with one placement per mesh dimension.
    ///
    /// # Errors
    /// `Placement` when the number of placements differs from the number of mesh dimensions.
    pub fn new(mesh: Mesh, placements: Vec<Placement>) -> Result<Self, GraphError> {
        if placements.len() == mesh.shape().len() {
            return Ok(Self { mesh, placements });
        }
        Err(GraphError::Placement {
            what: format!("a tensor on a mesh of shape {:?}", mesh.shape()),
            expected: format!("{} placements", mesh.shape().len()),
            got: placements.len().to_string(),
        })
    }

    /// The layout in which mapping entry i splits tensor dimension i, with sums pending over `partial`.
    pub fn from_mapping(mesh: &Mesh, mapping: &[Option<usize>], partial: &[usize]) -> Self {
        let axes = 0..mesh.shape().len();
        let placements = axes.map(|axis| match mapping.iter().position(|&m| m == Some(axis)) {
            Some(dim) => Placement::Shard(dim),
            None if partial.contains(&axis) => Placement::Partial,
            None => Placement::Replicate,
        });
        Self { placements: placements.collect(), mesh: mesh.clone() }
    }

    /// Checks that every split dimension exists in a tensor of this shape.
    ///
    /// # Errors
    /// `Placement` naming the mesh dimension; `Size` for more than 2^53 elements.
    pub fn check(&self, shape: &[u64]) -> Result<(), GraphError> {
        let elements = shape.iter().try_fold(1u64, |p, &n| p.checked_mul(n)).filter(|&p| p <= 1 << 53);
        if elements.is_none() {
            let problem = "expected at most 2^53 elements";
            return Err(GraphError::Size { tensor: "(to be placed)".into(), shape: shape.to_vec(), problem });
        }
        for (axis, placement) in self.placements.iter().enumerate() {
            if let Placement::Shard(dim) = *placement
                && dim >= shape.len()
            {
                return Err(GraphError::Placement {
                    what: format!("a tensor of shape {shape:?} on mesh dimension {axis}"),
                    expected: format!("a dimension below {}", shape.len()),
                    got: dim.to_string(),
                });
            }
        }
        Ok(())
    }

    /// The part of a tensor that the rank at `position` holds. Mesh dimensions apply left to right; each splits what is
    /// left of a dimension of n into pieces of ceil(n / k), so later pieces may be shorter or empty.
    pub fn region(&self, shape: &[u64], position: usize) -> Region {
        let mut region = Region::whole(shape);
        let coordinates = self.mesh.coordinates(position);
        for ((placement, &i), &k) in self.placements.iter().zip(&coordinates).zip(self.mesh.shape()) {
            if let Placement::Shard(dim) = *placement {
                let (n, i) = (region.size[dim], i as u64);
                let piece = n.div_ceil(k as u64);
                let start = (i * piece).min(n);
                region.offset[dim] += start;
                region.size[dim] = ((i + 1) * piece).min(n) - start;
            }
        }
        region
    }

    /// Mesh dimensions over which a sum is pending.
    pub fn partial_axes(&self) -> Vec<usize> {
        (0..self.placements.len()).filter(|&axis| self.placements[axis] == Placement::Partial).collect()
    }

    /// Coordinates of the rank at `position` along the pending mesh dimensions: which summand it holds.
    pub fn summand(&self, position: usize) -> Vec<usize> {
        let coordinates = self.mesh.coordinates(position);
        self.partial_axes().into_iter().map(|axis| coordinates[axis]).collect()
    }
}
