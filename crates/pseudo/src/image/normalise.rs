use chandlery_kernels::pixels;
use serde::{Deserialize, Serialize};

use super::{Image, ImageError};

/// How bytes become the floats that a model was trained on: `x / 255` less `mean`, over `std`, for each channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Normalise {
    /// Mean 0.485, 0.456, 0.406 and deviation 0.229, 0.224, 0.225: torchvision's models.
    #[default]
    #[serde(rename = "imagenet")]
    ImageNet,
    /// `(x - 127) / 128`: the EfficientNet-Lite models.
    #[serde(rename = "efficientnet_lite")]
    EfficientNetLite,
    /// `x / 255`.
    Unit,
    /// Any other.
    Custom {
        /// Of each channel, on the scale 0 to 1.
        mean: [f32; 3],
        /// Of each channel, on the scale 0 to 1.
        std: [f32; 3],
    },
}

impl Normalise {
    /// `(scale, shift)` of each channel: a byte `x` becomes `x * scale + shift`.
    pub fn coefficients(self) -> [(f32, f32); 3] {
        // In f64, so that the only rounding is the last one.
        let channel = |mean: f64, std: f64| ((1.0 / (255.0 * std)) as f32, (-mean / std) as f32);
        match self {
            Self::ImageNet => [channel(0.485, 0.229), channel(0.456, 0.224), channel(0.406, 0.225)],
            Self::EfficientNetLite => [(1.0 / 128.0, -127.0 / 128.0); 3],
            Self::Unit => [channel(0.0, 1.0); 3],
            Self::Custom { mean, std } => std::array::from_fn(|c| channel(mean[c].into(), std[c].into())),
        }
    }

    /// # Errors
    /// If a deviation is not positive or a number is not finite.
    pub fn check(self) -> Result<(), ImageError> {
        if self.coefficients().iter().all(|&(scale, shift)| scale.is_finite() && scale > 0.0 && shift.is_finite()) {
            return Ok(());
        }
        Err(ImageError::Setting {
            setting: "normalise",
            expected: "finite means and positive deviations",
            got: format!("{self:?}"),
        })
    }

    /// Writes `image` as `[3, h, w]` into `out`.
    ///
    /// # Errors
    /// If `out` has another length than `3 * h * w`.
    pub fn write(self, image: &Image, out: &mut [f32]) -> Result<(), ImageError> {
        let n = image.width() * image.height();
        if out.len() != 3 * n {
            let what = format!("floats for an image of {} x {} x 3", image.width(), image.height());
            return Err(ImageError::Shape { what, expected: 3 * n, got: out.len() });
        }
        pixels::planes(image.pixels(), self.coefficients(), out);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_become_planes_with_their_own_coefficients() {
        let image = Image::new(2, 1, vec![0, 127, 255, 255, 127, 0]).unwrap();
        let mut out = [0.0; 6];
        Normalise::ImageNet.write(&image, &mut out).unwrap();
        let expected = |x: f64, m: f64, s: f64| ((x / 255.0 - m) / s) as f32;
        let wanted = [
            expected(0.0, 0.485, 0.229),
            expected(255.0, 0.485, 0.229),
            expected(127.0, 0.456, 0.224),
            expected(127.0, 0.456, 0.224),
            expected(255.0, 0.406, 0.225),
            expected(0.0, 0.406, 0.225),
        ];
        for (a, b) in out.iter().zip(wanted) {
            assert!((a - b).abs() < 1e-6, "{out:?}");
        }
        Normalise::EfficientNetLite.write(&image, &mut out).unwrap();
        assert_eq!(out, [-127.0 / 128.0, 1.0, 0.0, 0.0, 1.0, -127.0 / 128.0]);
        assert!(Normalise::Unit.write(&image, &mut out[..5]).is_err());
    }

    #[test]
    fn deviation_must_be_positive() {
        assert!(Normalise::Custom { mean: [0.5; 3], std: [0.25; 3] }.check().is_ok());
        for std in [0.0, -1.0, f32::NAN] {
            assert!(Normalise::Custom { mean: [0.5; 3], std: [std; 3] }.check().is_err());
        }
    }
}
