//! Layers for images against PyTorch's definitions.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{self as ck, Key, check::grad_reach};
use chandlery_nn::{BatchNorm2d, BatchNormConfig, ChannelDropout, Conv2d, Mode, ParamStore, Statistics};

fn store() -> ParamStore {
    ParamStore::new(1, DType::F32, &Device::Cpu)
}

fn train() -> Mode {
    Mode::Train(Key::new(3))
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn values(store: &ParamStore, name: &str) -> Vec<f32> {
    flat(store.get(name).unwrap().as_tensor())
}

fn close(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-5 * (1.0 + b.abs()))
}

/// Two images of two channels, one place each but for the width.
fn images() -> Tensor {
    Tensor::new(&[[[[1f32, 2.0]], [[10.0, 10.0]]], [[[3.0, 6.0]], [[10.0, 14.0]]]], &Device::Cpu).unwrap()
}

#[test]
fn running_statistics_move_by_mean_and_unbiased_variance() {
    let store = store();
    let norm = BatchNorm2d::new(&store.root().pp("bn"), 2, BatchNormConfig::default()).unwrap();
    norm.forward(&images(), train()).unwrap();
    // Channel 0: mean 3, sum of squared distances 14; channel 1: mean 11, sum 12; four values each.
    assert!(close(&values(&store, "bn.running_mean"), &[0.3, 1.1]));
    assert!(close(&values(&store, "bn.running_var"), &[0.9 + 0.1 * 14.0 / 3.0, 0.9 + 0.1 * 4.0]));
    norm.forward(&images(), train()).unwrap();
    assert!(close(&values(&store, "bn.running_mean"), &[0.27 + 0.3, 0.99 + 1.1]));
}

#[test]
fn training_normalises_by_the_batch_and_evaluation_by_the_running_statistics() {
    let store = store();
    let norm = BatchNorm2d::new(&store.root().pp("bn"), 2, BatchNormConfig { eps: 0.0, ..Default::default() }).unwrap();
    let y = flat(&norm.forward(&images(), train()).unwrap());
    let s = (14f32 / 4.0).sqrt();
    assert!(close(&[y[0], y[1], y[4], y[5]], &[-2.0 / s, -1.0 / s, 0.0, 3.0 / s]), "{y:?}");
    let before = values(&store, "bn.running_var");
    let y = flat(&norm.forward(&images(), Mode::Eval).unwrap());
    assert!(close(&y[..1], &[(1.0 - 0.3) / before[0].sqrt()]), "{y:?}");
    assert_eq!(values(&store, "bn.running_var"), before, "evaluation must not move the statistics");
}

#[test]
fn running_statistics_stay_where_they_must() {
    let fixed = BatchNormConfig { statistics: Statistics::Running, ..Default::default() };
    let still = BatchNormConfig { momentum: 0.0, ..Default::default() };
    for (config, freeze) in [(fixed, false), (still, false), (BatchNormConfig::default(), true)] {
        let store = store();
        if freeze {
            store.freeze("bn");
        }
        let norm = BatchNorm2d::new(&store.root().pp("bn"), 2, config).unwrap();
        let trained = norm.forward(&images(), train()).unwrap();
        assert_eq!(values(&store, "bn.running_mean"), [0.0, 0.0]);
        let same = flat(&trained) == flat(&norm.forward(&images(), Mode::Eval).unwrap());
        assert_eq!(same, config.momentum > 0.0, "{config:?}");
        assert_eq!(trained.track_op(), !freeze);
    }
}

#[test]
fn statistics_may_move_before_the_backward_pass() {
    // A gradient pass in evaluation mode whose statistics a training pass then moves.
    let gradient = |disturb: bool| {
        let store = store();
        let norm = BatchNorm2d::new(&store.root().pp("bn"), 2, BatchNormConfig::default()).unwrap();
        let loss = norm.forward(&images(), Mode::Eval).unwrap().sqr().unwrap().sum_all().unwrap();
        if disturb {
            norm.forward(&images(), train()).unwrap();
        }
        flat(loss.backward().unwrap().get(&store.get("bn.weight").unwrap()).unwrap())
    };
    assert_eq!(gradient(true), gradient(false));
}

