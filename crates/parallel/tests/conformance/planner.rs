//! The planner against brute force, against Megatron-LM's published configurations, and against bad input.

use chandlery_parallel::cli::{PlanArgs, plan as plan_command};
use chandlery_parallel::cluster::Cluster;
use chandlery_parallel::cost::{Attention, Plan, Platform, Recompute, Timing, even_cut, predict};
use chandlery_parallel::memory::stage_memory;
use chandlery_parallel::model::{ModelSpec, Transformer};
use chandlery_parallel::planner::{Limits, PlanError, all_cuts, plan};
use chandlery_parallel::schedule::Schedule;
use chandlery_parallel::validate::{TABLES, rows};

fn shape(layers: u64, hidden: u64, heads: u64) -> Transformer {
    Transformer {
        layers,
        hidden,
        ffn_hidden: None,
        heads,
        kv_heads: None,
        sequence: 1024,
        vocabulary: 50_304,
        gated: false,
        tied_head: true,
        learned_positions: true,
        biases: true,
        experts: None,
    }
}

/// Best step over every plan of the space and every cut, each replayed.
fn brute_force(model: &Transformer, platform: &Platform, limits: &Limits, devices: u32) -> f64 {
    let numbers = |n: u32| (1..=n).filter(move |k| n.is_multiple_of(*k));
    let mut best = f64::INFINITY;
    for tensor in numbers(devices) {
        for pipeline in numbers(devices / tensor) {
            let data = devices / tensor / pipeline;
            for micro_batch in numbers(limits.global_batch) {
                for recompute in [Recompute::None, Recompute::Selective, Recompute::Full] {
                    for sequence_parallel in [false, true] {
                        for zero in 0..=3u8 {
                            for (schedule, most) in [
                                (Schedule::GPipe, 1),
                                (Schedule::OneFOneB, 1),
                                (Schedule::Interleaved, 12),
                                (Schedule::ZbH1, 1),
                                (Schedule::ZbV, 2),
                            ] {
                                for chunks in 1..=most {
                                    let plan = Plan {
                                        data,
                                        tensor,
                                        pipeline,
                                        chunks,
                                        zero,
                                        sequence_parallel,
                                        micro_batch,
                                        recompute,
                                        schedule,
                                        attention: limits.attention,
                                        overlap_gradients: limits.overlap_gradients,
                                        ..Plan::single(limits.global_batch)
                                    };
                                    best = best.min(best_of_cuts(model, platform, limits, &plan));
                                }
                            }
                        }
                    }
                }
            }
        }
    }
    best
}

fn best_of_cuts(model: &Transformer, platform: &Platform, limits: &Limits, plan: &Plan) -> f64 {
    let stages = plan.pipeline * plan.chunks;
    if u64::from(stages) > model.layers || (plan.chunks > 1 && plan.pipeline == 1) {
        return f64::INFINITY;
    }
    let cuts = all_cuts(model.layers as u32, stages, 10_000).expect("few");
    let fits = |cut: &Vec<u32>| {
        stage_memory(model, plan, cut).iter().all(|d| d.total() <= limits.usable_memory * platform.memory)
    };
    let step = |cut: Vec<u32>| predict(model, plan, platform, &cut, Timing::Replay).map_or(f64::INFINITY, |p| p.step_s);
    cuts.into_iter().filter(fits).map(step).fold(f64::INFINITY, f64::min)
}

#[test]
fn planner_equals_brute_force_on_small_cases() {
    for (layers, hidden, heads, cluster, devices, batch) in [
        (4, 1024, 8, "a100-4", 4, 8),
        (6, 2048, 16, "a100-8", 8, 8),
        (5, 3072, 24, "v100-p3-8", 8, 4),
        (8, 4096, 32, "v100-paddle-16", 16, 16),
        (7, 5120, 40, "v100-16-dgx1-8", 8, 8),
    ] {
        let model = shape(layers, hidden, heads);
        let cluster = Cluster::preset(cluster).expect("preset");
        let platform = Platform::of(&cluster, 0).expect("platform");
        for attention in [Attention::Unfused, Attention::Flash] {
            let limits = Limits::new(batch, attention);
            let spec = ModelSpec::gpt("small", "test", model.clone()).expect("model");
            let found = plan(&spec, &cluster, &limits).expect("plan");
            let best = brute_force(&model, &platform, &limits, devices);
            let gap = found.prediction.step_s / best - 1.0;
            assert!(gap.abs() < 1e-9, "{layers} layers on {}: gap {gap}, {}", cluster.name, found.plan);
            assert!(found.search.gap < 1e-9, "not proved: {:?}", found.search);
        }
    }
}

#[test]
fn a_heavy_head_takes_layers_from_the_last_device_of_an_interleaved_pipeline() {
    let model = Transformer { vocabulary: 1 << 20, ..shape(64, 2048, 16) };
    let spec = ModelSpec::gpt("wide-vocabulary", "test", model).expect("model");
    let cluster = Cluster::preset("v100-paddle-32").expect("preset");
    let limits =
        Limits { pipeline: vec![4], schedules: vec![Schedule::Interleaved], ..Limits::new(128, Attention::Unfused) };
    let found = plan(&spec, &cluster, &limits).expect("plan");
    let (p, v) = (found.plan.pipeline as usize, found.plan.chunks as usize);
    let layers = |d: usize| (0..v).map(|c| found.cut[c * p + d]).sum::<u32>();
    assert!(v > 1 && layers(p - 1) < layers(1), "{:?}", found.cut);
}

