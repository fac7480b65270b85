//! Values of many images as means with intervals.

use std::collections::BTreeMap;

use chandlery_kernels::{Key, Stream};
use chandlery_pseudo::cam::measure::BoxAccuracy;
use chandlery_pseudo::trust::quantile;

/// Drawings of stamps.
const DRAWS: u64 = 1000;

/// Values of one measure by stamp: copies of a stamp are no independent samples.
#[derive(Default)]
pub struct Column(BTreeMap<usize, Vec<f64>>);

impl Column {
    pub fn add(&mut self, stamp: usize, value: f64) {
        self.0.entry(stamp).or_default().push(value);
    }

    pub fn images(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Mean over stamps with its interval.
    pub fn cell(&self) -> String {
        let means: Vec<f64> = self.0.values().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
        let mean = |of: &[f64]| of.iter().sum::<f64>() / of.len() as f64;
        cell(mean(&means), means.len(), |drawn| mean(&drawn.iter().map(|&i| means[i]).collect::<Vec<_>>()))
    }
}

/// Box accuracy by stamp.
#[derive(Default)]
pub struct Boxes(BTreeMap<usize, BoxAccuracy>);

impl Boxes {
    pub fn of(&mut self, stamp: usize) -> &mut BoxAccuracy {
        self.0.entry(stamp).or_insert_with(|| BoxAccuracy::new(100))
    }

    /// MaxBoxAccV2 with its interval; the best threshold is looked for in each drawing anew.
    pub fn cell(&self) -> String {
        let each: Vec<&BoxAccuracy> = self.0.values().collect();
        let value = |stamps: &[usize]| {
            let mut all = BoxAccuracy::new(100);
            // All were made with the same thresholds.
            stamps.iter().for_each(|&i| all.merge(each[i]).unwrap_or_default());
            all.value()
        };
        cell(value(&(0..each.len()).collect::<Vec<_>>()), each.len(), value)
    }
}

/// A value in percent and, behind it, the middle 95 % of what it is when `n` stamps are drawn from the `n` with replacement.
fn cell(value: f64, n: usize, of_drawn: impl Fn(&[usize]) -> f64) -> String {
    let draw = |number| {
        let mut stream = Stream::new(Key::new(0).named("stamps").at(number));
        of_drawn(&(0..n).map(|_| stream.below(n)).collect::<Vec<_>>())
    };
    let drawn: Vec<f64> = (0..DRAWS).map(draw).collect();
    let [low, high] = [0.025, 0.975].map(|q| 100.0 * quantile(&drawn, q));
    format!("{:.1} ({low:.1}..{high:.1})", 100.0 * value)
}
