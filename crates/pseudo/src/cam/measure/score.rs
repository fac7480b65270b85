//! The model as the measures see it.

use candle_core::Tensor;

use super::super::error::Result;
use super::super::passes::probability;
use super::super::probe::{Forward, rows};

/// One score for each image of a batch `[m, channels, height, width]`, such as a class's probability.
pub type Scorer<'a> = dyn Fn(&Tensor) -> Result<Vec<f64>> + 'a;

/// The probability of `class` by the softmax of a model's logits.
pub fn class_probability<'a>(model: &'a Forward<'a>, class: usize) -> impl Fn(&Tensor) -> Result<Vec<f64>> + 'a {
    move |images| rows(&model(images)?)?.iter().map(|row| probability(row, class)).collect()
}

/// Scores of altered images, each `[channels, height, width]` of `like` in row-major order, `batch` at a time.
pub(super) fn score_all(
    images: impl Iterator<Item = Vec<f32>>,
    like: &Tensor,
    batch: usize,
    score: &Scorer<'_>,
) -> Result<Vec<f64>> {
    let (channels, height, width) = like.dims3()?;
    let mut images = images.peekable();
    let mut scores = Vec::new();
    while images.peek().is_some() {
        let some: Vec<f32> = images.by_ref().take(batch.max(1)).flatten().collect();
        let some = Tensor::from_vec(some, ((), channels, height, width), &candle_core::Device::Cpu)?;
        scores.extend(score(&some.to_device(like.device())?.to_dtype(like.dtype())?)?);
    }
    Ok(scores)
}
