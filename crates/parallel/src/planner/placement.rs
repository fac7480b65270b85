//! Which rank runs on which device.
//!
//! Ranks are numbered tensor-fastest, then context, data, pipeline. Their traffic is a graph: the tensor group as a clique,
//! data groups as rings, pipeline neighbours as edges, each with its bytes per step. Devices form a hierarchy of domains,
//! machines and switches. Ranks are placed by recursive bisection with greedy growth, then by exchanges that help; the result
//! is never worse than rank order. The lower bound gives every rank its heaviest edges on the cheapest links a device has.

use serde::Serialize;
use std::collections::BinaryHeap;

use crate::cluster::Cluster;
use crate::cost::{Plan, Recompute};
use crate::memory::stage_weights;
use crate::model::Transformer;

/// A placement and how good it is. Costs are seconds of link time summed over all edges, not a step time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Placement {
    /// Device of each rank.
    pub device_of_rank: Vec<u32>,
    /// Link seconds per step.
    pub cost_s: f64,
    /// Link seconds per step with rank r on device r.
    pub rank_order_s: f64,
    /// No placement costs less.
    pub bound_s: f64,
}

impl Placement {
    /// How far the placement may be from the best one, as a share of it.
    pub fn gap(&self) -> f64 {
        if self.bound_s > 0.0 { self.cost_s / self.bound_s - 1.0 } else { 0.0 }
    }
}

/// An undirected graph of traffic: for each rank its neighbours and bytes per step.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    edges: Vec<Vec<(u32, f64)>>,
    grid: Option<Grid>,
}

/// The traffic of a plan is a grid: cliques of `clique` ranks, crossed by rings and paths. Bytes of one edge of each kind.
#[derive(Clone, Copy, Debug)]
struct Grid {
    clique: usize,
    pair: f64,
    ring: f64,
    path: f64,
}

impl Grid {
    /// Most bytes per rank inside a set of at most `size` ranks. A set with q ranks of one clique has q of every ring and
    /// path it touches at least, so `size` ranks join over at most `size - q` ring edges and as many path edges, and over
    /// at most `size (q-1)/2` clique edges.
    fn inside(&self, size: usize) -> f64 {
        let of = |d: usize, q: usize| {
            let (d, q) = (d as f64, q as f64);
            ((q - 1.0) / 2.0 * d * self.pair + (d - q) * (self.ring + self.path)) / d
        };
        let sets = (1..=size.min(4096)).flat_map(|d| (1..=self.clique.min(d)).map(move |q| (d, q)));
        sets.map(|(d, q)| of(d, q)).fold(0.0, f64::max)
    }
}

impl Traffic {
    /// No traffic among `ranks` ranks.
    pub fn new(ranks: usize) -> Self {
        Self { edges: vec![Vec::new(); ranks], grid: None }
    }

    /// Adds `bytes` between `a` and `b`.
    pub fn add(&mut self, a: usize, b: usize, bytes: f64) {
        if a != b && bytes > 0.0 {
            self.edges[a].push((b as u32, bytes));
            self.edges[b].push((a as u32, bytes));
        }
    }

    /// Traffic of one step of `model` under `plan`.
    pub fn of(model: &Transformer, plan: &Plan, cut: &[u32]) -> Self {
        let (t, c, d, p) = (plan.tensor as usize, plan.context as usize, plan.data as usize, plan.pipeline as usize);
        let replicas = c * d;
        let mut traffic = Self::new(t * replicas * p);
        let tokens = f64::from(plan.micro_batch) * model.sequence as f64 / f64::from(plan.context);
        let m = f64::from(plan.micro_batches());
        let stream = plan.word() * tokens * model.hidden as f64 * m;
        let ways = if plan.recompute == Recompute::Full { 6.0 } else { 4.0 };
        let layers = model.layers as f64 / p as f64;
        let pair = 2.0 * ways * layers * stream / t as f64;
        let gradients = stage_weights(model, plan, cut).first().map_or(0.0, |w| 2.0 * plan.word() * w.dense);
        let hop = 2.0 * stream * f64::from(plan.chunks) / t as f64;
        for rank in 0..t * replicas * p {
            let (ti, ri, s) = (rank % t, rank / t % replicas, rank / t / replicas);
            for other in ti + 1..t {
                traffic.add(rank, rank - ti + other, pair);
            }
            if replicas > 1 && (ri + 1 < replicas || replicas > 2) {
                let next = (ri + 1) % replicas;
                traffic.add(rank, (s * replicas + next) * t + ti, gradients);
            }
            if s + 1 < p {
                traffic.add(rank, rank + t * replicas, hop);
            }
        }
        traffic.grid = Some(Grid { clique: t, pair, ring: gradients, path: hop });
        traffic
    }
}

