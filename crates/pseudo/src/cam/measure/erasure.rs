//! Deletion and insertion (RISE, 1806.07421, sec. 4.2): how fast a score falls or rises as places are taken out or put in,
//! the map's most important first.

use candle_core::Tensor;

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::super::probe::host;
use super::score::{Scorer, score_all};

/// A score over the share of pixels that were changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Shares of the pixels, 0 to 1, rising.
    pub shares: Vec<f64>,
    /// The score at each share.
    pub scores: Vec<f64>,
}

impl Curve {
    /// The area under the curve by trapezoids. Low is good for deletion, high for insertion.
    pub fn area(&self) -> f64 {
        let widths = self.shares.windows(2).map(|s| s[1] - s[0]);
        widths.zip(self.scores.windows(2)).map(|(width, s)| width * (s[0] + s[1]) / 2.0).sum()
    }
}

/// Pixels from the most important to the least; equal ones in row-major order.
pub fn ranking(map: &Map) -> Vec<usize> {
    let mut order: Vec<usize> = (0..map.values().len()).collect();
    order.sort_by(|&a, &b| map.values()[b].total_cmp(&map.values()[a]));
    order
}

/// Replaces pixels of `image` `[channels, height, width]` by those of `ground` (the paper: zeros, which are the mean colour
/// of a normalised image), the most important first, in `steps` equal steps; one score before the first and after each.
///
/// # Errors
/// If sizes differ, there are no steps, or the score fails.
pub fn deletion(
    image: &Tensor,
    ground: &Tensor,
    map: &Map,
    steps: usize,
    batch: usize,
    score: &Scorer<'_>,
) -> Result<Curve> {
    exchange(image, ground, map, steps, batch, score)
}

/// Puts pixels of `image` into `ground` (the paper: the blurred image, [`blurred`]), the most important first.
///
/// # Errors
/// As [`deletion`].
pub fn insertion(
    image: &Tensor,
    ground: &Tensor,
    map: &Map,
    steps: usize,
    batch: usize,
    score: &Scorer<'_>,
) -> Result<Curve> {
    exchange(ground, image, map, steps, batch, score)
}

fn exchange(from: &Tensor, to: &Tensor, map: &Map, steps: usize, batch: usize, score: &Scorer<'_>) -> Result<Curve> {
    if steps == 0 {
        return Err(Error::Setting { what: "steps", expected: "at least 1", got: "0".into() });
    }
    let (_, height, width) = from.dims3()?;
    expect("second image", from.dims(), to.dims())?;
    expect("size of the map", &[height, width], &[map.height(), map.width()])?;
    let (order, area) = (ranking(map), height * width);
    let (mut now, to) = (host(from)?, host(to)?);
    let mut done = 0;
    let altered = (0..=steps).map(|step| {
        let until = area * step / steps;
        for &place in &order[done..until] {
            now.iter_mut()
                .skip(place)
                .step_by(area)
                .zip(to.iter().skip(place).step_by(area))
                .for_each(|(n, t)| *n = *t);
        }
        done = until;
        now.clone()
    });
    let scores = score_all(altered, from, batch, score)?;
    Ok(Curve { shares: (0..=steps).map(|step| (area * step / steps) as f64 / area as f64).collect(), scores })
}

