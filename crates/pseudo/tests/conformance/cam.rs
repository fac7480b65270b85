//! Class activation maps against pytorch-grad-cam: raw maps, channel weights, maps scaled for the eye.

use candle_core::{Device, Tensor};
use chandlery_pseudo::cam::{
    Activations, Corners, Fill, Head, Layout, Map, Method, Probe, Settings, ablation_weights, by_logit, closed_form,
    explain, rivals, slope_weights,
};
use serde_json::Value;

use crate::vectors::{Array, cases, close, number};

/// Singular values closer than this leave the direction to rounding.
const TIED: f64 = 0.999;

struct Case {
    json: Value,
    acts: Array,
    weight: Array,
    bias: Array,
    target: usize,
    input: (usize, usize),
}

impl Case {
    fn read(json: Value) -> Self {
        let size = |name: &str| json[name].as_u64().unwrap_or_else(|| panic!("{name} of {}", json["id"])) as usize;
        let array = |name: &str| Array::read(&json[name]);
        Self {
            acts: array("A"),
            weight: array("W"),
            bias: array("b"),
            target: size("target"),
            input: (size("input_h"), size("input_w")),
            json,
        }
    }

    fn what(&self, name: &str, part: &str) -> String {
        format!("{} {name} {part}", self.json["id"])
    }

    fn shape(&self) -> [usize; 3] {
        self.acts.shape.clone().try_into().unwrap()
    }
}

fn all() -> Vec<Case> {
    cases(|c| c["methods"].is_object() && c["A"].is_object() && c["W"].is_object())
        .into_iter()
        .map(Case::read)
        .collect()
}

fn method_of(name: &str) -> Method {
    match name {
        "gradcam" => Method::GradCam,
        "hirescam" => Method::HiResCam,
        "gradcam_pp" => Method::GradCamPlusPlus,
        "xgradcam" => Method::XGradCam,
        "layercam" => Method::LayerCam,
        "eigencam" => Method::EigenCam,
        "eigengradcam" => Method::EigenGradCam,
        "ablationcam" => Method::AblationCam,
        "scorecam" => Method::ScoreCam,
        "cam" => Method::Cam,
        other if other.starts_with("finercam") => Method::FinerCam,
        other => panic!("no method for {other}"),
    }
}

fn settings_of(expected: &Value) -> Settings {
    let mut settings = Settings { ablation_fill: Fill::Package, ..Settings::default() };
    if !expected["alpha"].is_null() {
        settings.finer_alpha = number(&expected["alpha"]);
    }
    settings
}

fn is_eigen(method: Method) -> bool {
    matches!(method, Method::EigenCam | Method::EigenGradCam)
}

/// Compares a map with `raw` and `scaled`, the direction of an Eigen map taken from `raw`. False if nothing could be said.
fn check_map(case: &Case, name: &str, expected: &Value, map: &Map, relative: f64) -> bool {
    let method = method_of(name);
    let raw = Array::read(&expected["raw"]);
    if !raw.is_finite() {
        return false;
    }
    assert_eq!([map.height(), map.width()], raw.shape[..], "{}", case.what(name, "size"));
    let turned = is_eigen(method) && {
        let dot: f64 = map.values().iter().zip(&raw.data).map(|(&g, e)| f64::from(g) * e).sum();
        dot < 0.0
    };
    let map = if turned { map.negated() } else { map.clone() };
    close(&case.what(name, "raw"), map.values(), &raw.data, relative * raw.largest());
    if method == Method::Cam {
        let low = map.min_max();
        let expect = |part: &str| Array::read(&expected[part]);
        let finite = expect("minmax_lowres").is_finite();
        if finite {
            close(&case.what(name, "minmax_lowres"), low.values(), &expect("minmax_lowres").data, 2e-6);
            let (h, w) = case.input;
            let large = low.resized(h, w, Corners::Half).unwrap();
            close(&case.what(name, "minmax_then_bilinear"), large.values(), &expect("minmax_then_bilinear").data, 2e-6);
        }
        return finite;
    }
    let allowed = if is_eigen(method) || method == Method::AblationCam { 1e-3 } else { 2e-4 };
    for (part, map) in [("scaled", map.clone()), ("scaled_if_sign_flipped", map.negated())] {
        if expected[part].is_object() {
            let scaled = map.scaled(case.input.0, case.input.1).unwrap();
            close(&case.what(name, part), scaled.values(), &Array::read(&expected[part]).data, allowed);
        }
    }
    true
}

fn tied(expected: &Value) -> bool {
    let Some(top) = expected["singular_values_top2"].as_array() else { return false };
    let (first, second) = (number(&top[0]), number(&top[1]));
    second > TIED * first
}

/// Runs `check` on each method of each case but Score-CAM, which needs images.
fn each_layer_method(mut check: impl FnMut(&Case, &str, Method, &Value) -> bool) -> (usize, usize) {
    let (mut checked, mut left) = (0, 0);
    for case in all() {
        for (name, expected) in case.json["methods"].as_object().unwrap() {
            let method = method_of(name);
            if method == Method::ScoreCam {
                continue;
            }
            if tied(expected) || !check(&case, name, method, expected) {
                left += 1;
            } else {
                checked += 1;
            }
        }
    }
    (checked, left)
}

