//! The cheapest sequence of collectives and messages between two layouts.

use super::ReshardError;
use super::links::Links;
use super::transfers::{Transfers, group_transfers, transfers};
use crate::graph::{Layout, Placement};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// How a step moves data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Method {
    /// Every rank already has what it needs and takes its part.
    Local,
    /// Groups along the mesh dimension put their pieces together.
    AllGather(usize),
    /// Groups add their summands and each rank keeps a piece.
    ReduceScatter(usize),
    /// Groups add their summands and each rank keeps all.
    AllReduce(usize),
    /// Groups exchange pieces: split another tensor dimension.
    AllToAll(usize),
    /// Messages between single ranks.
    PointToPoint,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::AllGather(axis) => write!(f, "all-gather along mesh dimension {axis}"),
            Self::ReduceScatter(axis) => write!(f, "reduce-scatter along mesh dimension {axis}"),
            Self::AllReduce(axis) => write!(f, "all-reduce along mesh dimension {axis}"),
            Self::AllToAll(axis) => write!(f, "all-to-all along mesh dimension {axis}"),
            Self::PointToPoint => f.write_str("point to point"),
        }
    }
}

/// One step of a redistribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// How it moves data.
    pub method: Method,
    /// Layout before.
    pub from: Layout,
    /// Layout after.
    pub to: Layout,
    /// Predicted time, seconds.
    pub seconds: f64,
}

impl Step {
    /// The moves that this step amounts to, collectives resolved into messages within their groups.
    ///
    /// # Errors
    /// As [`transfers`].
    pub fn transfers(&self, shape: &[u64], devices_per_node: usize) -> Result<Transfers, ReshardError> {
        let axis = (0..self.from.placements.len())
            .find(|&axis| self.from.placements.get(axis) != self.to.placements.get(axis))
            .filter(|_| self.from.mesh == self.to.mesh && self.method != Method::PointToPoint);
        Ok(match axis {
            Some(axis) => group_transfers(shape, &self.from, &self.to, axis, devices_per_node)?,
            None => transfers(shape, &self.from, &self.to, devices_per_node)?,
        })
    }
}

/// The chosen steps, and what messages alone would have cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// In order; empty when the layouts are equal.
    pub steps: Vec<Step>,
    /// Predicted time of all steps, seconds.
    pub seconds: f64,
    /// Predicted time of point-to-point messages from source to target at once, seconds.
    pub direct_seconds: f64,
}

/// A layout that the search has reached: which mesh (0 source, 1 target), and the placements on it.
type State = (u8, Vec<Placement>);

/// The cheapest way from `source` to `target` for a tensor of `shape` with `item_bytes` per element: a shortest path
/// over layouts, whose edges are collectives along one mesh dimension and point-to-point messages.
///
/// # Errors
/// `Layout` for layouts that do not fit the tensor, `Links` for constants that are not positive.
pub fn route(
    shape: &[u64],
    item_bytes: f64,
    source: &Layout,
    target: &Layout,
    links: &Links,
) -> Result<Route, ReshardError> {
    links.validate().map_err(|field| ReshardError::Links { field })?;
    if !(item_bytes.is_finite() && item_bytes > 0.0) {
        return Err(ReshardError::Links { field: "item_bytes" });
    }
    let direct = transfers(shape, source, target, links.devices_per_node)?;
    let direct_seconds = links.message_seconds(&direct, item_bytes);
    let search = Search::new(shape, item_bytes, source, target, links);
    let steps = search.run(direct_seconds)?;
    Ok(Route { seconds: steps.iter().map(|s| s.seconds).sum(), steps, direct_seconds })
}

struct Search<'a> {
    shape: &'a [u64],
    item_bytes: f64,
    source: &'a Layout,
    target: &'a Layout,
    links: &'a Links,
    same_mesh: bool,
    /// Placements that occur in source or target, and replication.
    palette: BTreeSet<Placement>,
}

impl<'a> Search<'a> {
    fn new(shape: &'a [u64], item_bytes: f64, source: &'a Layout, target: &'a Layout, links: &'a Links) -> Self {
        let mut palette: BTreeSet<Placement> = source.placements.iter().chain(&target.placements).copied().collect();
        palette.insert(Placement::Replicate);
        palette.extend((0..shape.len()).max_by_key(|&d| shape[d]).map(Placement::Shard));
        Self { shape, item_bytes, source, target, links, same_mesh: source.mesh == target.mesh, palette }
    }

    /// Shortest path, nearest unsettled state first; ties go to the smaller state, so the result is deterministic.
    fn run(&self, direct_seconds: f64) -> Result<Vec<Step>, ReshardError> {
        let start: State = (0, self.source.placements.clone());
        let goal: State = (u8::from(!self.same_mesh), self.target.placements.clone());
        let mut open: BTreeMap<State, f64> = BTreeMap::from([(start.clone(), 0.0)]);
        let mut settled: BTreeSet<State> = BTreeSet::new();
        let mut came: BTreeMap<State, (State, Step)> = BTreeMap::new();
        while let Some(state) = nearest(&open) {
            let cost = open.remove(&state).unwrap_or(0.0);
            if state == goal {
                break;
            }
            settled.insert(state.clone());
            for (next, step) in self.edges(&state, &start, &goal, direct_seconds)? {
                let total = cost + step.seconds;
                if !settled.contains(&next) && open.get(&next).is_none_or(|&old| total < old) {
                    open.insert(next.clone(), total);
                    came.insert(next, (state.clone(), step));
                }
            }
        }
        let mut steps = Vec::new();
        let mut at = goal;
        while at != start {
            let Some((before, step)) = came.remove(&at) else { break };
            steps.push(step);
            at = before;
        }
        steps.reverse();
        Ok(steps)
    }

