//! What a forward pass is told beside its tokens.

use crate::cache::KvCache;
use candle_core::Tensor;
use chandlery_kernels::Key;
use chandlery_nn::Mode;

/// Options of one forward pass.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Evaluation, or training with a key for dropout.
    pub mode: Mode,
    /// u8 [b, t]: tokens with 0 are padding that nobody sees. With a cache, padding is
    /// [`KvCache::with_padding`]'s.
    pub keys: Option<&'a Tensor>,
    /// u32 [b, t]: tokens see their own segment only (documents packed into one row).
    pub segments: Option<&'a Tensor>,
    /// u32 [b, t]: learned positions other than 0, 1, 2, ... Rotary positions are relative and need none.
    pub positions: Option<&'a Tensor>,
    /// u8 [b, t]: 1 at the tokens of prompts, for models with
    /// [`prompt_heads`](super::DecoderConfig::prompt_heads). With a cache, the first pass is the prompt.
    pub prompt: Option<&'a Tensor>,
    /// Dropout other than the configuration's (a schedule).
    pub dropout: Option<f64>,
    /// Earlier keys and values; those of this pass are added.
    pub cache: Option<&'a mut KvCache>,
}

impl<'a> Pass<'a> {
    /// A pass in this mode and without anything else.
    pub fn new(mode: Mode) -> Self {
        Self { mode, keys: None, segments: None, positions: None, prompt: None, dropout: None, cache: None }
    }

    /// Evaluation.
    pub fn eval() -> Self {
        Self::new(Mode::Eval)
    }

    /// Training, with dropout from this key.
    pub fn train(key: Key) -> Self {
        Self::new(Mode::Train(key))
    }

    /// Hides padding: u8 [b, t], 0 = padding.
    pub fn with_keys(mut self, keys: &'a Tensor) -> Self {
        self.keys = Some(keys);
        self
    }

    /// Keeps packed documents apart: u32 [b, t].
    pub fn with_segments(mut self, segments: &'a Tensor) -> Self {
        self.segments = Some(segments);
        self
    }

    /// Continues from earlier tokens.
    pub fn with_cache(mut self, cache: &'a mut KvCache) -> Self {
        self.cache = Some(cache);
        self
    }
}
