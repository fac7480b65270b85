//! Differentiable operations for training on candle.
//!
//! Each function works on every device and float dtype of candle and passes gradients to every input. On f32 tensors on
//! the CPU it runs vectorised, multi-threaded kernels with an analytic backward; elsewhere it composes candle's own
//! differentiable operations, so one model source runs anywhere.
//!
//! candle's fused `layer_norm`, `rms_norm`, `softmax_last_dim`, `rope` and `sdpa` have no backward and cut the gradient
//! without a word; these are their replacements. [`check`] finds such cuts in any model.
//!
//! On one machine the result of every kernel is the same for any number of threads.

mod backward;
pub mod check;
pub mod jpeg;
mod key;
mod matmul;
mod node;
mod ops;
pub mod optim;
pub mod pixels;
pub mod resize;
mod reused;
mod shared;
mod simd;

pub use backward::{backward, backward_from};
pub use key::{Key, Stream};
pub use ops::activation::{Activation, gelu_erf, gelu_tanh, silu, swiglu};
pub use ops::attention::{attention, attention_qkv};
pub use ops::cross_entropy::{CrossEntropy, Reduction, cross_entropy, cross_entropy_soft};
pub use ops::dropout::{dropout, dropout_channels};
pub use ops::embedding::embedding;
pub use ops::head::linear_cross_entropy;
pub use ops::linear::linear;
pub use ops::mask::Mask;
pub use ops::mlp::mlp;
pub use ops::norm::{layer_norm, rms_norm};
pub use ops::rope::{RopeStyle, RopeTable, rope, rope_qkv};
pub use ops::softmax::{log_softmax, softmax, softmax_causal, softmax_masked};
pub use ops::vision::batch_norm::{
    batch_norm_eval, batch_norm_eval_fused, batch_norm_train, batch_norm_train_fused, fold_batch_norm,
};
pub use ops::vision::clamp::{Clamp, relu, relu6};
pub use ops::vision::conv::{Conv2d, conv2d, conv2d_fused};
pub use ops::vision::conv_norm::{conv2d_batch_norm, conv2d_batch_norm_eval};
pub use ops::vision::pool::{Pool2d, adaptive_max_pool2d, global_avg_pool, max_pool2d};
pub use ops::vision::separable::{adaptive_avg_pool2d, avg_pool2d, resize_bilinear};
pub use simd::{Isa, isa};
