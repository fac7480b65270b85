use super::*;
use proptest::prelude::*;

proptest! {
    /// Text of any kind is refused by every parser, without a panic.
    #[test]
    fn noise_is_refused(text in "[{}\\[\\]\":,=0-9a-z\\-\\.\n]{0,120}") {
        prop_assert!(crate::cluster::Cluster::from_json(&text).is_err());
        prop_assert!(crate::model::ModelSpec::parse(&text, "noise").is_err());
        prop_assert!(crate::graph::AnnotatedGraph::parse(&text, "noise").is_err());
        prop_assert!(crate::validate::rows(&text).is_err());
    }
}

#[test]
fn validate_prints_every_row_and_its_error() {
    let text = validate(&ValidateArgs::default()).expect("tables");
    for id in ["A-1.7B", "A-1008B", "B-1T-selective", "C-146B", "D-8B-a100-dp128", "table A", "(not averaged)"] {
        assert!(text.contains(id), "{id} is missing");
    }
}

#[test]
fn validate_calibrates_on_named_rows_and_refuses_unknown_ones() {
    let on = |ids: &[&str]| ValidateArgs {
        calibrate_on: ids.iter().map(|s| s.to_string()).collect(),
        ..ValidateArgs::default()
    };
    let text = validate(&on(&["B-22B-full", "B-1T-full"])).expect("calibrated");
    assert!(text.contains("calibrated on B-22B-full, B-1T-full: matrix x "), "{text}");
    assert!(validate(&on(&["Z-1"])).expect_err("unknown").to_string().contains("Z-1"));
}

#[test]
fn validate_keeps_rows_it_cannot_predict() {
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("table.json");
    let row = r#"{"rows": [{"id": "X-1", "table": "X", "hardware": "tpu-v9", "gpus": 4, "measured": [],
        "model": {"layers": 2, "hidden": 64, "heads": 4, "sequence": 8, "vocabulary": 16}, "parallel": {"global_batch": 4}}]}"#;
    std::fs::write(&path, row).expect("written");
    let args = ValidateArgs { table: Some(path.display().to_string()), json: true, ..ValidateArgs::default() };
    let text = validate(&args).expect("report");
    assert!(text.contains("X-1") && text.contains("unknown cluster preset `tpu-v9`"), "{text}");
    let missing = ValidateArgs { table: Some("/nowhere/t.json".into()), ..ValidateArgs::default() };
    assert!(validate(&missing).expect_err("no file").to_string().contains("/nowhere/t.json"));
}

#[test]
fn plan_refuses_what_it_does_not_know() {
    let args =
        |model: &str, cluster: &str| PlanArgs { model: model.into(), cluster: cluster.into(), ..PlanArgs::default() };
    assert!(plan(&args("gpt-9000", "a100-8")).expect_err("model").to_string().contains("gpt-9000"));
    assert!(plan(&args("gpt-175b", "abacus")).expect_err("cluster").to_string().contains("abacus"));
    let zero = PlanArgs { global_batch: Some(0), ..args("gpt-175b", "a100-8") };
    assert!(plan(&zero).expect_err("batch").to_string().contains("1 to 1048576"));
}

#[test]
fn usual_batches_grow_with_the_model() {
    assert_eq!(default_batch(175_000_000_000, 2048), 1536);
    assert!(default_batch(1_000_000, 128) >= 256);
    assert_eq!(default_batch(1, 1 << 30), 1);
}
