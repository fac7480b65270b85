//! ROAD (Rong et al., 2202.00449): a score after taking out the most, and the least, important places, each replaced by
//! what its neighbours say about it plus a little noise, so that the hole itself tells the model nothing.

use candle_core::Tensor;
use chandlery_kernels::Key;
use rayon::prelude::*;

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::super::probe::host;
use super::erasure::ranking;
use super::score::{Scorer, score_all};

/// How ROAD takes places out.
#[derive(Clone, Debug, PartialEq)]
pub struct Road {
    /// Shares of the pixels that are taken out, each in (0, 1).
    pub shares: Vec<f64>,
    /// Deviation of the noise on what is filled in, in units of the normalised image (the paper's code: 0.01).
    pub noise: f64,
    /// Seed of the noise.
    pub seed: u64,
}

impl Default for Road {
    fn default() -> Self {
        Self { shares: (1..10).map(|i| f64::from(i) / 10.0).collect(), noise: 0.01, seed: 0 }
    }
}

/// Scores after taking places out.
#[derive(Clone, Debug, PartialEq)]
pub struct RoadScores {
    /// Shares taken out.
    pub shares: Vec<f64>,
    /// The score without the most important places (MoRF): a good map makes it fall.
    pub without_most: Vec<f64>,
    /// The score without the least important places (LeRF): a good map keeps it up.
    pub without_least: Vec<f64>,
}

impl RoadScores {
    /// The mean over shares of `(LeRF - MoRF) / 2`, high for a good map (pytorch-grad-cam's combined measure).
    pub fn combined(&self) -> f64 {
        let pairs = self.without_least.iter().zip(&self.without_most);
        pairs.map(|(least, most)| (least - most) / 2.0).sum::<f64>() / self.shares.len() as f64
    }
}

/// ROAD of `map` for `image` `[channels, height, width]`. Exactly `round(share * pixels)` places are taken out, equal ones in
/// row-major order (the paper's code cuts at a percentile, which takes all or none of equal places).
///
/// # Errors
/// If sizes differ, a share is not inside (0, 1), or the score fails.
pub fn road(image: &Tensor, map: &Map, how: &Road, batch: usize, score: &Scorer<'_>) -> Result<RoadScores> {
    let (_, height, width) = image.dims3()?;
    expect("size of the map", &[height, width], &[map.height(), map.width()])?;
    if let Some(share) = how.shares.iter().find(|s| !(**s > 0.0 && **s < 1.0)) {
        return Err(Error::Setting { what: "shares", expected: "shares inside (0, 1)", got: share.to_string() });
    }
    let values = host(image)?;
    let (order, area) = (ranking(map), height * width);
    let filled = |(share, most_first): (f64, bool)| {
        let count = (share * area as f64).round() as usize;
        let out = if most_first { &order[..count] } else { &order[area - count..] };
        let mut known = vec![true; area];
        out.iter().for_each(|&place| known[place] = false);
        let key = Key::new(how.seed).named(if most_first { "most" } else { "least" }).at(share.to_bits());
        impute(&values, &known, (height, width), how.noise, key)
    };
    let run = |most_first: bool| {
        let altered: Vec<Vec<f32>> = how.shares.par_iter().map(|&share| filled((share, most_first))).collect();
        score_all(altered.into_iter(), image, batch, score)
    };
    Ok(RoadScores { without_most: run(true)?, without_least: run(false)?, shares: how.shares.clone() })
}

/// Neighbours as steps in rows and columns with their weights: a sixth beside, a twelfth across the corner.
const NEIGHBOURS: [(i64, i64, f64); 8] = [
    (-1, -1, 1.0 / 12.0),
    (-1, 0, 1.0 / 6.0),
    (-1, 1, 1.0 / 12.0),
    (0, -1, 1.0 / 6.0),
    (0, 1, 1.0 / 6.0),
    (1, -1, 1.0 / 12.0),
    (1, 0, 1.0 / 6.0),
    (1, 1, 1.0 / 12.0),
];

