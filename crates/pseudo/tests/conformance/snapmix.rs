//! Semantic percent maps, shares and pixels of SnapMix's own code.

use crate::vectors::{Array, cases, classes, list, near, number, sizes};
use candle_core::{Device, Tensor};
use chandlery_pseudo::ssl::mix::{Blend, PercentMap, Plan, Rect, SampleMin, ShareRule, class_maps, shares};
use serde_json::Value;

fn rect(v: &Value) -> Rect {
    let b = sizes(v);
    Rect { row0: b[0], col0: b[1], row1: b[2], col1: b[3] }
}

fn tensor(v: &Value) -> Tensor {
    let a = Array::read(v);
    Tensor::from_vec(a.f32(), a.shape, &Device::Cpu).unwrap()
}

#[test]
fn boxes() {
    let all = cases(|c| c["group"] == "rand_bbox");
    for c in &all {
        let n = |name: &str| number(&c[name]) as usize;
        let got = Rect::around(n("rows"), n("cols"), number(&c["lam"]), (n("centre_row"), n("centre_col")));
        assert_eq!(got, rect(&c["box"]), "{}", c["id"]);
    }
    println!("{} boxes", all.len());
    assert!(!all.is_empty());
}

#[test]
fn semantic_mixing() {
    let all = cases(|c| c["fm"].is_object() && c["spm"].is_object());
    all.iter().for_each(check);
    println!("{} mixes", all.len());
    assert!(!all.is_empty());
}

fn check(c: &Value) {
    let id = c["id"].as_str().unwrap();
    let size = (number(&c["crop"]) as usize, number(&c["crop"]) as usize);
    let (labels, partners) = (classes(&c["labels"]), sizes(&c["perm"]));
    // The reference rectifies the feature maps once more.
    let features = tensor(&c["fm"]).relu().unwrap();
    let (maps, from) = class_maps(&tensor(&c["W"]), &features, &labels).unwrap();
    let maps: Vec<PercentMap> = maps.iter().map(|m| PercentMap::new(m, from, size, SampleMin::Exact)).collect();
    let dense: Vec<f64> = maps.iter().flat_map(PercentMap::dense).collect();
    near(&format!("{id} spm"), &dense, &list(&c["spm"]), 1e-6);

    let (dest, source) = (rect(&c["box_a"]), rect(&c["box_b"]));
    let applied = dest.area() > 0 && source.area() > 0;
    assert_eq!(applied, c["applied"].as_bool().unwrap(), "{id}");
    let blend = if applied { Blend::Paste { dest, source } } else { Blend::Keep };
    let rule = ShareRule { same_class_double: true, normalise: false };
    let (mut own, mut other) = (vec![], vec![]);
    for (n, &p) in partners.iter().enumerate() {
        let both = shares(&blend, Some((&maps[n], &maps[p])), labels[n] == labels[p], size, rule);
        own.push(both.own);
        other.push(both.partner);
    }
    near(&format!("{id} rho_a"), &own, &list(&c["rho_a"]), 1e-6);
    near(&format!("{id} rho_b"), &other, &list(&c["rho_b"]), 1e-6);
    let labels_b: Vec<u32> = partners.iter().map(|&p| labels[p]).collect();
    assert_eq!(labels_b, classes(&c["labels_b"]), "{id}");

    let plan = Plan { blends: vec![blend; partners.len()], partners };
    let mixed = plan.apply(&tensor(&c["image"])).unwrap();
    let values = |t: &Tensor| -> Vec<f64> {
        t.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
    };
    if c["mixed"].is_object() {
        near(&format!("{id} mixed"), &values(&mixed), &list(&c["mixed"]), 1e-5);
    } else {
        let of_planes = |f: fn(f64) -> f64| -> Vec<f64> {
            values(&mixed).chunks(size.0 * size.1).map(|plane| plane.iter().map(|&v| f(v)).sum()).collect()
        };
        let total = number(&c["mixed_sum_abs"]);
        near(&format!("{id} sums"), &of_planes(|v| v), &list(&c["mixed_sum"]), 1e-6 * total);
        near(&format!("{id} absolute sum"), &[of_planes(f64::abs).iter().sum()], &[total], 1e-6 * total);
    }
}
