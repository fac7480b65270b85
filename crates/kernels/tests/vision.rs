//! The image operations: f32 kernel against the composed f64 operation, forward and backward, on awkward shapes; composed
//! f64 against finite differences; and the same bits on any number of threads.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery_kernels::check::{GradCheck, gradcheck};
use chandlery_kernels::{self as ck, Clamp, Conv2d, Key, Pool2d};

type Op = Box<dyn Fn(&[Tensor]) -> Result<Tensor> + Send + Sync>;

/// An operation with the shapes of its inputs.
struct Case {
    name: String,
    shapes: Vec<Vec<usize>>,
    op: Op,
}

fn case(
    name: impl std::fmt::Debug,
    shapes: &[&[usize]],
    op: impl Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
) -> Case {
    let name = format!("{name:?} {shapes:?}");
    Case { name, shapes: shapes.iter().map(|s| s.to_vec()).collect(), op: Box::new(op) }
}

/// Values of moderate size from a key, as f32 so that both types hold them exactly.
fn values(shape: &[usize], key: Key) -> Vec<f64> {
    let n: usize = shape.iter().product();
    (0..n as u64).map(|i| f64::from(key.normal(i) as f32)).collect()
}

fn inputs(case: &Case, dtype: DType) -> Vec<Var> {
    let key = Key::new(21).named(&case.name);
    let make = |(i, shape): (usize, &Vec<usize>)| {
        let t = Tensor::from_vec(values(shape, key.at(i as u64)), shape.clone(), &Device::Cpu).unwrap();
        Var::from_tensor(&t.to_dtype(dtype).unwrap()).unwrap()
    };
    case.shapes.iter().enumerate().map(make).collect()
}