    fn layout(&self, state: &State) -> Layout {
        let mesh = if state.0 == 0 { &self.source.mesh } else { &self.target.mesh };
        Layout { mesh: mesh.clone(), placements: state.1.clone() }
    }

    fn edges(
        &self,
        state: &State,
        start: &State,
        goal: &State,
        direct_seconds: f64,
    ) -> Result<Vec<(State, Step)>, ReshardError> {
        let mut edges = Vec::new();
        for axis in 0..state.1.len() {
            for &to in self.palette.iter().filter(|&&to| to != state.1[axis] && self.single(state, axis, to)) {
                let mut placements = state.1.clone();
                placements[axis] = to;
                let next = (state.0, placements);
                let step = self.collective(state, &next, axis)?;
                edges.extend(step.map(|step| (next, step)));
            }
        }
        if state == start {
            let step = self.step(Method::PointToPoint, state, goal, direct_seconds);
            edges.push((goal.clone(), step));
        }
        if state.0 != goal.0 && self.resolved(state, start) {
            for entry in self.entries(goal) {
                let messages =
                    transfers(self.shape, &self.layout(state), &self.layout(&entry), self.links.devices_per_node)?;
                let seconds = self.links.message_seconds(&messages, self.item_bytes);
                let step = self.step(Method::PointToPoint, state, &entry, seconds);
                edges.push((entry, step));
            }
        }
        Ok(edges)
    }

    /// Whether a change on `axis` alone concerns only the groups along it: no later mesh dimension splits the same
    /// tensor dimension, before or after.
    fn single(&self, state: &State, axis: usize, to: Placement) -> bool {
        let later = &state.1[axis + 1..];
        [state.1[axis], to].iter().all(|p| !matches!(p, Placement::Shard(_)) || !later.contains(p))
    }

    /// States of the source mesh from which it is worth crossing: the source itself, or it with its sums resolved.
    fn resolved(&self, state: &State, start: &State) -> bool {
        state == start || start.1.iter().zip(&state.1).all(|(s, p)| (s == p) != (*s == Placement::Partial))
    }

    /// Layouts of the target mesh in which messages may arrive: the target itself, or one of its replicated mesh
    /// dimensions split, to be gathered there.
    fn entries(&self, goal: &State) -> Vec<State> {
        let mut entries = vec![goal.clone()];
        for axis in (0..goal.1.len()).filter(|&axis| goal.1[axis] == Placement::Replicate) {
            for &split in self.palette.iter().filter(|p| matches!(p, Placement::Shard(_))) {
                if self.single(goal, axis, split) {
                    let mut placements = goal.1.clone();
                    placements[axis] = split;
                    entries.push((goal.0, placements));
                }
            }
        }
        entries
    }

    fn step(&self, method: Method, from: &State, to: &State, seconds: f64) -> Step {
        Step { method, from: self.layout(from), to: self.layout(to), seconds }
    }

    /// The collective that changes `axis`, if there is one.
    fn collective(&self, from: &State, to: &State, axis: usize) -> Result<Option<Step>, ReshardError> {
        use Placement::{Partial, Replicate, Shard};
        let method = match (from.1[axis], to.1[axis]) {
            (Shard(_), Replicate) => Method::AllGather(axis),
            (Shard(_), Shard(_)) => Method::AllToAll(axis),
            (Partial, Replicate) => Method::AllReduce(axis),
            (Partial, Shard(_)) => Method::ReduceScatter(axis),
            (Replicate, Shard(_) | Partial) => Method::Local,
            _ => return Ok(None),
        };
        let mut step = self.step(method, from, to, 0.0);
        let groups = step.from.mesh.groups(axis);
        let seconds = match method {
            Method::AllGather(_) => self.links.gather_seconds(&groups, self.group_bytes(&step.from, axis)),
            Method::ReduceScatter(_) => self.links.gather_seconds(&groups, self.group_bytes(&step.to, axis)),
            Method::AllReduce(_) => self.links.reduce_seconds(&groups, self.group_bytes(&step.to, axis)),
            Method::AllToAll(_) => {
                let moves = step.transfers(self.shape, self.links.devices_per_node)?;
                self.links.message_seconds(&moves, self.item_bytes)
            }
            Method::Local | Method::PointToPoint => 0.0,
        };
        step.seconds = seconds;
        Ok(Some(step))
    }

    /// Bytes of the tensor that one group along `axis` holds together, pieces padded to the largest. The first rank of
    /// a mesh has the largest piece of everything.
    fn group_bytes(&self, layout: &Layout, axis: usize) -> f64 {
        let pieces = match layout.placements[axis] {
            Placement::Shard(_) => layout.mesh.shape()[axis] as f64,
            _ => 1.0,
        };
        layout.region(self.shape, 0).elements() as f64 * pieces * self.item_bytes
    }
}

/// The state with the least cost.
fn nearest(open: &BTreeMap<State, f64>) -> Option<State> {
    open.iter().min_by(|a, b| a.1.total_cmp(b.1).then_with(|| a.0.cmp(b.0))).map(|(state, _)| state.clone())
}
