//! Masks, weights, thresholds and losses of the semi-supervised methods of USB.

use crate::vectors::{cases, classes, list, near, number, sizes};
use candle_core::{DType, Device, Tensor, Var};
use chandlery_kernels::{CrossEntropy, cross_entropy_soft};
use chandlery_pseudo::ssl::*;
use chandlery_pseudo::trust;
use serde_json::Value;

/// The method of a case.
fn method(c: &Value, n_classes: usize) -> WeightingConfig {
    let config = &c["config"];
    let flag = |name: &str| config[name].as_bool().unwrap_or(false);
    let f = |name: &str| number(&config[name]);
    match c["method"].as_str().unwrap() {
        "fixmatch" => WeightingConfig::Fixmatch(ThresholdConfig { threshold: f("p_cutoff") }),
        "flexmatch" => {
            WeightingConfig::Flexmatch(FlexMatchConfig { threshold: f("p_cutoff"), warmup: flag("thresh_warmup") })
        }
        "freematch" => {
            let quantile = flag("use_quantile").then_some(0.8);
            let adaptive =
                AdaptiveConfig { ema: f("ema"), quantile, clip: flag("clip_thresh"), ..AdaptiveConfig::default() };
            WeightingConfig::Freematch(FreeMatchConfig { adaptive, fairness: 1.0 })
        }
        "softmatch" => WeightingConfig::Softmatch(SoftMatchConfig {
            ema: f("ema"),
            n_sigma: f("n_sigma"),
            align: serde_json::from_value(config["align"].clone()).unwrap(),
            aligned_moments: true,
            per_class: flag("per_class"),
        }),
        other => panic!("{}: no test for method {other} over {n_classes} classes", c["id"]),
    }
}

/// Probabilities of the labelled batch, under whichever name they are given.
fn labelled(step: &Value) -> Option<Vec<f32>> {
    let known = ["label_hist", "classwise_acc"];
    let fits = |name: &str| !known.contains(&name) && (name.contains("lb") || name.contains("label"));
    let (_, probs) = step.as_object()?.iter().find(|(name, v)| fits(name) && (v.is_array() || v.is_object()))?;
    Some(list(probs).into_iter().map(|p| p as f32).collect())
}

fn unsupervised_loss(logits: &Tensor, verdict: &Verdict, c: usize) -> f64 {
    let mut rows = vec![0.0; verdict.labels.len() * c];
    for (i, (&label, &w)) in verdict.labels.iter().zip(&verdict.weights).enumerate() {
        rows[i * c + label as usize] = f64::from(w);
    }
    let rows = Tensor::from_vec(rows, logits.shape(), &Device::Cpu).unwrap().to_dtype(logits.dtype()).unwrap();
    let sum = cross_entropy_soft(logits, &rows, &CrossEntropy::sum()).unwrap();
    scalar(&sum) / verdict.labels.len() as f64
}