/// Where devices stand, and seconds per byte between those that share a domain, a machine, a switch, or nothing.
struct Sites {
    /// (switch, machine, domain) of each device.
    at: Vec<(u32, u32, u32)>,
    seconds: [f64; 4],
}

impl Sites {
    fn new(cluster: &Cluster) -> Self {
        let mut at = Vec::with_capacity(cluster.device_count());
        let (mut machine, mut domains) = (0u32, 0u32);
        let mut slowest = [0.0f64; 4];
        for group in &cluster.machines {
            let switch = group.switch.as_ref().and_then(|s| cluster.switches.iter().position(|k| &k.name == s));
            let domain = group.domain.unwrap_or(group.devices).max(1);
            for _ in 0..group.count {
                for local in 0..group.devices {
                    at.push((switch.map_or(0, |s| s as u32 + 1), machine, domains + local / domain));
                }
                machine += 1;
                domains += group.devices.div_ceil(domain);
            }
            let per_byte = |name: &Option<String>, share: f64| {
                let link = name.as_deref().and_then(|n| cluster.link(n));
                link.map_or(0.0, |l| 1.0 / (l.wire(1e6).bytes_s * share))
            };
            let share = f64::from(group.nics.max(1)) / f64::from(group.devices.max(1));
            let net = per_byte(&group.nic, share);
            let up = switch.map_or(0.0, |s| {
                let below = f64::from(group.count) * f64::from(group.devices);
                per_byte(&cluster.switches[s].link, 1.0 / below)
            });
            let levels = [per_byte(&group.intra, 1.0), per_byte(&group.bridge, 1.0), net, net.max(up)];
            slowest.iter_mut().zip(levels).for_each(|(s, l)| *s = s.max(l));
        }
        for level in 1..4 {
            slowest[level] = slowest[level].max(slowest[level - 1]);
        }
        Self { at, seconds: slowest }
    }

    fn level(&self, a: usize, b: usize) -> usize {
        let (x, y) = (self.at[a], self.at[b]);
        match () {
            () if x.2 == y.2 => 0,
            () if x.1 == y.1 => 1,
            () if x.0 == y.0 => 2,
            () => 3,
        }
    }

    /// Most devices that share a domain, a machine, a switch with some device.
    fn sizes(&self) -> [usize; 3] {
        let largest = |key: fn(&(u32, u32, u32)) -> u32| {
            let mut counts = std::collections::BTreeMap::new();
            self.at.iter().for_each(|a| *counts.entry(key(a)).or_insert(0usize) += 1);
            counts.values().copied().max().unwrap_or(0)
        };
        [largest(|a| a.2), largest(|a| a.1), largest(|a| a.0)]
    }
}

/// Places the ranks of `traffic` on the first devices of `cluster`.
pub fn place(cluster: &Cluster, traffic: &Traffic) -> Placement {
    let sites = Sites::new(cluster);
    let n = traffic.edges.len().min(sites.at.len());
    let order: Vec<u32> = (0..n as u32).collect();
    let mut devices: Vec<u32> = order.clone();
    devices.sort_by_key(|&d| (sites.at[d as usize], d));
    let mut found = vec![0u32; n];
    bisect(traffic, &sites, &order, &devices, &mut found);
    exchange(traffic, &sites, &mut found);
    let (cost, rank_order) = (cost(traffic, &sites, &found), cost(traffic, &sites, &order));
    let (device_of_rank, cost_s) = if cost < rank_order { (found, cost) } else { (order, rank_order) };
    Placement { device_of_rank, cost_s, rank_order_s: rank_order, bound_s: lower_bound(traffic, &sites) }
}

