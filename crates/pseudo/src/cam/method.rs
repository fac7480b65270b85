//! The methods by name, and what can be set about them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{Error, Result};

/// A way to say which places of an image speak for a class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Method {
    /// CAM (arXiv 1512.04150): the maps weighted by the class's row of the head.
    Cam,
    /// Grad-CAM (1610.02391): the maps weighted by their mean gradients.
    GradCam,
    /// Grad-CAM++ (1710.11063): positive gradients weighted by their second-order coefficients.
    GradCamPlusPlus,
    /// HiResCAM (2011.08891): gradient times activation, place by place.
    HiResCam,
    /// XGrad-CAM (2008.02312): gradients weighted by each place's share of the activation.
    XGradCam,
    /// Layer-CAM (TIP 2021): positive gradient times activation, place by place.
    LayerCam,
    /// Eigen-CAM (2008.00299): the main direction of the activations; knows no class.
    EigenCam,
    /// Eigen-CAM of gradient times activation.
    EigenGradCam,
    /// Ablation-CAM (WACV 2020): the maps weighted by what the logit loses without them.
    AblationCam,
    /// Score-CAM (1910.01279): the maps weighted by the score of the image seen through them.
    ScoreCam,
    /// Finer-CAM (2501.11309): Grad-CAM of what sets the class apart from its nearest rivals.
    FinerCam,
    /// RISE (1806.07421): the mean of random masks weighted by the score that they leave; sees no inside of the model.
    Rise,
}

impl Method {
    /// Every method, in the order of tables.
    pub const ALL: [Self; 12] = [
        Self::Cam,
        Self::GradCam,
        Self::GradCamPlusPlus,
        Self::HiResCam,
        Self::XGradCam,
        Self::LayerCam,
        Self::EigenCam,
        Self::EigenGradCam,
        Self::AblationCam,
        Self::ScoreCam,
        Self::FinerCam,
        Self::Rise,
    ];

    /// The name in configurations, on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cam => "cam",
            Self::GradCam => "grad-cam",
            Self::GradCamPlusPlus => "grad-cam++",
            Self::HiResCam => "hires-cam",
            Self::XGradCam => "xgrad-cam",
            Self::LayerCam => "layer-cam",
            Self::EigenCam => "eigen-cam",
            Self::EigenGradCam => "eigen-grad-cam",
            Self::AblationCam => "ablation-cam",
            Self::ScoreCam => "score-cam",
            Self::FinerCam => "finer-cam",
            Self::Rise => "rise",
        }
    }

    /// Whether the method runs the model on altered images (hundreds of passes) instead of reading one pass.
    pub fn alters_images(self) -> bool {
        matches!(self, Self::ScoreCam | Self::Rise)
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|m| m.name() == name);
        found.ok_or_else(|| Error::Setting {
            what: "method",
            expected: "cam, grad-cam, grad-cam++, hires-cam, xgrad-cam, layer-cam, eigen-cam, eigen-grad-cam, \
                       ablation-cam, score-cam, finer-cam or rise",
            got: name.into(),
        })
    }
}

impl From<Method> for &'static str {
    fn from(method: Method) -> Self {
        method.name()
    }
}

impl TryFrom<String> for Method {
    type Error = Error;

    fn try_from(name: String) -> Result<Self> {
        name.parse()
    }
}

/// What Ablation-CAM puts into the channel that it takes out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fill {
    /// Zero, as in the paper: what a rectified channel holds where it sees nothing.
    #[default]
    Zero,
    /// What pytorch-grad-cam 1.5.7 does: zero where the smallest activation is zero, else 1e7 below the smallest value
    /// of its work buffer, which falls with every channel of a batch of 32. Only to compare numbers with it.
    Package,
}

/// What can be set about the methods; each setting says whose it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Finer-CAM: how strongly the rivals count, 0 (Grad-CAM) to 1.
    pub finer_alpha: f64,
    /// Finer-CAM: how many classes of nearest logit are rivals.
    pub finer_rivals: usize,
    /// Ablation-CAM: what replaces a channel.
    pub ablation_fill: Fill,
    /// Score-CAM: only so many channels, those of the widest range; 0 for all, as in the paper.
    pub score_channels: usize,
    /// RISE: number of masks.
    pub rise_masks: usize,
    /// RISE: cells along each side of a mask before it is stretched.
    pub rise_cells: usize,
    /// RISE: probability that a cell stays visible.
    pub rise_keep: f64,
    /// RISE: seed of the masks.
    pub seed: u64,
    /// Altered images or activations in one pass of the model.
    pub batch: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            finer_alpha: 1.0,
            finer_rivals: 3,
            ablation_fill: Fill::Zero,
            score_channels: 0,
            rise_masks: 1000,
            rise_cells: 7,
            rise_keep: 0.5,
            seed: 0,
            batch: 32,
        }
    }
}

impl Settings {
    /// Refuses values that no method can work with.
    ///
    /// # Errors
    /// Names the first setting out of its range.
    pub fn validate(&self) -> Result<()> {
        let refuse = |what, expected, got: String| Err(Error::Setting { what, expected, got });
        if !self.finer_alpha.is_finite() {
            return refuse("finer_alpha", "a finite number", self.finer_alpha.to_string());
        }
        if !(self.rise_keep > 0.0 && self.rise_keep <= 1.0) {
            return refuse("rise_keep", "a share above 0, at most 1", self.rise_keep.to_string());
        }
        for (what, value) in [("batch", self.batch), ("rise_masks", self.rise_masks), ("rise_cells", self.rise_cells)] {
            if value == 0 {
                return refuse(what, "at least 1", "0".into());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_through_text_and_json() {
        for method in Method::ALL {
            assert_eq!(method.name().parse::<Method>().unwrap(), method);
            let json = serde_json::to_string(&method).unwrap();
            assert_eq!(json, format!("\"{method}\""));
            assert_eq!(serde_json::from_str::<Method>(&json).unwrap(), method);
        }
        assert!("gradcam".parse::<Method>().is_err());
        assert!(serde_json::from_str::<Method>("\"GradCam\"").is_err());
    }

    #[test]
    fn settings_refuse_unknown_keys_and_empty_batches() {
        assert!(serde_json::from_str::<Settings>(r#"{"alpha": 1}"#).is_err());
        let settings: Settings = serde_json::from_str(r#"{"batch": 0}"#).unwrap();
        assert!(matches!(settings.validate(), Err(Error::Setting { what: "batch", .. })));
        assert!(Settings { rise_keep: f64::NAN, ..Settings::default() }.validate().is_err());
        Settings::default().validate().unwrap();
    }
}
