//! Which model, as a setting.

#[cfg(feature = "vit")]
use super::VitConfig;
use super::{Classifier, EfficientNetConfig, ResNetConfig};
use candle_core::Result;
use chandlery_nn::{BatchNormConfig, ParamStore, Scope};
use chandlery_train::LrScale;
use serde::{Deserialize, Serialize};

/// A model with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum ModelConfig {
    /// Residual network.
    ResNet(ResNetConfig),
    /// EfficientNet-Lite.
    EfficientNet(EfficientNetConfig),
    /// Vision transformer, always frozen.
    #[cfg(feature = "vit")]
    Vit(VitConfig),
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self::ResNet(ResNetConfig::default())
    }
}

/// Images as a model was trained on: `(value / 255 - mean) / std` for each of red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Input {
    /// Side in pixels.
    pub size: usize,
    /// Means of values in [0, 1].
    pub mean: [f32; 3],
    /// Deviations of values in [0, 1].
    pub std: [f32; 3],
}

/// A part of the backbone that can be cut behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// Its name for [`Classifier::features_at`].
    pub name: String,
    /// Paths of its parameters.
    pub paths: Vec<String>,
}

impl Stage {
    /// A stage that is called as its parameters' path.
    pub(super) fn at(path: String) -> Self {
        Self { paths: vec![path.clone()], name: path }
    }
}

/// The index behind the last of `names` that is `stage` or lies below it.
pub(super) fn end_of<'a>(
    mut names: impl DoubleEndedIterator<Item = &'a str> + ExactSizeIterator,
    stage: &str,
) -> Option<usize> {
    let below = |name: &str| name.strip_prefix(stage).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    names.rposition(below).map(|at| at + 1)
}

/// Factors on the learning rate: of the head, of the stages behind `split`, and of the stages up to it.
///
/// A head that starts anew on a published backbone usually learns ten times as fast as the rest (SnapMix's code: 0.01 and
/// 0.001).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rates {
    /// The head.
    pub head: f64,
    /// Stages behind `split`, or all without one.
    pub upper: f64,
    /// Stages up to `split`.
    pub lower: f64,
    /// Last stage of the lower part, for example `layer2`.
    pub split: Option<String>,
}

impl Default for Rates {
    fn default() -> Self {
        Self { head: 1.0, upper: 0.1, lower: 0.1, split: None }
    }
}

/// Patterns of the parameters of batch norms, for [`GroupConfig::no_decay`](chandlery_train::GroupConfig::no_decay).
pub const NORM_PARAMS: [&str; 4] = ["bn?.*", "*.bn?.*", "*downsample.1.*", "*_bn?.*"];

impl ModelConfig {
    /// Builds the model.
    ///
    /// # Errors
    /// If a setting is out of range or a parameter exists with another shape.
    pub fn build(&self, scope: &Scope, n_classes: usize) -> Result<Classifier> {
        match self {
            Self::ResNet(config) => config.build(scope, n_classes),
            Self::EfficientNet(config) => config.build(scope, n_classes),
            #[cfg(feature = "vit")]
            Self::Vit(config) => config.build(scope, n_classes),
        }
    }

    /// Images as the published weights expect them.
    pub fn input(&self) -> Input {
        match self {
            Self::ResNet(config) => config.input(),
            Self::EfficientNet(config) => config.input(),
            #[cfg(feature = "vit")]
            Self::Vit(config) => config.input(),
        }
    }

    /// The backbone's stages in order.
    pub fn stages(&self) -> Vec<Stage> {
        match self {
            Self::ResNet(config) => config.stages(),
            Self::EfficientNet(config) => config.stages(),
            #[cfg(feature = "vit")]
            Self::Vit(config) => config.stages(),
        }
    }

    /// The same without what concerns only the training of its norms: two that are equal so compute the same from frozen
    /// parameters.
    pub fn frozen(&self) -> Self {
        let mut frozen = self.clone();
        let norm = match &mut frozen {
            Self::ResNet(config) => &mut config.norm,
            Self::EfficientNet(config) => &mut config.norm,
            #[cfg(feature = "vit")]
            Self::Vit(_) => return frozen,
        };
        *norm = BatchNormConfig { eps: norm.eps, ..BatchNormConfig::default() };
        frozen
    }

    /// Path of the head's parameters.
    pub fn head(&self) -> &'static str {
        match self {
            Self::ResNet(_) => "fc",
            Self::EfficientNet(_) => "_fc",
            #[cfg(feature = "vit")]
            Self::Vit(_) => "classifier",
        }
    }

    /// The stages up to and with `stage`, and those behind it.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn split(&self, stage: &str) -> Result<(Vec<Stage>, Vec<Stage>)> {
        let mut stages = self.stages();
        let Some(at) = end_of(stages.iter().map(|s| s.name.as_str()), stage) else {
            let names: Vec<String> = stages.into_iter().map(|s| s.name).collect();
            candle_core::bail!("no stage `{stage}`; there are {}", names.join(", "));
        };
        let upper = stages.split_off(at);
        Ok((stages, upper))
    }

    /// Freezes the backbone up to and with `stage` in a store in which the model is then built at the root. What
    /// [`Classifier::features_at`] gives for this stage no longer changes and can be kept.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn freeze_through(&self, store: &ParamStore, stage: &str) -> Result<()> {
        let (lower, _) = self.split(stage)?;
        lower.iter().flat_map(|stage| &stage.paths).for_each(|path| store.freeze(path));
        Ok(())
    }

    /// Factors for [`GroupConfig::lr_scale`](chandlery_train::GroupConfig::lr_scale) of a model built at the root.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn lr_scale(&self, rates: &Rates) -> Result<Vec<LrScale>> {
        let scale = |path: &str, factor| LrScale { params: format!("{path}.*"), factor };
        let mut scales = vec![scale(self.head(), rates.head)];
        if let Some(split) = &rates.split {
            let (lower, _) = self.split(split)?;
            scales.extend(lower.iter().flat_map(|stage| &stage.paths).map(|path| scale(path, rates.lower)));
        }
        scales.push(LrScale { params: "*".into(), factor: rates.upper });
        Ok(scales)
    }

    /// Factors that fall by `decay` from stage to stage, starting from 1 at the head, for
    /// [`GroupConfig::lr_scale`](chandlery_train::GroupConfig::lr_scale).
    pub fn lr_decay(&self, decay: f64) -> Vec<LrScale> {
        let scale = |path: &str, factor| LrScale { params: format!("{path}.*"), factor };
        let mut scales = vec![scale(self.head(), 1.0)];
        for (distance, stage) in (1..).zip(self.stages().iter().rev()) {
            scales.extend(stage.paths.iter().map(|path| scale(path, decay.powi(distance))));
        }
        scales
    }
}
