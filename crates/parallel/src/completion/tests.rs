use super::*;
use crate::graph::capture;
use crate::model::ModelSpec;

fn annotated(graph: Graph, mesh: &[usize], marks: &[(&str, &[Option<usize>])]) -> AnnotatedGraph {
    let annotations = marks.iter().map(|(name, mapping)| (graph.find(name).unwrap(), mapping.to_vec())).collect();
    AnnotatedGraph { graph, mesh: mesh.to_vec(), annotations }
}

#[test]
fn column_parallel_weights_make_a_transformer_layer_megatrons() {
    let graph = capture(&ModelSpec::preset("gpt-1.7b").unwrap(), 4).unwrap();
    let mut marks: Vec<(String, Vec<Option<usize>>)> = vec![("ids".into(), vec![Some(0), None])];
    for layer in 0..24 {
        for part in ["q", "k", "v", "ffn.up"] {
            marks.push((format!("layer{layer}.{part}.weight"), vec![None, Some(1)]));
        }
    }
    let marks: Vec<(&str, &[Option<usize>])> = marks.iter().map(|(n, m)| (n.as_str(), m.as_slice())).collect();
    let input = annotated(graph, &[2, 8], &marks);
    let done = complete(&input).unwrap();
    let mapping = |name: &str| done.mappings[input.graph.find(name).unwrap()].clone();
    assert_eq!(mapping("layer7.out.weight"), [Some(1), None]);
    assert_eq!(mapping("layer7.ffn.down.weight"), [Some(1), None]);
    assert_eq!(mapping("layer7.residual2"), [Some(0), None, None]);
    assert_eq!(mapping("layer7.scores"), [Some(0), Some(1), None, None, None]);
    assert!(done.conflicts.is_empty());
    let partial = |name: &str| {
        let op = input.graph.operators().iter().position(|o| o.name == name).unwrap();
        done.operators[op].partial.clone()
    };
    assert_eq!((partial("layer3.out"), partial("layer3.ffn.down"), partial("layer3.q")), (vec![1], vec![1], vec![]));
}

#[test]
fn heads_that_the_mesh_does_not_divide_are_a_reported_conflict() {
    let graph = capture(&ModelSpec::preset("gpt2-xl").unwrap(), 1).unwrap();
    let done = complete(&annotated(graph, &[8], &[("layer0.q.weight", &[None, Some(0)])])).unwrap();
    let conflict = done.conflicts.iter().find(|c| c.operator == "layer0.q.heads").unwrap();
    assert_eq!(conflict.kind, ConflictKind::NotDivisible);
    assert!(conflict.to_string().contains("`layer0.q.biased` dimension 2 split over mesh dimension 0"), "{conflict}");
}

#[test]
fn contradictory_annotations_are_reported_and_stay_as_the_user_wrote_them() {
    let mut graph = Graph::new();
    let (a, b) = (graph.input("a", &[4, 4]).unwrap(), graph.input("b", &[4, 4]).unwrap());
    graph.apply("sum", "c", crate::graph::OpKind::Add, &[a, b]).unwrap();
    let input = annotated(graph, &[2, 2], &[("a", &[Some(0), None]), ("b", &[Some(1), None])]);
    let done = complete(&input).unwrap();
    assert_eq!(done.mappings[0], [Some(0), None]);
    assert_eq!(done.mappings[1], [Some(1), None]);
    assert_eq!(done.conflicts.len(), 1);
    assert_eq!(done.conflicts[0].mesh_dims, [0, 1]);
    assert_eq!(done.operators[0].reshard_inputs, [1]);
}

#[test]
fn an_annotation_that_does_not_fit_is_an_error() {
    let mut graph = Graph::new();
    graph.input("a", &[4, 4]).unwrap();
    for bad in [vec![Some(0)], vec![Some(2), None], vec![Some(0), Some(0)]] {
        let error = complete(&annotated(graph.clone(), &[2, 2], &[("a", &bad)])).unwrap_err();
        assert!(error.to_string().contains("tensor `a`"), "{error}");
    }
}

#[test]
fn unplaced_operators_take_the_mesh_of_the_nearest_placed_one() {
    let mut graph = Graph::new();
    let mut x = graph.input("x", &[2]).unwrap();
    for i in 0..7 {
        let gelu = crate::graph::OpKind::Pointwise(crate::graph::Pointwise::Gelu);
        x = graph.apply(&format!("op{i}"), &format!("t{i}"), gelu, &[x]).unwrap();
    }
    let placed = BTreeMap::from([(1, 0), (5, 1)]);
    assert_eq!(complete_meshes(&graph, &placed, 2).unwrap(), [0, 0, 0, 0, 1, 1, 1]);
    assert!(complete_meshes(&graph, &BTreeMap::from([(9, 0)]), 2).is_err());
    assert!(complete_meshes(&graph, &BTreeMap::from([(1, 2)]), 2).is_err());
}
