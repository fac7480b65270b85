//! Conformance with PyTorch in f64: every case of every file of the format in the folder `CHANDLERY_VECTORS` (default
//! `fixtures/golden`), once on the f32 kernels and once on the composed f64 operations.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

mod vectors;

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery_kernels as ck;
use chandlery_kernels::optim::{self, Adafactor, Adam, NAdam, Norm, RmsProp, Rule, Sgd, Slot, Step};
use serde_json::Value;
use vectors::{Case, Tolerance};

/// The result of the operation of `case`, or `None` if another suite covers it.
fn forward(case: &Case) -> Result<Option<Tensor>> {
    let t = |name: &str| case.input(name);
    let eps = || case.attr_f64("eps").unwrap_or(1e-5);
    let y = match case.op() {
        "layer_norm" => affine_norm(case, |x, w, b| ck::layer_norm(x, w, b, eps()))?,
        "rms_norm" => affine_norm(case, |x, w, _| ck::rms_norm(x, w, eps()))?,
        "gelu_erf" => ck::gelu_erf(&t("x"))?,
        "gelu_tanh" => ck::gelu_tanh(&t("x"))?,
        "silu" => ck::silu(&t("x"))?,
        "softmax" => ck::softmax(&t("x"), case.dim("x"))?,
        "log_softmax" => ck::log_softmax(&t("x"), case.dim("x"))?,
        "softmax_causal" => ck::softmax_causal(&t("x"), case.attr_f64("diagonal").unwrap_or(0.0) as i64)?,
        "embedding" => padded_embedding(case)?,
        "cross_entropy" => cross_entropy(case)?,
        "sdpa_causal" | "sdpa_mask" | "sdpa_gqa" => attention(case)?,
        "conv2d" => conv2d(case)?,
        "max_pool2d" => ck::max_pool2d(&t("x"), &pool(case))?,
        "avg_pool2d" => ck::avg_pool2d(&t("x"), &pool(case))?,
        "adaptive_avg_pool2d" => ck::adaptive_avg_pool2d(&t("x"), case.pair("output_size").expect("output_size"))?,
        "adaptive_max_pool2d" => ck::adaptive_max_pool2d(&t("x"), case.pair("output_size").expect("output_size"))?,
        "batch_norm_train" | "batch_norm_eval" => batch_norm(case)?,
        "upsample_bilinear" => {
            let align_corners = case.attr("align_corners").and_then(Value::as_bool).unwrap_or(false);
            assert_ne!(case.attr("antialias").and_then(Value::as_bool), Some(true), "{}: antialias", case.id());
            ck::resize_bilinear(&t("x"), case.pair("size").expect("size"), align_corners)?
        }
        _ => return Ok(None),
    };
    Ok(Some(y))
}

fn conv2d(case: &Case) -> Result<Tensor> {
    let pair = |name: &str, default: usize| case.pair(name).unwrap_or([default; 2]);
    let [top, left] = pair("padding", 0);
    let config = ck::Conv2d {
        stride: pair("stride", 1),
        padding: [top, top, left, left],
        dilation: pair("dilation", 1),
        groups: case.attr_f64("groups").unwrap_or(1.0) as usize,
    };
    ck::conv2d(&case.input("x"), &case.input("weight"), case.get_input("bias").as_ref(), &config)
}

fn pool(case: &Case) -> ck::Pool2d {
    let flag = |name: &str, default: bool| case.attr(name).and_then(Value::as_bool).unwrap_or(default);
    let kernel = case.pair("kernel").expect("kernel");
    ck::Pool2d {
        kernel,
        stride: case.pair("stride").unwrap_or(kernel),
        padding: case.pair("padding").unwrap_or([0; 2]),
        dilation: case.pair("dilation").unwrap_or([1; 2]),
        ceil_mode: flag("ceil_mode", false),
        count_include_pad: flag("count_include_pad", true),
        divisor: case.attr_f64("divisor_override").map(|d| d as usize),
    }
}

