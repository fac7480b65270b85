//! What a map is made of: one image's activations, their slopes, and a pooled linear head.

use super::error::{Error, Result, expect};

/// Refuses the first value that is not finite.
pub(super) fn finite(what: &'static str, values: &[f32]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(Error::NonFinite { what, index, value: f64::from(values[index]) }),
        None => Ok(()),
    }
}

/// One image's activations `[k, h, w]` at a layer.
#[derive(Clone, Copy, Debug)]
pub struct Activations<'a> {
    values: &'a [f32],
    channels: usize,
    height: usize,
    width: usize,
}

impl<'a> Activations<'a> {
    /// The row-major `values` of `[channels, height, width]`.
    ///
    /// # Errors
    /// If a dimension is zero, if the number of values is another one, or if a value is not finite.
    pub fn new(values: &'a [f32], channels: usize, height: usize, width: usize) -> Result<Self> {
        if channels * height * width == 0 {
            let got = format!("[{channels}, {height}, {width}]");
            return Err(Error::Shape { what: "activations", expected: "no empty dimension".into(), got });
        }
        expect("values of the activations", &[channels * height * width], &[values.len()])?;
        finite("activations", values)?;
        Ok(Self { values, channels, height, width })
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Rows and columns.
    pub fn size(&self) -> (usize, usize) {
        (self.height, self.width)
    }

    /// Places of a channel, `h * w`.
    pub fn area(&self) -> usize {
        self.height * self.width
    }

    /// One channel's plane, row-major `[h, w]`.
    pub fn channel(&self, k: usize) -> &'a [f32] {
        &self.values[k * self.area()..][..self.area()]
    }

    /// A channel's sum.
    pub fn sum(&self, k: usize) -> f64 {
        self.channel(k).iter().map(|&a| f64::from(a)).sum()
    }

    /// A channel's mean, which a pooled head sees.
    pub fn mean(&self, k: usize) -> f64 {
        self.sum(k) / self.area() as f64
    }

    /// The smallest activation.
    pub fn min(&self) -> f32 {
        self.values.iter().copied().fold(f32::INFINITY, f32::min)
    }
}

/// The derivative of the explained scalar by the activations.
#[derive(Clone, Debug)]
pub enum Slope<'a> {
    /// The same everywhere in a channel, `[k]`: what a pooled linear head gives.
    Even(Vec<f64>),
    /// One value for each activation, `[k, h, w]`.
    Full(&'a [f32]),
}

impl Slope<'_> {
    /// The slope of channel `k` at `place`, of `area` places.
    pub(super) fn at(&self, k: usize, place: usize, area: usize) -> f64 {
        match self {
            Self::Even(slopes) => slopes[k],
            Self::Full(values) => f64::from(values[k * area + place]),
        }
    }

    /// Refuses a slope of other activations, and one that is not finite.
    pub(super) fn check(&self, of: &Activations<'_>) -> Result<()> {
        match self {
            Self::Even(slopes) => expect("channels of the slope", &[of.channels()], &[slopes.len()]),
            Self::Full(values) => {
                expect("values of the slope", &[of.channels() * of.area()], &[values.len()])?;
                finite("slope", values)
            }
        }
    }
}

/// A head that pools each channel to its mean and maps the means linearly: `z = W mean(A) + b`.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    weight: &'a [f32],
    bias: Option<&'a [f32]>,
    classes: usize,
    channels: usize,
}

impl<'a> Head<'a> {
    /// `weight` is row-major `[classes, channels]`, `bias` is `[classes]`.
    ///
    /// # Errors
    /// If sizes do not fit or a value is not finite.
    pub fn new(weight: &'a [f32], bias: Option<&'a [f32]>, classes: usize, channels: usize) -> Result<Self> {
        expect("weight of the head", &[classes * channels], &[weight.len()])?;
        finite("weight of the head", weight)?;
        if let Some(bias) = bias {
            expect("bias of the head", &[classes], &[bias.len()])?;
            finite("bias of the head", bias)?;
        }
        Ok(Self { weight, bias, classes, channels })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// One class's row of the weight, `[k]`.
    pub fn row(&self, class: usize) -> &'a [f32] {
        &self.weight[class * self.channels..][..self.channels]
    }

    /// One logit for each class.
    ///
    /// # Errors
    /// If the activations have another number of channels.
    pub fn logits(&self, of: &Activations<'_>) -> Result<Vec<f64>> {
        expect("channels of the head", &[self.channels], &[of.channels()])?;
        let means: Vec<f64> = (0..self.channels).map(|k| of.mean(k)).collect();
        let bias = |class: usize| self.bias.map_or(0.0, |b| f64::from(b[class]));
        let dot = |row: &[f32]| row.iter().zip(&means).map(|(&w, m)| f64::from(w) * m).sum::<f64>();
        Ok((0..self.classes).map(|class| dot(self.row(class)) + bias(class)).collect())
    }

    /// The slope of a scalar with the derivative `by_logit` `[c]`: `W^T ds/dz / (h w)` in every place.
    pub fn slope(&self, by_logit: &[f64], area: usize) -> Slope<'static> {
        let mut slopes = vec![0.0; self.channels];
        for (class, &by) in by_logit.iter().enumerate().filter(|(_, by)| **by != 0.0) {
            slopes.iter_mut().zip(self.row(class)).for_each(|(s, &w)| *s += by * f64::from(w));
        }
        slopes.iter_mut().for_each(|s| *s /= area as f64);
        Slope::Even(slopes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_pools_and_maps() {
        let values = [1.0, 3.0, -2.0, 4.0];
        let acts = Activations::new(&values, 2, 1, 2).unwrap();
        let head = Head::new(&[1.0, 2.0, 0.0, -1.0], Some(&[0.5, 0.0]), 2, 2).unwrap();
        assert_eq!(head.logits(&acts).unwrap(), [2.0 + 2.0 + 0.5, -1.0]);
        let Slope::Even(slopes) = head.slope(&[1.0, -1.0], 2) else { panic!("even") };
        assert_eq!(slopes, [0.5, 1.5]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(matches!(Activations::new(&[0.0; 5], 1, 2, 2), Err(Error::Shape { .. })));
        assert!(matches!(Activations::new(&[], 0, 2, 2), Err(Error::Shape { .. })));
        assert!(matches!(Activations::new(&[f32::INFINITY], 1, 1, 1), Err(Error::NonFinite { .. })));
        assert!(Head::new(&[0.0; 4], Some(&[0.0]), 2, 2).is_err());
        let acts = Activations::new(&[0.0; 3], 3, 1, 1).unwrap();
        assert!(Head::new(&[0.0; 4], None, 2, 2).unwrap().logits(&acts).is_err());
    }
}