fn scalar(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// `a * (1e-5) + 1e-5` around a loss in f32, closer in f64.
fn allowed(dtype: DType, value: f64) -> f64 {
    if dtype == DType::F64 { 1e-9 * (1.0 + value.abs()) } else { 1e-5 * (1.0 + value.abs()) }
}

fn check(c: &Value, dtype: DType) {
    let (id, n_classes) = (c["id"].as_str().unwrap(), number(&c["C"]) as usize);
    let config = method(c, n_classes);
    let n_unlabelled = c["config"]["ulb_len"].as_u64().unwrap_or(0) as usize;
    let mut weighting = config.build(n_classes, n_unlabelled).unwrap();
    for (t, step) in c["steps"].as_array().unwrap().iter().enumerate() {
        let at = format!("{id} step {t}");
        let probs: Vec<f32> = list(&step["probs"]).into_iter().map(|p| p as f32).collect();
        let n = probs.len() / n_classes;
        let indices = if step["idx"].is_null() { (0..n).collect() } else { sizes(&step["idx"]) };
        let before = weighting.thresholds();
        let labelled = labelled(step);
        // A state that was saved and loaded must serve as well as one that was not.
        let mut fresh = config.build(n_classes, n_unlabelled).unwrap();
        fresh.load(serde_json::from_str(&weighting.save().unwrap().to_string()).unwrap()).unwrap();
        weighting = fresh;
        let seen = Observation { probs: &probs, n_classes, indices: &indices, labelled: labelled.as_deref() };
        let verdict = weighting.observe(&seen);
        assert_eq!(verdict.labels, classes(&step["pseudo"]), "{at} pseudo-labels");
        let weights: Vec<f64> = verdict.weights.iter().map(|&w| f64::from(w)).collect();
        let slack = if c["method"] == "softmatch" { 1e-6 } else { 0.0 };
        near(&format!("{at} mask"), &weights, &list(&step["mask"]), slack);
        check_state(&at, step, &weighting.save().unwrap(), before, weighting.thresholds());

        let logits = Tensor::from_vec(list(&step["strong_logits"]), (n, n_classes), &Device::Cpu).unwrap();
        let logits = Var::from_tensor(&logits.to_dtype(dtype).unwrap()).unwrap();
        let loss = number(&step["unsup_loss"]);
        // The weights of SoftMatch are rounded to f32.
        let slack = if c["method"] == "softmatch" { 1e-6 } else { allowed(dtype, loss) };
        near(
            &format!("{at} loss"),
            &[unsupervised_loss(&logits, &verdict, n_classes)],
            &[loss],
            slack.max(allowed(dtype, loss)),
        );
        if !step["fairness_loss"].is_null() {
            check_fairness(&at, step, weighting.as_ref(), &verdict, &logits);
        }
    }
    if !c["final_selected_label"].is_null() {
        near(id, &list(&weighting.save().unwrap()["selected_label"]), &list(&c["final_selected_label"]), 0.0);
    }
}

fn check_state(at: &str, step: &Value, state: &Value, before: Option<Vec<f64>>, after: Option<Vec<f64>>) {
    let as_list = |v: &Value| if v.is_array() || v.is_object() { list(v) } else { vec![number(v)] };
    let inside = |name: &str| match name {
        "tau" | "p_model" if step["p_model"].is_array() || !step["tau"].is_null() => state["adaptive"][name].clone(),
        "da_p_model" => state["p_model"].clone(),
        "da_p_target" => state["p_target"].clone(),
        _ => state[name].clone(),
    };
    for name in ["tau", "p_model", "label_hist", "classwise_acc", "mu", "var", "da_p_model", "da_p_target"] {
        if !step[name].is_null() {
            near(&format!("{at} {name}"), &as_list(&inside(name)), &as_list(&step[name]), 1e-10);
        }
    }
    if !step["threshold_used"].is_null() {
        // FlexMatch judges a batch by what was before it.
        let used = if step["classwise_acc"].is_null() { after } else { before };
        near(&format!("{at} thresholds"), &used.unwrap(), &list(&step["threshold_used"]), 1e-10);
    }
}

fn check_fairness(at: &str, step: &Value, weighting: &dyn Weighting, verdict: &Verdict, logits: &Var) {
    let loss = weighting.auxiliary(logits, verdict).unwrap();
    let expected = number(&step["fairness_loss"]);
    let got = loss.as_ref().map_or(0.0, scalar);
    near(&format!("{at} fairness"), &[got], &[expected], allowed(logits.dtype(), expected));
    if step["fairness_grad"].is_null() && step["fairness_grad_abs_sum"].is_null() {
        return;
    }
    let grad = match &loss {
        Some(loss) => loss.backward().unwrap().get(logits).unwrap().clone(),
        None => logits.zeros_like().unwrap(),
    };
    let grad: Vec<f64> = grad.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let slack = allowed(logits.dtype(), 0.0);
    if !step["fairness_grad"].is_null() {
        near(&format!("{at} fairness gradient"), &grad, &list(&step["fairness_grad"]), slack);
    }
    let sum: f64 = grad.iter().map(|g| g.abs()).sum();
    near(&format!("{at} fairness gradient"), &[sum], &[number(&step["fairness_grad_abs_sum"])], 10.0 * slack);
}

#[test]
fn methods() {
    let all = cases(|c| c["method"].is_string() && c["steps"].is_array() && c["C"].is_number());
    for c in &all {
        check(c, DType::F64);
        check(c, DType::F32);
    }
    println!("{} sequences", all.len());
    assert!(!all.is_empty());
}

#[test]
fn quantiles() {
    let all = cases(|c| c["group"] == "quantile");
    for c in &all {
        let got = trust::quantile(&list(&c["values"]), number(&c["q"]));
        near(c["id"].as_str().unwrap(), &[got], &[number(&c["expected"])], 1e-10);
    }
    assert!(!all.is_empty());
}
