//! `reshard.json`: which rank sends how much to which, between two layouts of one tensor.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chandlery_parallel::graph::{Layout, Mesh, Region};
use chandlery_parallel::reshard::{Links, Transfers, route, transfers};
use serde_json::{Value, json};
use std::collections::BTreeMap;

struct Case {
    name: String,
    shape: Vec<u64>,
    per_node: usize,
    source: Layout,
    target: Layout,
    value: Value,
}

fn layout(side: &Value) -> Layout {
    let shape: Vec<usize> = serde_json::from_value(side["mesh_shape"].clone()).unwrap();
    let ranks: Vec<usize> = serde_json::from_value(side["ranks"].clone()).unwrap();
    let placements = serde_json::from_value(side["placements"].clone()).unwrap();
    Layout::new(Mesh::new(&shape, &ranks).unwrap(), placements).unwrap()
}

fn cases() -> Vec<Case> {
    let found = super::entries("cases", |c| c.get("source").is_some_and(|s| s.get("placements").is_some()));
    let read = |(path, value): (std::path::PathBuf, Value)| Case {
        name: format!("{} {}", path.display(), value["id"]),
        shape: serde_json::from_value(value["shape"].clone()).unwrap(),
        per_node: value["devices_per_node"].as_u64().unwrap() as usize,
        source: layout(&value["source"]),
        target: layout(&value["target"]),
        value,
    };
    found.into_iter().map(read).collect()
}

fn moves(case: &Case) -> Transfers {
    transfers(&case.shape, &case.source, &case.target, case.per_node).unwrap()
}

#[test]
fn conformance_reshard_boxes_of_both_layouts() {
    for case in cases() {
        for (side, layout) in [("source_boxes", &case.source), ("target_boxes", &case.target)] {
            for want in case.value[side].as_array().unwrap() {
                let rank = want[0].as_u64().unwrap() as usize;
                let position = layout.mesh.ranks().iter().position(|&r| r == rank).unwrap();
                let got = layout.region(&case.shape, position);
                assert_eq!(json!(got.size), want[2], "{} {side} rank {rank}", case.name);
                assert!(got.is_empty() || json!(got.offset) == want[1], "{} {side} rank {rank}", case.name);
            }
        }
    }
}

#[test]
fn conformance_reshard_volumes() {
    for case in cases() {
        let volumes = moves(&case).volumes();
        let got: Vec<_> = volumes.iter().map(|(&(from, to), &n)| json!([from, to, n])).collect();
        assert_eq!(json!(got), case.value["expected"]["transfers"], "{}", case.name);
    }
}

#[test]
fn conformance_reshard_totals() {
    for case in cases() {
        let (expected, moves) = (&case.value["expected"], moves(&case));
        let (mut received, mut sent) = (BTreeMap::new(), BTreeMap::new());
        let mut within = 0;
        for (&(from, to), &n) in &moves.volumes() {
            *received.entry(to).or_insert(0) += n;
            *sent.entry(from).or_insert(0) += n;
            within += if from / case.per_node == to / case.per_node { n } else { 0 };
        }
        let most = |loads: &BTreeMap<usize, u64>| loads.values().max().copied().unwrap_or(0);
        for (field, got) in [
            ("total_elements", moves.elements()),
            ("total_bytes", moves.elements() * case.value["item_bytes"].as_u64().unwrap()),
            ("within_node_elements", within),
            ("between_node_elements", moves.elements() - within),
            ("already_local_elements", moves.kept_elements()),
            ("max_received_elements", most(&received)),
            ("max_sent_elements", most(&sent)),
        ] {
            assert_eq!(json!(got), expected[field], "{} {field}", case.name);
        }
    }
}

#[test]
fn conformance_reshard_routes_are_never_dearer_than_messages() {
    for case in cases() {
        let links = Links { devices_per_node: case.per_node, ..Links::a100() };
        let route = route(&case.shape, 4.0, &case.source, &case.target, &links).unwrap();
        assert!(route.seconds <= route.direct_seconds * (1.0 + 1e-12), "{}", case.name);
        for step in &route.steps {
            let regions = |t: &Transfers| t.moves.iter().map(|m| m.region.clone()).collect::<Vec<Region>>();
            let moves = step.transfers(&case.shape, case.per_node).unwrap();
            assert!(regions(&moves).iter().all(|r| !r.is_empty()), "{}", case.name);
        }
    }
}
