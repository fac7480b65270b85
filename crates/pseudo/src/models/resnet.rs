//! Residual networks (He et al., arXiv 1512.03385) with torchvision's layout and parameter names.

use super::unit::{Padding, Shape, Unit};
use super::{Backbone, Classifier, Input, Stage};
use candle_core::{Result, Tensor, bail};
use chandlery_kernels::{self as ck, Clamp, Pool2d};
use chandlery_nn::{BatchNormConfig, Dropout, Linear, Mode, Scope};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// How many layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Depth {
    /// Basic blocks 2, 2, 2, 2.
    #[default]
    #[serde(rename = "18")]
    D18,
    /// Basic blocks 3, 4, 6, 3.
    #[serde(rename = "34")]
    D34,
    /// Bottlenecks 3, 4, 6, 3.
    #[serde(rename = "50")]
    D50,
    /// Bottlenecks 3, 4, 23, 3.
    #[serde(rename = "101")]
    D101,
}

impl Depth {
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::D18 => [2, 2, 2, 2],
            Self::D34 | Self::D50 => [3, 4, 6, 3],
            Self::D101 => [3, 4, 23, 3],
        }
    }

    /// Channels that leave a block, per channel inside it.
    fn expansion(self) -> usize {
        if matches!(self, Self::D18 | Self::D34) { 1 } else { 4 }
    }
}

/// What the images meet first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7x7 with stride 2, then max pooling: a fourth of the side.
    #[default]
    Large,
    /// 3x3 with stride 1 and no pooling, for images of about 32 pixels.
    Small,
}

/// Settings of a residual network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ResNetConfig {
    /// How many layers.
    pub depth: Depth,
    /// Channels of the first stage; published networks have 64.
    pub width: usize,
    /// What the images meet first.
    pub stem: Stem,
    /// Batch norm.
    pub norm: BatchNormConfig,
    /// Dropout before the head.
    pub dropout: f64,
}

impl Default for ResNetConfig {
    fn default() -> Self {
        let (depth, stem, norm) = (Depth::default(), Stem::default(), BatchNormConfig::default());
        Self { depth, width: 64, stem, norm, dropout: 0.0 }
    }
}

impl ResNetConfig {
    /// ImageNet's mean and deviation in torchvision; images of about 32 pixels for the small stem.
    pub fn input(&self) -> Input {
        let size = if self.stem == Stem::Large { 224 } else { 32 };
        Input { size, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] }
    }

    /// `stem`, then each block as `layer1.0` and so on.
    pub fn stages(&self) -> Vec<Stage> {
        let stem = Stage { name: "stem".into(), paths: vec!["conv1".into(), "bn1".into()] };
        let blocks = (1..).zip(self.depth.blocks());
        let names = blocks.flat_map(|(layer, n)| (0..n).map(move |block| format!("layer{layer}.{block}")));
        std::iter::once(stem).chain(names.map(Stage::at)).collect()
    }

    /// Builds the network with a head for `n_classes` called `fc`.
    ///
    /// # Errors
    /// If a parameter exists with another shape.
    pub fn build(&self, scope: &Scope, n_classes: usize) -> Result<Classifier> {
        if self.width == 0 {
            bail!("resnet: a width of 0");
        }
        let (kernel, stride) = if self.stem == Stem::Large { (7, 2) } else { (3, 1) };
        let places = (&scope.pp("conv1"), &scope.pp("bn1"));
        let shape = Shape { i: 3, o: self.width, kernel, stride, groups: 1, padding: Padding::Half };
        let stem = Unit::new(places, shape, self.norm)?;
        let mut blocks = Vec::new();
        let mut channels = self.width;
        for (layer, n) in self.depth.blocks().into_iter().enumerate() {
            for at in 0..n {
                let scope = scope.pp(format!("layer{}", layer + 1)).pp(at);
                let stride = if layer > 0 && at == 0 { 2 } else { 1 };
                let block = Block::new(&scope, self, channels, self.width << layer, stride)?;
                channels = (self.width << layer) * self.depth.expansion();
                blocks.push(block);
            }
        }
        let fc = Linear::new(&scope.pp("fc"), channels, n_classes, true)?;
        let pool = (self.stem == Stem::Large).then(|| Pool2d::new(3, 2, 1));
        let stages = self.stages().into_iter().map(|stage| stage.name).collect();
        let net = ResNet { stages, stem, pool, blocks, channels };
        Classifier::new(net, fc, Dropout { p: self.dropout })
    }
}

struct ResNet {
    stages: Vec<String>,
    stem: Unit,
    pool: Option<Pool2d>,
    blocks: Vec<Block>,
    channels: usize,
}

impl Backbone for ResNet {
    fn stages(&self) -> &[String] {
        &self.stages
    }

    fn channels(&self) -> usize {
        self.channels
    }

    fn run(&self, x: &Tensor, stages: Range<usize>, mode: Mode) -> Result<Tensor> {
        let mut x = x.clone();
        for stage in stages {
            x = match stage.checked_sub(1).map(|at| self.blocks.get(at)) {
                None => self.stem(&x, mode)?,
                Some(Some(block)) => block.forward(&x, mode)?,
                Some(None) => bail!("resnet: stage {stage} of {}", self.stages.len()),
            };
        }
        Ok(x)
    }
}

impl ResNet {
    /// [b, 3, h, w] to [b, width, h / 4, w / 4], or to the same size with the small stem.
    fn stem(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let y = self.stem.forward(x, mode, None, Some(Clamp::Relu))?;
        self.pool.as_ref().map_or(Ok(y.clone()), |pool| ck::max_pool2d(&y, pool))
    }
}

/// Convolutions with batch norm, the input (or a projection of it) added before the last ReLU.
struct Block {
    /// Two 3x3, or 1x1, 3x3 and 1x1.
    chain: Vec<Unit>,
    downsample: Option<Unit>,
}

impl Block {
    /// From `i` channels to `width` times the expansion.
    fn new(scope: &Scope, config: &ResNetConfig, i: usize, width: usize, stride: usize) -> Result<Self> {
        let o = width * config.depth.expansion();
        let unit = |conv: &Scope, norm: &Scope, (i, o), kernel: usize, stride| {
            Unit::new((conv, norm), Shape { i, o, kernel, stride, groups: 1, padding: Padding::Half }, config.norm)
        };
        // torchvision puts a bottleneck's stride on its 3x3.
        let plan = match config.depth.expansion() {
            1 => vec![(i, width, 3, stride), (width, o, 3, 1)],
            _ => vec![(i, width, 1, 1), (width, width, 3, stride), (width, o, 1, 1)],
        };
        let chain = (1..).zip(plan).map(|(at, (i, o, kernel, stride))| {
            unit(&scope.pp(format!("conv{at}")), &scope.pp(format!("bn{at}")), (i, o), kernel, stride)
        });
        let chain = chain.collect::<Result<Vec<_>>>()?;
        let below = scope.pp("downsample");
        let project = stride != 1 || i != o;
        let downsample = project.then(|| unit(&below.pp(0), &below.pp(1), (i, o), 1, stride)).transpose()?;
        Ok(Self { chain, downsample })
    }

    fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let shortcut = self.downsample.as_ref().map_or(Ok(x.clone()), |unit| unit.forward(x, mode, None, None))?;
        let last = self.chain.len() - 1;
        self.chain.iter().enumerate().try_fold(x.clone(), |x, (at, unit)| {
            unit.forward(&x, mode, (at == last).then_some(&shortcut), Some(Clamp::Relu))
        })
    }
}
