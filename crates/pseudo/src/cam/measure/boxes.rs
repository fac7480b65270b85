//! Boxes around what a map marks, and their overlap with the thing's box.

use serde::{Deserialize, Serialize};

use super::super::error::{Result, expect};
use super::super::map::Map;

/// A rectangle of whole pixels, `x0 <= x < x1`, `y0 <= y < y1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rect {
    /// First column.
    pub x0: usize,
    /// First row.
    pub y0: usize,
    /// Column after the last.
    pub x1: usize,
    /// Row after the last.
    pub y1: usize,
}

impl Rect {
    /// Number of pixels.
    pub fn area(&self) -> usize {
        self.x1.saturating_sub(self.x0) * self.y1.saturating_sub(self.y0)
    }

    /// Whether a pixel lies in it.
    pub fn contains(&self, x: usize, y: usize) -> bool {
        (self.x0..self.x1).contains(&x) && (self.y0..self.y1).contains(&y)
    }

    /// Grows to hold a pixel.
    pub(super) fn include(&mut self, x: usize, y: usize) {
        self.x0 = self.x0.min(x);
        self.y0 = self.y0.min(y);
        self.x1 = self.x1.max(x + 1);
        self.y1 = self.y1.max(y + 1);
    }

    /// Intersection over union; 0 where both are empty.
    pub fn iou(&self, other: &Self) -> f64 {
        let both = Self {
            x0: self.x0.max(other.x0),
            y0: self.y0.max(other.y0),
            x1: self.x1.min(other.x1),
            y1: self.y1.min(other.y1),
        }
        .area();
        let either = self.area() + other.area() - both;
        if either == 0 { 0.0 } else { both as f64 / either as f64 }
    }
}

/// The boxes around the connected regions (eight neighbours) where the map, scaled to [0, 1], is above `threshold`, with
/// each region's number of pixels; in the order of their first pixels.
pub fn boxes_above(map: &Map, threshold: f64) -> Vec<(Rect, usize)> {
    regions(map.min_max().values(), map.size(), threshold)
}

/// The box around the largest region of [`boxes_above`], the first of equal ones; none for a constant map.
pub fn largest_box(map: &Map, threshold: f64) -> Option<Rect> {
    let largest = |best: Option<(Rect, usize)>, next: (Rect, usize)| match best {
        Some(best) if best.1 >= next.1 => Some(best),
        _ => Some(next),
    };
    boxes_above(map, threshold).into_iter().fold(None, largest).map(|(rect, _)| rect)
}

fn regions(values: &[f32], (height, width): (usize, usize), threshold: f64) -> Vec<(Rect, usize)> {
    let mut open: Vec<bool> = values.iter().map(|&v| f64::from(v) > threshold).collect();
    let mut found = Vec::new();
    let mut stack = Vec::new();
    for start in 0..open.len() {
        if !std::mem::take(&mut open[start]) {
            continue;
        }
        stack.push(start);
        let (mut rect, mut pixels) = (Rect { x0: width, y0: height, x1: 0, y1: 0 }, 0);
        while let Some(place) = stack.pop() {
            let (x, y) = (place % width, place / width);
            rect.include(x, y);
            pixels += 1;
            for v in y.saturating_sub(1)..(y + 2).min(height) {
                for u in x.saturating_sub(1)..(x + 2).min(width) {
                    if std::mem::take(&mut open[v * width + u]) {
                        stack.push(v * width + u);
                    }
                }
            }
        }
        found.push((rect, pixels));
    }
    found
}

/// MaxBoxAccV2 (Choe et al., 2007.04178): over many images, the share whose best box reaches an overlap, at the threshold
/// that is best for all images together, averaged over the overlaps 0.3, 0.5 and 0.7.
///
/// As there, all regions count, not just the largest. Here thresholds are a parameter (the paper's code: 0 to 1 by 0.001),
/// maps are compared in f32 and not as bytes, and a region's holes give no boxes.
#[derive(Clone, Debug)]
pub struct BoxAccuracy {
    thresholds: Vec<f64>,
    /// Hits for each overlap and threshold.
    hits: [Vec<u64>; 3],
    images: u64,
}

impl BoxAccuracy {
    /// The overlaps that are averaged.
    pub const OVERLAPS: [f64; 3] = [0.3, 0.5, 0.7];

    /// With `steps` thresholds `0, 1/steps, ..`.
    pub fn new(steps: usize) -> Self {
        let thresholds: Vec<f64> = (0..steps).map(|i| i as f64 / steps as f64).collect();
        Self { hits: std::array::from_fn(|_| vec![0; steps]), thresholds, images: 0 }
    }

