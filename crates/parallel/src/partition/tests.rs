use super::*;
use crate::completion::{complete, complete_meshes};
use crate::graph::{Graph, OpKind, capture};
use crate::model::ModelSpec;
use crate::reshard::Method;
use std::collections::BTreeMap;

/// A small transformer with Megatron's split of every layer over mesh dimension 1 and the batch over dimension 0.
fn megatron(preset: &str, layers: u64, batch: u64, mesh: &[usize]) -> AnnotatedGraph {
    let spec = ModelSpec::preset(preset).unwrap();
    let mut shape = spec.transformer().unwrap().clone();
    shape.layers = layers;
    let spec = ModelSpec::gpt("small", "test", shape).unwrap();
    let graph = capture(&spec, batch).unwrap();
    let mut annotations = BTreeMap::from([(graph.find("ids").unwrap(), vec![Some(0), None])]);
    for layer in 0..layers {
        for part in ["q", "k", "v", "ffn.up"] {
            annotations.insert(graph.find(&format!("layer{layer}.{part}.weight")).unwrap(), vec![None, Some(1)]);
        }
    }
    AnnotatedGraph { graph, mesh: mesh.to_vec(), annotations }
}

fn on_one_mesh(input: &AnnotatedGraph) -> Partition {
    let mesh = Mesh::contiguous(&input.mesh, 0).unwrap();
    let placed = vec![0; input.graph.operators().len()];
    let target = Target { meshes: &[mesh], placed: &placed, links: &Links::a100(), item_bytes: 2.0 };
    partition(input, &complete(input).unwrap(), &target).unwrap()
}

#[test]
fn megatrons_split_needs_two_all_reduces_per_layer_and_nothing_else() {
    let input = megatron("gpt-1.7b", 3, 4, &[2, 8]);
    let split = on_one_mesh(&input);
    let methods: Vec<Vec<Method>> = (split.actions.iter())
        .filter_map(|a| match a {
            Action::Reshard { route, .. } => Some(route.steps.iter().map(|s| s.method).collect()),
            Action::Compute { .. } => None,
        })
        .collect();
    assert_eq!(methods, vec![vec![Method::AllReduce(1)]; 6]);
}

#[test]
fn the_flops_of_all_ranks_add_up_to_the_whole() {
    let input = megatron("gpt-1.7b", 2, 4, &[2, 4]);
    let split = on_one_mesh(&input);
    let products = |kind: &OpKind| kind.is_product();
    let mut sum = 0.0;
    for rank in 0..8 {
        let program = split.program(&input.graph, rank, 8).unwrap();
        for instruction in &program.instructions {
            if let Instruction::Compute { kind, flops, operator, .. } = instruction
                && products(kind)
                && operator != "logits"
            {
                sum += flops;
            }
        }
    }
    let graph = &input.graph;
    let whole: f64 =
        graph.operators().iter().filter(|o| products(&o.kind) && o.name != "logits").map(|o| graph.flops(o)).sum();
    assert!((sum / whole - 1.0).abs() < 1e-12, "{sum} {whole}");
}

#[test]
fn a_rank_keeps_its_share_of_the_split_parameters() {
    let input = megatron("gpt-1.7b", 2, 4, &[2, 4]);
    let split = on_one_mesh(&input);
    let parameters = split.program(&input.graph, 5, 8).unwrap().parameters;
    let whole = input.graph.totals().parameters;
    let (h, f) = (2304, 9216);
    let split_away = 2 * (3 * (h * h + h) + h * h + 2 * h * f + f) * 3 / 4;
    assert_eq!(parameters, whole - split_away);
}

#[test]
fn stages_on_two_meshes_exchange_the_boundary_by_messages() {
    let input = megatron("gpt-1.7b", 2, 4, &[2, 4]);
    let at = |name: &str| input.graph.operators().iter().position(|o| o.name == name).unwrap();
    let placed = complete_meshes(
        &input.graph,
        &BTreeMap::from([(at("layer0.residual2"), 0), (at("layer1.norm1"), 1), (at("layer1.residual1"), 1)]),
        2,
    )
    .unwrap();
    let meshes = [Mesh::contiguous(&[2, 4], 0).unwrap(), Mesh::contiguous(&[2, 4], 8).unwrap()];
    let target = Target { meshes: &meshes, placed: &placed, links: &Links::a100(), item_bytes: 2.0 };
    let split = partition(&input, &complete(&input).unwrap(), &target).unwrap();
    let receives = |rank| {
        let program = split.program(&input.graph, rank, 8).unwrap();
        let parts = program.instructions.iter().filter_map(|i| match i {
            Instruction::Messages { tensor, receives, .. } if tensor == "layer0.residual2" => Some(receives.len()),
            _ => None,
        });
        parts.sum::<usize>()
    };
    assert_eq!((receives(0), receives(9)), (0, 1));
    let computes = |rank| {
        let program = split.program(&input.graph, rank, 8).unwrap();
        program.instructions.iter().filter(|i| matches!(i, Instruction::Compute { .. })).count()
    };
    assert_eq!(computes(0) + computes(15), input.graph.operators().len());
}

