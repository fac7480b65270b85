//! The files shown in `docs/howto/describe-model-and-cluster.md` are read as shown.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chandlery_parallel::cluster::Cluster;
use chandlery_parallel::completion::complete;
use chandlery_parallel::graph::{AnnotatedGraph, capture};
use chandlery_parallel::model::ModelSpec;

const PAGE: &str = include_str!("../../../../docs/howto/describe-model-and-cluster.md");

fn blocks(language: &str) -> Vec<&'static str> {
    let fence = format!("```{language}\n");
    PAGE.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap()).collect()
}

#[test]
fn the_models_shown_are_read_and_captured() {
    let toml = blocks("toml");
    let mut models = vec![toml[0].to_string()];
    models.extend(toml[1].split("\n\n").map(|table| format!("name = \"shown\"\n{table}")));
    assert_eq!(models.len(), 4);
    for text in models {
        let spec = ModelSpec::parse(&text, "howto").unwrap();
        assert_eq!(capture(&spec, 2).unwrap().totals().parameters, spec.params().unwrap());
    }
}

#[test]
fn the_cluster_shown_is_read() {
    assert_eq!(Cluster::from_json(blocks("json")[0]).unwrap().device_count(), 16);
}

#[test]
fn the_graph_shown_is_completed_as_the_page_says() {
    let file = AnnotatedGraph::parse(blocks("json")[1], "howto").unwrap();
    let done = complete(&file).unwrap();
    assert_eq!(done.mappings[file.graph.find("w2").unwrap()], [Some(1), None]);
    assert!(done.conflicts.is_empty());
}
