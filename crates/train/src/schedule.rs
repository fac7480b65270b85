//! Learning rates and growth as pure functions of the step.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// The course after the warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Stays at the peak.
    #[default]
    Constant,
    /// Falls in a straight line to the floor.
    Linear,
    /// Falls along half a cosine to the floor (Loshchilov and Hutter, arXiv 1608.03983, without restarts).
    Cosine,
    /// Falls as `sqrt(warmup / step)` (Vaswani et al., arXiv 1706.03762), not below the floor.
    InverseSqrt,
}

/// A factor on the peak learning rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Schedule {
    /// The course after the warm-up.
    pub shape: Shape,
    /// Steps of linear warm-up; the peak is reached at this step.
    pub warmup: u64,
    /// Smallest factor after the warm-up.
    pub floor: f64,
    /// The step at which the floor is reached; 0: the last step of the run.
    pub until: u64,
}

impl Schedule {
    /// The factor at `step` (from 1) of a run of `total` steps.
    ///
    /// ```
    /// use chandlery_train::{Schedule, Shape};
    /// let s = Schedule { shape: Shape::Linear, warmup: 10, ..Schedule::default() };
    /// assert_eq!(s.factor(5, 110), 0.5);
    /// assert_eq!(s.factor(10, 110), 1.0);
    /// assert_eq!(s.factor(60, 110), 0.5);
    /// assert_eq!(s.factor(110, 110), 0.0);
    /// ```
    pub fn factor(&self, step: u64, total: u64) -> f64 {
        if step < self.warmup {
            return step as f64 / self.warmup as f64;
        }
        let until = if self.until == 0 { total } else { self.until };
        let span = until.saturating_sub(self.warmup).max(1) as f64;
        let done = ((step - self.warmup) as f64 / span).min(1.0);
        match self.shape {
            Shape::Constant => 1.0,
            Shape::Linear => self.floor + (1.0 - self.floor) * (1.0 - done),
            Shape::Cosine => self.floor + (1.0 - self.floor) * 0.5 * (1.0 + (PI * done).cos()),
            Shape::InverseSqrt => (self.warmup.max(1) as f64 / step.max(1) as f64).sqrt().max(self.floor),
        }
    }
}

/// Progressive learning of ERNIE 3.0 (arXiv 2107.02137, section 3.3): over the first steps sequence length, batch size,
/// learning rate and dropout grow together from small values to those of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Growth {
    /// Steps until everything has its full size.
    pub steps: u64,
    /// Sequence length at the start.
    pub len_from: usize,
    /// Sequence length at the end.
    pub len_to: usize,
    /// The length is a multiple of this, to keep shapes few.
    #[serde(default = "eight")]
    pub len_multiple: usize,
    /// Items per micro-batch at the start; the end is the run's batch size.
    pub batch_from: usize,
    /// Factor on the learning rate at the start.
    #[serde(default)]
    pub lr_from: f64,
    /// Factor on dropout at the start.
    #[serde(default)]
    pub dropout_from: f64,
}

fn eight() -> usize {
    8
}

impl Growth {
    /// Share of the growth that is done at `step` (from 1), 0 to 1.
    pub fn done(&self, step: u64) -> f64 {
        if self.steps == 0 { 1.0 } else { (step.saturating_sub(1) as f64 / self.steps as f64).min(1.0) }
    }

    /// Longest sequence at `step`.
    pub fn max_len(&self, step: u64) -> usize {
        let exact = self.between(step, self.len_from, self.len_to);
        let multiple = self.len_multiple.max(1);
        if exact >= self.len_to { self.len_to } else { (exact / multiple * multiple).max(self.len_from) }
    }

    /// Items per micro-batch at `step`, where the full size is `batch`.
    pub fn batch(&self, step: u64, batch: usize) -> usize {
        self.between(step, self.batch_from, batch).max(1)
    }

    /// Factor on the learning rate at `step`; the first step already moves.
    pub fn lr_factor(&self, step: u64) -> f64 {
        let done = if self.steps == 0 { 1.0 } else { (step as f64 / self.steps as f64).min(1.0) };
        self.lr_from + (1.0 - self.lr_from) * done
    }

    /// Factor on dropout at `step`.
    pub fn dropout_factor(&self, step: u64) -> f64 {
        self.dropout_from + (1.0 - self.dropout_from) * self.done(step)
    }

    fn between(&self, step: u64, from: usize, to: usize) -> usize {
        (from as f64 + (to as f64 - from as f64) * self.done(step)).floor() as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(shape: Shape) -> Schedule {
        Schedule { shape, warmup: 10, floor: 0.1, until: 0 }
    }

    #[test]
    fn warmup_rises_linearly_to_the_peak() {
        for shape in [Shape::Constant, Shape::Linear, Shape::Cosine, Shape::InverseSqrt] {
            let at = |step| schedule(shape).factor(step, 100);
            assert_eq!((at(1), at(5), at(10)), (0.1, 0.5, 1.0), "{shape:?}");
        }
    }

    #[test]
    fn shapes_have_their_values() {
        let at = |shape, step| schedule(shape).factor(step, 110);
        assert_eq!(at(Shape::Constant, 110), 1.0);
        assert!((at(Shape::Linear, 60) - 0.55).abs() < 1e-12);
        assert!((at(Shape::Cosine, 60) - 0.55).abs() < 1e-12);
        assert!((at(Shape::Cosine, 35) - (0.1 + 0.45 * (1.0 + (PI / 4.0).cos()))).abs() < 1e-12);
        assert!((at(Shape::InverseSqrt, 40) - 0.5).abs() < 1e-12);
        for shape in [Shape::Linear, Shape::Cosine] {
            assert!((at(shape, 110) - 0.1).abs() < 1e-12);
            assert!((at(shape, 500) - 0.1).abs() < 1e-12, "stays at the floor");
        }
        assert_eq!(at(Shape::InverseSqrt, 100_000), 0.1);
    }

    #[test]
    fn until_ends_the_fall_before_the_run() {
        let s = Schedule { shape: Shape::Linear, until: 50, ..Schedule::default() };
        assert_eq!((s.factor(25, 100), s.factor(50, 100), s.factor(100, 100)), (0.5, 0.0, 0.0));
    }

    #[test]
    fn growth_moves_everything_together() {
        let g = Growth {
            steps: 100,
            len_from: 128,
            len_to: 512,
            len_multiple: 8,
            batch_from: 8,
            lr_from: 0.0,
            dropout_from: 0.0,
        };
        assert_eq!((g.max_len(1), g.max_len(51), g.max_len(101)), (128, 320, 512));
        assert_eq!((g.batch(1, 32), g.batch(51, 32), g.batch(101, 32)), (8, 20, 32));
        assert_eq!((g.lr_factor(1), g.lr_factor(50), g.lr_factor(100)), (0.01, 0.5, 1.0));
        assert_eq!((g.dropout_factor(1), g.dropout_factor(51), g.dropout_factor(200)), (0.0, 0.5, 1.0));
        assert!((1..300).all(|s| g.max_len(s).is_multiple_of(8) && g.max_len(s) <= g.max_len(s + 1)));
    }
}
