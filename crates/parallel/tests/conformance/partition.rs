//! The graphs of `completion.json`, partitioned and run on integer arrays: every rank ends with its part of the serial
//! result, on one mesh and on two overlapping ones.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::{completion::cases, machine};
use chandlery_parallel::completion::complete;
use chandlery_parallel::graph::Mesh;
use chandlery_parallel::partition::{Target, partition};
use chandlery_parallel::reshard::Links;

fn run(stages: usize) {
    for (name, input, _) in cases() {
        let done = complete(&input).unwrap();
        let count: usize = input.mesh.iter().product();
        let meshes: Vec<Mesh> =
            (0..stages).map(|stage| Mesh::contiguous(&input.mesh, stage * (count / 2).max(1)).unwrap()).collect();
        let n = input.graph.operators().len();
        let placed: Vec<usize> = (0..n).map(|op| op * stages / n).collect();
        let links = Links { devices_per_node: 4, ..Links::a100() };
        let target = Target { meshes: &meshes, placed: &placed, links: &links, item_bytes: 4.0 };
        let split = partition(&input, &done, &target).unwrap();
        machine::check(&name, &input.graph, &split, 4);
    }
}

#[test]
fn conformance_partition_on_one_mesh_equals_the_serial_run() {
    run(1);
}

#[test]
fn conformance_partition_on_overlapping_meshes_equals_the_serial_run() {
    run(2);
}
