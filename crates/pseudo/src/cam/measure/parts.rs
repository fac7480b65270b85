//! Named points of a thing, such as the fifteen parts of a bird in CUB-200-2011.

use super::super::error::{Error, Result};
use super::super::map::Map;

/// One part in the pixels of the map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Column.
    pub x: f64,
    /// Row.
    pub y: f64,
    /// Whether it can be seen; parts that cannot count for nothing.
    pub visible: bool,
}

/// The share of the map's maxima (one, unless several are equal) that have a visible part at most `radius` pixels from the
/// pixel's centre.
///
/// # Errors
/// If no part is visible.
pub fn part_hit(map: &Map, parts: &[Part], radius: f64) -> Result<f64> {
    let parts = visible(parts)?;
    let top = map.range().1;
    let (mut hits, mut tops) = (0, 0);
    for place in (0..map.values().len()).filter(|&i| map.values()[i] == top) {
        let (x, y) = ((place % map.width()) as f64 + 0.5, (place / map.width()) as f64 + 0.5);
        tops += 1;
        hits += i32::from(parts.iter().any(|p| (p.x - x).hypot(p.y - y) <= radius));
    }
    Ok(f64::from(hits) / f64::from(tops))
}

/// The share of the visible parts in whose pixel the map, scaled to [0, 1], is above `threshold`.
///
/// # Errors
/// If no part is visible or one lies outside the map.
pub fn part_coverage(map: &Map, parts: &[Part], threshold: f64) -> Result<f64> {
    let parts = visible(parts)?;
    let scaled = map.min_max();
    let mut covered = 0;
    for part in &parts {
        let inside = part.x >= 0.0 && part.y >= 0.0 && part.x < map.width() as f64 && part.y < map.height() as f64;
        if !inside {
            let expected = format!("inside {} x {}", map.width(), map.height());
            return Err(Error::Shape { what: "part", expected, got: format!("({}, {})", part.x, part.y) });
        }
        covered += i32::from(f64::from(scaled.at(part.y as usize, part.x as usize)) > threshold);
    }
    Ok(f64::from(covered) / parts.len() as f64)
}

fn visible(parts: &[Part]) -> Result<Vec<Part>> {
    let seen: Vec<Part> = parts.iter().copied().filter(|p| p.visible).collect();
    if seen.is_empty() {
        return Err(Error::Shape { what: "parts", expected: "a visible one".into(), got: "none".into() });
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(x: f64, y: f64, visible: bool) -> Part {
        Part { x, y, visible }
    }

    #[test]
    fn hits_and_coverage_by_hand() {
        let map = Map::new(2, 4, vec![0.0, 0.4, 0.0, 0.0, 0.0, 0.8, 1.0, 0.0]).unwrap();
        let parts = [part(1.5, 1.2, true), part(3.5, 0.5, true), part(2.5, 1.5, false)];
        // The maximum's centre is (2.5, 1.5): 1.04 from the first, 1.41 from the second.
        assert_eq!(part_hit(&map, &parts, 1.0).unwrap(), 0.0);
        assert_eq!(part_hit(&map, &parts, 1.1).unwrap(), 1.0);
        assert_eq!(part_coverage(&map, &parts, 0.5).unwrap(), 0.5);
    }

    #[test]
    fn hidden_and_outlying_parts_are_refused() {
        let map = Map::new(1, 1, vec![1.0]).unwrap();
        assert!(part_hit(&map, &[part(0.0, 0.0, false)], 9.0).is_err());
        assert!(part_coverage(&map, &[part(1.0, 0.0, true)], 0.5).is_err());
    }
}
