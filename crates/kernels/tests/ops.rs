//! Every operation: f32 kernel against the composed f64 operation, forward and backward, on awkward shapes; composed f64
//! against finite differences; and the same bits on any number of threads.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery_kernels::check::{GradCheck, gradcheck};
use chandlery_kernels::{self as ck, Activation, CrossEntropy, Key, Mask, RopeStyle, RopeTable};

type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

/// An operation with the shapes of its float inputs.
struct Case {
    name: String,
    shapes: Vec<Vec<usize>>,
    op: Op,
}

fn case(name: &str, shapes: &[&[usize]], op: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static) -> Case {
    let name = format!("{name} {shapes:?}");
    Case { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), op: Box::new(op) }
}

/// Values of moderate size from a key, as f32 so that both types hold them exactly.
fn values(shape: &[usize], key: Key) -> Vec<f64> {
    let n: usize = shape.iter().product();
    (0..n as u64).map(|i| f64::from(key.normal(i) as f32)).collect()
}

fn inputs(case: &Case, dtype: DType) -> Vec<Var> {
    let key = Key::new(11).named(&case.name);
    let make = |(i, shape): (usize, &Vec<usize>)| {
        let t = Tensor::from_vec(values(shape, key.at(i as u64)), shape.clone(), &Device::Cpu).unwrap();
        Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
    };
    case.shapes.iter().enumerate().map(make).collect()
}

/// The result and all gradients under a fixed incoming gradient.
fn run(case: &Case, dtype: DType) -> Vec<Vec<f64>> {
    let vars = inputs(case, dtype);
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = (case.op)(&tensors).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let list = |t: &Tensor| t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
    let mut all = vec![list(&y)];
    if y.elem_count() == 0 {
        return all;
    }
    let incoming = Tensor::from_vec(values(y.dims(), Key::new(12)), y.shape(), &Device::Cpu).unwrap();
    let loss = (y * incoming.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
    let grads = loss.backward().unwrap_or_else(|e| panic!("{}: {e}", case.name));
    for (i, v) in vars.iter().enumerate() {
        let g = grads.get(v).unwrap_or_else(|| panic!("{}: no gradient for input {i}", case.name));
        assert_eq!(g.dims(), v.dims(), "{}", case.name);
        all.push(list(g));
    }
    all
}

fn ids(n: usize, below: u32) -> Tensor {
    let key = Key::new(13);
    let ids: Vec<u32> = (0..n as u64).map(|i| (key.uniform(i) * f64::from(below)) as u32).collect();
    Tensor::from_vec(ids, n, &Device::Cpu).unwrap()
}

fn pointwise(all: &mut Vec<Case>) {
    for shape in [&[0, 4][..], &[1], &[3, 1], &[5, 17], &[3, 40_000]] {
        all.push(case("gelu_tanh", &[shape], |x| ck::gelu_tanh(&x[0])));
        all.push(case("gelu_erf", &[shape], |x| ck::gelu_erf(&x[0])));
        all.push(case("silu", &[shape], |x| ck::silu(&x[0])));
        all.push(case("swiglu", &[shape, shape], |x| ck::swiglu(&x[0], &x[1])));
        all.push(case("dropout", &[shape], |x| ck::dropout(&x[0], 0.3, Key::new(5))));
    }
}

fn rows(all: &mut Vec<Case>) {
    for (n, d) in [(0, 3), (1, 1), (5, 1), (3, 7), (2, 16), (300, 33), (7, 384)] {
        if d > 1 {
            all.push(case("layer_norm", &[&[n, d], &[d], &[d]], |x| ck::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)));
        }
        all.push(case("rms_norm", &[&[n, d], &[d]], |x| ck::rms_norm(&x[0], &x[1], 1e-5)));
        all.push(case("softmax", &[&[n, d]], |x| ck::softmax(&x[0], 1)));
        all.push(case("log_softmax", &[&[n, d]], |x| ck::log_softmax(&x[0], 1)));
        all.push(case("linear", &[&[n, d], &[5, d], &[5]], |x| ck::linear(&x[0], &x[1], Some(&x[2]))));
        all.push(case("linear without bias", &[&[n, d], &[5, d]], |x| ck::linear(&x[0], &x[1], None)));
        all.push(case("mlp", &[&[n, d], &[9, d], &[9], &[4, 9], &[4]], |x| {
            ck::mlp(&x[0], &x[1], Some(&x[2]), &x[3], Some(&x[4]), Activation::GeluTanh)
        }));
        all.push(case("mlp without bias", &[&[n, d], &[9, d], &[4, 9]], |x| {
            ck::mlp(&x[0], &x[1], None, &x[2], None, Activation::Silu)
        }));
    }
    all.push(case("softmax along the middle", &[&[2, 5, 3]], |x| ck::softmax(&x[0], 1)));
    all.push(case("softmax_causal", &[&[2, 5, 9]], |x| ck::softmax_causal(&x[0], 2)));
    all.push(case("softmax_causal with empty rows", &[&[4, 6]], |x| ck::softmax_causal(&x[0], -2)));
    all.push(case("embedding", &[&[3000, 6]], |x| ck::embedding(&ids(50, 3000), &x[0])));
    all.push(case("embedding of one row", &[&[1, 1]], |x| ck::embedding(&ids(4, 1), &x[0])));
}

