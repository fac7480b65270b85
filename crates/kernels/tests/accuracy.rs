//! Accuracy of the vector functions, seen through the operations that use them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use candle_core::{Device, Tensor};
use chandlery_kernels as ck;

/// Every 1009th f32 between `lo` and `hi` (both of one sign).
fn sweep(lo: f32, hi: f32) -> Vec<f32> {
    let (a, b) = (lo.to_bits().min(hi.to_bits()), lo.to_bits().max(hi.to_bits()));
    (a..=b).step_by(1009).map(f32::from_bits).collect()
}

fn ulp(x: f64) -> f64 {
    let x = (x.abs() as f32).max(f32::MIN_POSITIVE);
    f64::from(f32::from_bits(x.to_bits() + 1) - x)
}

#[test]
fn softmax_of_two_is_within_three_ulp() {
    // The softmax of [x, 0] before division is e^x: log_softmax([0, x])[0] would lose digits, so take the ratio.
    let xs = sweep(-80.0, -1e-6);
    let rows: Vec<f32> = xs.iter().flat_map(|&x| [0.0, x]).collect();
    let t = Tensor::from_vec(rows, (xs.len(), 2), &Device::Cpu).unwrap();
    let y = ck::softmax(&t, 1).unwrap().to_vec2::<f32>().unwrap();
    let worst = xs.iter().zip(&y).map(|(&x, y)| {
        let exact = f64::from(x).exp();
        let want = exact / (1.0 + exact);
        (f64::from(y[1]) - want).abs() / ulp(want)
    });
    // One ulp of e^x, half one of the sum, one of the reciprocal and of the product.
    let worst = worst.fold(0.0, f64::max);
    assert!(worst <= 3.0, "{worst} ulp");
}

#[test]
fn tanh_is_within_a_few_ulp() {
    // gelu_tanh(x) / x = (1 + tanh u) / 2 at u(x): for positive x no digit is lost.
    let xs = sweep(1e-6, 6.0);
    let t = Tensor::new(xs.as_slice(), &Device::Cpu).unwrap();
    let y = ck::gelu_tanh(&t).unwrap().to_vec1::<f32>().unwrap();
    let exact = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
    let worst = xs.iter().zip(&y).map(|(&x, &y)| (f64::from(y) - exact(f64::from(x))).abs() / ulp(exact(f64::from(x))));
    let worst = worst.fold(0.0, f64::max);
    assert!(worst <= 3.0, "{worst} ulp");
}

#[test]
fn sigmoid_is_within_a_few_ulp() {
    let xs = [sweep(1e-6, 80.0), sweep(-1e-6, -80.0)].concat();
    let t = Tensor::new(xs.as_slice(), &Device::Cpu).unwrap();
    let y = ck::silu(&t).unwrap().to_vec1::<f32>().unwrap();
    let exact = |x: f64| x / (1.0 + (-x).exp());
    let worst = xs.iter().zip(&y).map(|(&x, &y)| (f64::from(y) - exact(f64::from(x))).abs() / ulp(exact(f64::from(x))));
    let worst = worst.fold(0.0, f64::max);
    assert!(worst <= 4.0, "{worst} ulp");
}