#[test]
fn norm_after_a_convolution_is_what_both_in_turn_are() {
    let geometry = ck::Conv2d::new(1, 1);
    let x = Tensor::arange(0f32, 192.0, &Device::Cpu).unwrap().reshape((2, 3, 4, 8)).unwrap().sin().unwrap();
    for (bias, statistics) in [(false, Statistics::Batch), (false, Statistics::Running), (true, Statistics::Batch)] {
        let both = |at_once: bool| {
            let store = store();
            let conv = Conv2d::new(&store.root().pp("conv"), (3, 4), 3, bias, geometry).unwrap();
            let config = BatchNormConfig { statistics, ..Default::default() };
            let norm = BatchNorm2d::new(&store.root().pp("bn"), 4, config).unwrap();
            let residual = x.narrow(1, 0, 1).unwrap().repeat((1, 4, 1, 1)).unwrap();
            let mut all = Vec::new();
            for mode in [train(), Mode::Eval] {
                let (residual, clamp) = (Some(&residual), Some(ck::Clamp::Relu));
                let y = match at_once {
                    true => norm.after(&conv, &x, mode, residual, clamp).unwrap(),
                    false => norm.forward_then(&conv.forward(&x).unwrap(), mode, residual, clamp).unwrap(),
                };
                let grads = y.sqr().unwrap().sum_all().unwrap().backward().unwrap();
                all.extend(flat(&y));
                all.extend(store.named_vars().iter().flat_map(|(_, var)| flat(grads.get(var).unwrap())));
            }
            all.extend(values(&store, "bn.running_mean"));
            all.extend(values(&store, "bn.running_var"));
            all
        };
        let (once, turns) = (both(true), both(false));
        let largest = turns.iter().fold(1f32, |m, v| m.max(v.abs()));
        let near = once.iter().zip(&turns).all(|(a, b)| (a - b).abs() <= 1e-5 * largest);
        assert!(once.len() == turns.len() && near, "{statistics:?} with bias: {bias}");
    }
}

#[test]
fn one_value_per_channel_cannot_be_trained_on() {
    let norm = BatchNorm2d::new(&store().root(), 2, BatchNormConfig::default()).unwrap();
    let x = Tensor::ones((1, 2, 1, 1), DType::F32, &Device::Cpu).unwrap();
    assert!(norm.forward(&x, train()).unwrap_err().to_string().contains("more than one value per channel"));
    assert_eq!(norm.forward(&x, Mode::Eval).unwrap().dims(), [1, 2, 1, 1]);
}

#[test]
fn convolution_and_norm_pass_gradients_to_every_parameter() {
    let store = store();
    let geometry = ck::Conv2d::new(2, 1).with_groups(2);
    let conv = Conv2d::new(&store.root().pp("conv"), (2, 4), 3, true, geometry).unwrap();
    let norm = BatchNorm2d::new(&store.root().pp("bn"), 4, BatchNormConfig::default()).unwrap();
    assert_eq!(store.names(), ["bn.bias", "bn.weight", "conv.bias", "conv.weight"]);
    assert_eq!(store.get("conv.weight").unwrap().dims(), [4, 1, 3, 3]);
    let x = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((2, 2, 4, 4)).unwrap().sin().unwrap();
    let reach =
        grad_reach(&store.named_vars(), |_| norm.forward(&conv.forward(&x)?, train())?.relu()?.sqr()?.sum_all());
    reach.unwrap().into_result().unwrap();
    let wrong = Conv2d::new(&store.root().pp("odd"), (3, 4), 3, true, geometry).unwrap_err().to_string();
    assert!(wrong.contains("conv2d odd: 2 groups do not divide 3 and 4 channels"), "{wrong}");
}

#[test]
fn channel_dropout_drops_whole_channels() {
    let x = Tensor::ones((4, 16, 3, 3), DType::F32, &Device::Cpu).unwrap();
    let drop = ChannelDropout { p: 0.5 };
    assert_eq!(flat(&drop.forward(&x, Mode::Eval).unwrap()), vec![1.0; 576]);
    let y = flat(&drop.forward(&x, train()).unwrap());
    let channels: Vec<&[f32]> = y.chunks(9).collect();
    assert!(channels.iter().all(|c| c.iter().all(|v| v == &c[0] && [0.0, 2.0].contains(v))));
    let kept = channels.iter().filter(|c| c[0] > 0.0).count();
    assert!((16..48).contains(&kept), "{kept}");
}
