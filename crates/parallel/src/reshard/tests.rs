use super::*;
use crate::graph::{Layout, Mesh, Placement, Region};
use Placement::{Partial, Replicate, Shard};
use proptest::prelude::*;
use std::collections::HashMap;

/// A rank's memory: the box it holds and the values in it, row by row.
type Memory = HashMap<usize, (Region, Vec<i64>)>;

fn index(region: &Region, at: &[u64]) -> usize {
    let place = region.offset.iter().zip(&region.size).zip(at);
    place.fold(0, |i, ((&offset, &size), &x)| i * size + (x - offset)) as usize
}

fn points(region: &Region) -> Vec<Vec<u64>> {
    let mut all = vec![vec![]];
    for (&offset, &size) in region.offset.iter().zip(&region.size) {
        all =
            all.into_iter().flat_map(|p| (offset..offset + size).map(move |x| [p.clone(), vec![x]].concat())).collect();
    }
    all
}

/// Value of an element of the whole tensor; distinct for every element.
fn value(shape: &[u64], at: &[u64]) -> i64 {
    1000 + index(&Region::whole(shape), at) as i64
}

/// What every rank holds under a layout. Pending sums: summand c > 0 is a pattern of its own, summand 0 the rest.
fn scatter(shape: &[u64], layout: &Layout) -> Memory {
    let axes = layout.partial_axes();
    let summands: usize = axes.iter().map(|&axis| layout.mesh.shape()[axis]).product();
    let part = |summand: usize, at: &[u64]| {
        let noise = |s: usize| (s as i64) * 7 + value(shape, at) % (s as i64 + 3);
        if summand > 0 { noise(summand) } else { value(shape, at) - (1..summands).map(noise).sum::<i64>() }
    };
    let place = |position: usize| {
        let region = layout.region(shape, position);
        let number =
            (layout.summand(position).iter().zip(&axes)).fold(0, |n, (&c, &axis)| n * layout.mesh.shape()[axis] + c);
        let values = points(&region).iter().map(|at| part(number, at)).collect();
        (layout.mesh.ranks()[position], (region, values))
    };
    (0..layout.mesh.ranks().len()).map(place).collect()
}

fn run(shape: &[u64], before: &Memory, to: &Layout, moves: &Transfers) -> Memory {
    let mut after: Memory = HashMap::new();
    for (position, &rank) in to.mesh.ranks().iter().enumerate() {
        let region = to.region(shape, position);
        after.insert(rank, (region.clone(), vec![0; region.elements() as usize]));
    }
    let kept = moves.kept.iter().map(|(rank, region)| (*rank, *rank, region));
    for (from, to, region) in moves.moves.iter().map(|t| (t.from, t.to, &t.region)).chain(kept) {
        let (held, values) = &before[&from];
        let (wanted, result) = after.get_mut(&to).unwrap();
        for at in points(region) {
            result[index(wanted, &at)] += values[index(held, &at)];
        }
    }
    after
}

/// Checks that the ranks hold the whole tensor under `layout`: every box right, pending summands adding up.
fn check(shape: &[u64], layout: &Layout, memory: &Memory) {
    let mut sums: HashMap<(Vec<usize>, Vec<u64>), i64> = HashMap::new();
    for (position, &rank) in layout.mesh.ranks().iter().enumerate() {
        let region = layout.region(shape, position);
        let (held, values) = &memory[&rank];
        assert_eq!(*held, region);
        let mut copy = layout.mesh.coordinates(position);
        layout.partial_axes().iter().for_each(|&axis| copy[axis] = 0);
        for at in points(&region) {
            *sums.entry((copy.clone(), at.clone())).or_insert(0) += values[index(&region, &at)];
        }
    }
    for ((copy, at), sum) in sums {
        assert_eq!(sum, value(shape, &at), "copy {copy:?}, element {at:?} of {layout:?}");
    }
}

fn layout(shape: &[usize], ranks: &[usize], placements: &[Placement]) -> Layout {
    Layout::new(Mesh::new(shape, ranks).unwrap(), placements.to_vec()).unwrap()
}

fn best(shape: &[u64], from: &Layout, to: &Layout) -> Route {
    route(shape, 2.0, from, to, &Links::a100()).unwrap()
}

fn methods(route: &Route) -> Vec<Method> {
    route.steps.iter().map(|s| s.method).collect()
}

#[test]
fn each_pattern_takes_its_collective() {
    let shape = [1 << 14, 1 << 14];
    let ranks: Vec<usize> = (0..8).collect();
    for (from, to, method) in [
        (Shard(0), Replicate, Method::AllGather(0)),
        (Partial, Replicate, Method::AllReduce(0)),
        (Partial, Shard(1), Method::ReduceScatter(0)),
        (Shard(0), Shard(1), Method::AllToAll(0)),
        (Replicate, Shard(1), Method::Local),
        (Replicate, Partial, Method::Local),
    ] {
        let route = best(&shape, &layout(&[8], &ranks, &[from]), &layout(&[8], &ranks, &[to]));
        assert_eq!(methods(&route), [method], "{from} -> {to}");
        assert!(route.seconds <= route.direct_seconds, "{from} -> {to}");
    }
}

#[test]
fn equal_layouts_take_no_step() {
    let a = layout(&[2, 2], &[0, 1, 2, 3], &[Shard(0), Partial]);
    let route = best(&[6, 5], &a, &a);
    assert!(route.steps.is_empty() && route.seconds == 0.0);
}

