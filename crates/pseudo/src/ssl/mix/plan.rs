//! Who is mixed with whom, and how.

use super::{Rect, SampleMin, ShareRule, beta};
use chandlery_kernels::{Key, Stream};
use serde::{Deserialize, Serialize};

/// What becomes of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Blend {
    /// Nothing.
    Keep,
    /// The box `dest` shows the box `source` of the partner, resized.
    Paste {
        /// Where it goes.
        dest: Rect,
        /// Where it comes from.
        source: Rect,
    },
    /// `own` times the image plus `1 - own` times the partner.
    Fade {
        /// Factor of the image.
        own: f64,
    },
}

/// Whether all images of a batch share a box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Boxes {
    /// Each image has boxes of its own.
    #[default]
    PerImage,
    /// One draw for the batch, as SnapMix's and CutMix's code.
    PerBatch,
}

/// What a label's share is measured by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Share {
    /// By the class activation map of the label.
    #[default]
    Semantic,
    /// By area alone: the ablation without maps.
    Area,
}

/// Settings of SnapMix.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BoxMix {
    /// Both boxes leave a share of the image drawn from Beta(alpha, alpha).
    pub alpha: f64,
    /// Probability that an image (or batch) is mixed; 1 suits a pretrained network, 0.5 one from scratch.
    pub prob: f64,
    /// Whether boxes are drawn per image.
    pub boxes: Boxes,
    /// What shares are measured by.
    pub share: Share,
    /// What becomes of them.
    pub rule: ShareRule,
    /// Which minimum a map is shifted by.
    pub minimum: SampleMin,
}

impl Default for BoxMix {
    fn default() -> Self {
        let (boxes, share, rule) = (Boxes::PerImage, Share::Semantic, ShareRule::default());
        Self { alpha: 5.0, prob: 1.0, boxes, share, rule, minimum: SampleMin::Exact }
    }
}

/// Settings of CutMix and MixUp.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlainMix {
    /// The kept share is drawn from Beta(alpha, alpha).
    pub alpha: f64,
    /// Probability that an image (or batch) is mixed.
    pub prob: f64,
    /// Whether it is drawn per image.
    pub boxes: Boxes,
}

impl Default for PlainMix {
    fn default() -> Self {
        Self { alpha: 1.0, prob: 1.0, boxes: Boxes::PerImage }
    }
}

/// How images are mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum MixConfig {
    /// Not at all.
    #[default]
    None,
    /// Huang et al. 2021, arXiv 2012.04846: two boxes, labels by their share of the activation map.
    Snapmix(BoxMix),
    /// Yun et al. 2019, arXiv 1905.04899: one box, labels by area.
    Cutmix(PlainMix),
    /// Zhang et al. 2018, arXiv 1710.09412: weighted sums.
    Mixup(PlainMix),
}

impl MixConfig {
    /// Whether shares need activation maps.
    pub fn needs_maps(&self) -> bool {
        matches!(self, Self::Snapmix(BoxMix { share: Share::Semantic, .. }))
    }

    /// What becomes of the shares.
    pub fn rule(&self) -> ShareRule {
        if let Self::Snapmix(mix) = self { mix.rule } else { ShareRule::default() }
    }

    /// Which minimum a map is shifted by.
    pub fn minimum(&self) -> SampleMin {
        if let Self::Snapmix(mix) = self { mix.minimum } else { SampleMin::Exact }
    }

    fn numbers(&self) -> Option<(f64, f64, Boxes)> {
        match self {
            Self::None => None,
            Self::Snapmix(m) => Some((m.alpha, m.prob, m.boxes)),
            Self::Cutmix(m) | Self::Mixup(m) => Some((m.alpha, m.prob, m.boxes)),
        }
    }

    /// The first value out of range, with its key.
    pub(crate) fn wrong(&self) -> Option<(&'static str, String)> {
        let (alpha, prob, _) = self.numbers()?;
        if !(alpha > 0.0 && alpha.is_finite()) {
            return Some(("alpha", format!("must be positive, got {alpha}")));
        }
        (!(0.0..=1.0).contains(&prob)).then(|| ("prob", format!("expected a number from 0 to 1, got {prob}")))
    }

    /// What becomes of each of `n` images of `size` (rows, columns). A pair of boxes of which one is empty mixes nothing.
    pub fn draw(&self, n: usize, size: (usize, usize), key: Key) -> Vec<Blend> {
        let Some((_, _, boxes)) = self.numbers() else { return vec![Blend::Keep; n] };
        let one = |i: usize| self.draw_one(size, &mut Stream::new(key.at(i as u64)));
        match boxes {
            Boxes::PerImage => (0..n).map(one).collect(),
            Boxes::PerBatch => vec![one(0); n],
        }
    }

    fn draw_one(&self, size: (usize, usize), draws: &mut Stream) -> Blend {
        let Some((alpha, prob, _)) = self.numbers() else { return Blend::Keep };
        if draws.uniform() >= prob {
            return Blend::Keep;
        }
        let (dest, source) = match self {
            Self::Mixup(_) => return Blend::Fade { own: beta(alpha, draws) },
            Self::Snapmix(_) => (rect(alpha, size, draws), rect(alpha, size, draws)),
            Self::Cutmix(_) | Self::None => {
                let both = rect(alpha, size, draws);
                (both, both)
            }
        };
        if dest.area() == 0 || source.area() == 0 { Blend::Keep } else { Blend::Paste { dest, source } }
    }
}

/// A random box that leaves a share of the image drawn from Beta(alpha, alpha), around a uniform centre.
fn rect(alpha: f64, (rows, cols): (usize, usize), draws: &mut Stream) -> Rect {
    let lam = beta(alpha, draws);
    Rect::around(rows, cols, lam, (draws.below(rows), draws.below(cols)))
}

/// A random partner for each of `n` images: a permutation, in which an image may meet itself.
pub fn partners(n: usize, key: Key) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    Stream::new(key).shuffle(&mut order);
    order
}

/// What becomes of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The other image of each, `[n]`.
    pub partners: Vec<usize>,
    /// What becomes of each, `[n]`.
    pub blends: Vec<Blend>,
}
