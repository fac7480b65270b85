//! EfficientNet-Lite (Tan and Le, arXiv 1905.11946; its variant without squeeze-and-excitation and with ReLU6 for small
//! devices, 2020) with the parameter names of the PyTorch conversions.

use super::unit::{Padding, Shape, Unit};
use super::{Backbone, Classifier, Input, Stage};
use candle_core::{Result, Tensor, bail};
use chandlery_kernels::Clamp;
use chandlery_nn::{BatchNormConfig, Dropout, Linear, Mode, Scope};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Repeats, kernel, stride, expansion, channels in, channels out.
const PLAN: [(usize, usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
];

/// Settings of EfficientNet-Lite0; the others differ in `width`, `depth`, `size` and `dropout`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EfficientNetConfig {
    /// Factor on the channels between stem and head, which keep 32 and 1280 from 1 upwards and shrink below.
    pub width: f64,
    /// Factor on the repeats of all stages but the first and the last.
    pub depth: f64,
    /// Side of the images.
    pub size: usize,
    /// Batch norm; the published weights come from TensorFlow, whose decay 0.99 is a momentum of 0.01.
    pub norm: BatchNormConfig,
    /// Dropout before the head.
    pub dropout: f64,
}

impl Default for EfficientNetConfig {
    fn default() -> Self {
        let norm = BatchNormConfig { eps: 1e-3, momentum: 0.01, ..BatchNormConfig::default() };
        Self { width: 1.0, depth: 1.0, size: 224, norm, dropout: 0.2 }
    }
}

/// One block: kernel, stride, expansion, channels in and out.
struct Plan {
    kernel: usize,
    stride: usize,
    expansion: usize,
    i: usize,
    o: usize,
}

impl EfficientNetConfig {
    /// `(x - 127) / 128` of values from 0 to 255.
    pub fn input(&self) -> Input {
        Input { size: self.size, mean: [127.0 / 255.0; 3], std: [128.0 / 255.0; 3] }
    }

    /// `stem`, each block as `_blocks.0` and so on, `head`.
    pub fn stages(&self) -> Vec<Stage> {
        let end =
            |name: &str, conv: &str, norm: &str| Stage { name: name.into(), paths: vec![conv.into(), norm.into()] };
        let blocks = (0..self.plan().len()).map(|at| Stage::at(format!("_blocks.{at}")));
        let stem = std::iter::once(end("stem", "_conv_stem", "_bn0"));
        stem.chain(blocks).chain([end("head", "_conv_head", "_bn1")]).collect()
    }

    /// Channels times the width, as a multiple of 8 that lies at most a tenth below.
    fn scaled(&self, channels: usize) -> usize {
        let exact = channels as f64 * self.width;
        let rounded = (((exact + 4.0) / 8.0) as usize * 8).max(8);
        if (rounded as f64) < 0.9 * exact { rounded + 8 } else { rounded }
    }

    /// Channels of stem or head.
    fn end(&self, channels: usize) -> usize {
        if self.width < 1.0 { self.scaled(channels) } else { channels }
    }

    fn plan(&self) -> Vec<Plan> {
        let mut plan = Vec::new();
        for (at, (repeats, kernel, stride, expansion, i, o)) in PLAN.into_iter().enumerate() {
            let inner = at > 0 && at + 1 < PLAN.len();
            let repeats = if inner { (repeats as f64 * self.depth).ceil() as usize } else { repeats };
            let (first, o) = (if at == 0 { self.end(i) } else { self.scaled(i) }, self.scaled(o));
            for repeat in 0..repeats {
                let (stride, i) = if repeat == 0 { (stride, first) } else { (1, o) };
                plan.push(Plan { kernel, stride, expansion, i, o });
            }
        }
        plan
    }

