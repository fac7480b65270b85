//! Single operations, forward and backward, at the sizes of `gpt-step-f32` and of ResNet-18 and EfficientNet-Lite0.

use crate::measure::{Step, Work, Workload};
use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery::kernels::optim::{self, Adam, Norm, RmsProp, Rule, Sgd, Slot};
use chandlery::kernels::{
    self as ck, Activation, Clamp, Conv2d, CrossEntropy, Key, Mask, Pool2d, RopeStyle, RopeTable,
};

const N: usize = 2048;
const D: usize = 384;
const V: usize = 8000;

fn normal(shape: &[usize], name: &str) -> Result<Var> {
    let key = Key::new(1).named(name);
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n as u64).map(|i| (2.0 * key.uniform(i) - 1.0) as f32).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu)?)
}

fn ids(n: usize, below: usize) -> Result<Tensor> {
    let key = Key::new(2);
    Tensor::from_vec((0..n as u64).map(|i| (key.u64(i) % below as u64) as u32).collect::<Vec<_>>(), n, &Device::Cpu)
}

/// One forward and backward pass of `f` per repetition, under a gradient that is not constant.
fn op(name: &str, shapes: &[&[usize]], f: impl Fn(&[Tensor]) -> Result<Tensor> + Send + 'static) -> Workload {
    op_with(name, shapes, || Ok(()), move |x, ()| f(x))
}

/// [`op`] with something besides tensors that is made before the clock starts.
fn op_with<C: Send + 'static>(
    name: &str,
    shapes: &[&[usize]],
    make: impl FnOnce() -> Result<C> + 'static,
    f: impl Fn(&[Tensor], &C) -> Result<Tensor> + Send + 'static,
) -> Workload {
    let shapes: Vec<Vec<usize>> = shapes.iter().map(|s| s.to_vec()).collect();
    let work = Work::Values(shapes[0].iter().product::<usize>() as u64);
    let workload = Workload::new(name, 15, move || {
        let vars = shapes.iter().enumerate().map(|(i, s)| normal(s, &i.to_string())).collect::<Result<Vec<_>>>()?;
        let inputs: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let made = make()?;
        let incoming = normal(f(&inputs, &made)?.dims(), "incoming")?.as_detached_tensor();
        Ok(Box::new(move || {
            let y = f(&inputs, &made)?;
            let grads = if y.rank() == 0 { ck::backward(&y)? } else { ck::backward_from(&y, &incoming)? };
            match grads.get(&inputs[0]) {
                Some(_) => Ok(()),
                None => candle_core::bail!("no gradient"),
            }
        }) as Step)
    });
    workload.with_work(work)
}

/// Work of `products` matrix products of `n` multiplications each.
fn products(products: usize, n: usize) -> Work {
    Work::Flops((2 * products * n) as u64)
}

fn optimiser(name: &str, rule: impl Rule + 'static) -> Workload {
    Workload::new(name, 15, move || {
        let param = normal(&[14_000_000], "p")?;
        let grad = normal(&[14_000_000], "g")?.as_detached_tensor();
        let zeros = |(_, dims)| Var::zeros(dims, DType::F32, &Device::Cpu);
        let state = rule.state(param.dims()).into_iter().map(zeros).collect::<Result<Vec<_>>>()?;
        let mut t = 0;
        Ok(Box::new(move || {
            t += 1;
            let slot = Slot { param: &param, grad: &grad, state: &state };
            optim::update_all(&rule, optim::Step { t, lr: 1e-4, grad_scale: 1.0 }, &[slot])
        }) as Step)
    })
    .with_work(Work::Values(14_000_000))
}

fn norm() -> Workload {
    Workload::new("global_norm", 15, || {
        let grad = normal(&[14_000_000], "g")?.as_detached_tensor();
        Ok(Box::new(move || optim::global_norm(&[&grad], Norm::L2).map(drop)) as Step)
    })
    .with_work(Work::Values(14_000_000))
}

/// A convolution without bias of 8 images: channels, side and kernel.
fn conv(name: &str, [c, side]: [usize; 2], [o, k]: [usize; 2], config: Conv2d) -> Workload {
    op(name, &[&[8, c, side, side], &[o, c / config.groups, k, k]], move |x| ck::conv2d(&x[0], &x[1], None, &config))
}

