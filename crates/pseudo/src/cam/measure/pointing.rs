//! The pointing game, and its variant that counts all of the map.

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::boxes::Rect;

/// Where the thing is: one flag a pixel, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    height: usize,
    width: usize,
    inside: Vec<bool>,
}

impl Mask {
    /// A mask of `[height, width]` flags.
    ///
    /// # Errors
    /// If the number of flags is another one or nothing is inside.
    pub fn new(height: usize, width: usize, inside: Vec<bool>) -> Result<Self> {
        expect("flags of the mask", &[height * width], &[inside.len()])?;
        if !inside.contains(&true) {
            return Err(Error::Shape { what: "mask", expected: "a pixel inside".into(), got: "none".into() });
        }
        Ok(Self { height, width, inside })
    }

    /// A mask of a rectangle, cut to the image.
    ///
    /// # Errors
    /// If nothing of it lies in the image.
    pub fn of_rect(height: usize, width: usize, rect: Rect) -> Result<Self> {
        let inside = (0..height).flat_map(|y| (0..width).map(move |x| rect.contains(x, y))).collect();
        Self::new(height, width, inside)
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Whether a pixel is inside.
    pub fn contains(&self, x: usize, y: usize) -> bool {
        x < self.width && y < self.height && self.inside[y * self.width + x]
    }

    /// The share of the image that is inside: what pointing at random hits.
    pub fn share(&self) -> f64 {
        self.inside.iter().filter(|i| **i).count() as f64 / self.inside.len() as f64
    }

    /// The smallest rectangle around what is inside.
    pub fn bounds(&self) -> Rect {
        let mut bounds = Rect { x0: self.width, y0: self.height, x1: 0, y1: 0 };
        for place in (0..self.inside.len()).filter(|&i| self.inside[i]) {
            bounds.include(place % self.width, place / self.width);
        }
        bounds
    }

    /// Whether a pixel inside is at most `radius` pixels from `(x, y)`.
    fn near(&self, x: usize, y: usize, radius: usize) -> bool {
        let rows = y.saturating_sub(radius)..(y + radius + 1).min(self.height);
        rows.flat_map(|v| (x.saturating_sub(radius)..(x + radius + 1).min(self.width)).map(move |u| (u, v)))
            .any(|(u, v)| self.contains(u, v) && u.abs_diff(x).pow(2) + v.abs_diff(y).pow(2) <= radius * radius)
    }
}

/// The pointing game (Zhang et al., 1608.00507): 1 if the map's maximum lies inside the mask or at most `tolerance` pixels
/// from it (the paper: 15), else 0. Of several equal maxima, the share that hits, so that a map without a preference
/// scores what chance does.
///
/// # Errors
/// If map and mask have different sizes.
pub fn pointing(map: &Map, mask: &Mask, tolerance: usize) -> Result<f64> {
    same_size(map, mask)?;
    let top = map.range().1;
    let (mut hits, mut tops) = (0, 0);
    for place in (0..map.values().len()).filter(|&i| map.values()[i] == top) {
        tops += 1;
        hits += usize::from(mask.near(place % map.width(), place / map.width(), tolerance));
    }
    Ok(f64::from(hits as u32) / f64::from(tops as u32))
}

/// The energy-based pointing game (Score-CAM, 1910.01279, sec. 4.3): the share of the map's sum that lies inside the mask.
/// The map is shifted to a minimum of zero first; a constant map scores the mask's share of the image.
///
/// # Errors
/// If map and mask have different sizes.
pub fn energy_pointing(map: &Map, mask: &Mask) -> Result<f64> {
    same_size(map, mask)?;
    let shares = map.shares();
    Ok(shares.values().iter().zip(&mask.inside).filter(|(_, inside)| **inside).map(|(&v, _)| f64::from(v)).sum())
}

fn same_size(map: &Map, mask: &Mask) -> Result<()> {
    expect("size of the mask", &[map.height(), map.width()], &[mask.height, mask.width])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Inside is the left column of 2 x 3.
    fn left() -> Mask {
        Mask::of_rect(2, 3, Rect { x0: 0, y0: 0, x1: 1, y1: 2 }).unwrap()
    }

    fn map(values: [f32; 6]) -> Map {
        Map::new(2, 3, values.to_vec()).unwrap()
    }

    #[test]
    fn the_maximum_hits_or_misses() {
        assert_eq!(pointing(&map([0.0, 1.0, 2.0, 9.0, 0.0, 0.0]), &left(), 0).unwrap(), 1.0);
        let beside = map([0.0, 1.0, 2.0, 0.0, 9.0, 0.0]);
        assert_eq!(pointing(&beside, &left(), 0).unwrap(), 0.0);
        assert_eq!(pointing(&beside, &left(), 1).unwrap(), 1.0);
        assert_eq!(pointing(&map([0.0, 0.0, 9.0, 0.0, 0.0, 0.0]), &left(), 1).unwrap(), 0.0);
    }

    #[test]
    fn a_constant_map_scores_as_chance() {
        let flat = map([2.0; 6]);
        assert_eq!(pointing(&flat, &left(), 0).unwrap(), left().share());
        assert!((energy_pointing(&flat, &left()).unwrap() - left().share()).abs() < 1e-6);
    }

    #[test]
    fn energy_is_the_share_inside() {
        let energy = energy_pointing(&map([1.0, 2.0, 0.0, 3.0, 0.0, 2.0]), &left()).unwrap();
        assert!((energy - 0.5).abs() < 1e-6, "{energy}");
    }

    #[test]
    fn the_tolerance_is_a_circle() {
        let corner = Mask::of_rect(5, 5, Rect { x0: 0, y0: 0, x1: 1, y1: 1 }).unwrap();
        let mut values = vec![0.0; 25];
        values[2 * 5 + 2] = 1.0;
        let map = Map::new(5, 5, values).unwrap();
        // sqrt(8) pixels away.
        assert_eq!(pointing(&map, &corner, 2).unwrap(), 0.0);
        assert_eq!(pointing(&map, &corner, 3).unwrap(), 1.0);
    }

    #[test]
    fn masks_know_their_bounds_and_refuse_to_be_empty() {
        let mask = Mask::new(3, 3, vec![false, false, false, false, true, true, false, false, false]).unwrap();
        assert_eq!(mask.bounds(), Rect { x0: 1, y0: 1, x1: 3, y1: 2 });
        assert!(Mask::new(1, 2, vec![false; 2]).is_err());
        assert!(pointing(&map([0.0; 6]), &mask, 0).is_err());
    }
}