fn cost(traffic: &Traffic, sites: &Sites, device: &[u32]) -> f64 {
    let of = |r: usize| rank_cost(traffic, sites, device, r);
    (0..device.len()).map(of).sum::<f64>() / 2.0
}

fn rank_cost(traffic: &Traffic, sites: &Sites, device: &[u32], rank: usize) -> f64 {
    let here = device[rank] as usize;
    traffic.edges[rank].iter().map(|&(o, w)| w * sites.seconds[sites.level(here, device[o as usize] as usize)]).sum()
}

/// Each rank's heaviest edges on the cheapest links: at most domain - 1 inside a domain, and so on.
fn lower_bound(traffic: &Traffic, sites: &Sites) -> f64 {
    let [domain, machine, switch] = sites.sizes();
    let of = |edges: &Vec<(u32, f64)>| {
        let mut weights: Vec<f64> = edges.iter().map(|e| e.1).collect();
        weights.sort_by(|a, b| b.total_cmp(a));
        let level = |at: usize| match at + 1 {
            k if k < domain => 0,
            k if k < machine => 1,
            k if k < switch => 2,
            _ => 3,
        };
        weights.iter().enumerate().map(|(k, w)| w * sites.seconds[level(k)]).sum::<f64>()
    };
    let by_rank = traffic.edges.iter().map(of).sum::<f64>() / 2.0;
    by_rank.max(traffic.grid.map_or(0.0, |grid| grid_bound(traffic, &grid, sites)))
}

/// All bytes, as many of them on the cheap links as domains, machines and switches of their sizes can hold. A ring of two
/// ranks is one edge of a kind of its own and stays within the same count.
fn grid_bound(traffic: &Traffic, grid: &Grid, sites: &Sites) -> f64 {
    let all = traffic.edges.iter().flatten().map(|e| e.1).sum::<f64>() / 2.0;
    let ranks = traffic.edges.len() as f64;
    let (mut held, mut bound) = (0.0f64, 0.0);
    for (level, size) in sites.sizes().into_iter().enumerate() {
        let inside =
            if size >= traffic.edges.len() { all } else { (ranks * grid.inside(size)).clamp(held, all.max(held)) };
        bound += (inside - held) * sites.seconds[level];
        held = inside;
    }
    bound + (all - held).max(0.0) * sites.seconds[3]
}

/// Splits the devices at the boundary of machines (or domains) next to the middle and the ranks with as little traffic as
/// greedy growth finds between the halves.
fn bisect(traffic: &Traffic, sites: &Sites, ranks: &[u32], devices: &[u32], found: &mut [u32]) {
    let Some(at) = boundary(sites, devices) else {
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        sorted.iter().zip(devices).for_each(|(&r, &d)| found[r as usize] = d);
        return;
    };
    let near = grow(traffic, ranks, at);
    let inside: std::collections::BTreeSet<u32> = near.iter().copied().collect();
    let far: Vec<u32> = ranks.iter().copied().filter(|r| !inside.contains(r)).collect();
    bisect(traffic, sites, &near, &devices[..at], found);
    bisect(traffic, sites, &far, &devices[at..], found);
}

/// The boundary of the coarsest level nearest to the middle; `None` inside one domain.
fn boundary(sites: &Sites, devices: &[u32]) -> Option<usize> {
    let cut = |level: usize| {
        let differs = |i: &usize| sites.level(devices[i - 1] as usize, devices[*i] as usize) >= level;
        (1..devices.len()).filter(differs).min_by_key(|i| i.abs_diff(devices.len() / 2))
    };
    cut(3).or_else(|| cut(2)).or_else(|| cut(1))
}

