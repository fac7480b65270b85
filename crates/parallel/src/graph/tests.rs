use super::*;
use crate::model::{ModelSpec, preset_names};
use proptest::prelude::*;

#[test]
fn every_preset_is_captured_with_exactly_its_parameters() {
    for name in preset_names() {
        let spec = ModelSpec::preset(name).unwrap();
        let graph = capture(&spec, 2).unwrap();
        assert_eq!(graph.totals().parameters, spec.params().unwrap(), "{name}");
    }
}

#[test]
fn captured_products_take_the_flops_of_the_closed_form() {
    for name in ["gpt-175b", "llama3-405b", "poet-base", "resnet-50", "dlrm-criteo", "gpt2-xl", "bidaf"] {
        let spec = ModelSpec::preset(name).unwrap();
        let flops = capture(&spec, 3).unwrap().totals().product_flops;
        let closed = spec.forward_flops(3.0);
        assert!((flops / closed - 1.0).abs() < 1e-3, "{name}: {flops} against {closed}");
    }
}

#[test]
fn experts_of_a_captured_graph_take_the_flops_of_their_slots() {
    let spec = ModelSpec::preset("moe-gpt-1.3b-e64").unwrap();
    let flops = capture(&spec, 2).unwrap().totals().product_flops;
    assert!((flops / spec.forward_flops(2.0) - 1.0).abs() < 0.01, "{flops} {}", spec.forward_flops(2.0));
}

const SMALL: &str = r#"{"mesh": [2], "tensors": {"x": {"shape": [4, 6]}, "w": {"shape": [6, 8], "annotation": [-1, 0]},
  "y": {"shape": [4, 8]}, "z": {"shape": [4, 8]}}, "ops": [
  {"name": "m", "type": "matmul", "inputs": ["x", "w"], "outputs": ["y"]},
  {"name": "g", "type": "gelu", "inputs": ["y"], "outputs": ["z"]}]}"#;

fn broken(from: &str, to: &str) -> GraphError {
    assert!(SMALL.contains(from));
    AnnotatedGraph::parse(&SMALL.replace(from, to), "g.json").unwrap_err()
}

#[test]
fn a_file_gives_graph_mesh_and_annotations() {
    let file = AnnotatedGraph::parse(SMALL, "g.json").unwrap();
    assert_eq!(file.mesh, [2]);
    assert_eq!(file.annotations[&file.graph.find("w").unwrap()], [None, Some(0)]);
    assert_eq!(file.graph.flops(&file.graph.operators()[0]), 2.0 * 4.0 * 6.0 * 8.0);
}

#[test]
fn operators_out_of_order_are_sorted() {
    let swapped = r#"{"mesh": [1], "tensors": {"a": {"shape": [2]}, "b": {"shape": [2]}, "c": {"shape": [2]}}, "ops": [
      {"name": "second", "type": "gelu", "inputs": ["b"], "outputs": ["c"]},
      {"name": "first", "type": "gelu", "inputs": ["a"], "outputs": ["b"]}]}"#;
    let names: Vec<String> =
        AnnotatedGraph::parse(swapped, "g").unwrap().graph.operators().iter().map(|o| o.name.clone()).collect();
    assert_eq!(names, ["first", "second"]);
}

#[test]
fn a_cycle_is_named_along_its_path() {
    let text = r#"{"mesh": [1], "tensors": {"a": {"shape": [2]}, "b": {"shape": [2]}, "c": {"shape": [2]}}, "ops": [
      {"name": "f", "type": "add", "inputs": ["a", "c"], "outputs": ["b"]},
      {"name": "g", "type": "gelu", "inputs": ["b"], "outputs": ["c"]}]}"#;
    let error = AnnotatedGraph::parse(text, "g").unwrap_err().to_string();
    assert_eq!(error, "operators form a cycle: f -> g -> f");
    let own = text.replace("\"inputs\": [\"a\", \"c\"]", "\"inputs\": [\"a\", \"b\"]");
    assert_eq!(AnnotatedGraph::parse(&own, "g").unwrap_err().to_string(), "operators form a cycle: f -> f");
}

