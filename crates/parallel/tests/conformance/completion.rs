//! `completion.json`: fix-points, pending sums, redistributions and conflicts of small graphs.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chandlery_parallel::completion::{Completion, complete, complete_in_order};
use chandlery_parallel::graph::{AnnotatedGraph, GraphFile};
use serde_json::{Value, json};
use std::collections::BTreeSet;

pub fn cases() -> Vec<(String, AnnotatedGraph, Value)> {
    let found = super::entries("cases", |c| c.get("ops").is_some() && c.get("tensors").is_some());
    let read = |(path, case): (std::path::PathBuf, Value)| {
        let name = format!("{} {}", path.display(), case["id"]);
        let file = json!({"mesh": case["mesh"], "tensors": case["tensors"], "ops": case["ops"]});
        let file: GraphFile = serde_json::from_value(file).unwrap_or_else(|e| panic!("{name}: {e}"));
        (name.clone(), file.build().unwrap_or_else(|e| panic!("{name}: {e}")), case["expected"].clone())
    };
    found.into_iter().map(read).collect()
}

fn numbers(mapping: &[Option<usize>]) -> Value {
    mapping.iter().map(|m| m.map_or(-1, |m| m as i64)).collect()
}

#[test]
fn conformance_completion_mappings() {
    for (name, input, expected) in cases() {
        let done = complete(&input).unwrap();
        for (tensor, mapping) in input.graph.tensors().iter().zip(&done.mappings) {
            assert_eq!(numbers(mapping), expected["dims_mapping"][&tensor.name], "{name}, tensor {}", tensor.name);
        }
    }
}

#[test]
fn conformance_completion_operators() {
    for (name, input, expected) in cases() {
        let done = complete(&input).unwrap();
        for want in expected["operators"].as_array().unwrap() {
            let at = input.graph.operators().iter().position(|op| want["op"] == op.name).unwrap();
            let op = &done.operators[at];
            let inputs: Value = op.inputs.iter().map(|m| numbers(m)).collect();
            let outputs = if op.reshard_output { vec![0] } else { vec![] };
            let got = json!({"op": want["op"], "inputs": inputs, "outputs": [numbers(&op.output)], "partial": op.partial,
                "reshard_inputs": op.reshard_inputs, "reshard_outputs": outputs});
            assert_eq!(got, *want, "{name}");
        }
    }
}

#[test]
fn conformance_completion_conflicts() {
    for (name, input, expected) in cases() {
        let done = complete(&input).unwrap();
        let got: BTreeSet<(String, String)> =
            done.conflicts.iter().map(|c| (c.operator.clone(), c.kind.to_string())).collect();
        let text = |v: &Value| v.as_str().unwrap().to_string();
        let list = expected["conflicts"].as_array().unwrap();
        let want: BTreeSet<(String, String)> = list.iter().map(|c| (text(&c["op"]), text(&c["kind"]))).collect();
        assert_eq!(got, want, "{name}");
        assert_eq!(done.conflicts.len(), list.len(), "{name}");
    }
}

#[test]
fn conformance_completion_order() {
    for (name, input, expected) in cases().into_iter().filter(|(_, _, e)| e["order_independent"] == true) {
        let reference = complete(&input).unwrap();
        let n = input.graph.operators().len();
        for seed in 1..=5usize {
            let mut order: Vec<usize> = (0..n).collect();
            order.sort_by_key(|i| (i + 1) * 7919 * seed % 104_729);
            let Completion { mappings, .. } = complete_in_order(&input, &order).unwrap();
            assert_eq!(mappings, reference.mappings, "{name}, order {order:?}, expected {expected}");
        }
    }
}
