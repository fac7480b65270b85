//! Calibration and ranking measures of torchmetrics, netcal, scikit-learn and torch-uncertainty.

use crate::vectors::{cases, classes, list, near, number};
use chandlery_pseudo::trust::*;
use serde_json::Value;

/// What scikit-learn's values were computed with: probabilities are raised to this.
const FLOOR: f64 = 1.0 / (1_u64 << 40) as f64;

fn predictions(c: &Value) -> Predictions {
    let mut all = Predictions::new(number(&c["C"]) as usize);
    all.push(&list(&c["probs"]), &classes(&c["target"])).unwrap();
    all
}

/// Compares every expected value of a case; `of` gives ours by the name the vectors use.
fn expect(c: &Value, of: impl Fn(&str) -> f64) {
    for (name, value) in c["expected"].as_object().unwrap() {
        // torchmetrics rounds to f32.
        let allowed = if name.starts_with("torchmetrics") { 1e-6 } else { 1e-9 };
        near(&format!("{} {name}", c["id"]), &[of(name)], &[number(value)], allowed);
    }
}

fn of_reliability(r: &Reliability, kind: &str) -> f64 {
    match kind {
        "l1" => r.ece(),
        "l2" => r.ece_l2(),
        "max" => r.max_gap(),
        other => panic!("norm {other}"),
    }
}

/// `.._ece15_l1` becomes 15 bins and `l1`.
fn bins_of(name: &str) -> (usize, &str) {
    let (_, rest) = name.split_once("ece").unwrap();
    let (bins, kind) = rest.split_once('_').unwrap();
    (bins.parse().unwrap(), kind)
}

#[test]
fn multiclass() {
    let all = cases(|c| c["probs"].is_array() && c["C"].is_number() && c["group"] == "multiclass");
    for c in &all {
        let p = predictions(c);
        let netcal = |n: &str| Reliability::new(&p.judged(), n.parse().unwrap(), LastBin::Closed);
        expect(c, |name| match name {
            "accuracy" => p.accuracy(),
            "sklearn_log_loss" => p.log_loss(FLOOR),
            "sklearn_brier_multiclass" | "brier_sum_over_classes_mean_over_samples" => p.brier(),
            "torch_uncertainty_aurc" => p.risk_coverage().aurc(),
            "mean_selective_risk" => p.risk_coverage().mean_selective_risk(),
            _ if name.starts_with("netcal_ece") => netcal(&name[10..]).ece(),
            _ if name.starts_with("netcal_mce") => netcal(&name[10..]).max_gap(),
            _ => {
                let (bins, kind) = bins_of(name);
                of_reliability(&p.reliability(bins), kind)
            }
        });
    }
    println!("{} cases", all.len());
    assert!(!all.is_empty());
}

#[test]
fn multiclass_areas() {
    let all = cases(|c| c["group"] == "multiclass_auc");
    for c in &all {
        let p = predictions(c);
        expect(c, |name| match name {
            "roc_auc_ovr_macro" => multiclass_roc_auc(&p, Average::Macro).unwrap(),
            "roc_auc_ovr_weighted" => multiclass_roc_auc(&p, Average::Weighted).unwrap(),
            "roc_auc_ovo_macro" => roc_auc_one_vs_one(&p).unwrap(),
            "average_precision_macro" => multiclass_average_precision(&p, Average::Macro).unwrap(),
            "average_precision_micro" => multiclass_average_precision(&p, Average::Micro).unwrap(),
            other => panic!("{}: no measure {other}", c["id"]),
        });
    }
    assert!(!all.is_empty());
}

fn judged(confidences: &[f64], correct: &[bool]) -> Vec<Judged> {
    confidences.iter().zip(correct).map(|(&confidence, &correct)| Judged { confidence, correct }).collect()
}

fn flags(v: &Value) -> Vec<bool> {
    list(v).into_iter().map(|x| x != 0.0).collect()
}

#[test]
fn binary() {
    let all = cases(|c| c["group"] == "binary" && c["scores"].is_array());
    for c in &all {
        let (scores, positive) = (list(&c["scores"]), flags(&c["target"]));
        let plain = Ranking::new(&scores, &positive, None).unwrap();
        let weighted = Ranking::new(&scores, &positive, Some(&list(&c["sample_weight"]))).unwrap();
        let mut p = Predictions::new(2);
        let two: Vec<f64> = scores.iter().flat_map(|&s| [1.0 - s, s]).collect();
        p.push(&two, &classes(&c["target"])).unwrap();
        expect(c, |name| match name {
            "roc_auc" => roc_auc(&plain),
            "roc_auc_weighted" => roc_auc(&weighted),
            "average_precision" => average_precision(&plain),
            "average_precision_weighted" => average_precision(&weighted),
            // The distance to a one-hot label counts both classes.
            "brier" => p.brier() / 2.0,
            _ => {
                let (bins, kind) = bins_of(name);
                of_reliability(&Reliability::new(&judged(&scores, &positive), bins, LastBin::OwnBucket), kind)
            }
        });
        let id = c["id"].as_str().unwrap();
        if c["roc_curve"].is_object() {
            let (ours, theirs) = (roc_curve(&plain), &c["roc_curve"]);
            near(id, &ours.fpr, &list(&theirs["fpr"]), 1e-9);
            near(id, &ours.tpr, &list(&theirs["tpr"]), 1e-9);
            near(id, &ours.thresholds, &list(&theirs["thresholds"]), 0.0);
        }
        if c["pr_curve"].is_object() {
            let (ours, theirs) = (precision_recall_curve(&plain), &c["pr_curve"]);
            near(id, &ours.precision, &list(&theirs["precision"]), 1e-9);
            near(id, &ours.recall, &list(&theirs["recall"]), 1e-9);
            near(id, &ours.thresholds, &list(&theirs["thresholds"]), 0.0);
        }
    }
    println!("{} cases", all.len());
    assert!(!all.is_empty());
}

#[test]
fn binary_on_the_edges() {
    let all = cases(|c| c["group"] == "binary_bin_edges");
    for c in &all {
        let judged = judged(&list(&c["probs"]), &flags(&c["target"]));
        let bins = number(&c["n_bins"]) as usize;
        expect(c, |_| Reliability::new(&judged, bins, LastBin::OwnBucket).ece());
    }
    assert!(!all.is_empty());
}

#[test]
fn selective_risk() {
    let all = cases(|c| c["group"] == "aurc");
    for c in &all {
        let right: Vec<bool> = flags(&c["error"]).into_iter().map(|e| !e).collect();
        let curve = RiskCoverage::new(&judged(&list(&c["confidence"]), &right));
        expect(c, |name| match name {
            "torch_uncertainty_aurc" => curve.aurc(),
            "mean_selective_risk" => curve.mean_selective_risk(),
            other => panic!("{}: no measure {other}", c["id"]),
        });
    }
    assert!(!all.is_empty());
}
