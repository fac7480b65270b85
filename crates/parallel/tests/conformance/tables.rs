//! The gates on published training measurements. Constants are those shipped with the presets, fitted on table A; B, C and D
//! were not used.

use chandlery_parallel::validate::{Report, Row, Summary, leave_one_out, rows, validate};

/// All tables of the folder: text, rows and report.
fn tables() -> Vec<(String, Report)> {
    let form =
        |d: &serde_json::Value| d.get("rows").and_then(|r| r.get(0)).is_some_and(|r| r.get("measured").is_some());
    let found: Vec<_> = super::documents().into_iter().filter(|(_, d)| form(d)).collect();
    assert!(!found.is_empty(), "no table of measurements; is CHANDLERY_VECTORS right?");
    let report = |d: serde_json::Value| {
        let text = d.to_string();
        let report = validate(&text, &[]).expect("table");
        (text, report)
    };
    found.into_iter().map(|(_, d)| report(d)).collect()
}

/// Averages over the rows of one table in every file that has it.
fn summaries(table: &str, keep: impl Fn(&str) -> bool) -> Vec<Summary> {
    let all = tables();
    let of = |r: &Report| r.summary(table, |row| keep(&row.hardware));
    all.iter().map(|(_, r)| of(r)).filter(|s| s.rows > 0).collect()
}

fn gate(table: &str, mean: f64, max: f64, keep: impl Fn(&str) -> bool) {
    for s in summaries(table, keep) {
        assert!(s.mean <= mean && s.max <= max, "table {table}: {s:?}, gate {mean} % mean, {max} % max");
    }
}

#[test]
fn conformance_every_row_is_reported() {
    for (text, report) in tables() {
        let rows = rows(&text).expect("rows");
        assert_eq!(rows.len(), report.residuals.len());
        let printed = report.to_text();
        for (row, residual) in rows.iter().zip(&report.residuals) {
            assert_eq!(row.id, residual.id);
            assert!(printed.contains(&row.id), "{} is not printed", row.id);
            assert!(residual.unpredicted.is_some() || residual.error_percent.is_finite());
        }
    }
}

#[test]
fn conformance_table_a_is_fitted_within_its_gate() {
    gate("A", 3.0, 7.0, |_| true);
}

#[test]
fn conformance_table_a_holds_when_each_row_is_left_out() {
    for (text, _) in tables() {
        let rows = rows(&text).expect("rows");
        let a: Vec<&Row> = rows.iter().filter(|r| r.table == "A").collect();
        if a.len() < 5 {
            continue;
        }
        let errors: Vec<f64> = leave_one_out(&a).iter().map(|r| r.error_percent.abs()).collect();
        let mean = errors.iter().sum::<f64>() / errors.len() as f64;
        println!("left out: mean {mean:.2} % {errors:.2?}");
        assert!(mean <= 3.5, "{errors:?}");
    }
}

#[test]
fn conformance_table_b_is_predicted_without_calibration() {
    gate("B", 8.0, f64::INFINITY, |_| true);
}

#[test]
fn conformance_table_c_is_predicted_without_calibration() {
    gate("C", 8.0, 8.0, |_| true);
}

#[test]
fn conformance_table_d_on_v100_is_predicted_without_calibration() {
    gate("D", 5.0, f64::INFINITY, |hardware| hardware.starts_with("v100"));
}

#[test]
fn conformance_two_rows_calibrate_table_b() {
    for (text, report) in tables() {
        let ids = ["B-22B-full", "B-530B-selective"].map(String::from);
        if !ids.iter().all(|id| report.residuals.iter().any(|r| &r.id == id)) {
            continue;
        }
        let calibrated = validate(&text, &ids).expect("table").summary("B", |_| true);
        assert!(calibrated.mean <= 4.0 && calibrated.mean < report.summary("B", |_| true).mean, "{calibrated:?}");
    }
}