fn list(t: &Tensor) -> Vec<f64> {
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// A fixed incoming gradient.
fn incoming(y: &Tensor) -> Tensor {
    let t = Tensor::from_vec(values(y.dims(), Key::new(22)), y.shape(), &Device::Cpu).unwrap();
    t.to_dtype(y.dtype()).unwrap()
}

/// The result and all gradients.
fn run(case: &Case, dtype: DType) -> Vec<Vec<f64>> {
    let vars = inputs(case, dtype);
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let y = (case.op)(&tensors).unwrap_or_else(|e| panic!("{}: {e}", case.name));
    let mut all = vec![list(&y)];
    if y.elem_count() == 0 {
        return all;
    }
    let grads = (&y * incoming(&y)).unwrap().sum_all().unwrap().backward().unwrap();
    for (i, v) in vars.iter().enumerate() {
        let g = grads.get(v).unwrap_or_else(|| panic!("{}: no gradient for input {i}", case.name));
        assert_eq!(g.dims(), v.dims(), "{}", case.name);
        all.push(list(g));
    }
    all
}

fn config(stride: [usize; 2], padding: [usize; 4], dilation: [usize; 2], groups: usize) -> Conv2d {
    Conv2d { stride, padding, dilation, groups }
}

/// (input, weight, geometry), among them one for every algorithm.
fn convolutions() -> Vec<([usize; 4], [usize; 4], Conv2d)> {
    let plain = Conv2d::default();
    vec![
        ([0, 3, 4, 4], [2, 3, 3, 3], Conv2d::new(1, 1)),
        ([2, 3, 5, 4], [4, 3, 1, 1], plain),
        ([1, 20, 1, 1], [17, 20, 1, 1], plain),
        ([5, 20, 3, 3], [17, 20, 1, 1], plain),
        ([1, 16, 1, 1], [16, 16, 3, 3], Conv2d::new(1, 1)),
        ([2, 3, 9, 8], [5, 3, 7, 7], Conv2d::new(2, 3)),
        ([3, 17, 7, 7], [18, 17, 3, 3], Conv2d::new(1, 1)),
        ([2, 16, 9, 14], [24, 16, 3, 3], config([1, 1], [0, 2, 1, 0], [1, 1], 1)),
        ([1, 16, 4, 3], [16, 16, 3, 3], plain),
        ([2, 16, 40, 35], [20, 16, 3, 3], Conv2d::new(1, 1)),
        ([2, 184, 5, 5], [184, 184, 3, 3], Conv2d::new(1, 1)),
        ([2, 18, 6, 7], [20, 18, 3, 3], Conv2d::new(2, 1)),
        ([2, 70, 9, 8], [66, 70, 3, 3], Conv2d::new(1, 1)),
        ([2, 66, 9, 8], [70, 66, 3, 3], Conv2d::new(2, 1)),
        ([1, 5, 9, 11], [4, 5, 3, 2], config([3, 2], [0, 1, 2, 0], [2, 3], 1)),
        ([2, 6, 5, 9], [4, 3, 3, 2], config([2, 1], [1, 0, 2, 1], [1, 2], 2)),
        ([1, 4, 6, 6], [4, 4, 1, 1], config([1, 1], [1, 1, 1, 1], [1, 1], 1)),
        ([1, 4, 6, 7], [4, 4, 1, 1], Conv2d::new(3, 0)),
        ([2, 5, 7, 6], [5, 1, 3, 3], Conv2d::new(1, 1).with_groups(5)),
        ([2, 20, 5, 6], [20, 1, 5, 5], Conv2d::new(2, 2).with_groups(20)),
        ([2, 3, 8, 9], [6, 1, 5, 5], Conv2d::new(2, 2).with_groups(3)),
        ([3, 20, 8, 8], [20, 1, 5, 5], Conv2d::new(1, 2).with_groups(20)),
        ([2, 16, 4, 4], [16, 1, 5, 5], Conv2d::new(1, 2).with_groups(16)),
        ([1, 33, 7, 9], [33, 1, 3, 3], Conv2d::new(2, 1).with_groups(33)),
        ([2, 9, 15, 15], [9, 1, 3, 3], Conv2d::new(1, 1).with_groups(9)),
        ([1, 16, 6, 11], [16, 1, 3, 4], config([3, 2], [0, 1, 2, 0], [2, 1], 16)),
        ([1, 8, 3, 2], [8, 1, 2, 2], config([1, 1], [4, 3, 4, 3], [1, 1], 8)),
        ([2, 17, 1, 1], [17, 1, 3, 3], Conv2d::new(1, 1).with_groups(17)),
        ([1, 8, 3, 3], [8, 1, 7, 7], Conv2d::new(1, 3).with_groups(8)),
        ([1, 3, 20, 21], [3, 1, 3, 3], config([3, 2], [0, 1, 2, 0], [2, 1], 3)),
        ([1, 3, 4, 4], [3, 1, 1, 1], config([1, 1], [2, 2, 2, 2], [1, 1], 3)),
        ([1, 2, 3, 3], [2, 2, 2, 2], config([1, 1], [4, 3, 4, 3], [1, 1], 1)),
    ]
}

fn norms(all: &mut Vec<Case>) {
    for shape in [&[2, 3][..], &[3, 2, 4], &[2, 3, 5, 7], &[1, 4, 3, 3]] {
        let c = shape[1];
        let p: &[usize] = &[c];
        all.push(case("batch_norm_train", &[shape, p, p], |x| Ok(ck::batch_norm_train(&x[0], &x[1], &x[2], 1e-3)?.0)));
        for clamp in [None, Some(Clamp::Relu), Some(Clamp::Relu6)] {
            all.push(case(("batch_norm_train_fused", clamp), &[shape, p, p, shape], move |x| {
                Ok(ck::batch_norm_train_fused(&(&x[0] * 3.0)?, &x[1], &x[2], 1e-3, Some(&x[3]), clamp)?.0)
            }));
            all.push(case(("batch_norm_eval_fused", clamp), &[shape, p, p, shape], move |x| {
                let fixed = |value: f64| Tensor::full(value, c, &Device::Cpu)?.to_dtype(x[0].dtype());
                let params = [&x[1], &x[2], &fixed(0.25)?, &fixed(0.5)?];
                ck::batch_norm_eval_fused(&x[0], params, 1e-3, Some(&x[3]), clamp)
            }));
        }
    }
}

fn pools(all: &mut Vec<Case>) {
    let pool = Pool2d::new(3, 2, 1);
    let others = [
        pool,
        Pool2d { ceil_mode: true, ..pool },
        Pool2d { ceil_mode: true, count_include_pad: false, ..pool },
        Pool2d { divisor: Some(5), ..pool },
        Pool2d { kernel: [2, 4], stride: [1, 3], padding: [1, 2], ..pool },
        Pool2d { kernel: [3, 2], stride: [3, 5], padding: [0, 1], ..pool },
    ];
    for config in others {
        for shape in [[0, 2, 5, 5], [2, 3, 6, 7], [1, 2, 9, 20], [2, 1, 4, 4]] {
            all.push(case(("max_pool2d", config), &[&shape], move |x| ck::max_pool2d(&x[0], &config)));
            all.push(case(("avg_pool2d", config), &[&shape], move |x| ck::avg_pool2d(&x[0], &config)));
        }
    }
    let wide = Pool2d { dilation: [2, 3], padding: [1, 1], stride: [1, 2], ..pool };
    all.push(case(("max_pool2d", wide), &[&[2, 2, 8, 9]], move |x| ck::max_pool2d(&x[0], &wide)));
    for (shape, size) in
        [([1, 1, 1, 1], [1, 1]), ([1, 1, 1, 1], [2, 3]), ([2, 3, 7, 5], [3, 4]), ([1, 2, 14, 9], [4, 9])]
    {
        all.push(case(("adaptive_avg_pool2d", size), &[&shape], move |x| ck::adaptive_avg_pool2d(&x[0], size)));
        all.push(case(("adaptive_max_pool2d", size), &[&shape], move |x| ck::adaptive_max_pool2d(&x[0], size)));
        all.push(case("global_avg_pool", &[&shape], |x| ck::global_avg_pool(&x[0])));
        for corners in [false, true] {
            all.push(case(("resize_bilinear", size, corners), &[&shape], move |x| {
                ck::resize_bilinear(&x[0], size, corners)
            }));
        }
    }
}

fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    for (x, w, config) in convolutions() {
        all.push(case(("conv2d", config), &[&x, &w, &[w[0]]], move |x| ck::conv2d(&x[0], &x[1], Some(&x[2]), &config)));
        if x[0] > 0 {
            all.push(case(("conv2d_fused", config), &[&x, &w, &[1]], move |x| {
                // The residual has the result's shape, which broadcasting makes of one value.
                let y = ck::conv2d(&x[0], &x[1], None, &config)?;
                let residual = x[2].reshape((1, 1, 1, 1))?.broadcast_as(y.shape())?;
                ck::conv2d_fused(&x[0], &x[1], None, &config, Some(&residual), Some(Clamp::Relu))
            }));
            all.push(case(("conv2d_batch_norm", config), &[&x, &w, &[w[0]], &[w[0]]], move |x| {
                // A large epsilon keeps channels of few values well away from 1 / 0.
                Ok(ck::conv2d_batch_norm(&x[0], &x[1], &config, &x[2], &x[3], 1.0, None, Some(Clamp::Relu))?.0)
            }));
            all.push(case(("conv2d_batch_norm_eval", config), &[&x, &w, &[w[0]], &[w[0]], &[1]], move |x| {
                let y = ck::conv2d(&x[0], &x[1], None, &config)?;
                let residual = x[4].reshape((1, 1, 1, 1))?.broadcast_as(y.shape())?;
                let fixed = |value: f64| Tensor::full(value, x[2].dims(), &Device::Cpu)?.to_dtype(x[0].dtype());
                let params = [&x[2], &x[3], &fixed(0.25)?, &fixed(0.5)?];
                ck::conv2d_batch_norm_eval(&x[0], &x[1], &config, params, 1e-3, Some(&residual), Some(Clamp::Relu))
            }));
        }
    }
    norms(&mut all);
    pools(&mut all);
    for shape in [&[0, 2, 1, 1][..], &[3], &[2, 3, 5, 7]] {
        all.push(case("relu", &[shape], |x| ck::relu(&x[0])));
        all.push(case("relu6", &[shape], |x| ck::relu6(&(&x[0] * 5.0)?)));
    }
    all.push(case("dropout_channels", &[&[3, 4, 2, 5]], |x| ck::dropout_channels(&x[0], 0.4, Key::new(2))));
    all
}