#[test]
fn a_target_that_does_not_fit_is_an_error() {
    let mut graph = Graph::new();
    let x = graph.input("x", &[4]).unwrap();
    graph.apply("r", "y", OpKind::ReduceSum { axes: vec![0], keepdim: true }, &[x]).unwrap();
    let input = AnnotatedGraph { graph, mesh: vec![2], annotations: BTreeMap::new() };
    let done = complete(&input).unwrap();
    let links = Links::a100();
    let mesh = |shape: &[usize]| [Mesh::contiguous(shape, 0).unwrap()];
    for (meshes, placed, says) in [
        (mesh(&[3]), vec![0], "a mesh: expected shape [2], got [3]"),
        (mesh(&[2]), vec![], "expected 1 places and mappings, got 0 places"),
        (mesh(&[2]), vec![1], "expected a mesh below 1, got 1"),
    ] {
        let target = Target { meshes: &meshes, placed: &placed, links: &links, item_bytes: 2.0 };
        let error = partition(&input, &done, &target).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn gpt_175b_is_partitioned_over_a_thousand_ranks() {
    let input = megatron("gpt-175b", 96, 128, &[128, 8]);
    let split = on_one_mesh(&input);
    let program = split.program(&input.graph, 1023, 8).unwrap();
    let collectives = program.instructions.iter().filter(|i| matches!(i, Instruction::Collective { .. })).count();
    assert_eq!(collectives, 2 * 96);
    let share = program.flops() / input.graph.operators().iter().map(|o| input.graph.flops(o)).sum::<f64>();
    assert!(share > 1.0 / 1024.0 && share < 1.1 / 1024.0 * 1.2, "{share}");
}

#[test]
fn the_backward_pass_of_megatrons_split_reduces_two_activations_a_layer_and_every_weight() {
    let input = megatron("gpt-1.7b", 2, 4, &[2, 8]);
    let done = complete(&input).unwrap();
    let mesh = Mesh::contiguous(&[2, 8], 0).unwrap();
    let all = gradients(&input, &done, &mesh, &Links::a100(), 2.0).unwrap();
    let tensors = input.graph.tensors();
    let over = |axes: &[usize]| -> Vec<&str> {
        all.iter().filter(|g| g.partial == axes).map(|g| tensors[g.tensor].name.as_str()).collect()
    };
    assert_eq!(over(&[1]), ["layer0.norm1", "layer0.norm2", "layer1.norm1", "layer1.norm2"]);
    let weights = tensors.iter().filter(|t| t.origin == crate::graph::Origin::Parameter).count();
    assert_eq!(over(&[0]).len(), weights);
    assert!(all.iter().all(|g| !g.route.steps.is_empty() && g.route.seconds > 0.0));
}

#[test]
fn a_gradient_is_pending_over_the_split_axes_that_its_operand_lacks() {
    // y [m, n] = x [m, k] w [k, n], m over mesh dimension 0, n over 1: dw = x^T dy on each part of m, dx = dy w^T on each
    // part of n.
    let mut graph = Graph::new();
    let x = graph.parameter("x", &[4, 3]).unwrap();
    let w = graph.parameter("w", &[3, 4]).unwrap();
    graph.apply("y", "y", OpKind::MatMul { transpose_x: false, transpose_y: false }, &[x, w]).unwrap();
    let annotations = BTreeMap::from([(x, vec![Some(0), None]), (w, vec![None, Some(1)])]);
    let input = AnnotatedGraph { graph, mesh: vec![2, 2], annotations };
    let pending = pending_gradients(&input, &complete(&input).unwrap()).unwrap();
    assert_eq!(pending, [vec![1], vec![0], vec![]]);
}
