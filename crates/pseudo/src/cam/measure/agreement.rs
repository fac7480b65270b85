//! How far two maps say the same: under mirroring, and after the model has forgotten.

use chandlery_kernels::{Key, Stream};

use super::super::error::{Result, expect};
use super::super::map::Map;

/// Pearson's correlation of two maps. Two constant maps agree (1); a constant one has nothing to do with another (0).
///
/// # Errors
/// If the sizes differ.
pub fn correlation(a: &Map, b: &Map) -> Result<f64> {
    expect("size of the second map", &[a.height(), a.width()], &[b.height(), b.width()])?;
    let values = |map: &Map| map.values().iter().map(|&v| f64::from(v)).collect();
    Ok(pearson(values(a), values(b)))
}

/// Spearman's correlation of two maps: that of the ranks, equal values sharing the mean of theirs. Constant maps as in
/// [`correlation`]. Adebayo et al. (1810.03292) compare maps of a trained and of a randomised model by it: a map that stays
/// the same shows the image and not what the model learnt.
///
/// # Errors
/// If the sizes differ.
pub fn rank_correlation(a: &Map, b: &Map) -> Result<f64> {
    expect("size of the second map", &[a.height(), a.width()], &[b.height(), b.width()])?;
    Ok(pearson(ranks(a), ranks(b)))
}

/// The correlation of an image's map with the mirrored-back map of the mirrored image: 1 for a method, and a model, that do
/// not care which way a thing looks.
///
/// # Errors
/// If the sizes differ.
pub fn flip_stability(map: &Map, of_mirrored: &Map) -> Result<f64> {
    correlation(map, &of_mirrored.flipped())
}

/// A head's weight that has learnt nothing: normal draws with the mean and the deviation of `weight`. The first step of the
/// cascading randomisation of Adebayo et al.; deeper layers are the model's own business.
pub fn randomised_head(weight: &[f32], key: Key) -> Vec<f32> {
    let n = weight.len().max(1) as f64;
    let mean = weight.iter().map(|&w| f64::from(w)).sum::<f64>() / n;
    let deviation = (weight.iter().map(|&w| (f64::from(w) - mean).powi(2)).sum::<f64>() / n).sqrt();
    let mut stream = Stream::new(key.named("randomised head"));
    weight.iter().map(|_| (mean + deviation * stream.normal()) as f32).collect()
}

fn pearson(mut a: Vec<f64>, mut b: Vec<f64>) -> f64 {
    for side in [&mut a, &mut b] {
        let mean = side.iter().sum::<f64>() / side.len() as f64;
        // Equal values must give exact zeros, which rounding of the mean would spoil.
        let flat = side.windows(2).all(|w| w[0] == w[1]);
        side.iter_mut().for_each(|v| *v = if flat { 0.0 } else { *v - mean });
    }
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    match (dot(&a, &a), dot(&b, &b)) {
        (0.0, 0.0) => 1.0,
        (0.0, _) | (_, 0.0) => 0.0,
        (aa, bb) => (dot(&a, &b) / (aa.sqrt() * bb.sqrt())).clamp(-1.0, 1.0),
    }
}

fn ranks(map: &Map) -> Vec<f64> {
    let values = map.values();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[i].total_cmp(&values[j]));
    let mut ranks = vec![0.0; values.len()];
    let mut first = 0;
    while first < order.len() {
        let tied = order[first..].iter().take_while(|&&i| values[i] == values[order[first]]).count();
        let rank = first as f64 + (tied - 1) as f64 / 2.0;
        order[first..first + tied].iter().for_each(|&i| ranks[i] = rank);
        first += tied;
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[f32]) -> Map {
        Map::new(1, values.len(), values.to_vec()).unwrap()
    }

    #[test]
    fn correlations_by_hand() {
        let a = map(&[1.0, 2.0, 3.0, 4.0]);
        assert!((correlation(&a, &map(&[2.0, 4.0, 6.0, 8.0])).unwrap() - 1.0).abs() < 1e-12);
        assert!((correlation(&a, &map(&[4.0, 3.0, 2.0, 1.0])).unwrap() + 1.0).abs() < 1e-12);
        // Deviations (-1.5, -.5, .5, 1.5) and (-1, 1, -1, 1): 2 / (sqrt(5) * 2).
        assert!((correlation(&a, &map(&[0.0, 2.0, 0.0, 2.0])).unwrap() - 1.0 / 5.0_f64.sqrt()).abs() < 1e-12);
        // A monotone change keeps all ranks.
        assert!((rank_correlation(&a, &map(&[1.0, 8.0, 27.0, 900.0])).unwrap() - 1.0).abs() < 1e-12);
        assert!((rank_correlation(&a, &map(&[0.0, 2.0, 0.0, 2.0])).unwrap() - 1.0 / 5.0_f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn constant_maps_have_stated_correlations() {
        let (flat, other) = (map(&[0.1; 3]), map(&[1.0, 2.0, 4.0]));
        assert_eq!(correlation(&flat, &map(&[0.7; 3])).unwrap(), 1.0);
        assert_eq!(correlation(&flat, &other).unwrap(), 0.0);
        assert_eq!(rank_correlation(&other, &flat).unwrap(), 0.0);
    }

    #[test]
    fn a_mirrored_map_is_stable() {
        let a = Map::new(2, 2, vec![1.0, 2.0, 5.0, 3.0]).unwrap();
        assert!((flip_stability(&a, &a.flipped()).unwrap() - 1.0).abs() < 1e-12);
        assert!(flip_stability(&a, &a).unwrap() < 0.9);
        assert!(correlation(&a, &map(&[1.0; 4])).is_err());
    }

    #[test]
    fn a_randomised_head_keeps_its_moments_only() {
        let mut stream = Stream::new(Key::new(1));
        let weight: Vec<f32> = (0..20_000).map(|_| (0.5 + 0.1 * stream.normal()) as f32).collect();
        let random = randomised_head(&weight, Key::new(2));
        let mean = random.iter().map(|&w| f64::from(w)).sum::<f64>() / 20_000.0;
        assert!((mean - 0.5).abs() < 0.005, "{mean}");
        let (a, b) = (map(&weight), map(&random));
        assert!(correlation(&a, &b).unwrap().abs() < 0.04);
    }
}