/// Checks the running statistics on the way.
fn batch_norm(case: &Case) -> Result<Tensor> {
    let x = case.input("x");
    let c = x.dim(1)?;
    let constant = |name: &str, value: f64| match case.get_input(name) {
        Some(t) => Ok(t),
        None => Tensor::full(value, c, x.device())?.to_dtype(x.dtype()),
    };
    let (weight, bias) = (constant("weight", 1.0)?, constant("bias", 0.0)?);
    let eps = case.attr_f64("eps").unwrap_or(1e-5);
    let (mut mean, mut var) = (constant("running_mean", 0.0)?, constant("running_var", 1.0)?);
    if case.op() == "batch_norm_eval" {
        return ck::batch_norm_eval(&x, &weight, &bias, &mean, &var, eps);
    }
    let momentum = case.attr_f64("momentum").unwrap_or(0.1);
    let count = (x.elem_count() / c) as f64;
    let (y, batch_mean, batch_var) = ck::batch_norm_train(&x, &weight, &bias, eps)?;
    for _ in 0..case.attr_f64("forward_calls").unwrap_or(1.0) as usize {
        mean = ((mean * (1.0 - momentum))? + (&batch_mean * momentum)?)?;
        var = ((var * (1.0 - momentum))? + (&batch_var * (momentum * count / (count - 1.0)))?)?;
    }
    for (name, have) in [("running_mean_after", mean), ("running_var_after", var)] {
        if !case.field("outputs")[name].is_null() {
            case.compare(name, &have, &case.tensor("outputs", name), case.tolerance(name, false));
        }
    }
    Ok(y)
}

/// Normalisation over several dimensions is one over their product.
fn affine_norm(case: &Case, norm: impl Fn(&Tensor, &Tensor, Option<&Tensor>) -> Result<Tensor>) -> Result<Tensor> {
    let x = case.input("x");
    let width: usize = case.attr_dims("normalized_shape").iter().product();
    let flat = x.reshape(((), width))?;
    let weight = match case.get_input("weight") {
        Some(w) => w.flatten_all()?,
        None => Tensor::ones(width, x.dtype(), x.device())?,
    };
    let bias = case.get_input("bias").map(|b| b.flatten_all()).transpose()?;
    norm(&flat, &weight, bias.as_ref())?.reshape(x.shape())
}

/// PyTorch gives the row `padding_idx` no gradient: the same as a detached copy of that row.
fn padded_embedding(case: &Case) -> Result<Tensor> {
    let (ids, weight) = (case.input("ids"), case.input("weight"));
    let Some(padding) = case.attr_f64("padding_idx") else { return ck::embedding(&ids, &weight) };
    let v = weight.dim(0)?;
    let padding = if padding < 0.0 { padding + v as f64 } else { padding } as usize;
    let rows: Vec<f64> = (0..v).map(|i| f64::from(u8::from(i != padding))).collect();
    let live = Tensor::from_vec(rows, (v, 1), &Device::Cpu)?.to_dtype(weight.dtype())?;
    let dead = live.affine(-1.0, 1.0)?;
    let table = (weight.broadcast_mul(&live)? + weight.detach().broadcast_mul(&dead)?)?;
    ck::embedding(&ids, &table)
}

