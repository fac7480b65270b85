//! A model opened at one layer, and the one call that makes a map by any method.

use candle_core::{DType, Tensor, Var};

use super::activation::{Activations, Head, Slope};
use super::closed::{closed_forms, slope_map};
use super::error::{Error, Result, expect};
use super::map::Map;
use super::method::{Method, Settings};
use super::passes;
use super::target::by_logit;

/// How a layer's output lays out its places and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// `[b, k, h, w]`, as convolutions give.
    Maps,
    /// `[b, prefix + h * w, k]`, as vision transformers give; `prefix` tokens (class, registers) belong to no place.
    Tokens {
        /// Tokens before the first patch.
        prefix: usize,
        /// Rows of patches.
        height: usize,
        /// Columns of patches.
        width: usize,
    },
}

impl Layout {
    /// A layer's output, or its gradient, as maps `[b, k, h, w]`.
    ///
    /// # Errors
    /// If the shape is not of this layout.
    pub fn maps(&self, output: &Tensor) -> Result<Tensor> {
        match *self {
            Self::Maps => {
                output.dims4()?;
                Ok(output.clone())
            }
            Self::Tokens { prefix, height, width } => {
                let (b, t, k) = output.dims3()?;
                expect("tokens", &[prefix + height * width], &[t])?;
                // [b, h w, k] -> [b, k, h, w]
                Ok(output.narrow(1, prefix, height * width)?.transpose(1, 2)?.reshape((b, k, height, width))?)
            }
        }
    }
}

/// A stretch of a model: tensor to tensor, in evaluation mode, each row of the result from its own row of the input.
pub type Forward<'a> = dyn Fn(&Tensor) -> candle_core::Result<Tensor> + 'a;

/// A model opened at one layer.
///
/// Nothing is kept between calls: no hooks, no graph. Parameters that are `Var`s receive gradients that are thrown away;
/// a model of plain tensors saves that work.
#[derive(Clone, Copy)]
pub struct Probe<'a> {
    /// Images `[b, ..]` to the layer's output.
    pub features: &'a Forward<'a>,
    /// The layer's output to logits `[b, c]`.
    pub logits: &'a Forward<'a>,
    /// How the layer's output is laid out.
    pub layout: Layout,
    /// Given where `logits` is a mean over places and this linear map: then no method but Score-CAM and RISE needs another
    /// pass, forward or backward.
    pub head: Option<Head<'a>>,
}

impl Probe<'_> {
    /// Logits `[b, c]` of images, row by row, in f32 on the host.
    pub(super) fn scores(&self, images: &Tensor) -> Result<Vec<Vec<f32>>> {
        rows(&(self.logits)(&(self.features)(images)?)?)
    }

    /// The class of the largest logit of each image, the first of equal ones.
    ///
    /// # Errors
    /// If the model fails.
    pub fn predict(&self, images: &Tensor) -> Result<Vec<usize>> {
        Ok(predicted(&self.scores(images)?))
    }
}

/// The class of the largest logit of each row, the first of equal ones.
pub(super) fn predicted(logits: &[Vec<f32>]) -> Vec<usize> {
    let better = |row: &[f32], best: usize, class: usize| if row[class] > row[best] { class } else { best };
    logits.iter().map(|row| (0..row.len()).fold(0, |best, class| better(row, best, class))).collect()
}

/// Logits as rows on the host.
pub(super) fn rows(logits: &Tensor) -> Result<Vec<Vec<f32>>> {
    Ok(logits.to_dtype(DType::F32)?.to_vec2()?)
}

/// The maps of `images` `[n, channels, height, width]` for one class each, by each of `methods`: `result[method][image]`,
/// before any rectifying or scaling ([`Map::scaled`] for the eye, [`Map::percent`] for shares). Maps have the layer's size,
/// RISE's the images'.
///
/// The layer's output is computed once for all methods. Gradients come from one backward pass for the whole batch, and are
/// the chain rule's: what a method explains enters through its derivative by the logits only.
///
/// # Errors
/// If the model fails, a size does not fit, a class does not exist, a setting is out of range, or anything is not finite.
pub fn explain_all(
    probe: &Probe<'_>,
    images: &Tensor,
    targets: &[usize],
    methods: &[Method],
    settings: &Settings,
) -> Result<Vec<Vec<Map>>> {
    settings.validate()?;
    expect("targets", &[images.dim(0)?], &[targets.len()])?;
    // Detached: a map is no part of any loss, and nothing before the layer needs a gradient.
    let output = (probe.features)(images)?.detach();
    methods.iter().map(|&method| by_method(probe, images, &output, targets, method, settings)).collect()
}

