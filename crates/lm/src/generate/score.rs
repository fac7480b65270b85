//! How likely a given text is.

use crate::decoder::{Decoder, Pass};
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};
use chandlery_kernels as ck;

/// Log-probability of each token of `text` after `prompt`, in one pass without a cache.
///
/// # Errors
/// If the prompt is empty, both together exceed the model's context, or a token of the text is not in the vocabulary.
pub fn log_probs(model: &Decoder, prompt: &[u32], text: &[u32]) -> Result<Vec<f32>> {
    if prompt.is_empty() {
        return Err(Error::Prompt { index: 0, what: "expected at least one token, got none".into() });
    }
    let vocab = model.config().vocab;
    if let Some(token) = text.iter().find(|&&token| token as usize >= vocab) {
        return Err(Error::Prompt { index: 0, what: format!("token {token} is not below the vocabulary's {vocab}") });
    }
    let Some((_, fed)) = text.split_last() else { return Ok(Vec::new()) };
    let ids = [prompt, fed].concat();
    let n = ids.len();
    let ids = Tensor::from_vec(ids, (1, n), model.device())?;
    let hidden = model.hidden(&ids, Pass::eval())?;
    let logits = model.logits(&hidden.narrow(1, prompt.len() - 1, text.len())?.squeeze(0)?.contiguous()?)?;
    let all = ck::log_softmax(&logits.to_device(&Device::Cpu)?.to_dtype(DType::F32)?, 1)?;
    let targets = Tensor::from_slice(text, (text.len(), 1), &Device::Cpu)?;
    Ok(all.gather(&targets, 1)?.squeeze(1)?.to_vec1()?)
}
