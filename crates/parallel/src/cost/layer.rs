//! Time of one transformer layer, and of the two ends of the network, for one micro-batch on one device.

use crate::model::Transformer;

use super::plan::{Attention, Plan};
use super::platform::Platform;

/// Seconds by what they are spent on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seconds {
    /// Matrix products.
    pub matrix: f64,
    /// Elementwise kernels, bound by memory.
    pub memory: f64,
    /// Collectives of the tensor group.
    pub tensor: f64,
    /// All-to-alls of the expert group.
    pub expert: f64,
    /// Ring of the context group that computation does not hide.
    pub context: f64,
    /// Waiting for the host to launch kernels.
    pub launch: f64,
}

impl Seconds {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.matrix + self.memory + self.tensor + self.expert + self.context + self.launch
    }

    /// Without communication.
    pub fn compute(&self) -> f64 {
        self.matrix + self.memory + self.launch
    }

    /// `self + other * factor`.
    pub fn plus(&self, other: &Self, factor: f64) -> Self {
        Self {
            matrix: self.matrix + other.matrix * factor,
            memory: self.memory + other.memory * factor,
            tensor: self.tensor + other.tensor * factor,
            expert: self.expert + other.expert * factor,
            context: self.context + other.context * factor,
            launch: self.launch + other.launch * factor,
        }
    }
}

/// Times of a part of the network for one micro-batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PartTime {
    /// Forward.
    pub forward: Seconds,
    /// Both gradients.
    pub backward: Seconds,
    /// Forward work repeated before the backward pass.
    pub recompute: Seconds,
    /// Share of the backward seconds that make weight gradients only (what zero-bubble schedules move).
    pub weight: f64,
}

impl PartTime {
    /// `self + other * factor`.
    pub fn plus(&self, other: &Self, factor: f64) -> Self {
        Self {
            forward: self.forward.plus(&other.forward, factor),
            backward: self.backward.plus(&other.backward, factor),
            recompute: self.recompute.plus(&other.recompute, factor),
            weight: self.weight + other.weight * factor,
        }
    }
}

/// Bytes of a half-precision number, in which the traffic below is stated.
const HALF: f64 = 2.0;
/// Kernels of a layer's forward pass in an eager framework: 6 products and about as many fused elementwise kernels.
const KERNELS: f64 = 14.0;
/// Passes over the scores outside the products, bytes per score: scaled masked softmax reads and writes (2+2), dropout
/// reads, writes and keeps a mask (2+2+1).
const SCORE_BYTES: f64 = 9.0;
/// The same over the residual stream, bytes per element: two norms (2+2 each), two bias-dropout-adds (2+2 in, 1 mask, 2 out).
const STREAM_BYTES: f64 = 22.0;
/// Splitting and transposing Q, K, V and the context, bytes per element of width.
const HEAD_BYTES: f64 = 4.0;
/// Bias and activation, bytes per inner element: in and out.
const INNER_BYTES: f64 = 4.0;
/// Single-precision operations per byte that an elementwise kernel moves: about 15 per element (random bits of dropout,
/// exponentials of softmax and GELU, sums of norms) over 3 bytes of traffic.
pub(crate) const VECTOR_OPS: f64 = 1.5;
/// Single-precision operations per score of a tiled attention kernel: an exponential on the special function units, a
/// sixteenth as fast as the vector units' multiply-adds (counted as 8 operations), and scale, maximum, difference, sum and
/// two conversions.
const SOFTMAX_OPS: f64 = 14.0;
/// Rate of eight-bit over half-precision products, very large ones: 1,402.6 over 794.5 TFLOP/s measured on an H100
/// (github stas00/ml-engineering, maximum achievable matmul FLOPS); the peaks would say 2.
const FLOAT8_SPEED: f64 = 1.765;
/// Loss over the vocabulary, bytes per logit forward: cast to single precision, maximum, exponential, sum.
const LOGIT_BYTES: f64 = 20.0;

/// Everything a layer's time depends on.
pub(crate) struct LayerShape<'a> {
    model: &'a Transformer,
    platform: &'a Platform,
    plan: &'a Plan,
    /// Tokens of a micro-batch on one device.
    tokens: f64,
    tensor: f64,
}

impl<'a> LayerShape<'a> {
    pub(crate) fn new(model: &'a Transformer, plan: &'a Plan, platform: &'a Platform) -> Self {
        let tokens = f64::from(plan.micro_batch) * model.sequence as f64 / f64::from(plan.context);
        Self { model, platform, plan, tokens, tensor: f64::from(plan.tensor) }
    }

    /// Bytes of the residual stream of one micro-batch on one device.
    pub(crate) fn stream_bytes(&self) -> f64 {
        self.plan.word() * self.tokens * self.model.hidden as f64
    }