    /// Builds the network with a head for `n_classes` called `_fc`.
    ///
    /// # Errors
    /// If width or depth is not positive, or a parameter exists with another shape.
    pub fn build(&self, scope: &Scope, n_classes: usize) -> Result<Classifier> {
        if !(self.width > 0.0 && self.depth > 0.0 && self.width < 16.0 && self.depth < 16.0) {
            bail!("efficientnet: width {} and depth {} must lie between 0 and 16", self.width, self.depth);
        }
        let unit = |conv: &str, norm: &str, (i, o), kernel, stride| {
            let shape = Shape { i, o, kernel, stride, groups: 1, padding: Padding::Same };
            Unit::new((&scope.pp(conv), &scope.pp(norm)), shape, self.norm)
        };
        let stem = unit("_conv_stem", "_bn0", (3, self.end(32)), 3, 2)?;
        let blocks = self.plan().into_iter().enumerate();
        let block = |(at, plan)| Block::new(&scope.pp("_blocks").pp(at), plan, self.norm);
        let blocks = blocks.map(block).collect::<Result<Vec<_>>>()?;
        let channels = self.end(1280);
        let head = unit("_conv_head", "_bn1", (self.scaled(320), channels), 1, 1)?;
        let fc = Linear::new(&scope.pp("_fc"), channels, n_classes, true)?;
        let stages = self.stages().into_iter().map(|stage| stage.name).collect();
        Classifier::new(EfficientNet { stages, stem, blocks, head, channels }, fc, Dropout { p: self.dropout })
    }
}

struct EfficientNet {
    stages: Vec<String>,
    stem: Unit,
    blocks: Vec<Block>,
    head: Unit,
    channels: usize,
}

impl Backbone for EfficientNet {
    fn stages(&self) -> &[String] {
        &self.stages
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn run(&self, x: &Tensor, stages: Range<usize>, mode: Mode) -> Result<Tensor> {
        let mut x = x.clone();
        for stage in stages {
            x = match stage.checked_sub(1) {
                None => self.stem.forward(&x, mode, None, Some(Clamp::Relu6))?,
                Some(at) if at < self.blocks.len() => self.blocks[at].forward(&x, mode)?,
                Some(at) if at == self.blocks.len() => self.head.forward(&x, mode, None, Some(Clamp::Relu6))?,
                Some(_) => bail!("efficientnet: stage {stage} of {}", self.stages.len()),
            };
        }
        Ok(x)
    }
}

/// Inverted residual (Sandler et al., arXiv 1801.04381): widen, convolve each channel, narrow without nonlinearity.
struct Block {
    expand: Option<Unit>,
    depthwise: Unit,
    project: Unit,
    residual: bool,
}

impl Block {
    fn new(scope: &Scope, plan: Plan, norm: BatchNormConfig) -> Result<Self> {
        let Plan { kernel, stride, expansion, i, o } = plan;
        let wide = i * expansion;
        let at = |conv: &str, bn: &str| (scope.pp(conv), scope.pp(bn));
        let unit = |(conv, bn): (Scope, Scope), (i, o), kernel, stride, groups| {
            Unit::new((&conv, &bn), Shape { i, o, kernel, stride, groups, padding: Padding::Same }, norm)
        };
        let expand = (expansion != 1).then(|| unit(at("_expand_conv", "_bn0"), (i, wide), 1, 1, 1)).transpose()?;
        let depthwise = unit(at("_depthwise_conv", "_bn1"), (wide, wide), kernel, stride, wide)?;
        let project = unit(at("_project_conv", "_bn2"), (wide, o), 1, 1, 1)?;
        Ok(Self { expand, depthwise, project, residual: stride == 1 && i == o })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let wide = match &self.expand {
            Some(unit) => unit.forward(x, mode, None, Some(Clamp::Relu6))?,
            None => x.clone(),
        };
        let inner = self.depthwise.forward(&wide, mode, None, Some(Clamp::Relu6))?;
        self.project.forward(&inner, mode, self.residual.then_some(x), None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_rounded_as_published() {
        let config = |width| EfficientNetConfig { width, ..EfficientNetConfig::default() };
        assert_eq!([16, 24, 40, 320].map(|c| config(1.1).scaled(c)), [16, 24, 48, 352]);
        assert_eq!([16, 24, 40, 320].map(|c| config(1.4).scaled(c)), [24, 32, 56, 448]);
        assert_eq!((config(1.4).end(1280), config(0.25).end(1280)), (1280, 320));
        let deep = EfficientNetConfig { depth: 1.2, ..EfficientNetConfig::default() };
        assert_eq!((config(1.0).plan().len(), deep.plan().len()), (16, 21));
    }
}