#[test]
fn planner_beats_the_published_configurations_in_the_models_own_terms() {
    for row in rows(TABLES).expect("tables").into_iter().filter(|r| r.table == "A") {
        let case = row.case.expect("case");
        let published = case.plans[0];
        let cut = even_cut(case.model.layers, published.virtual_stages());
        let theirs = predict(&case.model, &published, &case.platform, &cut, Timing::Replay).expect("published").step_s;
        let cluster =
            Cluster::preset(&row.hardware).and_then(|c| c.with_devices(case.platform.devices)).expect("cluster");
        let limits = Limits {
            overlap_gradients: published.overlap_gradients,
            ..Limits::new(published.global_batch, Attention::Unfused)
        };
        let spec = ModelSpec::gpt(&row.id, "table A", case.model.clone()).expect("model");
        let ours = plan(&spec, &cluster, &limits).expect("plan");
        println!("{}: {theirs:.2} s -> {:.2} s with {}", row.id, ours.prediction.step_s, ours.plan);
        assert!(ours.prediction.step_s <= theirs * (1.0 + 1e-9), "{}", row.id);
    }
}

#[test]
fn same_question_has_the_same_answer_and_a_whole_explanation() {
    let args = PlanArgs { model: "gpt-175b".into(), cluster: "a100-1024".into(), ..PlanArgs::default() };
    let start = std::time::Instant::now();
    let first = plan_command(&args).expect("plan");
    println!("{:?}\n{}", start.elapsed(), first.text);
    assert_eq!(first, plan_command(&args).expect("plan"));
    for word in ["plan:", "pipeline bubble", "activations", "binding:", "why not", "tensor degree", "placement:"] {
        assert!(first.text.contains(word), "`{word}` is missing");
    }
    assert!(first.timeline_svg.starts_with("<svg") && first.map_svg.contains("<rect") && first.html.contains("<pre>"));
    assert!(serde_json::from_str::<serde_json::Value>(&first.json).is_ok());
}

#[test]
fn model_too_large_says_by_how_much_and_what_would_fit() {
    let spec = ModelSpec::preset("gpt-175b").expect("preset");
    let cluster = Cluster::preset("a100-8").expect("preset");
    let error = plan(&spec, &cluster, &Limits::new(64, Attention::Flash)).expect_err("too large");
    assert!(matches!(error, PlanError::Memory(_)), "{error}");
    let text = error.to_string();
    assert!(text.contains("GiB too many") && text.contains("such devices instead of 8"), "{text}");
}

#[test]
fn heads_that_do_not_divide_are_named() {
    let model = Transformer { hidden: 7 * 64, heads: 7, ..shape(4, 448, 7) };
    let spec = ModelSpec::gpt("odd", "test", model).expect("model");
    let cluster = Cluster::preset("a100-8").expect("preset");
    let limits = Limits { pipeline: vec![1], ..Limits::new(7, Attention::Flash) };
    let error = plan(&spec, &cluster, &limits).expect_err("nothing divides").to_string();
    assert!(error.contains("7 heads") && error.contains("7 devices work"), "{error}");
}

#[test]
fn mixed_devices_get_layers_by_their_speed() {
    let mut cluster = Cluster::preset("a100-8").expect("preset");
    let old = Cluster::preset("v100-dgx1-8").expect("preset");
    cluster.machines.extend(old.machines.into_iter().map(|m| chandlery_parallel::cluster::MachineGroup {
        name: "old".into(),
        intra: Some("old-nvlink".into()),
        nic: Some("old-nic".into()),
        ..m
    }));
    cluster.links.extend(
        old.links.into_iter().map(|l| chandlery_parallel::cluster::LinkClass { name: format!("old-{}", l.name), ..l }),
    );
    cluster.device_types.extend(old.device_types);
    let spec = ModelSpec::gpt("mixed", "test", shape(40, 5120, 40)).expect("model");
    let found = plan(&spec, &cluster, &Limits::new(256, Attention::Unfused)).expect("plan");
    println!("{}", found.to_text());
    assert!(found.cut[0] > found.cut[found.cut.len() - 1], "{:?}", found.cut);
    assert!(found.devices.len() > 1 && found.devices[0] != found.devices[found.devices.len() - 1]);
}

#[test]
fn the_projects_own_model_is_planned_on_this_cpu() {
    let args = PlanArgs { model: "poet-base".into(), cluster: "this-cpu".into(), ..PlanArgs::default() };
    let out = plan_command(&args).expect("plan");
    assert!(out.text.contains("poet-base") && out.text.contains("2 x this-cpu"), "{}", out.text);
}

#[test]
fn a_million_devices_have_a_plan_or_a_reason() {
    let spec = ModelSpec::preset("gpt-175b").expect("preset");
    let limits = Limits::new(1536, Attention::Flash);
    let odd = Cluster::preset("a100-1000000").expect("a million");
    let error = plan(&spec, &odd, &limits).expect_err("nothing divides").to_string();
    assert!(error.contains("devices work"), "{error}");
    let even = Cluster::preset("a100-1179648").expect("8 x 96 x 1536");
    let found = plan(&spec, &even, &limits).expect("plan");
    assert!(found.placement.is_none() && found.plan.devices() == 1_179_648);
    assert!(found.map_svg().contains("too many"));
}