    /// Seconds of `batch` products of `[m, k]` by `[k, n]`: the slower of arithmetic, whose rate saturates with every side,
    /// and memory traffic.
    fn product(&self, batch: f64, m: f64, n: f64, k: f64) -> f64 {
        let arithmetic = 2.0 * batch * m * n * k / self.rate(&[m, n, k], 1.0);
        arithmetic.max(self.moved(self.plan.word() * batch * (m * k + k * n + m * n)))
    }

    /// FLOP/s of a product with these sides, `speed` times as fast as half precision: each side x loses x/(x + n), where n,
    /// the side at which it halves the rate, is start-up time times rate (Hockney) and so grows with the speed.
    fn rate(&self, sides: &[f64], speed: f64) -> f64 {
        let half = self.platform.constants.half_size * speed;
        let saturation: f64 = sides.iter().map(|side| side / (side + half)).product();
        self.peak() * speed * self.platform.constants.matrix * saturation
    }

    /// A product of a linear layer: half precision, or eight-bit inputs, which first have to be scaled and cast.
    fn linear(&self, m: f64, n: f64, k: f64) -> f64 {
        if !self.plan.float8 {
            return self.product(1.0, m, n, k);
        }
        let bytes = m * k + k * n + HALF * m * n;
        let cast = self.traffic((2.0 * HALF + 1.0) * (m * k + k * n));
        (2.0 * m * n * k / self.rate(&[m, n, k], FLOAT8_SPEED)).max(self.moved(bytes)) + cast
    }

    /// Seconds to move `bytes`.
    fn moved(&self, bytes: f64) -> f64 {
        bytes / (self.platform.memory_rate * self.platform.constants.memory)
    }

    /// Matrix peak in the plan's precision, FLOP/s. In single precision accelerators use their vector units.
    fn peak(&self) -> f64 {
        if self.plan.float32 { self.platform.vector } else { self.platform.peak }
    }

    /// Seconds of elementwise kernels that move `bytes` (counted in half precision) and work on them.
    fn traffic(&self, bytes: f64) -> f64 {
        self.moved(bytes * self.plan.word() / HALF) + VECTOR_OPS * bytes / self.platform.vector
    }

    /// The attention core: matrix and memory seconds forward.
    fn core(&self) -> (f64, f64) {
        let m = self.model;
        let (s, dim) = (m.sequence as f64, m.head_dim() as f64);
        let heads = m.heads as f64 * f64::from(self.plan.micro_batch) / self.tensor;
        let rows = s / f64::from(self.plan.context);
        match self.plan.attention {
            Attention::Unfused => {
                let products = self.product(heads, rows, s, dim) + self.product(heads, rows, dim, s);
                (products, self.traffic(SCORE_BYTES * heads * rows * s))
            }
            // Blocks above the diagonal are skipped: half the flops. The head's width is the short side of every block. The
            // softmax runs on the vector units, before the block's second product can begin.
            Attention::Flash => {
                let scores = 0.5 * heads * rows * s;
                let products = 4.0 * scores * dim / self.rate(&[rows, s, dim], 1.0);
                (products, SOFTMAX_OPS * scores / self.platform.vector)
            }
        }
    }

    /// Projections of attention: matrix and memory seconds forward.
    fn projections(&self) -> (f64, f64) {
        let (h, kv) = (self.model.hidden as f64, (self.model.kv() * self.model.head_dim()) as f64);
        let t = self.tensor;
        let matrix = self.linear(self.tokens, (h + 2.0 * kv) / t, h) + self.linear(self.tokens, h, h / t);
        (matrix, self.traffic(HEAD_BYTES * self.tokens * (2.0 * h + 2.0 * kv) / t))
    }

    /// A feed-forward part of inner width `f` on `tokens` tokens: matrix and memory seconds forward.
    fn feed_forward(&self, tokens: f64, f: f64) -> (f64, f64) {
        let (h, t) = (self.model.hidden as f64, self.tensor);
        let up = if self.model.gated { 2.0 } else { 1.0 };
        let matrix = self.linear(tokens, up * f / t, h) + self.linear(tokens, h, f / t);
        (matrix, self.traffic((INNER_BYTES * f + (up - 1.0) * HALF * f) * tokens / t))
    }

    /// Experts of one layer: matrix, memory and all-to-all seconds forward.
    fn experts(&self) -> (f64, f64, f64) {
        let Some(e) = &self.model.experts else { return (0.0, 0.0, 0.0) };
        let (degree, f) = (f64::from(self.plan.expert), self.model.expert_ffn() as f64);
        let routed = self.tokens * e.active as f64 * e.capacity_factor;
        let here = (e.count as f64 / degree).max(1.0);
        let (matrix, memory) = self.feed_forward(routed / here, f);
        let (shared_matrix, shared_memory) =
            if e.shared == 0 { (0.0, 0.0) } else { self.feed_forward(self.tokens, f * e.shared as f64) };
        let moved = routed * self.plan.word() * self.model.hidden as f64;
        let split = if self.plan.sequence_parallel { self.tensor } else { 1.0 };
        let stride = self.plan.tensor;
        let way = self.platform.group(self.plan.expert, stride, moved).all_to_all(moved / split);
        // Sorting tokens by expert and back: four passes over the routed rows.
        let sorting = self.traffic(4.0 * routed * HALF * self.model.hidden as f64 / split);
        (here * matrix + shared_matrix, here * memory + shared_memory + sorting, 2.0 * way)
    }