#[test]
fn closed_forms_are_those_of_pytorch_grad_cam() {
    let (checked, left) = each_layer_method(|case, name, method, expected| {
        let (values, weight, bias) = (case.acts.f32(), case.weight.f32(), case.bias.f32());
        let [k, h, w] = case.shape();
        let acts = Activations::new(&values, k, h, w).unwrap();
        let head = Head::new(&weight, Some(&bias), case.weight.shape[0], k).unwrap();
        let settings = settings_of(expected);
        let map = closed_form(method, &acts, &head, case.target, &settings).unwrap();
        let loose = is_eigen(method) || method == Method::AblationCam;
        let relative = if loose { 1e-4 } else { 1e-6 };

        let logits = head.logits(&acts).unwrap();
        if case.json["logits"].is_object() {
            let got: Vec<f32> = logits.iter().map(|&z| z as f32).collect();
            close(&case.what(name, "logits"), &got, &Array::read(&case.json["logits"]).data, 1e-5);
        }
        if let Some(comparison) = expected["comparison"].as_array() {
            let expected: Vec<usize> = comparison.iter().map(|v| number(v) as usize).collect();
            assert_eq!(rivals(&logits, case.target, settings.finer_rivals), expected, "{}", case.what(name, "rivals"));
        }
        if expected["weights"].is_object() {
            let got = match method {
                Method::AblationCam => ablation_weights(&acts, &head, case.target, settings.ablation_fill).unwrap(),
                _ => {
                    let by = by_logit(method, &logits, case.target, &settings).unwrap();
                    slope_weights(method, &acts, &head.slope(&by, h * w)).unwrap()
                }
            };
            let weights = Array::read(&expected["weights"]);
            let got: Vec<f32> = got.iter().map(|&v| v as f32).collect();
            if weights.is_finite() {
                close(&case.what(name, "weights"), &got, &weights.data, relative * weights.largest());
            }
        }
        check_map(case, name, expected, &map, relative)
    });
    println!("{checked} maps agree, {left} could not be compared");
    assert!(checked > 0, "no case of the format");
}

/// Global mean and linear map of `[n, k, h, w]`.
fn head_forward(maps: &Tensor, weight: &Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
    maps.mean((2, 3))?.matmul(&weight.t()?)?.broadcast_add(bias)
}

fn tensor(array: &Array) -> Tensor {
    Tensor::from_vec(array.f32(), array.shape.clone(), &Device::Cpu).unwrap()
}

#[test]
fn the_gradient_route_agrees_with_pytorch_grad_cam() {
    let (checked, left) = each_layer_method(|case, name, method, expected| {
        if method == Method::Cam {
            return false;
        }
        let (weight, bias) = (tensor(&case.weight), tensor(&case.bias));
        let logits = |maps: &Tensor| head_forward(maps, &weight, &bias);
        let probe = Probe { features: &|x: &Tensor| Ok(x.clone()), logits: &logits, layout: Layout::Maps, head: None };
        let images = tensor(&case.acts).unsqueeze(0).unwrap();
        // An f32 logit of 1e7 keeps seven digits of what the other channels add.
        let huge = case.json["group"] == "ablation_no_zero";
        let map = explain(&probe, &images, &[case.target], method, &settings_of(expected)).unwrap().remove(0);
        check_map(case, name, expected, &map, if huge { 1e-3 } else { 1e-4 })
    });
    println!("{checked} maps agree, {left} could not be compared");
    assert!(checked > 0, "no case of the format");
}

#[test]
fn score_cam_is_that_of_pytorch_grad_cam() {
    let mut checked = 0;
    for case in all() {
        let Some(expected) = case.json["methods"].get("scorecam") else { continue };
        let array = |name: &str| tensor(&Array::read(&case.json[name]));
        let (image, filters, shift) = (array("image"), array("conv_weight"), array("conv_bias"));
        let (stride, padding) = (number(&case.json["stride"]) as usize, number(&case.json["padding"]) as usize);
        let features = |x: &Tensor| {
            let shift = shift.reshape((1, (), 1, 1))?;
            x.conv2d(&filters, padding, stride, 1, 1)?.broadcast_add(&shift)?.relu()
        };
        let (weight, bias) = (tensor(&case.weight), tensor(&case.bias));
        let logits = |maps: &Tensor| head_forward(maps, &weight, &bias);
        let probe = Probe { features: &features, logits: &logits, layout: Layout::Maps, head: None };
        let images = image.unsqueeze(0).unwrap();
        let found = features(&images).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        close(&case.what("scorecam", "A"), &found, &case.acts.data, 1e-5);
        // A batch that does not divide the channels.
        let settings = Settings { batch: 3, ..Settings::default() };
        let map = explain(&probe, &images, &[case.target], Method::ScoreCam, &settings).unwrap().remove(0);
        assert!(check_map(&case, "scorecam", expected, &map, 1e-4), "{}", case.what("scorecam", "not finite"));
        checked += 1;
    }
    println!("{checked} maps agree");
    assert!(checked > 0, "no case of the format");
}
