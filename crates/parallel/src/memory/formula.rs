//! The published closed forms, to the last digit.

/// Activations of one layer and micro-batch in bytes, nothing recomputed, tensor-parallel only: sbh(10 + 24/t + 5as/(ht)).
pub fn activations_none(s: f64, b: f64, h: f64, a: f64, t: f64) -> f64 {
    s * b * h * (10.0 + 24.0 / t + 5.0 * a * s / (h * t))
}

/// The same with the attention core recomputed and sequence parallelism: 34 sbh/t.
pub fn activations_selective_parallel(s: f64, b: f64, h: f64, t: f64) -> f64 {
    34.0 * s * b * h / t
}

/// The same with everything recomputed: only the layer's input, 2 sbh (divided by t under sequence parallelism).
pub fn activations_full(s: f64, b: f64, h: f64) -> f64 {
    2.0 * s * b * h
}

/// Layers' worth of activations that the first stage of a pipeline keeps, over its own layers: p micro-batches of L/p
/// layers, times 1+(p-1)/(pv) when interleaved.
pub fn in_flight(p: f64, v: f64) -> f64 {
    if v > 1.0 { p * (1.0 + (p - 1.0) / (p * v)) } else { p }
}

/// Weights, gradients and optimizer of the layers of one device at 18 bytes a parameter (single-precision gradients):
/// 18 * 12 L h^2 / (tp).
pub fn states_18_bytes(layers: f64, h: f64, t: f64, p: f64) -> f64 {
    18.0 * 12.0 * layers * h * h / (t * p)
}
