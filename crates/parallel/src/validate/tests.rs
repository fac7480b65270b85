use super::*;
use proptest::prelude::*;

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

#[test]
fn text_that_is_no_table_is_refused() {
    assert!(rows("[]").is_err() && rows("{").is_err() && rows("{\"rows\": 3}").is_err());
}

#[test]
fn formulas_agree_with_the_published_throughput() {
    let all = rows(TABLES).expect("tables");
    let row = all.iter().find(|r| r.id == "D-1B-v100").expect("row");
    let case = row.case.as_ref().expect("case");
    let flops = step_flops(Some("96"), &case.model, 8.0);
    assert!((flops / 1.121 / 1e12 - 71.9).abs() < 0.1, "{}", flops / 1.121 / 1e12);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// A row with any value replaced is predicted or explained, never a panic, never lost.
    #[test]
    fn damaged_row_is_kept(row in 0usize..34, path in 0usize..70, kind in 0usize..8, number in any::<u32>()) {
        let table: Value = serde_json::from_str(TABLES).expect("json");
        let mut one = table["rows"][row].clone();
        let new = [serde_json::json!(number), serde_json::json!(0), serde_json::json!(-1), Value::Null,
            serde_json::json!("x"), serde_json::json!([]), serde_json::json!(1e300), serde_json::json!(u64::MAX)][kind].clone();
        damage(&mut one, &mut 0, path + 1, &new);
        let text = serde_json::json!({ "rows": [one] }).to_string();
        let report = validate(&text, &[]).expect("a table");
        prop_assert_eq!(report.residuals.len(), 1);
        prop_assert!(report.residuals[0].unpredicted.is_some() || report.residuals[0].error_percent.is_finite());
    }
}