fn losses(all: &mut Vec<Case>) {
    for smoothing in [0.0, 0.2] {
        for (n, c) in [(1, 1), (4, 3), (70, 37)] {
            let options = CrossEntropy { label_smoothing: smoothing, ignore_index: 0, ..CrossEntropy::default() };
            // Class 0 is ignored, which takes some rows out.
            let target = if c == 1 { ids(n, 1) } else { ids(n, c as u32) };
            let options = if c == 1 { CrossEntropy { ignore_index: -100, ..options } } else { options };
            let (o, t) = (options.clone(), target.clone());
            all.push(case("cross_entropy", &[&[n, c]], move |x| ck::cross_entropy(&x[0], &t, &o)));
            let (o, t) = (options.clone(), target.clone());
            all.push(case("linear_cross_entropy", &[&[n, 6], &[c, 6], &[c]], move |x| {
                ck::linear_cross_entropy(&x[0], &x[1], Some(&x[2]), &t, &o)
            }));
            let o = options;
            all.push(case("cross_entropy_soft", &[&[n, c]], move |x| {
                let probs = Tensor::full(1.0 / c as f64, (n, c), &Device::Cpu)?;
                ck::cross_entropy_soft(&x[0], &probs, &o)
            }));
        }
    }
}

fn attentions(all: &mut Vec<Case>) {
    let keep =
        |n: usize, s: usize| Tensor::from_vec((0..n * s).map(|i| u8::from(i % 3 != 1)).collect(), (n, s), &Device::Cpu);
    let segments =
        |n: usize, s: usize| Tensor::from_vec((0..n * s).map(|i| (i % s / 3) as u32).collect(), (n, s), &Device::Cpu);
    for (b, h, g, t, s, d) in [(1, 1, 1, 1, 1, 1), (2, 4, 2, 5, 5, 8), (1, 2, 1, 70, 70, 3), (2, 2, 2, 3, 130, 16)] {
        let (q, k) = ([b, h, t, d], [b, g, s, d]);
        let own = Some((segments(b, t).unwrap(), segments(b, s).unwrap()));
        let (keys, pairs) = (Some(keep(b, s).unwrap()), Some(keep(t, s).unwrap()));
        let masks = [
            ("none", Mask::none()),
            ("causal", Mask { causal: Some(s - t), ..Mask::none() }),
            ("keys", Mask { keys: keys.clone(), ..Mask::causal() }),
            ("pairs", Mask { pairs: pairs.clone(), ..Mask::none() }),
            ("segments", Mask { segments: own.clone(), ..Mask::none() }),
            ("packed", Mask { segments: own.clone(), ..Mask::causal() }),
            ("all parts", Mask { segments: own, keys, pairs, ..Mask::causal() }),
        ];
        for (name, mask) in masks {
            let m = mask.clone();
            all.push(case(&format!("attention {name}"), &[&q, &k, &k], move |x| {
                ck::attention(&x[0], &x[1], &x[2], &m, 0.4)
            }));
            if t == s {
                all.push(case(&format!("attention_qkv {name}"), &[&[b, t, (h + 2 * g) * d]], move |x| {
                    ck::attention_qkv(&x[0], h, g, &mask, 0.4)
                }));
            }
        }
    }
    for style in [RopeStyle::Halves, RopeStyle::Interleaved] {
        let table = RopeTable::new(6, 12, 100.0).unwrap();
        let same = table.clone();
        all.push(case(&format!("rope_qkv {style:?}"), &[&[2, 5, 8 * 6]], move |x| {
            ck::rope_qkv(&x[0], 4, 2, &same, 3, style)
        }));
        all.push(case(&format!("rope {style:?}"), &[&[2, 3, 5, 6]], move |x| ck::rope(&x[0], &table, 4, style)));
    }
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    pointwise(&mut all);
    rows(&mut all);
    losses(&mut all);
    attentions(&mut all);
    all
}

#[test]
fn f32_kernels_agree_with_composed_f64() {
    for case in cases() {
        let (fast, exact) = (run(&case, DType::F32), run(&case, DType::F64));
        for (part, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
            let largest = exact.iter().fold(1e-2_f64, |a, x| a.max(x.abs()));
            let tolerance = if part == 0 { 1e-5 } else { 1e-4 } * largest;
            for (i, (f, e)) in fast.iter().zip(exact).enumerate() {
                assert!((f - e).abs() <= tolerance, "{} part {part}[{i}]: {f}, expected {e}", case.name);
            }
        }
    }
}