    /// Counts one image's map and the boxes of its things; any of them may be met.
    pub fn add(&mut self, map: &Map, things: &[Rect]) {
        self.images += 1;
        let scaled = map.min_max();
        for (i, &threshold) in self.thresholds.iter().enumerate() {
            let best = regions(scaled.values(), map.size(), threshold)
                .iter()
                .flat_map(|(rect, _)| things.iter().map(|thing| rect.iou(thing)))
                .fold(0.0, f64::max);
            for (hits, overlap) in self.hits.iter_mut().zip(Self::OVERLAPS) {
                hits[i] += u64::from(best >= overlap);
            }
        }
    }

    /// Counts the images of another count with the same thresholds, for example to draw groups of images anew.
    ///
    /// # Errors
    /// If the thresholds differ.
    pub fn merge(&mut self, other: &Self) -> Result<()> {
        expect("thresholds of the second count", &[self.thresholds.len()], &[other.thresholds.len()])?;
        self.images += other.images;
        for (own, others) in self.hits.iter_mut().zip(&other.hits) {
            own.iter_mut().zip(others).for_each(|(own, other)| *own += other);
        }
        Ok(())
    }

    /// The accuracy at each overlap, each at its best threshold; zeros without images.
    pub fn accuracies(&self) -> [f64; 3] {
        let best = |hits: &Vec<u64>| hits.iter().copied().max().unwrap_or(0);
        std::array::from_fn(|i| best(&self.hits[i]) as f64 / self.images.max(1) as f64)
    }

    /// MaxBoxAccV2, the mean of [`BoxAccuracy::accuracies`].
    pub fn value(&self) -> f64 {
        self.accuracies().iter().sum::<f64>() / 3.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THING: Rect = Rect { x0: 1, y0: 0, x1: 3, y1: 2 };

    fn map(values: [f32; 8]) -> Map {
        Map::new(2, 4, values.to_vec()).unwrap()
    }

    #[test]
    fn overlap_by_hand() {
        assert_eq!(THING.iou(&THING), 1.0);
        assert_eq!(THING.iou(&Rect { x0: 2, y0: 0, x1: 4, y1: 2 }), 2.0 / 6.0);
        assert_eq!(THING.iou(&Rect { x0: 3, y0: 0, x1: 4, y1: 2 }), 0.0);
        let empty = Rect { x0: 1, y0: 1, x1: 1, y1: 1 };
        assert_eq!(empty.iou(&empty), 0.0);
    }

    #[test]
    fn diagonal_neighbours_are_one_region() {
        let map = map([1.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
        let boxes = boxes_above(&map, 0.5);
        assert_eq!(boxes, [(Rect { x0: 0, y0: 0, x1: 2, y1: 2 }, 2), (Rect { x0: 3, y0: 0, x1: 4, y1: 2 }, 2)]);
        assert_eq!(largest_box(&map, 0.5), Some(Rect { x0: 0, y0: 0, x1: 2, y1: 2 }));
        assert_eq!(largest_box(&map, 1.0), None);
    }

    #[test]
    fn the_best_threshold_is_one_for_all_images() {
        // The thing stands out above 0.3 in the first and only above 0.7 in the second.
        let first = map([0.0, 0.5, 1.0, 0.2, 0.2, 0.5, 0.5, 0.2]);
        let second = map([0.6, 0.8, 1.0, 0.6, 0.0, 0.8, 0.8, 0.6]);
        let mut one = BoxAccuracy::new(10);
        one.add(&first, &[THING]);
        assert_eq!(one.accuracies(), [1.0; 3]);
        let mut both = one.clone();
        both.add(&second, &[THING]);
        // Above 0.6 only (2, 0) of the first is left, an overlap of 1/4; below, the second is the whole image, of 1/2.
        assert_eq!(both.accuracies(), [1.0, 1.0, 0.5]);
        assert!((both.value() - 2.5 / 3.0).abs() < 1e-12);
        // Counted apart and put together, the same.
        let mut apart = BoxAccuracy::new(10);
        apart.add(&second, &[THING]);
        apart.merge(&one).unwrap();
        assert_eq!(apart.accuracies(), both.accuracies());
        assert!(apart.merge(&BoxAccuracy::new(9)).is_err());
    }

    #[test]
    fn nothing_is_met_by_a_constant_map() {
        let mut boxes = BoxAccuracy::new(10);
        boxes.add(&map([1.0; 8]), &[THING]);
        assert_eq!(boxes.value(), 0.0);
        assert_eq!(BoxAccuracy::new(10).value(), 0.0);
    }
}