fn cross_entropy(case: &Case) -> Result<Tensor> {
    let logits = case.input("logits");
    let options = ck::CrossEntropy {
        ignore_index: case.attr_f64("ignore_index").unwrap_or(-100.0) as i64,
        label_smoothing: case.attr_f64("label_smoothing").unwrap_or(0.0),
        class_weights: case.get_input("weight").or_else(|| case.get_input("class_weight")),
        reduction: match case.attr("reduction").and_then(Value::as_str) {
            Some("sum") => ck::Reduction::Sum,
            Some("none") => ck::Reduction::None,
            Some("mean") | None => ck::Reduction::Mean,
            Some(other) => panic!("{}: reduction {other}", case.id()),
        },
    };
    let target = case.input("target");
    // [n, c, d1, ..] -> rows of classes
    let shape = target.dims().to_vec();
    let (logits, target) = if logits.rank() > 2 {
        let rank = logits.rank();
        let order: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        let c = logits.dim(1)?;
        let target = if target.dtype().is_float() {
            target.permute(order.clone())?.reshape(((), c))?
        } else {
            target.flatten_all()?
        };
        (logits.permute(order)?.reshape(((), c))?, target)
    } else {
        (logits, target)
    };
    let loss = if target.dtype().is_float() {
        ck::cross_entropy_soft(&logits, &target, &options)?
    } else {
        ck::cross_entropy(&logits, &target, &options)?
    };
    if loss.rank() == 1 && !target.dtype().is_float() { loss.reshape(shape) } else { Ok(loss) }
}

fn attention(case: &Case) -> Result<Tensor> {
    let (q, k, v) = (case.input("q"), case.input("k"), case.input("v"));
    let causal = case.attr("is_causal").and_then(Value::as_bool).unwrap_or(false);
    let mask = ck::Mask { causal: causal.then_some(0), ..ck::Mask::none() };
    let mask = match case.get_input("mask") {
        Some(bias) if bias.dtype().is_float() => ck::Mask { bias: Some(bias), ..mask },
        pairs => ck::Mask { pairs, ..mask },
    };
    ck::attention(&q, &k, &v, &mask, case.attr_f64("scale").expect("scale"))
}

fn check_op(case: &Case) -> Result<bool> {
    let Some(y) = forward(case)? else { return Ok(false) };
    let (expected, grad_out) = (case.tensor("outputs", "y"), case.tensor("grad_outputs", "y"));
    case.compare("y", &y, &expected, case.tolerance("y", false));
    let loss = (y * grad_out)?.sum_all()?;
    let grads = loss.backward()?;
    for (name, var) in case.float_inputs() {
        let Some(expected) = case.expected_grad(&name) else { continue };
        let Some(grad) = grads.get(&var) else { panic!("{}: no gradient for {name}", case.id()) };
        case.compare(&format!("grad {name}"), grad, &expected, case.tolerance(&format!("grad {name}"), true));
    }
    Ok(true)
}

fn rule(case: &Case) -> Option<Box<dyn Rule>> {
    let f = |name: &str, default: f64| case.attr_f64(name).unwrap_or(default);
    let (beta1, beta2) = case.attr_pair("betas").unwrap_or((0.9, 0.999));
    let eps = f("eps", 1e-8);
    Some(match case.op() {
        "adamw" => Box::new(Adam { beta1, beta2, eps, weight_decay: f("weight_decay", 0.01), decoupled: true }),
        "adam" => Box::new(Adam { beta1, beta2, eps, weight_decay: f("weight_decay", 0.0), decoupled: false }),
        "nadam" => {
            let (weight_decay, momentum_decay) = (f("weight_decay", 0.0), f("momentum_decay", 0.004));
            Box::new(NAdam { beta1, beta2, eps, weight_decay, momentum_decay })
        }
        "sgd" => Box::new(Sgd {
            momentum: f("momentum", 0.0),
            nesterov: case.attr("nesterov").and_then(Value::as_bool).unwrap_or(false),
            weight_decay: f("weight_decay", 0.0),
        }),
        "rmsprop" => Box::new(RmsProp {
            alpha: f("alpha", 0.99),
            eps,
            weight_decay: f("weight_decay", 0.0),
            momentum: f("momentum", 0.0),
            centered: case.attr("centered").and_then(Value::as_bool).unwrap_or(false),
        }),
        "adafactor" => Box::new(Adafactor {
            beta2_decay: f("beta2_decay", -0.8),
            // The expected values come from f64, whose machine epsilon is the default there.
            eps1: case.attr("eps").and_then(|e| e[0].as_f64()).or(Some(f64::EPSILON)),
            eps2: case.attr("eps").and_then(|e| e[1].as_f64()).unwrap_or(1e-3),
            clip: f("d", 1.0),
            weight_decay: f("weight_decay", 0.0),
        }),
        _ => return None,
    })
}