#[test]
fn composed_gradients_agree_with_finite_differences() {
    for case in cases() {
        let vars = inputs(&case, DType::F64);
        if vars.iter().any(|v| v.elem_count() == 0 || v.elem_count() > 5000) {
            continue;
        }
        let named: Vec<(String, Var)> =
            vars.iter().enumerate().map(|(i, v)| (format!("input {i}"), v.clone())).collect();
        let options = GradCheck { samples: 12, ..GradCheck::default() };
        gradcheck(&named, options, || {
            let y = (case.op)(&vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>())?;
            (&y * Tensor::from_vec(values(y.dims(), Key::new(12)), y.shape(), &Device::Cpu)?)?.sum_all()
        })
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    }
}

#[test]
fn thread_count_changes_no_bit() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    let mut all = cases();
    all.push(case("large linear", &[&[700, 390], &[1200, 390], &[1200]], |x| ck::linear(&x[0], &x[1], Some(&x[2]))));
    all.push(case("large head", &[&[700, 64], &[8000, 64]], |x| {
        ck::linear_cross_entropy(&x[0], &x[1], None, &ids(700, 8000), &CrossEntropy::default())
    }));
    for case in all {
        let bits = |n| {
            let parts = pool(n).install(|| run(&case, DType::F32));
            parts.into_iter().flatten().map(f64::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!(one == bits(2) && one == bits(3), "{}: thread count changes the result", case.name);
    }
}

#[test]
fn extreme_values_stay_finite_where_the_function_is() {
    let x = Tensor::new(&[-3e38f32, -1e30, -100.0, -1e-30, 0.0, 1e-40, 100.0, 1e30, 3e38], &Device::Cpu).unwrap();
    for op in [ck::gelu_tanh, ck::gelu_erf, ck::silu] {
        let v = Var::from_tensor(&x).unwrap();
        let y = op(&v).unwrap();
        let g = y.sum_all().unwrap().backward().unwrap().get(&v).unwrap().to_vec1::<f32>().unwrap();
        let y = y.to_vec1::<f32>().unwrap();
        assert!(y.iter().all(|y| y.is_finite()), "{y:?}");
        assert!(g.iter().all(|g| g.is_finite() && (-0.2..=1.2).contains(g)), "{g:?}");
        assert_eq!((y[0], y[8], g[0], g[8]), (-0.0, 3e38, 0.0, 1.0));
    }
    let huge = Tensor::new(&[[3e38f32, -3e38, 0.0], [1e4, 1e4, -1e4]], &Device::Cpu).unwrap();
    let p = ck::softmax(&huge, 1).unwrap().to_vec2::<f32>().unwrap();
    assert_eq!(p, [[1.0, 0.0, 0.0], [0.5, 0.5, 0.0]]);
}

#[test]
fn nan_is_passed_on() {
    let x = Tensor::new(&[[f32::NAN, 1.0, 2.0]], &Device::Cpu).unwrap();
    let w = Tensor::ones(3, DType::F32, &Device::Cpu).unwrap();
    let sums = [
        ck::gelu_tanh(&x),
        ck::gelu_erf(&x),
        ck::silu(&x),
        ck::softmax(&x, 1),
        ck::log_softmax(&x, 1),
        ck::rms_norm(&x, &w, 1e-5),
        ck::layer_norm(&x, &w, None, 1e-5),
    ];
    for y in sums {
        assert!(y.unwrap().sum_all().unwrap().to_scalar::<f32>().unwrap().is_nan());
    }
}

#[test]
fn wrong_input_is_an_error_that_says_what() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(ck::linear(&t(&[2, 3]), &t(&[4, 5]), None)).contains("needs input [.., 5], got [2, 3]"));
    assert!(message(ck::layer_norm(&t(&[2, 3]), &t(&[4]), None, 1e-5)).contains("[3]"));
    assert!(
        message(ck::embedding(&Tensor::new(&[1u32, 9], &Device::Cpu).unwrap(), &t(&[4, 2])))
            .contains("id 9 at position 1")
    );
    let target = Tensor::new(&[0u32, 7], &Device::Cpu).unwrap();
    assert!(message(ck::cross_entropy(&t(&[2, 3]), &target, &CrossEntropy::default())).contains("target 7 of row 1"));
    assert!(message(ck::dropout(&t(&[2]), 1.0, Key::new(0))).contains("[0, 1)"));
    assert!(
        message(ck::attention(&t(&[1, 3, 2, 4]), &t(&[1, 2, 2, 4]), &t(&[1, 2, 2, 4]), &Mask::none(), 1.0))
            .contains("do not fit")
    );
}

#[test]
fn dropout_keeps_its_share_and_its_mean() {
    let x = Tensor::ones(200_000, DType::F32, &Device::Cpu).unwrap();
    let y = ck::dropout(&x, 0.25, Key::new(3)).unwrap().to_vec1::<f32>().unwrap();
    let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / y.len() as f64;
    // Five standard errors.
    assert!((dropped - 0.25).abs() < 5.0 * (0.25_f64 * 0.75 / y.len() as f64).sqrt(), "{dropped}");
    assert!(y.iter().all(|y| *y == 0.0 || *y == 1.0 / 0.75));
}