/// [`explain_all`] by one method.
///
/// # Errors
/// As [`explain_all`].
pub fn explain(
    probe: &Probe<'_>,
    images: &Tensor,
    targets: &[usize],
    method: Method,
    settings: &Settings,
) -> Result<Vec<Map>> {
    Ok(explain_all(probe, images, targets, &[method], settings)?.pop().unwrap_or_default())
}

fn by_method(
    probe: &Probe<'_>,
    images: &Tensor,
    output: &Tensor,
    targets: &[usize],
    method: Method,
    settings: &Settings,
) -> Result<Vec<Map>> {
    let maps = probe.layout.maps(output)?;
    let (_, k, h, w) = maps.dims4()?;
    let values = host(&maps)?;
    match (method, &probe.head) {
        (Method::Rise, _) => passes::rise(probe, images, targets, settings),
        (Method::ScoreCam, _) => passes::score_cam(probe, images, &values, [k, h, w], targets, settings),
        (_, Some(head)) => closed_forms(method, &values, [k, h, w], head, targets, settings),
        (Method::AblationCam, None) => passes::ablation_cam(probe, output, &values, [k, h, w], targets, settings),
        (_, None) => {
            let slopes = slopes(probe, output, targets, method, settings)?;
            let image = |i: usize| {
                let part = i * k * h * w..(i + 1) * k * h * w;
                let acts = Activations::new(&values[part.clone()], k, h, w)?;
                slope_map(method, &acts, &Slope::Full(&slopes[part]))
            };
            (0..targets.len()).map(image).collect()
        }
    }
}

