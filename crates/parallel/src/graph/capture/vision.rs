//! Residual convolutional networks.

use super::{GraphError, Net, OpKind, Pointwise};
use crate::model::{Convolution, EXPANSION, Resnet, bottleneck};

impl Net {
    /// From images `[b, c, y, x]` to the loss `[b]`.
    pub(super) fn resnet(&mut self, m: &Resnet, b: u64) -> Result<(), GraphError> {
        let images = self.graph.input("images", &[b, m.channels, m.image, m.image])?;
        let targets = self.graph.input("targets", &[b])?;
        let mut size = m.image / 2;
        let stem = Convolution { input: m.channels, output: m.width, kernel: 7, stride: 2, size };
        let stem = self.convolution("stem", images, stem)?;
        let stem = self.pointwise("stem.relu".into(), Pointwise::Relu, stem)?;
        let mut x = self.op("stem.pool".into(), OpKind::Pool { stride: 2 }, &[stem])?;
        size /= 2;
        let mut input = m.width;
        for (group, &blocks) in m.blocks.iter().enumerate() {
            let inner = m.width << group;
            for block in 0..blocks {
                let stride = if block == 0 && group > 0 { 2 } else { 1 };
                x = self.block(&format!("group{group}.block{block}"), x, &bottleneck(input, inner, stride, size))?;
                size /= stride;
                input = inner * EXPANSION;
            }
        }
        let pooled = self.op("pool".into(), OpKind::Pool { stride: 0 }, &[x])?;
        let logits = self.linear("classifier", pooled, (m.features(), m.classes), true)?;
        self.op("loss".into(), OpKind::CrossEntropy, &[logits, targets]).map(|_| ())
    }

    /// Three convolutions and the shortcut, which is a fourth where sizes change.
    fn block(&mut self, name: &str, x: usize, convolutions: &[Convolution]) -> Result<usize, GraphError> {
        let mut y = x;
        for (i, &c) in convolutions.iter().take(3).enumerate() {
            y = self.convolution(&format!("{name}.conv{i}"), y, c)?;
            if i < 2 {
                y = self.pointwise(format!("{name}.relu{i}"), Pointwise::Relu, y)?;
            }
        }
        let shortcut = match convolutions.get(3) {
            Some(&c) => self.convolution(&format!("{name}.shortcut"), x, c)?,
            None => x,
        };
        let sum = self.op(format!("{name}.residual"), OpKind::Add, &[shortcut, y])?;
        self.pointwise(format!("{name}.relu"), Pointwise::Relu, sum)
    }

    fn convolution(&mut self, name: &str, x: usize, c: Convolution) -> Result<usize, GraphError> {
        let w = self.graph.parameter(&format!("{name}.weight"), &[c.output, c.input, c.kernel, c.kernel])?;
        let y = self.op(name.into(), OpKind::Convolution { stride: c.stride }, &[x, w])?;
        let scale = self.graph.parameter(&format!("{name}.norm.weight"), &[c.output])?;
        let shift = self.graph.parameter(&format!("{name}.norm.bias"), &[c.output])?;
        self.op(format!("{name}.norm"), OpKind::ChannelNorm, &[y, scale, shift])
    }
}
