//! Memory: the published closed forms exactly, the Calculon model's predictions within the gate.

use chandlery_parallel::cost::{Attention, Plan, Recompute, even_cut};
use chandlery_parallel::memory::{
    activations_none, activations_selective_parallel, in_flight, stage_memory, states_18_bytes,
};
use chandlery_parallel::model::Transformer;
use chandlery_parallel::schedule::Schedule;
use serde_json::Value;

const GIB: f64 = (1u64 << 30) as f64;

fn number(v: &Value, key: &str) -> f64 {
    v[key].as_f64().unwrap_or_else(|| panic!("{key} in {v}"))
}

#[test]
fn conformance_memory_formulas_are_exact() {
    for (_, row) in super::entries("memory_formula_rows", |r| r.get("activations_none_gib").is_some()) {
        let n = |key: &str| number(&row, key);
        let (l, h, a, s, b) = (n("layers"), n("hidden"), n("heads"), n("sequence"), n("micro_batch"));
        let (t, p, v) = (n("tensor"), n("pipeline"), n("chunks_per_stage"));
        let layers = l / p * in_flight(p, v);
        let close = |name: &str, bytes: f64| {
            let (got, want) = (bytes / GIB, n(name));
            assert!((got - want).abs() <= 1e-12 * want, "{} {name}: {got} instead of {want}", row["id"]);
        };
        close("weights_and_optimizer_gib", states_18_bytes(l, h, t, p));
        close("activations_none_gib", layers * activations_none(s, b, h, a, t));
        close("activations_selective_sp_gib", layers * activations_selective_parallel(s, b, h, t));
    }
}

/// Calculon's models have blocks only: a vocabulary of 1 stands for "no embedding, no output layer".
fn model(case: &Value) -> Transformer {
    let whole = |key: &str| case["model"][key].as_u64().expect("size");
    Transformer {
        layers: whole("num_blocks"),
        hidden: whole("hidden"),
        ffn_hidden: Some(whole("feedforward")),
        heads: whole("attn_heads"),
        kv_heads: None,
        sequence: whole("seq_size"),
        vocabulary: 1,
        gated: false,
        tied_head: true,
        learned_positions: true,
        biases: true,
        experts: None,
    }
}

fn plan(case: &Value) -> Plan {
    let e = &case["execution"];
    let whole = |key: &str| e[key].as_u64().expect("degree") as u32;
    let chunks = whole("pipeline_interleaving");
    Plan {
        data: whole("data_par"),
        tensor: whole("tensor_par"),
        pipeline: whole("pipeline_par"),
        chunks,
        zero: if e["optimizer_sharding"] == true { 2 } else { 0 },
        sequence_parallel: e["tensor_par_comm_type"] == "rs_ag",
        keep_gathered: e["tensor_par_comm_type"] == "rs_ag" && e["seq_par_ag_redo"] == false,
        micro_batch: whole("microbatch_size"),
        recompute: match e["activation_recompute"].as_str() {
            Some("full") => Recompute::Full,
            Some("attn_only") => Recompute::Selective,
            _ => Recompute::None,
        },
        schedule: if chunks > 1 { Schedule::Interleaved } else { Schedule::OneFOneB },
        attention: Attention::Unfused,
        ..Plan::single(whole("batch_size"))
    }
}

#[test]
fn conformance_memory_agrees_with_calculon() {
    let (mut errors, mut worst) = (Vec::new(), (0.0, String::new()));
    for (_, case) in super::entries("cases", |c| c.get("execution").is_some()) {
        let (model, plan) = (model(&case), plan(&case));
        let cut = even_cut(model.layers, plan.virtual_stages());
        let total = stage_memory(&model, &plan, &cut)[0].total();
        let error = total / number(&case["expected"], "memory_total_bytes") - 1.0;
        if std::env::var_os("CHANDLERY_VERBOSE").is_some() {
            println!("{} {:+.2} % {plan} {:?}", case["id"], 100.0 * error, stage_memory(&model, &plan, &cut)[0]);
        }
        errors.push(error.abs());
        if error.abs() > worst.0 {
            worst = (error.abs(), case["id"].to_string());
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("{} cases: mean {:.2} %, worst {:.2} % ({})", errors.len(), 100.0 * mean, 100.0 * worst.0, worst.1);
    assert!(mean <= 0.05, "mean |error| {mean}");
}
