//! Residual convolutional networks (bottleneck form), for image classification.

use super::error::{ModelError, divides, size};
use serde::{Deserialize, Serialize};

/// Shape of a bottleneck residual network: a 7x7 stem of stride 2, pooling of stride 2, four or so groups of blocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resnet {
    /// Height and width of the input image.
    pub image: u64,
    /// Colour channels.
    pub channels: u64,
    /// Channels after the stem, and the inner width of the first group; doubles with each group.
    pub width: u64,
    /// Blocks in each group; each group after the first halves the image.
    pub blocks: Vec<u64>,
    /// Classes.
    pub classes: u64,
}

/// One convolution: channels in and out, kernel size, stride, height (= width) of its output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Convolution {
    /// Input channels.
    pub input: u64,
    /// Output channels.
    pub output: u64,
    /// Kernel height and width.
    pub kernel: u64,
    /// Stride in both directions.
    pub stride: u64,
    /// Height and width of the output.
    pub size: u64,
}

impl Convolution {
    /// Weights, without bias (a norm follows).
    pub fn params(&self) -> u64 {
        self.input * self.output * self.kernel * self.kernel
    }

    /// Forward flops for `batch` images.
    pub fn flops(&self, batch: f64) -> f64 {
        2.0 * batch * self.params() as f64 * (self.size * self.size) as f64
    }
}

/// Ratio of a block's outer to its inner width.
pub const EXPANSION: u64 = 4;

impl Resnet {
    /// Checks every field.
    ///
    /// # Errors
    /// Sizes of zero or too large; an image side that the strides do not divide.
    pub fn validate(&self, model: &str) -> Result<(), ModelError> {
        size(model, "resnet.blocks (length)", self.blocks.len() as u64, 8)?;
        for (i, &n) in self.blocks.iter().enumerate() {
            size(model, &format!("resnet.blocks[{i}]"), n, 10_000)?;
        }
        size(model, "resnet.image", self.image, 1 << 16)?;
        size(model, "resnet.channels", self.channels, 1 << 12)?;
        size(model, "resnet.width", self.width, 1 << 14)?;
        size(model, "resnet.classes", self.classes, 1 << 24)?;
        divides(model, ("resnet.image", self.image), ("total stride", 2 << self.blocks.len()))
    }

    /// All convolutions in order, the shortcuts' projections included; each block is 1x1, 3x3 (strided), 1x1.
    pub fn convolutions(&self) -> Vec<Convolution> {
        let mut size = self.image / 2;
        let mut all = vec![Convolution { input: self.channels, output: self.width, kernel: 7, stride: 2, size }];
        size /= 2;
        let mut input = self.width;
        for (group, &blocks) in self.blocks.iter().enumerate() {
            let inner = self.width << group;
            for block in 0..blocks {
                let stride = if block == 0 && group > 0 { 2 } else { 1 };
                all.extend(bottleneck(input, inner, stride, size));
                size /= stride;
                input = inner * EXPANSION;
            }
        }
        all
    }

    /// Channels of the last feature map.
    pub fn features(&self) -> u64 {
        (self.width << (self.blocks.len().max(1) - 1)) * EXPANSION
    }

    /// All parameters: convolutions, two per channel for each norm, the classifier with bias.
    pub fn params(&self) -> u64 {
        let convolutions: u64 = self.convolutions().iter().map(|c| c.params() + 2 * c.output).sum();
        convolutions + (self.features() + 1) * self.classes
    }

    /// Forward flops for `batch` images.
    pub fn forward_flops(&self, batch: f64) -> f64 {
        let convolutions: f64 = self.convolutions().iter().map(|c| c.flops(batch)).sum();
        convolutions + 2.0 * batch * self.features() as f64 * self.classes as f64
    }
}

/// The convolutions of one block over an image of side `size`; the projection comes last, where there is one.
pub fn bottleneck(input: u64, inner: u64, stride: u64, size: u64) -> Vec<Convolution> {
    let output = inner * EXPANSION;
    let small = size / stride;
    let mut block = vec![
        Convolution { input, output: inner, kernel: 1, stride: 1, size },
        Convolution { input: inner, output: inner, kernel: 3, stride, size: small },
        Convolution { input: inner, output, kernel: 1, stride: 1, size: small },
    ];
    if stride != 1 || input != output {
        block.push(Convolution { input, output, kernel: 1, stride, size: small });
    }
    block
}