/// `size` of the ranks, grown from the lowest by strongest attachment.
fn grow(traffic: &Traffic, ranks: &[u32], size: usize) -> Vec<u32> {
    let mut open: std::collections::BTreeSet<u32> = ranks.iter().copied().collect();
    let mut pull = vec![0.0f64; traffic.edges.len()];
    let mut heap: BinaryHeap<(u64, std::cmp::Reverse<u32>)> = BinaryHeap::new();
    let mut taken = Vec::with_capacity(size);
    while taken.len() < size {
        let next = loop {
            match heap.pop() {
                Some((strength, std::cmp::Reverse(r)))
                    if open.contains(&r) && strength == pull[r as usize].to_bits() =>
                {
                    break Some(r);
                }
                Some(_) => {}
                None => break open.first().copied(),
            }
        };
        let Some(rank) = next else { break };
        open.remove(&rank);
        taken.push(rank);
        for &(other, weight) in &traffic.edges[rank as usize] {
            if open.contains(&other) {
                pull[other as usize] += weight;
                // Positive floats order as their bits do.
                heap.push((pull[other as usize].to_bits(), std::cmp::Reverse(other)));
            }
        }
    }
    taken
}

/// Passes over all ranks at most.
const PASSES: usize = 3;

/// Swaps a rank with one beside its heaviest far neighbour while that helps.
fn exchange(traffic: &Traffic, sites: &Sites, device: &mut [u32]) {
    let mut rank_at: std::collections::BTreeMap<u32, usize> = device.iter().enumerate().map(|(r, &d)| (d, r)).collect();
    let mut domain: std::collections::BTreeMap<u32, Vec<u32>> = std::collections::BTreeMap::new();
    rank_at.keys().for_each(|&d| domain.entry(sites.at[d as usize].2).or_default().push(d));
    for _ in 0..PASSES {
        let mut helped = false;
        for rank in 0..device.len() {
            let far = |e: &&(u32, f64)| sites.level(device[rank] as usize, device[e.0 as usize] as usize) > 0;
            let heaviest = traffic.edges[rank].iter().filter(far).max_by(|a, b| a.1.total_cmp(&b.1));
            let Some(&(other, _)) = heaviest else { continue };
            let there = domain[&sites.at[device[other as usize] as usize].2].clone();
            for target in there {
                let partner = rank_at[&target];
                if swap_helps(traffic, sites, device, rank, partner) {
                    device.swap(rank, partner);
                    rank_at.insert(device[rank], rank);
                    rank_at.insert(device[partner], partner);
                    helped = true;
                    break;
                }
            }
        }
        if !helped {
            return;
        }
    }
}

fn swap_helps(traffic: &Traffic, sites: &Sites, device: &mut [u32], a: usize, b: usize) -> bool {
    let both = |device: &[u32]| rank_cost(traffic, sites, device, a) + rank_cost(traffic, sites, device, b);
    let before = both(device);
    device.swap(a, b);
    let after = both(device);
    device.swap(a, b);
    after < before * (1.0 - 1e-12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_groups_stay_inside_machines_even_when_ranks_are_shuffled() {
        let cluster = Cluster::preset("a100-32").expect("preset");
        let mut traffic = Traffic::new(32);
        for group in 0..4usize {
            for i in 0..8usize {
                for j in i + 1..8 {
                    traffic.add(i * 4 + group, j * 4 + group, 1e9);
                }
            }
        }
        let placement = place(&cluster, &traffic);
        assert!(placement.cost_s < placement.rank_order_s / 5.0, "{placement:?}");
        assert!(placement.gap().abs() < 1e-9, "{}", placement.gap());
        let mut devices = placement.device_of_rank.clone();
        devices.sort_unstable();
        assert_eq!(devices, (0..32).collect::<Vec<u32>>());
    }

    #[test]
    fn placement_is_never_worse_than_rank_order_nor_better_than_the_bound() {
        let cluster = Cluster::preset("ascend910-64").expect("preset");
        let mut traffic = Traffic::new(64);
        for a in 0..64usize {
            for k in [7usize, 19, 33] {
                traffic.add(a, (a * k + 5) % 64, (1 + a % 5) as f64 * 1e8);
            }
        }
        let placement = place(&cluster, &traffic);
        assert!(placement.bound_s <= placement.cost_s && placement.cost_s <= placement.rank_order_s, "{placement:?}");
    }
}