#[test]
fn what_is_wrong_in_a_file_is_said() {
    for (from, to, says) in [
        ("[6, 8]", "[5, 8]", "operator `m` (matmul): expected equal inner dimensions k, got shapes [[4, 6], [5, 8]]"),
        ("\"z\": {\"shape\": [4, 8]}", "\"z\": {\"shape\": [4, 9]}", "output `z` of shape [4, 8], got [4, 9]"),
        ("\"y\": {", "\"x\": {", "tensor `x` is defined twice"),
        ("[\"y\"], \"outputs\": [\"z\"]", "[\"y\"], \"outputs\": [\"y\"]", "producer of tensor `y` is defined twice"),
        ("[\"y\"], \"outputs\": [\"z\"]", "[\"q\"], \"outputs\": [\"z\"]", "uses tensor `q`, which does not exist"),
        ("\"type\": \"gelu\"", "\"type\": \"gulu\"", "expected a known operator type, got `gulu`"),
        ("[-1, 0]", "[0, 0]", "tensor `w` (annotation): expected mesh dimension 0 once at most, got [0, 0]"),
        ("[-1, 0]", "[-1, 1]", "expected -1 or a mesh dimension below 1, got [-1, 1]"),
        ("[-1, 0]", "[0]", "expected 2 entries, got [0]"),
        ("\"shape\": [4, 6]", "\"shape\": [0, 6]", "tensor `x` of shape [0, 6]: expected every dimension"),
        ("\"shape\": [4, 6]", "\"shape\": [9007199254740993, 6]", "expected at most 2^53 elements"),
        ("\"mesh\": [2]", "\"mesh\": [0]", "mesh of shape [0]"),
        ("\"mesh\": [2]", "\"mesh\": [4000000000, 4000000000]", "expected at most 1048576 ranks"),
        ("\"name\": \"g\"", "\"name\": \"m\"", "operator `m` is defined twice"),
        ("\"mesh\"", "\"mash\"", "graph description g.json: unknown field `mash`"),
    ] {
        let error = broken(from, to).to_string();
        assert!(error.contains(says), "{error}\n  should say: {says}");
    }
}

#[test]
fn a_mesh_lists_its_groups_along_each_dimension() {
    let mesh = Mesh::new(&[2, 3], &[5, 1, 2, 7, 0, 9]).unwrap();
    assert_eq!(mesh.groups(0), [[5, 7], [1, 0], [2, 9]]);
    assert_eq!(mesh.groups(1), [[5, 1, 2], [7, 0, 9]]);
    assert_eq!(mesh.coordinates(4), [1, 1]);
    let error = Mesh::new(&[2], &[3, 3]).unwrap_err().to_string();
    assert_eq!(error, "mesh of shape [2] over 2 ranks: rank 3 is listed twice");
}

#[test]
fn placements_are_written_as_they_are_read() {
    for text in ["\"replicate\"", "\"shard(3)\"", "\"partial(sum)\""] {
        let placement: Placement = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&placement).unwrap(), text);
    }
    assert!(serde_json::from_str::<Placement>("\"shard(x)\"").is_err());
}

#[test]
fn cutting_a_hole_leaves_disjoint_boxes_of_the_rest() {
    let whole = Region::whole(&[5, 6, 2]);
    let hole = Region { offset: vec![1, 2, 0], size: vec![2, 3, 1] };
    let rest = whole.without(&hole);
    assert_eq!(rest.iter().map(Region::elements).sum::<u64>(), 60 - 6);
    for (i, a) in rest.iter().enumerate() {
        assert!(a.intersect(&hole).is_none());
        assert!(rest[i + 1..].iter().all(|b| a.intersect(b).is_none()));
    }
}

proptest! {
    /// Any edit of a graph file is read or refused, never a panic; what is read can be completed.
    #[test]
    fn damaged_graphs_are_refused_or_can_be_completed(
        at in any::<prop::sample::Index>(),
        length in 0usize..8,
        put in "[-0-9a-z,:\\[\\]{}\"]{0,8}",
    ) {
        let start = at.index(SMALL.len());
        let end = (start + length).min(SMALL.len());
        let damaged = format!("{}{put}{}", &SMALL[..start], &SMALL[end..]);
        if let Ok(file) = AnnotatedGraph::parse(&damaged, "fuzz") {
            prop_assert!(crate::completion::complete(&file).is_ok());
        }
    }

    /// Every shape that a file can hold is refused with an error or has a finite cost.
    #[test]
    fn extreme_shapes_never_overflow(a in any::<u64>(), b in any::<u64>(), c in any::<u64>()) {
        let text = format!(
            r#"{{"mesh": [2], "tensors": {{"x": {{"shape": [{a}, {b}]}}, "w": {{"shape": [{b}, {c}]}}, "y": {{"shape": [{a}, {c}]}}}},
            "ops": [{{"name": "m", "type": "matmul", "inputs": ["x", "w"], "outputs": ["y"]}}]}}"#
        );
        if let Ok(file) = AnnotatedGraph::parse(&text, "extreme") {
            prop_assert!(file.graph.totals().product_flops.is_finite());
        }
    }
}
