use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn a100() -> Value {
    serde_json::from_str(include_str!("../../presets/clusters/a100.json")).expect("json")
}

fn error(change: impl FnOnce(&mut Value)) -> String {
    let mut value = a100();
    change(&mut value);
    Cluster::from_json(&value.to_string()).expect_err("must be refused").to_string()
}

#[test]
fn every_preset_parses_survives_a_round_trip_and_names_its_sources() {
    for name in preset_names() {
        let cluster = Cluster::preset(name).expect(name);
        assert_eq!(Cluster::from_json(&cluster.to_json().expect("json")).expect("again"), cluster);
        let device = &cluster.device_types[0];
        for number in [&device.half_tflops, &device.memory_gib, &device.memory_gb_s, &device.efficiency.matrix] {
            assert!(number.source.len() > 3 && number.confidence > Confidence::Unstated, "{name}: {number:?}");
        }
    }
}

#[test]
fn preset_with_a_number_has_that_many_devices() {
    for (name, devices) in [("a100-1024", 1024), ("a100-2", 2), ("v100-dgx2-32", 32), ("h100-80-sxm-eos-96", 96)] {
        assert_eq!(Cluster::preset(name).expect(name).device_count(), devices);
    }
    assert!(Cluster::preset("a100-12").expect_err("part of a machine").to_string().contains("try 8"));
    assert!(Cluster::preset("a100-0").expect_err("none").to_string().contains("no device"));
    assert!(Cluster::preset("b200").expect_err("unknown").to_string().contains("a100"));
}

#[test]
fn a_million_devices_are_described_and_more_than_the_limit_refused() {
    let million = Cluster::preset("a100-1000000").expect("a million");
    assert_eq!(million.device_count(), 1_000_000);
    assert_eq!(million.locate(999_999).map(|d| d.machine), Some(124_999));
    assert!(matches!(Cluster::preset("a100-80000000"), Err(ClusterError::TooMany { .. })));
    assert!(Cluster::preset("a100-800000000000").is_err());
}

#[test]
fn impossible_numbers_are_refused_by_name() {
    let link = |field: &'static str, v: Value| error(move |c| c["links"][0][field]["value"] = v);
    assert!(link("gb_s", json!(0)).contains("gb_s of link class `nvlink` is 0"));
    assert!(link("latency_us", json!(-1)).contains("latency_us"));
    assert!(link("reached", json!(1.5)).contains("at most 1"));
    let device = |field: &'static str, v: Value| error(move |c| c["device_types"][0][field]["value"] = v);
    assert!(device("memory_gib", json!(-80)).contains("memory_gib of device type"));
    assert!(device("half_tflops", json!(1e300)).contains("10^9"));
    assert!(error(|c| c["machines"][0]["count"] = json!(0)).contains("no device"));
}

#[test]
fn missing_unknown_and_duplicate_names_are_refused() {
    assert!(error(|c| c["machines"][0]["device"] = json!("b200")).contains("unknown device type `b200`"));
    assert!(error(|c| c["machines"][0]["intra"] = json!("rope")).contains("unknown link class `rope`"));
    assert!(error(|c| c["links"][0]["kind"] = json!("WIFI")).contains("WIFI"));
    assert!(error(|c| c["device_types"][0]["kind"] = json!("TPU")).contains("TPU"));
    assert!(error(|c| c["colour"] = json!("blue")).contains("colour"));
    let twice = error(|c| {
        let first = c["links"][0].clone();
        c["links"].as_array_mut().expect("list").push(first);
    });
    assert!(twice.contains("link class `nvlink` is defined twice"), "{twice}");
    assert!(
        error(|c| {
            c["device_types"][0].as_object_mut().expect("object").remove("memory_gb_s");
        })
        .contains("memory_gb_s")
    );
    assert!(
        error(|c| {
            c["machines"][0]["count"] = json!(2);
            c["machines"][0]["nics"] = json!(0);
        })
        .contains("network")
    );
    assert!(error(|c| c["machines"][0]["domain"] = json!(3)).contains("do not divide"));
}

#[test]
fn cycle_of_switches_is_shown() {
    let text = error(|c| {
        c["switches"] =
            json!([{"name": "a", "uplink": "b"}, {"name": "b", "uplink": "c"}, {"name": "c", "uplink": "a"}]);
    });
    assert!(text.contains("a -> b -> c -> a"), "{text}");
    assert!(error(|c| c["switches"] = json!([{"name": "a", "uplink": "z"}])).contains("unknown switch `z`"));
}

