//! Colours for shares.

use serde::{Deserialize, Serialize};

/// A scale of colours whose lightness rises with the value, so that it also reads in grey.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Palette {
    /// Dark violet over green to yellow: nine colours read off viridis (van der Walt and Smith, CC0), straight lines between.
    #[default]
    Viridis,
    /// Black over red and yellow to white, as hot iron.
    Heat,
}

const VIRIDIS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 44, 122],
    [59, 81, 139],
    [44, 113, 142],
    [33, 144, 141],
    [39, 173, 129],
    [92, 200, 99],
    [170, 220, 50],
    [253, 231, 37],
];

const HEAT: [[u8; 3]; 4] = [[0, 0, 0], [204, 0, 0], [255, 204, 0], [255, 255, 255]];

impl Palette {
    /// The colour of a share in [0, 1]; beyond, that of the nearer end.
    pub fn colour(self, share: f32) -> [u8; 3] {
        match self {
            Self::Viridis => between(&VIRIDIS, share),
            Self::Heat => between(&HEAT, share),
        }
    }
}

fn between(anchors: &[[u8; 3]], share: f32) -> [u8; 3] {
    let place = share.clamp(0.0, 1.0) * (anchors.len() - 1) as f32;
    let low = (place as usize).min(anchors.len() - 2);
    let weight = place - low as f32;
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * weight).round() as u8;
    std::array::from_fn(|i| mix(anchors[low][i], anchors[low + 1][i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_and_anchors_are_met() {
        assert_eq!(Palette::Viridis.colour(0.0), [68, 1, 84]);
        assert_eq!(Palette::Viridis.colour(0.5), [33, 144, 141]);
        assert_eq!(Palette::Viridis.colour(7.0), [253, 231, 37]);
        assert_eq!(Palette::Heat.colour(-1.0), [0, 0, 0]);
    }

    #[test]
    fn lightness_rises() {
        for palette in [Palette::Viridis, Palette::Heat] {
            let light = |i: usize| {
                let [r, g, b] = palette.colour(i as f32 / 64.0);
                0.2126 * f32::from(r) + 0.7152 * f32::from(g) + 0.0722 * f32::from(b)
            };
            assert!((0..64).all(|i| light(i + 1) > light(i) - 0.5), "{palette:?}");
        }
    }
}
