//! Average drop and increase (Grad-CAM++, 1710.11063, sec. 4.1): the score of the image seen through its map.

use candle_core::{Device, Tensor};

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::score::Scorer;

/// The score of one image, whole and seen through its map. Averages over images are the measures of the paper.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confidence {
    /// The score of the whole image.
    pub whole: f64,
    /// The score of the image multiplied by its map.
    pub seen: f64,
}

impl Confidence {
    /// The share of the score that is lost, 0 if it rises; low is good.
    pub fn drop(&self) -> f64 {
        if self.whole > 0.0 { (self.whole - self.seen).max(0.0) / self.whole } else { 0.0 }
    }

    /// Whether the score rises; often is good.
    pub fn increases(&self) -> bool {
        self.seen > self.whole
    }
}

/// Scores `image` `[channels, height, width]` whole and multiplied by `map`, which must be scaled to [0, 1] at its size.
///
/// # Errors
/// If sizes differ, the map leaves [0, 1], or the score fails.
pub fn confidence(image: &Tensor, map: &Map, score: &Scorer<'_>) -> Result<Confidence> {
    let (_, height, width) = image.dims3()?;
    expect("size of the map", &[height, width], &[map.height(), map.width()])?;
    let (low, high) = map.range();
    if low < 0.0 || high > 1.0 {
        return Err(Error::Setting { what: "map", expected: "values in [0, 1]", got: format!("{low} to {high}") });
    }
    let mask = Tensor::from_slice(map.values(), (1, height, width), &Device::Cpu)?;
    let mask = mask.to_device(image.device())?.to_dtype(image.dtype())?;
    let both = Tensor::stack(&[image, &image.broadcast_mul(&mask)?], 0)?;
    let scores = score(&both)?;
    expect("scores", &[2], &[scores.len()])?;
    Ok(Confidence { whole: scores[0], seen: scores[1] })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(images: &Tensor) -> Result<Vec<f64>> {
        Ok(images.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    }

    #[test]
    fn drop_and_increase_by_hand() {
        let image = Tensor::from_slice(&[4.0_f32, -2.0], (1, 1, 2), &Device::Cpu).unwrap();
        let map = |a, b| Map::new(1, 2, vec![a, b]).unwrap();
        let through = |a, b| confidence(&image, &map(a, b), &mean).unwrap();
        assert_eq!(through(1.0, 0.0), Confidence { whole: 1.0, seen: 2.0 });
        assert!(through(1.0, 0.0).increases() && through(1.0, 0.0).drop() == 0.0);
        assert_eq!(through(0.25, 0.0).drop(), 0.5);
        assert!(confidence(&image, &map(1.5, 0.0), &mean).is_err());
    }
}