fn paddle(bandwidth: f64, model: &str, ids: [u64; 4]) -> Value {
    let device = |id: u64| {
        json!({"global_id": id, "local_id": id % 2, "type": "GPU", "model": model, "memory": 32,
        "sp_gflops": 15700, "dp_gflops": 7800, "hp_gflops": 125000})
    };
    let link = |a: u64, b: u64, kind: &str, gb: f64| json!({"source_global_id": a, "target_global_id": b, "type": kind, "bandwidth": gb});
    json!({
        "machines": [
            {"hostname": "m0", "addr": "10.0.0.1", "port": "80", "devices": [device(ids[0]), device(ids[1])],
             "links": [link(ids[0], ids[1], "NVL", 235.0), link(ids[0], ids[2], "NET", bandwidth)]},
            {"hostname": "m1", "devices": [device(ids[2]), device(ids[3])],
             "links": [link(ids[2], ids[3], "NVL", 235.0)]}
        ],
        "alpha_latency": {"base": {"ring": 8.4, "tree": 0.0}, "intra": {"ring": 3.4, "tree": 28.0}, "inter": {"ring": 9.6, "tree": 28.0}, "switch": 10.0}
    })
}

#[test]
fn paddle_file_becomes_machines_devices_and_links() {
    let cluster = Cluster::from_json(&paddle(24.0, "Tesla V100-SXM2-32GB", [0, 1, 2, 3]).to_string()).expect("paddle");
    assert_eq!((cluster.device_count(), cluster.machine_count()), (4, 2));
    assert_eq!(cluster.route(0, 1), Some(Route::Intra));
    assert_eq!(cluster.route(1, 2), Some(Route::Network));
    assert_eq!(cluster.device_types[0].half_tflops.value, 125.0);
    let nic = cluster.link("m0-nic").expect("nic");
    assert_eq!((nic.gb_s.value, nic.latency_us.value), (24.0, 9.6));
    assert_eq!(cluster.link("m0-intra").map(|l| l.latency_us.value), Some(3.4));
}

#[test]
fn paddle_file_with_mesh_groups_is_read() {
    let machines = paddle(24.0, "NVIDIA A100-SXM4-80GB", [0, 1, 2, 3])["machines"].clone();
    let value = json!({"A100": {"machines": machines}});
    assert!(Cluster::from_json(&value.to_string()).expect("groups").device_types[0].memory_gb_s.value > 1500.0);
}

#[test]
fn paddle_file_at_fault_is_refused() {
    let text = |v: Value| Cluster::from_json(&v.to_string()).expect_err("fault").to_string();
    assert!(text(paddle(24.0, "GTX 480", [0, 1, 2, 3])).contains("unknown device model `GTX 480`"));
    assert!(text(paddle(0.0, "V100", [0, 1, 2, 3])).contains("bandwidth of link 0 -> 2 is 0"));
    assert!(text(paddle(24.0, "V100", [0, 1, 1, 3])).contains("defined twice"));
    let mut odd = paddle(24.0, "V100", [0, 1, 2, 3]);
    odd["machines"][0]["links"][0]["target_global_id"] = json!(77);
    assert!(text(odd).contains("unknown device `77`"));
}

#[test]
fn knees_change_the_wire_from_their_size_on() {
    let mut cluster = Cluster::preset("a100").expect("preset");
    let number = |v: f64| Sourced::measured(v, "test");
    cluster.links[0].knees = vec![Knee { from_bytes: 1e6, latency_us: number(20.0), gb_s: number(200.0) }];
    let link = &cluster.links[0];
    assert!((link.wire(1e5).latency_s - 3.4e-6).abs() < 1e-12);
    assert!((link.wire(1e6).latency_s - 20e-6).abs() < 1e-12 && link.wire(1e6).bytes_s == 200e9);
    cluster.links[0].knees.push(Knee { from_bytes: 1e5, latency_us: number(1.0), gb_s: number(1.0) });
    assert!(cluster.check().expect_err("order").to_string().contains("ascend"));
}

proptest! {
    /// Any change of one value gives a cluster or an error, never a panic; what is accepted passes its own check.
    #[test]
    fn damaged_description_never_panics(path in 0usize..400, kind in 0usize..7, number in any::<f64>()) {
        let mut value = a100();
        let mut at = 0;
        damage(&mut value, &mut at, path, &[json!(number), json!(-1), json!(0), Value::Null, json!("x"), json!([]), json!(u64::MAX)][kind]);
        if let Ok(cluster) = Cluster::from_json(&value.to_string()) {
            prop_assert!(cluster.check().is_ok());
            let _ = cluster.wire(0, cluster.device_count() - 1, 1e6);
        }
    }

    #[test]
    fn arbitrary_text_never_panics(text in ".{0,200}") {
        let _ = Cluster::from_json(&text);
        let _ = Cluster::preset(&text);
    }
}

/// Replaces the `target`-th value, counted depth first.
fn damage(value: &mut Value, at: &mut usize, target: usize, new: &Value) {
    if *at == target {
        *value = new.clone();
    }
    *at += 1;
    match value {
        Value::Array(list) => list.iter_mut().for_each(|v| damage(v, at, target, new)),
        Value::Object(map) => map.values_mut().for_each(|v| damage(v, at, target, new)),
        _ => {}
    }
}