/// The operations of convolutional networks.
fn vision() -> Vec<Workload> {
    let (x, p): (&[usize], &[usize]) = (&[8, 64, 56, 56], &[64]);
    vec![
        conv("conv_3x3_64", [64, 56], [64, 3], Conv2d::new(1, 1)),
        conv("conv_3x3_128", [128, 28], [128, 3], Conv2d::new(1, 1)),
        conv("conv_3x3_256", [256, 14], [256, 3], Conv2d::new(1, 1)),
        conv("conv_3x3_512", [512, 7], [512, 3], Conv2d::new(1, 1)),
        conv("conv_3x3_s2_128", [128, 28], [256, 3], Conv2d::new(2, 1)),
        conv("conv_7x7_s2", [3, 224], [64, 7], Conv2d::new(2, 3)),
        conv("conv_1x1", [96, 32], [24, 1], Conv2d::default()),
        conv("depthwise_3x3", [96, 64], [96, 3], Conv2d::new(1, 1).with_groups(96)),
        conv("depthwise_5x5", [240, 16], [240, 5], Conv2d::new(1, 2).with_groups(240)),
        conv("depthwise_3x3_s2", [96, 64], [96, 3], Conv2d::new(2, 1).with_groups(96)),
        conv("depthwise_5x5_8", [672, 8], [672, 5], Conv2d::new(1, 2).with_groups(672)),
        conv("depthwise_5x5_4", [1152, 4], [1152, 5], Conv2d::new(1, 2).with_groups(1152)),
        op("batch_norm", &[x, p, p], |x| Ok(ck::batch_norm_train(&x[0], &x[1], &x[2], 1e-5)?.0)),
        op("batch_norm_add_relu", &[x, p, p, x], |x| {
            let clamp = Some(Clamp::Relu);
            Ok(ck::batch_norm_train_fused(&x[0], &x[1], &x[2], 1e-5, Some(&x[3]), clamp)?.0)
        }),
        op("max_pool", &[&[8, 64, 112, 112]], |x| ck::max_pool2d(&x[0], &Pool2d::new(3, 2, 1))),
        op("resize_bilinear", &[&[8, 64, 28, 28]], |x| ck::resize_bilinear(&x[0], [56, 56], false)),
    ]
}

pub fn workloads() -> Vec<Workload> {
    let heads: &[usize] = &[8, 6, 256, 64];
    let targets = || ids(N, V);
    let mut all = vec![
        op("layer_norm", &[&[N, D], &[D], &[D]], |x| ck::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-5)),
        op("rms_norm", &[&[N, D], &[D]], |x| ck::rms_norm(&x[0], &x[1], 1e-5)),
        op("softmax", &[&[N, 1024]], |x| ck::softmax(&x[0], 1)),
        op("softmax_causal", &[&[48, 256, 256]], |x| ck::softmax_causal(&x[0], 0)),
        op("log_softmax", &[&[N, 1024]], |x| ck::log_softmax(&x[0], 1)),
        op_with("cross_entropy", &[&[N, V]], targets, |x, ids| ck::cross_entropy(&x[0], ids, &CrossEntropy::default())),
        op_with("linear_cross_entropy", &[&[N, D], &[V, D]], targets, |x, ids| {
            ck::linear_cross_entropy(&x[0], &x[1], None, ids, &CrossEntropy::default())
        })
        .with_work(products(3, N * D * V)),
        op("gelu_tanh", &[&[N, 4 * D]], |x| ck::gelu_tanh(&x[0])),
        op("gelu_erf", &[&[N, 4 * D]], |x| ck::gelu_erf(&x[0])),
        op("silu", &[&[N, 4 * D]], |x| ck::silu(&x[0])),
        op("swiglu", &[&[N, 4 * D], &[N, 4 * D]], |x| ck::swiglu(&x[0], &x[1])),
        op("dropout", &[&[N, 4 * D]], |x| ck::dropout(&x[0], 0.1, Key::new(1))),
        op_with("embedding", &[&[V, D]], targets, |x, ids| ck::embedding(ids, &x[0])),
        op_with(
            "rope",
            &[heads],
            || RopeTable::new(64, 256, 1e4),
            |x, table| ck::rope(&x[0], table, 0, RopeStyle::Halves),
        ),
        op("linear", &[&[N, D], &[4 * D, D], &[4 * D]], |x| ck::linear(&x[0], &x[1], Some(&x[2])))
            .with_work(products(3, 4 * N * D * D)),
        op("mlp", &[&[N, D], &[4 * D, D], &[4 * D], &[D, 4 * D], &[D]], |x| {
            ck::mlp(&x[0], &x[1], Some(&x[2]), &x[3], Some(&x[4]), Activation::GeluTanh)
        })
        .with_work(products(6, 4 * N * D * D)),
        op("attention_causal", &[heads, heads, heads], |x| ck::attention(&x[0], &x[1], &x[2], &Mask::causal(), 0.125))
            .with_work(products(7, N * 256 * D / 2)),
        op("attention_full", &[heads, heads, heads], |x| ck::attention(&x[0], &x[1], &x[2], &Mask::none(), 0.125))
            .with_work(products(7, N * 256 * D)),
        op("attention_qkv", &[&[8, 256, 3 * D]], |x| ck::attention_qkv(&x[0], 6, 6, &Mask::causal(), 0.125))
            .with_work(products(7, N * 256 * D / 2)),
        optimiser("adamw", Adam::default()),
        optimiser("sgd_nesterov", Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 }),
        optimiser("rmsprop", RmsProp::default()),
        norm(),
    ];
    all.extend(vision());
    all
}