/// The values of a tensor, row-major, in f32 on the host.
pub(super) fn host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The slope of what `method` explains by the layer's output, as maps `[n, k, h, w]`.
fn slopes(
    probe: &Probe<'_>,
    output: &Tensor,
    targets: &[usize],
    method: Method,
    settings: &Settings,
) -> Result<Vec<f32>> {
    let leaf = Var::from_tensor(output)?;
    let logits = (probe.logits)(leaf.as_tensor())?;
    let (n, c) = logits.dims2()?;
    expect("rows of logits", &[targets.len()], &[n])?;
    let mut by = Vec::with_capacity(n * c);
    for (row, &target) in rows(&logits)?.iter().zip(targets) {
        let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
        by.extend(by_logit(method, &row, target, settings)?);
    }
    let by = Tensor::from_vec(by, (n, c), output.device())?.to_dtype(logits.dtype())?;
    // Rows do not mix, so the sum over the batch has each image's own slope.
    let grads = (logits * by)?.sum_all()?.backward()?;
    let grad =
        grads.get(&leaf).ok_or(Error::Missing { method: method.name(), what: "logits that depend on the layer" })?;
    host(&probe.layout.maps(grad)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use chandlery_kernels::{Key, Stream};

    fn draw(seed: u64, shape: &[usize]) -> Tensor {
        let mut stream = Stream::new(Key::new(seed));
        let values: Vec<f32> = (0..shape.iter().product()).map(|_| stream.normal() as f32).collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn same(x: &Tensor) -> candle_core::Result<Tensor> {
        Ok(x.clone())
    }

    /// Logits `[b, 2]` that are curved in the maps `[b, 3, 2, 2]`.
    fn curved(maps: &Tensor) -> candle_core::Result<Tensor> {
        maps.flatten_from(1)?.sqr()?.matmul(&draw(9, &[12, 2]))?.tanh()
    }

    fn probe<'a>(logits: &'a Forward<'a>, layout: Layout) -> Probe<'a> {
        Probe { features: &same, logits, layout, head: None }
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let maps = draw(1, &[2, 3, 2, 2]).affine(0.3, 0.0).unwrap();
        let probe = probe(&curved, Layout::Maps);
        let slopes = slopes(&probe, &maps, &[1, 0], Method::GradCam, &Settings::default()).unwrap();
        let values = host(&maps).unwrap();
        for (i, slope) in slopes.iter().enumerate() {
            let logit = |step: f32| {
                let mut moved = values.clone();
                moved[i] += step;
                let moved = Tensor::from_vec(moved, (2, 3, 2, 2), &Device::Cpu).unwrap();
                let (image, class) = if i < 12 { (0, 1) } else { (1, 0) };
                rows(&curved(&moved).unwrap()).unwrap()[image][class]
            };
            let numeric = (logit(1e-2) - logit(-1e-2)) / 2e-2;
            assert!((numeric - slope).abs() < 2e-3, "{i}: {numeric} {slope}");
        }
    }

    #[test]
    fn tokens_give_the_maps_of_the_same_places() {
        let maps = draw(2, &[2, 3, 2, 2]);
        // [b, k, h, w] -> two prefix tokens and [b, h w, k]
        let patches = maps.reshape((2, 3, 4)).unwrap().transpose(1, 2).unwrap();
        let tokens = Tensor::cat(&[&draw(3, &[2, 2, 3]), &patches], 1).unwrap();
        let layout = Layout::Tokens { prefix: 2, height: 2, width: 2 };
        let of_tokens = |tokens: &Tensor| curved(&layout.maps(tokens).map_err(candle_core::Error::wrap)?);
        let (by_tokens, by_maps) = (probe(&of_tokens, layout), probe(&curved, Layout::Maps));
        let methods = [Method::GradCam, Method::LayerCam, Method::AblationCam, Method::EigenCam, Method::FinerCam];
        let settings = Settings { batch: 2, ..Settings::default() };
        let a = explain_all(&by_tokens, &tokens, &[0, 1], &methods, &settings).unwrap();
        let b = explain_all(&by_maps, &maps, &[0, 1], &methods, &settings).unwrap();
        assert_eq!(a, b);
        assert!(layout.maps(&draw(4, &[1, 5, 3])).is_err());
    }

    #[test]
    fn images_of_a_batch_are_explained_alone() {
        let maps = draw(5, &[3, 3, 2, 2]);
        let probe = probe(&curved, Layout::Maps);
        let all = explain(&probe, &maps, &[0, 1, 1], Method::GradCamPlusPlus, &Settings::default()).unwrap();
        let last = maps.narrow(0, 2, 1).unwrap();
        let alone = explain(&probe, &last, &[1], Method::GradCamPlusPlus, &Settings::default()).unwrap();
        for (a, b) in all[2].values().iter().zip(alone[0].values()) {
            assert!((a - b).abs() < 1e-5);
        }
    }

    #[test]
    fn altered_images_reveal_the_place_that_counts() {
        // Two channels of 4 x 4 see the two halves; only the left one speaks for class 1.
        let left =
            Tensor::from_vec((0..16).map(|i| if i % 4 < 2 { 1f32 } else { 0.0 }).collect(), (1, 1, 4, 4), &Device::Cpu);
        let left = left.unwrap();
        let features =
            |x: &Tensor| Tensor::cat(&[x.broadcast_mul(&left)?, x.broadcast_mul(&left.affine(-1.0, 1.0)?)?], 1);
        let logits = |maps: &Tensor| maps.mean((2, 3))?.affine(8.0, 0.0);
        let probe = Probe { features: &features, logits: &logits, layout: Layout::Maps, head: None };
        let image = Tensor::ones((1, 1, 4, 4), DType::F32, &Device::Cpu).unwrap();
        let settings = Settings { rise_masks: 200, rise_cells: 4, batch: 64, ..Settings::default() };
        for method in [Method::ScoreCam, Method::Rise] {
            let map = explain(&probe, &image, &[0], method, &settings).unwrap().remove(0);
            let half = |from: usize| (0..4).map(|y| map.at(y, from) + map.at(y, from + 1)).sum::<f32>();
            assert!(half(0) > half(2) * 1.1, "{method}: {map:?}");
        }
    }

    #[test]
    fn what_cannot_be_explained_is_an_error() {
        let maps = draw(6, &[1, 3, 2, 2]);
        let blind = |_: &Tensor| Tensor::zeros((1, 2), DType::F32, &Device::Cpu);
        let settings = Settings::default();
        let error = |logits: &Forward<'_>, target, method| {
            explain(&probe(logits, Layout::Maps), &maps, &[target], method, &settings).unwrap_err()
        };
        assert!(matches!(error(&blind, 0, Method::GradCam), Error::Missing { .. }));
        assert!(matches!(error(&curved, 2, Method::GradCam), Error::Shape { .. }));
        assert!(matches!(error(&curved, 2, Method::AblationCam), Error::Shape { .. }));
        assert!(matches!(error(&curved, 0, Method::Cam), Error::Missing { .. }));
        let broken = |maps: &Tensor| curved(maps)?.affine(f64::NAN, 0.0);
        assert!(matches!(error(&broken, 0, Method::GradCam), Error::NonFinite { .. }));
    }

    #[test]
    fn the_first_of_equal_logits_is_predicted() {
        let logits = |x: &Tensor| Ok(x.clone());
        let probe = probe(&logits, Layout::Maps);
        let x = Tensor::new(&[[1f32, 3.0, 3.0], [2.0, 1.0, 0.0]], &Device::Cpu).unwrap();
        assert_eq!(probe.predict(&x).unwrap(), [1, 0]);
    }
}