#[test]
fn f32_kernels_agree_with_composed_f64() {
    for case in cases() {
        let (fast, exact) = (run(&case, DType::F32), run(&case, DType::F64));
        for (part, (fast, exact)) in fast.iter().zip(&exact).enumerate() {
            assert_eq!(fast.len(), exact.len(), "{}", case.name);
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
        if vars.iter().any(|v| v.elem_count() == 0 || v.elem_count() > 3000) {
            continue;
        }
        let named: Vec<(String, Var)> =
            vars.iter().enumerate().map(|(i, v)| (format!("input {i}"), v.clone())).collect();
        let options = GradCheck { samples: 6, step: 1e-5, ..GradCheck::default() };
        gradcheck(&named, options, || {
            let y = (case.op)(&vars.iter().map(|v| v.as_tensor().clone()).collect::<Vec<_>>())?;
            (&y * incoming(&y))?.sum_all()
        })
        .unwrap_or_else(|e| panic!("{}: {e}", case.name));
    }
}

#[test]
fn thread_count_changes_no_bit() {
    let pool = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap();
    for case in cases() {
        let bits = |n| {
            let parts = pool(n).install(|| run(&case, DType::F32));
            parts.into_iter().flatten().map(f64::to_bits).collect::<Vec<_>>()
        };
        let one = bits(1);
        assert!(one == bits(2) && one == bits(3), "{}: thread count changes the result", case.name);
    }
}

#[test]
fn strided_input_gives_what_contiguous_input_gives() {
    let x = Tensor::from_vec(values(&[2, 16, 9, 7], Key::new(3)), (2, 16, 9, 7), &Device::Cpu).unwrap();
    let x = x.to_dtype(DType::F32).unwrap().transpose(2, 3).unwrap();
    let w = Tensor::from_vec(values(&[16, 16, 3, 3], Key::new(4)), (16, 16, 3, 3), &Device::Cpu).unwrap();
    let w = w.to_dtype(DType::F32).unwrap().transpose(0, 1).unwrap();
    type Op<'a> = &'a dyn Fn(&Tensor, &Tensor) -> Result<Tensor>;
    let ops: [Op<'_>; 4] = [
        &|x, w| ck::conv2d(x, w, None, &Conv2d::new(1, 1)),
        &|x, _| ck::max_pool2d(x, &Pool2d::new(3, 2, 1)),
        &|x, _| ck::resize_bilinear(x, [5, 11], false),
        &|x, _| ck::global_avg_pool(x),
    ];
    for op in ops {
        let (strided, dense) = (op(&x, &w).unwrap(), op(&x.contiguous().unwrap(), &w.contiguous().unwrap()).unwrap());
        assert_eq!(list(&strided), list(&dense));
    }
}

#[test]
fn images_without_pixels_are_refused_by_name() {
    type Op<'a> = &'a dyn Fn(&Tensor) -> Result<Tensor>;
    let ops: [(&str, Op<'_>); 5] = [
        ("conv2d", &|x| {
            ck::conv2d(x, &Tensor::ones((16, 1, 3, 3), DType::F32, &Device::Cpu)?, None, &Conv2d::new(1, 2))
        }),
        ("max_pool2d", &|x| ck::max_pool2d(x, &Pool2d::new(3, 2, 1))),
        ("adaptive_avg_pool2d", &|x| ck::adaptive_avg_pool2d(x, [2, 2])),
        ("global_avg_pool", &|x| ck::global_avg_pool(x)),
        ("resize_bilinear", &|x| ck::resize_bilinear(x, [5, 11], false)),
    ];
    for (name, op) in ops {
        let x = Tensor::zeros((2, 16, 0, 4), DType::F32, &Device::Cpu).unwrap();
        let said = op(&x).unwrap_err().to_string();
        assert!(
            said.starts_with(&format!("{name}: expected images of at least one pixel, got an input [2, 16, 0, 4]")),
            "{said}"
        );
    }
}

#[test]
fn of_equal_values_the_first_gets_the_gradient() {
    for dtype in [DType::F32, DType::F64] {
        let x = Tensor::zeros((1, 1, 4, 4), dtype, &Device::Cpu).unwrap();
        let x = Var::from_tensor(&x).unwrap();
        let y = ck::max_pool2d(&x, &Pool2d::new(3, 2, 1)).unwrap();
        let g = y.sum_all().unwrap().backward().unwrap().get(&x).unwrap().clone();
        let expected = [1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
        assert_eq!(list(&g), expected);
    }
}

#[test]
fn nan_and_infinity_are_passed_on() {
    let mut v = vec![1.0f32; 36];
    (v[7], v[20]) = (f32::NAN, f32::INFINITY);
    let x = Tensor::from_vec(v, (1, 1, 6, 6), &Device::Cpu).unwrap();
    for dtype in [DType::F32, DType::F64] {
        let x = x.to_dtype(dtype).unwrap();
        let y = list(&ck::max_pool2d(&x, &Pool2d::new(2, 2, 0)).unwrap());
        assert!(y[0].is_nan() && y[4] == f64::INFINITY && y[8] == 1.0, "{y:?}");
        let y = list(&ck::relu6(&x).unwrap());
        assert!(y[7].is_nan() && y[20] == 6.0);
        assert!(list(&ck::relu(&x).unwrap())[7].is_nan());
    }
}

#[test]
fn moments_are_those_of_the_batch_however_large_the_mean() {
    let x: Vec<f32> = (0..4096).map(|i| 1000.0 + (i % 7) as f32).collect();
    let exact: f64 = x.iter().map(|x| f64::from(*x)).sum::<f64>() / 4096.0;
    let spread: f64 = x.iter().map(|x| (f64::from(*x) - exact).powi(2)).sum::<f64>() / 4096.0;
    let x = Tensor::from_vec(x, (4, 1, 32, 32), &Device::Cpu).unwrap();
    let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
    let (_, mean, var) = ck::batch_norm_train(&x, &one, &one, 1e-5).unwrap();
    assert!((list(&mean)[0] - exact).abs() < 1e-3 && (list(&var)[0] / spread - 1.0).abs() < 1e-5);
}

#[test]
fn folded_batch_norm_is_convolution_and_norm() {
    let t = |dims: &[usize], key| Tensor::from_vec(values(dims, Key::new(key)), dims, &Device::Cpu).unwrap();
    let (x, w, b) = (t(&[2, 3, 5, 5], 1), t(&[4, 3, 3, 3], 2), t(&[4], 3));
    let (gamma, beta, mean, var) = (t(&[4], 4), t(&[4], 5), t(&[4], 6), t(&[4], 7).sqr().unwrap());
    let config = Conv2d::new(1, 1);
    let y = ck::conv2d(&x, &w, Some(&b), &config).unwrap();
    let y = ck::batch_norm_eval(&y, &gamma, &beta, &mean, &var, 1e-5).unwrap();
    let (w, b) = ck::fold_batch_norm(&w, Some(&b), &gamma, &beta, &mean, &var, 1e-5).unwrap();
    let folded = ck::conv2d(&x, &w, Some(&b), &config).unwrap();
    list(&y).iter().zip(list(&folded)).for_each(|(y, f)| assert!((y - f).abs() < 1e-10, "{y} {f}"));
}

#[test]
fn dropped_channels_are_whole_and_scaled() {
    let x = Tensor::ones((40, 50, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let y = ck::dropout_channels(&x, 0.25, Key::new(3)).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let channels: Vec<&[f32]> = y.chunks(9).collect();
    assert!(channels.iter().all(|c| c.iter().all(|v| *v == c[0]) && (c[0] == 0.0 || c[0] == 1.0 / 0.75)));
    let dropped = channels.iter().filter(|c| c[0] == 0.0).count() as f64 / 2000.0;
    // Five standard errors.
    assert!((dropped - 0.25).abs() < 5.0 * (0.25_f64 * 0.75 / 2000.0).sqrt(), "{dropped}");
}

#[test]
fn wrong_input_is_an_error_that_says_what() {
    let t = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    let conv = |x: &[usize], w: &[usize], c: &Conv2d| message(ck::conv2d(&t(x), &t(w), None, c));
    assert!(conv(&[2, 3, 4], &[1, 3, 1, 1], &Conv2d::default()).contains("conv2d: expected an input [b, c, h, w]"));
    assert!(conv(&[2, 3, 4, 4], &[1, 2, 1, 1], &Conv2d::default()).contains("got [1, 2, 1, 1]"));
    assert!(conv(&[2, 3, 4, 4], &[1, 3, 5, 5], &Conv2d::default()).contains("does not fit"));
    assert!(message(ck::max_pool2d(&t(&[1, 1, 2, 2]), &Pool2d::new(3, 1, 0))).contains("at least a window"));
    assert!(message(ck::avg_pool2d(&t(&[1, 1, 8, 8]), &Pool2d::new(2, 1, 2))).contains("half a window"));
    assert!(message(ck::resize_bilinear(&t(&[1, 1, 0, 8]), [2, 2], false)).contains("at least one pixel"));
    let p = t(&[2]);
    assert!(message(ck::batch_norm_train(&t(&[2, 3]), &p, &p, 1e-5).map(|y| y.0)).contains("shape [3], got [2]"));
    assert!(message(ck::batch_norm_train(&t(&[0, 2]), &p, &p, 1e-5).map(|y| y.0)).contains("got an input [0, 2]"));
    assert!(message(ck::dropout_channels(&t(&[2, 2]), 1.0, Key::new(0))).contains("[0, 1)"));
}
