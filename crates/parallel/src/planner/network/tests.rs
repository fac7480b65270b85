use super::*;
use crate::cost::Attention;

fn answer(model: &str, cluster: &str, batch: u32) -> Result<NetworkAnswer, PlanError> {
    let model = ModelSpec::preset(model).expect("model");
    let cluster = Cluster::preset(cluster).expect("cluster");
    plan_network(&model, &cluster, &Limits::new(batch, Attention::Flash))
}

#[test]
fn every_family_has_a_plan_whose_parts_add_up() {
    for (model, batch) in [("resnet-50", 2048), ("bidaf", 512), ("dlrm-criteo", 65_536), ("ctr-wide", 65_536)] {
        let a = answer(model, "a100-8", batch).expect("plan");
        assert!((a.parts.iter().map(|p| p.1).sum::<f64>() / a.step_s - 1.0).abs() < 1e-9);
        assert!(a.memory.iter().all(|m| m.total() <= a.usable), "{model}");
        assert_eq!(u64::from(a.plan.data) * u64::from(a.plan.pipeline), 8);
        assert!((0.0..0.9).contains(&a.utilization), "{model}: {}", a.utilization);
        assert!(!a.alternatives.is_empty() && a.alternatives.iter().all(|x| x.step_s.is_none_or(|s| s >= a.step_s)));
        assert!(a.to_html().expect("page").contains("why not"));
    }
}

#[test]
fn units_hold_every_parameter_and_flop_of_the_graph() {
    let platform = Platform::of(&Cluster::preset("a100-8").expect("cluster"), 0).expect("platform");
    for model in ["resnet-50", "bidaf", "dlrm-criteo"] {
        let spec = ModelSpec::preset(model).expect("model");
        let graph = capture(&spec, 4).expect("graph");
        let chain = units(&graph, &Speed { platform: &platform, float32: false });
        let params: f64 = chain.iter().map(|u| u.dense + u.rows).sum();
        assert_eq!(params, spec.params().expect("params") as f64, "{model}");
        assert!(chain.len() > 1, "{model}: nowhere to cut");
    }
}

#[test]
fn tables_too_large_for_a_device_are_split() {
    let a = answer("dlrm-criteo", "a100-8", 65_536).expect("plan");
    let b = answer("dlrm-criteo", "v100-16-dgx1-8", 65_536);
    let split = |r: &NetworkAnswer| r.plan.tables == Tables::Split;
    assert!(split(&a) || b.as_ref().is_ok_and(split) || b.is_err(), "{a:?}");
}

#[test]
fn what_does_not_fit_says_by_how_much() {
    let mut spec = ModelSpec::preset("dlrm-criteo").expect("model");
    if let crate::model::Network::Recommender(m) = &mut spec.network {
        m.tables = vec![1 << 32; 8];
    }
    let cluster = Cluster::preset("a100-8").expect("cluster");
    let error = plan_network(&spec, &cluster, &Limits::new(4096, Attention::Flash)).expect_err("too large").to_string();
    assert!(error.contains("GiB too many") && error.contains("such devices instead of 8"), "{error}");
}

#[test]
fn a_batch_that_no_copy_divides_is_named() {
    let model = ModelSpec::preset("resnet-50").expect("model");
    let cluster = Cluster::preset("a100-8").expect("cluster");
    let limits = Limits { pipeline: vec![1], ..Limits::new(7, Attention::Flash) };
    let error = plan_network(&model, &cluster, &limits).expect_err("7 over 8").to_string();
    assert!(error.contains("7 devices work"), "{error}");
}