fn check_trajectory(case: &Case) -> Result<bool> {
    let Some(rule) = rule(case) else { return Ok(false) };
    let start = case.tensors("params");
    let params: Vec<Var> = start.iter().map(|t| Var::from_tensor(&t.copy()?)).collect::<Result<_>>()?;
    let state: Vec<Vec<Var>> = params
        .iter()
        .map(|p| rule.state(p.dims()).into_iter().map(|(_, dims)| Var::zeros(dims, p.dtype(), p.device())).collect())
        .collect::<Result<_>>()?;
    let sign = if case.attr("maximize").and_then(Value::as_bool) == Some(true) { -1.0 } else { 1.0 };
    for t in 0..case.steps() {
        let lr = case.lr(t);
        let grads = case.tensors_at("grads_per_step", t);
        let slots: Vec<Slot<'_>> =
            params.iter().zip(&grads).zip(&state).map(|((param, grad), state)| Slot { param, grad, state }).collect();
        optim::update_all(&*rule, Step { t: t as u64 + 1, lr, grad_scale: sign }, &slots)?;
        for (i, (p, want)) in params.iter().zip(case.tensors_at("params_after_step", t)).enumerate() {
            let name = format!("param {i} after step {t}");
            case.compare(&name, p, &want, case.trajectory_tolerance(&start[i]));
        }
    }
    Ok(true)
}

fn check_clip(case: &Case) -> Result<bool> {
    let grads = match case.op() {
        "clip_grad_norm" | "clip_grad_value" => case.tensors("grads"),
        _ => return Ok(false),
    };
    let clipped = case.tensors("clipped");
    let scaled: Vec<Tensor> = if case.op() == "clip_grad_value" {
        let limit = case.attr_f64("clip_value").expect("clip_value");
        grads.iter().map(|g| optim::clip_values(g, limit)).collect::<Result<_>>()?
    } else {
        let norm = match case.attr("norm_type") {
            Some(Value::String(s)) if s == "inf" => Norm::Max,
            Some(n) if n.as_f64() == Some(1.0) => Norm::L1,
            Some(n) if n.as_f64() == Some(2.0) => Norm::L2,
            other => panic!("{}: norm {other:?}", case.id()),
        };
        let total = optim::global_norm(&grads.iter().collect::<Vec<_>>(), norm)?;
        let expected = case.field("total_norm").as_f64().expect("total_norm");
        assert!((total - expected).abs() <= 1e-6 * expected.abs(), "{}: norm {total}, expected {expected}", case.id());
        let factor = optim::clip_factor(total, case.attr_f64("max_norm").expect("max_norm"));
        grads.iter().map(|g| g * factor).collect::<Result<_>>()?
    };
    for (i, (have, want)) in scaled.iter().zip(&clipped).enumerate() {
        case.compare(&format!("gradient {i}"), have, want, Tolerance::relative(1e-6));
    }
    Ok(true)
}

fn run(dtype: DType) {
    let mut done = 0;
    for case in vectors::cases(dtype) {
        let checked = check_op(&case)
            .and_then(|ok| Ok(ok || check_trajectory(&case)? || check_clip(&case)?))
            .unwrap_or_else(|e| panic!("{}: {e}", case.id()));
        assert!(checked || vectors::belongs_elsewhere(case.op()), "no test for operation `{}`", case.op());
        done += usize::from(checked);
    }
    assert!(done > 0, "no case found in {}", vectors::folder().display());
    println!("{done} cases in {dtype:?}");
}

#[test]
fn conformance_of_f32_kernels() {
    run(DType::F32);
}

#[test]
fn conformance_of_composed_f64() {
    run(DType::F64);
}