#[test]
fn an_overlapping_group_is_served_point_to_point() {
    let from = layout(&[4], &[0, 1, 2, 3], &[Shard(0)]);
    let to = layout(&[4], &[2, 3, 4, 5], &[Shard(0)]);
    let route = best(&[64, 64], &from, &to);
    assert_eq!(methods(&route), [Method::PointToPoint]);
}

#[test]
fn a_replicated_target_on_another_node_receives_pieces_and_gathers_them() {
    let from = layout(&[8], &(0..8).collect::<Vec<_>>(), &[Replicate]);
    let to = layout(&[8], &(8..16).collect::<Vec<_>>(), &[Replicate]);
    let route = best(&[1 << 13, 1 << 13], &from, &to);
    assert_eq!(methods(&route), [Method::PointToPoint, Method::AllGather(0)]);
    assert!(route.seconds < 0.5 * route.direct_seconds, "{} {}", route.seconds, route.direct_seconds);
}

#[test]
fn a_pending_sum_is_reduced_before_it_leaves_its_mesh() {
    let from = layout(&[8], &(0..8).collect::<Vec<_>>(), &[Partial]);
    let to = layout(&[8], &(8..16).collect::<Vec<_>>(), &[Shard(0)]);
    let route = best(&[1 << 12, 1 << 12], &from, &to);
    assert_eq!(methods(&route), [Method::ReduceScatter(0), Method::PointToPoint]);
}

#[test]
fn links_come_from_a_cluster() {
    let links = Links::of(&crate::cluster::Cluster::preset("v100-paddle-64").unwrap(), 0).unwrap();
    assert_eq!(links.devices_per_node, 8);
    assert!(links.within.rate > links.between.rate);
    assert!((links.between.rate / links.node_rate - 1.0).abs() < 1e-12, "one adapter: {links:?}");
    let cpu = Links::of(&crate::cluster::Cluster::preset("this-cpu").unwrap(), 0).unwrap();
    assert!(cpu.validate().is_ok(), "{cpu:?}");
}

#[test]
fn a_thousand_ranks_move_to_an_overlapping_thousand() {
    let ranks: Vec<usize> = (0..1024).collect();
    let moved: Vec<usize> = (512..1536).collect();
    let from = layout(&[128, 8], &ranks, &[Shard(0), Shard(1)]);
    let to = layout(&[64, 16], &moved, &[Replicate, Shard(0)]);
    let route = best(&[12_288, 49_152], &from, &to);
    // Each rank must receive its sixteenth, at most at the rate of all links of its device.
    let least = 12_288.0 * 49_152.0 * 2.0 / 16.0 * 0.9 / (300e9 + 25e9);
    assert!(least < route.seconds && route.seconds <= route.direct_seconds, "{} {least}", route.seconds);
}

#[test]
fn what_does_not_fit_is_said() {
    let (a, b) = (layout(&[2], &[0, 1], &[Shard(2)]), layout(&[2], &[0, 1], &[Replicate]));
    let error = route(&[4, 4], 2.0, &a, &b, &Links::a100()).unwrap_err().to_string();
    assert!(error.contains("expected a dimension below 2, got 2"), "{error}");
    let broken = Links { node_rate: 0.0, ..Links::a100() };
    let error = route(&[4, 4], 2.0, &b, &b, &broken).unwrap_err().to_string();
    assert_eq!(error, "links: expected `node_rate` to be finite and positive");
    assert!(transfers(&[4], &b, &b, 0).is_err());
    assert!(transfers(&[1 << 40, 1 << 40], &b, &b, 8).is_err());
}

fn any_layout(dims: usize) -> impl Strategy<Value = Layout> {
    let placement = prop_oneof![Just(Replicate), (0..dims).prop_map(Shard), Just(Partial)];
    let mesh =
        prop_oneof![Just(vec![2]), Just(vec![3]), Just(vec![4]), Just(vec![2, 2]), Just(vec![3, 2]), Just(vec![1])];
    (mesh, proptest::collection::vec(placement, 2), any::<u64>()).prop_map(|(shape, placements, seed)| {
        let mut ranks: Vec<usize> = (0..9).collect();
        ranks.sort_by_key(|r| (*r as u64 + 1).wrapping_mul(seed | 1).rotate_left(17));
        let count: usize = shape.iter().product();
        layout(&shape, &ranks[..count], &placements[..shape.len()])
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Messages and the chosen route both leave every rank of any target mesh with exactly its values.
    #[test]
    fn every_redistribution_delivers_the_right_values(
        shape in proptest::collection::vec(1u64..8, 2..=3),
        pair in (any_layout(2), any_layout(2)),
        same in any::<bool>(),
    ) {
        let (from, mut to) = pair;
        if same && from.mesh.shape().len() == to.mesh.shape().len() {
            to.mesh = from.mesh.clone();
        }
        let before = scatter(&shape, &from);
        check(&shape, &from, &before);
        let direct = transfers(&shape, &from, &to, 4).unwrap();
        check(&shape, &to, &run(&shape, &before, &to, &direct));
        let links = Links { devices_per_node: 4, ..Links::a100() };
        let route = route(&shape, 4.0, &from, &to, &links).unwrap();
        prop_assert!(route.seconds <= route.direct_seconds * (1.0 + 1e-12));
        let mut memory = before;
        for step in &route.steps {
            let moves = step.transfers(&shape, 4).unwrap();
            if step.method == Method::Local {
                prop_assert_eq!(moves.elements(), 0);
            }
            memory = run(&shape, &memory, &step.to, &moves);
        }
        check(&shape, &to, &memory);
    }
}