/// The image `[channels, height, width]` under a Gaussian of deviation `sigma` pixels, cut at three deviations; outside
/// pixels repeat the border.
///
/// # Errors
/// If `sigma` is not a positive number or the image has another rank.
pub fn blurred(image: &Tensor, sigma: f64) -> Result<Tensor> {
    if !(sigma > 0.0 && sigma.is_finite()) {
        return Err(Error::Setting { what: "sigma", expected: "a positive number", got: sigma.to_string() });
    }
    let (channels, height, width) = image.dims3()?;
    let reach = (3.0 * sigma).ceil() as i64;
    let kernel: Vec<f64> = (-reach..=reach).map(|i| (-((i * i) as f64) / (2.0 * sigma * sigma)).exp()).collect();
    let total: f64 = kernel.iter().sum();
    let along = |values: &[f64], outer: usize, n: usize, inner: usize| -> Vec<f64> {
        let at = |o: usize, i: i64, k: usize| values[(o * n + i.clamp(0, n as i64 - 1) as usize) * inner + k];
        let mut out = Vec::with_capacity(values.len());
        for o in 0..outer {
            for i in 0..n as i64 {
                for k in 0..inner {
                    out.push(kernel.iter().zip(-reach..).map(|(w, d)| w * at(o, i + d, k)).sum::<f64>() / total);
                }
            }
        }
        out
    };
    let values: Vec<f64> = host(image)?.into_iter().map(f64::from).collect();
    let rows = along(&values, channels * height, width, 1);
    let both = along(&rows, channels, height, width);
    let values: Vec<f32> = both.into_iter().map(|v| v as f32).collect();
    let blurred = Tensor::from_vec(values, (channels, height, width), &candle_core::Device::Cpu)?;
    Ok(blurred.to_device(image.device())?.to_dtype(image.dtype())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn image(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, (1, 2, 2), &Device::Cpu).unwrap()
    }

    /// The score is the sum of the pixels.
    fn sum(images: &Tensor) -> Result<Vec<f64>> {
        Ok(images.flatten_from(1)?.sum(1)?.to_vec1::<f32>()?.into_iter().map(f64::from).collect())
    }

    #[test]
    fn deletion_takes_the_most_important_first() {
        let map = Map::new(2, 2, vec![0.1, 0.9, 0.5, 0.5]).unwrap();
        let curve = deletion(&image(&[1.0, 8.0, 2.0, 4.0]), &image(&[0.0; 4]), &map, 4, 3, &sum).unwrap();
        assert_eq!(curve.shares, [0.0, 0.25, 0.5, 0.75, 1.0]);
        assert_eq!(curve.scores, [15.0, 7.0, 5.0, 1.0, 0.0]);
        assert_eq!(curve.area(), 0.25 * (15.0 / 2.0 + 7.0 + 5.0 + 1.0));
    }

    #[test]
    fn insertion_puts_the_most_important_first() {
        let map = Map::new(2, 2, vec![0.1, 0.9, 0.5, 0.5]).unwrap();
        let curve = insertion(&image(&[1.0, 8.0, 2.0, 4.0]), &image(&[0.0; 4]), &map, 2, 8, &sum).unwrap();
        assert_eq!(curve.scores, [0.0, 10.0, 15.0]);
    }

    #[test]
    fn steps_that_do_not_divide_reach_every_pixel() {
        let map = Map::new(2, 2, vec![4.0, 3.0, 2.0, 1.0]).unwrap();
        let curve = deletion(&image(&[1.0; 4]), &image(&[0.0; 4]), &map, 3, 1, &sum).unwrap();
        assert_eq!(curve.scores, [4.0, 3.0, 2.0, 0.0]);
        assert_eq!(curve.shares, [0.0, 0.25, 0.5, 1.0]);
    }

    #[test]
    fn blurring_keeps_flat_images_and_spreads_points() {
        let flat = blurred(&image(&[3.0; 4]), 2.0).unwrap();
        assert!(host(&flat).unwrap().iter().all(|v| (v - 3.0).abs() < 1e-6));
        let mut values = vec![0.0; 81];
        values[40] = 1.0;
        let point = blurred(&Tensor::from_vec(values, (1, 9, 9), &Device::Cpu).unwrap(), 1.0).unwrap();
        let point = host(&point).unwrap();
        // exp(-1/2) of the centre one pixel away, in both directions alike.
        for beside in [39, 41, 31, 49] {
            assert!((point[beside] / point[40] - (-0.5_f32).exp()).abs() < 1e-5);
        }
        assert!((point.iter().sum::<f32>() - 1.0).abs() < 1e-5);
        assert!(blurred(&image(&[0.0; 4]), 0.0).is_err());
    }
}
