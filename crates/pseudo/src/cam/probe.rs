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
        let best =
            |row: &Vec<f32>| (0..row.len()).fold(0, |best, class| if row[class] > row[best] { class } else { best });
        Ok(self.scores(images)?.iter().map(best).collect())
    }
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