/// Noisy linear imputation (sec. 4.2): each unknown pixel of `image` `[channels, height, width]` becomes the weighted mean of
/// its neighbours, all at once, plus noise of deviation `noise`. Solved to a relative residual of 1e-6. Where nothing is
/// known, every pixel becomes its channel's mean.
///
/// # Panics
/// If `image` or `known` is not of `size` (rows, columns).
pub fn impute(image: &[f32], known: &[bool], size: (usize, usize), noise: f64, key: Key) -> Vec<f32> {
    let area = size.0 * size.1;
    assert_eq!(known.len(), area, "flags of {size:?}");
    assert_eq!(image.len() % area, 0, "planes of {size:?}");
    let system = System::new(known, size);
    let plane = |(channel, plane): (usize, &[f32])| {
        let mut out = plane.to_vec();
        for (&place, value) in system.unknown.iter().zip(system.solve(plane, known)) {
            let draw = key.normal((channel * area + place) as u64);
            out[place] = (value + noise * draw) as f32;
        }
        out
    };
    image.chunks_exact(area).enumerate().map(plane).collect::<Vec<_>>().concat()
}

/// A neighbour in the image: place, number among the unknown or `None`, weight.
type Link = (usize, Option<usize>, f64);

/// `sum_j w_ij (x_i - x_j) = 0` for every unknown pixel `i`: symmetric, and positive definite if anything is known.
struct System {
    /// Places of the unknown pixels.
    unknown: Vec<usize>,
    /// The neighbours of each unknown pixel.
    links: Vec<Vec<Link>>,
    any_known: bool,
}

impl System {
    fn new(known: &[bool], (height, width): (usize, usize)) -> Self {
        let unknown: Vec<usize> = (0..known.len()).filter(|&i| !known[i]).collect();
        let mut number = vec![None; known.len()];
        unknown.iter().enumerate().for_each(|(n, &place)| number[place] = Some(n));
        let links = |&place: &usize| {
            let (y, x) = ((place / width) as i64, (place % width) as i64);
            let inside = |&(dy, dx, weight): &(i64, i64, f64)| {
                let (v, u) = (y + dy, x + dx);
                let inside = v >= 0 && u >= 0 && v < height as i64 && u < width as i64;
                inside.then(|| (v as usize * width + u as usize, weight))
            };
            NEIGHBOURS.iter().filter_map(inside).map(|(place, weight)| (place, number[place], weight)).collect()
        };
        Self { links: unknown.iter().map(links).collect(), any_known: unknown.len() < known.len(), unknown }
    }

    /// Conjugate gradients from the mean of what is known.
    fn solve(&self, plane: &[f32], known: &[bool]) -> Vec<f64> {
        let wanted = |place: usize| known[place] || !self.any_known;
        let seen: Vec<f64> = (0..plane.len()).filter(|&i| wanted(i)).map(|i| f64::from(plane[i])).collect();
        let mean = seen.iter().sum::<f64>() / seen.len().max(1) as f64;
        let mut x = vec![mean; self.unknown.len()];
        if !self.any_known {
            return x;
        }
        let right: Vec<f64> = self.links.iter().map(|links| known_part(links, plane)).collect();
        let mut residual: Vec<f64> = self.times(&x).iter().zip(&right).map(|(a, b)| b - a).collect();
        let goal = 1e-12 * dot(&right, &right);
        let mut direction = residual.clone();
        let mut size = dot(&residual, &residual);
        for _ in 0..2 * x.len() + 10 {
            if size <= goal {
                break;
            }
            let image = self.times(&direction);
            let step = size / dot(&direction, &image);
            x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
            residual.iter_mut().zip(&image).for_each(|(r, i)| *r -= step * i);
            let next = dot(&residual, &residual);
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / size * *d);
            size = next;
        }
        x
    }

    fn times(&self, x: &[f64]) -> Vec<f64> {
        let row = |(i, links): (usize, &Vec<Link>)| {
            links.iter().map(|(_, number, weight)| weight * (x[i] - number.map_or(0.0, |n| x[n]))).sum()
        };
        self.links.iter().enumerate().map(row).collect()
    }
}

