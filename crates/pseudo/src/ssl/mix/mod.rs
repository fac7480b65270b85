//! Mixing images and their labels: MixUp, CutMix, SnapMix.
//!
//! A [`Plan`] says what becomes of each image (drawn from a key), [`shares`] says how much of either label the result
//! shows, and [`Plan::apply`] makes the pixels.

mod boxes;
mod draw;
mod paste;
mod plan;
mod semantic;
#[cfg(test)]
mod tests;

pub use boxes::Rect;
pub use draw::beta;
pub use plan::{Blend, BoxMix, Boxes, MixConfig, PlainMix, Plan, Share, partners};
pub use semantic::{PercentMap, SampleMin, class_maps};

use serde::{Deserialize, Serialize};

/// How much of its own and of its partner's label a mixed image shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shares {
    /// Of its own: rho_a.
    pub own: f64,
    /// Of its partner's: rho_b.
    pub partner: f64,
}

impl Shares {
    /// An image left as it is.
    pub const WHOLE: Self = Self { own: 1.0, partner: 0.0 };
}

/// What becomes of the two shares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShareRule {
    /// Where both labels agree, each share becomes the sum of both, as SnapMix's code does; the image counts double.
    pub same_class_double: bool,
    /// Divide both by their sum.
    pub normalise: bool,
}

/// The shares of a pasted image (SnapMix, arXiv 2012.04846, eq. 4-5): `1 - mass_a(destination)` and `mass_b(source)`,
/// where mass is the sum of the percent map over a box. Without a map (`None`), and where one is constant, the area of
/// the destination stands for both.
///
/// `maps` are those of the image and of its partner; `size` is that of the images.
pub fn shares(
    blend: &Blend,
    maps: Option<(&PercentMap, &PercentMap)>,
    same_class: bool,
    size: (usize, usize),
    rule: ShareRule,
) -> Shares {
    let (dest, source) = match *blend {
        Blend::Keep => return Shares::WHOLE,
        Blend::Fade { own } => return Shares { own, partner: 1.0 - own },
        Blend::Paste { dest, source } => (dest, source),
    };
    let area = dest.area() as f64 / (size.0 * size.1) as f64;
    let by_area = Shares { own: 1.0 - area, partner: area };
    let Some((own, partner)) = maps else { return by_area };
    let mut shares = Shares { own: 1.0 - own.mass(dest), partner: partner.mass(source) };
    if same_class && rule.same_class_double {
        let both = shares.own + shares.partner;
        shares = Shares { own: both, partner: both };
    }
    if shares.own.is_nan() {
        shares.own = by_area.own;
    }
    if shares.partner.is_nan() {
        shares.partner = by_area.partner;
    }
    let sum = shares.own + shares.partner;
    if rule.normalise && sum > 0.0 {
        shares = Shares { own: shares.own / sum, partner: shares.partner / sum };
    }
    shares
}