    /// Seconds of one collective of the tensor group over the residual stream: all-reduce, or reduce-scatter and
    /// all-gather, which move the same bytes.
    fn tensor_collective(&self) -> f64 {
        if self.plan.tensor == 1 {
            return 0.0;
        }
        let bytes = self.stream_bytes();
        let group = self.platform.group(self.plan.tensor, 1, bytes);
        if self.plan.sequence_parallel { 2.0 * group.half(bytes) } else { group.all_reduce(bytes) }
    }

    /// What a ring over the context group costs beyond the attention it hides behind: keys and values travel round.
    fn ring_excess(&self, core: f64) -> f64 {
        if self.plan.context == 1 {
            return 0.0;
        }
        let kv = 2.0 * self.plan.word() * self.tokens * (self.model.kv() * self.model.head_dim()) as f64 / self.tensor;
        let group = self.platform.group(self.plan.context, self.plan.tensor, kv);
        let way = group.half(kv * f64::from(self.plan.context)) * self.platform.constants.overlap_slowdown;
        (way - core).max(0.0)
    }

    /// One layer.
    pub(crate) fn layer(&self, with_experts: bool) -> PartTime {
        let (core_matrix, core_memory) = self.core();
        let (projection_matrix, projection_memory) = self.projections();
        let (ffn_matrix, ffn_memory, expert) = if with_experts {
            self.experts()
        } else {
            let (matrix, memory) = self.feed_forward(self.tokens, self.model.ffn() as f64);
            (matrix, memory, 0.0)
        };
        let h = self.model.hidden as f64;
        let split = if self.plan.sequence_parallel { self.tensor } else { 1.0 };
        let stream = self.traffic(STREAM_BYTES * self.tokens * h / split);
        let collective = self.tensor_collective();
        let mut forward = Seconds {
            matrix: core_matrix + projection_matrix + ffn_matrix,
            memory: core_memory + projection_memory + ffn_memory + stream,
            tensor: 2.0 * collective,
            expert,
            context: self.ring_excess(core_matrix + core_memory),
            launch: 0.0,
        };
        forward.launch = (KERNELS * self.platform.constants.launch_s - forward.compute()).max(0.0);
        let core = Seconds { matrix: core_matrix, memory: core_memory, context: forward.context, ..Seconds::default() };
        let double = Seconds { matrix: 2.0 * forward.matrix, memory: 2.0 * forward.memory, ..forward };
        let backward = Seconds { launch: 2.0 * forward.launch, context: 2.0 * forward.context, ..double };
        let recompute = match self.plan.recompute {
            super::plan::Recompute::None => Seconds::default(),
            super::plan::Recompute::Selective => core,
            super::plan::Recompute::Full => forward,
        };
        // The tiled backward recomputes the scores itself: 2.5 times the forward products.
        let extra = if self.plan.attention == Attention::Flash { 0.5 * core_matrix } else { 0.0 };
        let backward = Seconds { matrix: backward.matrix + extra, ..backward };
        PartTime { forward, backward, recompute, weight: projection_matrix + ffn_matrix }
    }

    /// The embedding: rows are looked up and summed over the tensor group; gradients are scattered.
    pub(crate) fn embedding(&self) -> PartTime {
        let bytes = HALF * self.tokens * self.model.hidden as f64;
        let forward =
            Seconds { memory: self.traffic(2.0 * bytes), tensor: self.tensor_collective(), ..Seconds::default() };
        PartTime { forward, backward: Seconds { tensor: 0.0, ..forward }, ..PartTime::default() }
    }

    /// Output layer and loss.
    pub(crate) fn head(&self) -> PartTime {
        let (h, v) = (self.model.hidden as f64, self.model.vocabulary as f64 / self.tensor);
        if self.model.vocabulary <= 1 {
            return PartTime::default();
        }
        let forward = Seconds {
            matrix: self.product(1.0, self.tokens, v, h),
            memory: self.traffic(LOGIT_BYTES * self.tokens * v),
            ..Seconds::default()
        };
        let backward = Seconds {
            matrix: 2.0 * forward.matrix,
            memory: 0.5 * forward.memory,
            tensor: self.tensor_collective(),
            ..Seconds::default()
        };
        PartTime { forward, backward, recompute: Seconds::default(), weight: forward.matrix }
    }
}