fn known_part(links: &[Link], plane: &[f32]) -> f64 {
    links.iter().filter(|l| l.1.is_none()).map(|&(place, _, weight)| weight * f64::from(plane[place])).sum()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use chandlery_kernels::Stream;

    fn plane(seed: u64, n: usize) -> Vec<f32> {
        let mut stream = Stream::new(Key::new(seed));
        (0..n).map(|_| stream.normal() as f32).collect()
    }

    #[test]
    fn one_missing_pixel_is_the_weighted_mean_of_its_neighbours() {
        let image = [1.0, 2.0, 3.0, 4.0, 99.0, 6.0, 7.0, 8.0, 10.0];
        let mut known = [true; 9];
        known[4] = false;
        let filled = impute(&image, &known, (3, 3), 0.0, Key::new(0));
        let expected = (2.0 + 4.0 + 6.0 + 8.0) / 6.0 + (1.0 + 3.0 + 7.0 + 10.0) / 12.0;
        assert!((f64::from(filled[4]) - expected).abs() < 1e-6);
        // In a corner the weights 1/6, 1/6, 1/12 are scaled to a sum of one.
        let mut known = [true; 9];
        known[0] = false;
        let filled = impute(&image, &known, (3, 3), 0.0, Key::new(0));
        assert!((f64::from(filled[0]) - (2.0 * 2.0 + 2.0 * 4.0 + 99.0) / 5.0).abs() < 1e-5);
    }

    #[test]
    fn the_fill_solves_every_equation_and_keeps_what_is_known() {
        let image = plane(4, 2 * 63);
        let mut stream = Stream::new(Key::new(5));
        let known: Vec<bool> = (0..63).map(|_| stream.uniform() < 0.3).collect();
        let filled = impute(&image, &known, (7, 9), 0.0, Key::new(0));
        for (channel, plane) in filled.chunks_exact(63).enumerate() {
            for place in 0..63 {
                if known[place] {
                    assert_eq!(plane[place], image[channel * 63 + place]);
                    continue;
                }
                let (y, x) = ((place / 9) as i64, (place % 9) as i64);
                let (mut sum, mut total) = (0.0, 0.0);
                for (dy, dx, weight) in NEIGHBOURS {
                    let (v, u) = (y + dy, x + dx);
                    if (0..7).contains(&v) && (0..9).contains(&u) {
                        sum += weight * f64::from(plane[(v * 9 + u) as usize]);
                        total += weight;
                    }
                }
                assert!((f64::from(plane[place]) - sum / total).abs() < 1e-4, "{place}");
            }
        }
    }

    #[test]
    fn noise_is_drawn_from_the_key_and_flat_images_stay_flat_without() {
        let known: Vec<bool> = (0..400).map(|i| i % 4 == 0).collect();
        let flat = [2.0; 400];
        assert!(impute(&flat, &known, (20, 20), 0.0, Key::new(1)).iter().all(|v| (v - 2.0).abs() < 1e-5));
        let noisy = impute(&flat, &known, (20, 20), 0.1, Key::new(1));
        assert_eq!(noisy, impute(&flat, &known, (20, 20), 0.1, Key::new(1)));
        let square: f64 = noisy.iter().map(|v| (f64::from(*v) - 2.0).powi(2)).sum::<f64>() / 300.0;
        assert!((square.sqrt() - 0.1).abs() < 0.02, "{square}");
        assert_eq!(impute(&[1.0, 3.0], &[false; 2], (1, 2), 0.0, Key::new(0)), [2.0, 2.0]);
    }

    #[test]
    fn a_map_of_what_counts_beats_its_opposite() {
        // The score reads the bright left half only.
        let values: Vec<f32> = (0..64).map(|i| if i % 8 < 4 { 5.0 } else { 0.0 }).collect();
        let image = Tensor::from_vec(values.clone(), (1, 8, 8), &Device::Cpu).unwrap();
        let score = |images: &Tensor| -> Result<Vec<f64>> {
            let left = images.narrow(3, 0, 4)?.flatten_from(1)?.mean(1)?.to_vec1::<f32>()?;
            Ok(left.into_iter().map(f64::from).collect())
        };
        let map = Map::new(8, 8, values).unwrap();
        let how = Road { shares: vec![0.25, 0.5], ..Road::default() };
        let good = road(&image, &map, &how, 2, &score).unwrap();
        let bad = road(&image, &map.negated(), &how, 2, &score).unwrap();
        assert!(good.combined() > 0.3 && bad.combined() < -0.3, "{good:?} {bad:?}");
        assert!((good.without_least[0] - 5.0).abs() < 0.05);
        assert!(road(&image, &map, &Road { shares: vec![1.0], ..how }, 2, &score).is_err());
    }
}
