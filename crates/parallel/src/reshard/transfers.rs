//! Which rank sends which box to which rank, by intersection of boxes.

use crate::graph::{GraphError, Layout, Placement, Region};
use serde::Serialize;
use std::collections::BTreeMap;

/// A box that one rank sends to another. Where sums are pending it is the sender's summand, to be added.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Transfer {
    /// Sending rank.
    pub from: usize,
    /// Receiving rank.
    pub to: usize,
    /// The elements, in coordinates of the whole tensor.
    pub region: Region,
}

/// All moves of a redistribution. A receiver starts from zeros and adds everything it keeps and receives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Transfers {
    /// Boxes between different ranks, by receiver.
    pub moves: Vec<Transfer>,
    /// Boxes that a rank already holds.
    pub kept: Vec<(usize, Region)>,
}

impl Transfers {
    /// Elements from each rank to each other rank, zeros left out.
    pub fn volumes(&self) -> BTreeMap<(usize, usize), u64> {
        let mut volumes = BTreeMap::new();
        for t in &self.moves {
            *volumes.entry((t.from, t.to)).or_insert(0) += t.region.elements();
        }
        volumes
    }

    /// Elements that move between ranks.
    pub fn elements(&self) -> u64 {
        self.moves.iter().map(|t| t.region.elements()).sum()
    }

    /// Elements that need not move.
    pub fn kept_elements(&self) -> u64 {
        self.kept.iter().map(|(_, region)| region.elements()).sum()
    }
}

/// A rank that holds a part of one summand.
struct Owner {
    rank: usize,
    region: Region,
}

/// The moves from `source` to `target` for a tensor of `shape`.
///
/// Every element that a target rank lacks comes once (once per summand where sums are pending) from the nearest owner:
/// itself, then its node (`devices_per_node` consecutive ranks), then other nodes; then the smallest distance of rank
/// numbers, then the smallest rank. Pending sums: see the module's text.
///
/// # Errors
/// `Placement` for a split dimension that the tensor lacks, or zero devices per node.
pub fn transfers(
    shape: &[u64],
    source: &Layout,
    target: &Layout,
    devices_per_node: usize,
) -> Result<Transfers, GraphError> {
    source.check(shape)?;
    target.check(shape)?;
    if devices_per_node == 0 {
        let (what, expected) = ("ranks on nodes".into(), "1 or more devices per node".into());
        return Err(GraphError::Placement { what, expected, got: "0".into() });
    }
    let mut owners: BTreeMap<Vec<usize>, Vec<Owner>> = BTreeMap::new();
    for (position, &rank) in source.mesh.ranks().iter().enumerate() {
        let region = source.region(shape, position);
        if !region.is_empty() {
            owners.entry(source.summand(position)).or_default().push(Owner { rank, region });
        }
    }
    let own_summand = keeps_summands(source, target);
    let mut result = Transfers::default();
    for (position, &rank) in target.mesh.ranks().iter().enumerate() {
        let region = target.region(shape, position);
        let summand = target.summand(position);
        if region.is_empty() || (!own_summand && summand.iter().any(|&c| c > 0)) {
            continue;
        }
        for (_, owners) in owners.iter().filter(|(s, _)| !own_summand || **s == summand) {
            fetch(rank, &region, owners, devices_per_node, &mut result);
        }
    }
    Ok(result)
}

/// Whether pending summands stay where they are: same mesh, same pending mesh dimensions.
fn keeps_summands(source: &Layout, target: &Layout) -> bool {
    let axes = target.partial_axes();
    !axes.is_empty() && source.mesh == target.mesh && source.partial_axes() == axes
}

/// Takes `wanted` piece by piece from the nearest owners.
fn fetch(rank: usize, wanted: &Region, owners: &[Owner], per_node: usize, result: &mut Transfers) {
    let distance = |owner: &&Owner| {
        let class = if owner.rank == rank {
            0
        } else if owner.rank / per_node == rank / per_node {
            1
        } else {
            2
        };
        (class, owner.rank.abs_diff(rank), owner.rank)
    };
    let mut near: Vec<&Owner> = owners.iter().filter(|o| o.region.intersect(wanted).is_some()).collect();
    near.sort_by_key(distance);
    let mut missing = vec![wanted.clone()];
    for owner in near {
        let mut rest = Vec::new();
        for piece in missing {
            let Some(common) = piece.intersect(&owner.region) else {
                rest.push(piece);
                continue;
            };
            rest.extend(piece.without(&common));
            if owner.rank == rank {
                result.kept.push((rank, common));
            } else {
                result.moves.push(Transfer { from: owner.rank, to: rank, region: common });
            }
        }
        missing = rest;
        if missing.is_empty() {
            break;
        }
    }
}

/// The moves of a collective along mesh dimension `axis`: each group redistributes, among itself, the box that it holds
/// together.
///
/// # Errors
/// As [`transfers`].
pub(super) fn group_transfers(
    shape: &[u64],
    from: &Layout,
    to: &Layout,
    axis: usize,
    devices_per_node: usize,
) -> Result<Transfers, GraphError> {
    let mut common = from.clone();
    common.placements[axis] = Placement::Replicate;
    let mut result = Transfers::default();
    for group in from.mesh.groups(axis) {
        let position = from.mesh.ranks().iter().position(|&r| r == group[0]).unwrap_or(0);
        let base = common.region(shape, position);
        let mesh = crate::graph::Mesh::new(&[group.len()], &group)?;
        let side = |layout: &Layout| Layout { mesh: mesh.clone(), placements: vec![layout.placements[axis]] };
        let mut part = transfers(&base.size, &side(from), &side(to), devices_per_node)?;
        for region in part.moves.iter_mut().map(|t| &mut t.region).chain(part.kept.iter_mut().map(|(_, r)| r)) {
            for (offset, start) in region.offset.iter_mut().zip(&base.offset) {
                *offset += start;
            }
        }
        result.moves.append(&mut part.moves);
        result.kept.append(&mut part.kept);
    }
    Ok(result)
}
