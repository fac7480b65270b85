//! Every decision of semi-supervised training, with its default.

use super::adaptive::AdaptiveConfig;
use super::flexmatch::FlexMatchConfig;
use super::freematch::FreeMatchConfig;
use super::mix::{BoxMix, MixConfig, PlainMix, Share};
use super::softmatch::SoftMatchConfig;
use super::threshold::ThresholdConfig;
use super::weighting::WeightingConfig;
use chandlery_train::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of [`SemiSupervised`](super::SemiSupervised); unknown keys are errors.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SslConfig {
    /// Which pseudo-labels count, and how much.
    pub weighting: WeightingConfig,
    /// How labelled images are mixed.
    pub labelled_mix: MixConfig,
    /// How unlabelled images are mixed.
    pub unlabelled_mix: MixConfig,
    /// Factor of the supervised loss (gamma).
    pub gamma: f64,
    /// Factor of the unsupervised loss (lambda).
    pub lambda: f64,
    /// Which view of unlabelled images is mixed, and seen by its activation map.
    pub view: MixView,
    /// Who is mixed with whom.
    pub pairs: Pairs,
    /// When a mixed unlabelled image counts.
    pub pair_mask: PairMask,
    /// Pseudo-labels as classes or as distributions.
    pub pseudo: PseudoLabels,
    /// Steps on labelled images alone before the first pseudo-label.
    pub warmup: u64,
    /// Steps over which lambda then grows linearly from 0; 0: at once.
    pub ramp: u64,
    /// Further steps after the warm-up in which unlabelled images are not mixed yet (two stages).
    pub unmixed: u64,
    /// How the pass without gradient treats batch normalisation.
    pub guess_mode: GuessMode,
    /// A running average of the network that makes the pseudo-labels; without, the network itself does.
    pub teacher: Option<TeacherConfig>,
    /// Leave images of weight zero out of the pass with gradient: the same loss for less work, except that batch
    /// normalisation in training mode does not see them.
    pub skip_unused: bool,
    /// Raise the collapse alarm below this share of effective classes.
    pub collapse: f64,
    /// Add the accuracy of every class to the evaluation, as `class.N`.
    pub class_meters: bool,
}

impl Default for SslConfig {
    /// PEPL with every open decision at its default.
    fn default() -> Self {
        Self {
            weighting: WeightingConfig::Pepl(AdaptiveConfig::default()),
            labelled_mix: MixConfig::Snapmix(BoxMix::default()),
            unlabelled_mix: MixConfig::Snapmix(BoxMix::default()),
            gamma: 1.0,
            lambda: 1.0,
            view: MixView::Weak,
            pairs: Pairs::Within,
            pair_mask: PairMask::PerTerm,
            pseudo: PseudoLabels::Hard,
            warmup: 0,
            ramp: 0,
            unmixed: 0,
            guess_mode: GuessMode::Eval,
            teacher: None,
            skip_unused: false,
            collapse: 0.5,
            class_meters: false,
        }
    }
}

/// Which view of an unlabelled image is mixed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MixView {
    /// The weak view: its activation map comes from the pass that makes the pseudo-label.
    #[default]
    Weak,
    /// The strong view: one more pass without gradient for its map.
    Strong,
}

/// Who is mixed with whom.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pairs {
    /// Labelled with labelled, unlabelled with unlabelled images.
    #[default]
    Within,
    /// All images of the step in one pool.
    Across,
}

/// When a mixed unlabelled image counts, given the weights of its two pseudo-labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PairMask {
    /// Each label by its own weight.
    #[default]
    PerTerm,
    /// Both labels by the product of the weights.
    Both,
    /// Both labels by the larger of the weights.
    Either,
}

/// What a pseudo-label is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum PseudoLabels {
    /// The most probable class.
    #[default]
    Hard,
    /// The distribution, sharpened: `q^(1/t)`, normalised.
    Soft {
        /// Temperature t.
        temperature: f64,
    },
}

/// How the pass without gradient treats batch normalisation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuessMode {
    /// By its running statistics.
    #[default]
    Eval,
    /// By the batch, as SnapMix's code: the running statistics move twice a step.
    Train,
}

/// A running average of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TeacherConfig {
    /// Share of the old average that a step keeps.
    pub decay: f64,
    /// Early steps keep at most `(1 + step) / (10 + step)`.
    pub warmup: bool,
}

impl Default for TeacherConfig {
    fn default() -> Self {
        Self { decay: 0.999, warmup: true }
    }
}

/// Names that [`SslConfig::named`] knows.
pub const METHODS: [&str; 11] = [
    "supervised",
    "pseudo-label",
    "fixmatch",
    "flexmatch",
    "freematch",
    "softmatch",
    "mixup",
    "cutmix",
    "snapmix",
    "pepl-area",
    "pepl",
];

impl SslConfig {
    /// A method by name with its published settings: the six semi-supervised methods without mixing, three mixers on
    /// labelled images alone, `pepl`, and `pepl-area`, the same with areas in the place of activation maps.
    pub fn named(name: &str) -> Option<Self> {
        let plain = |weighting| {
            let (labelled_mix, unlabelled_mix) = (MixConfig::None, MixConfig::None);
            Self { weighting, labelled_mix, unlabelled_mix, ..Self::default() }
        };
        let mixed = |labelled_mix| Self { labelled_mix, ..plain(WeightingConfig::Supervised) };
        let area = MixConfig::Snapmix(BoxMix { share: Share::Area, ..BoxMix::default() });
        Some(match name {
            "supervised" => plain(WeightingConfig::Supervised),
            "pseudo-label" => plain(WeightingConfig::PseudoLabel(ThresholdConfig::default())),
            "fixmatch" => plain(WeightingConfig::Fixmatch(ThresholdConfig::default())),
            "flexmatch" => plain(WeightingConfig::Flexmatch(FlexMatchConfig::default())),
            "freematch" => plain(WeightingConfig::Freematch(FreeMatchConfig::default())),
            "softmatch" => plain(WeightingConfig::Softmatch(SoftMatchConfig::default())),
            "mixup" => mixed(MixConfig::Mixup(PlainMix { prob: 0.5, ..PlainMix::default() })),
            "cutmix" => mixed(MixConfig::Cutmix(PlainMix { alpha: 3.0, ..PlainMix::default() })),
            "snapmix" => mixed(MixConfig::Snapmix(BoxMix::default())),
            "pepl-area" => Self { labelled_mix: area, unlabelled_mix: area, ..Self::default() },
            "pepl" => Self::default(),
            _ => return None,
        })
    }

    /// Whether batches need strong views.
    pub fn needs_strong(&self) -> bool {
        let mixed = self.unlabelled_mix != MixConfig::None;
        let unmixed_steps = !mixed || self.unmixed > 0;
        let in_mix = mixed && self.view == MixView::Strong;
        self.uses_unlabelled() && (in_mix || (unmixed_steps && !self.weighting.trains_weak_view()))
    }

    /// Whether batches need unlabelled images.
    pub fn uses_unlabelled(&self) -> bool {
        self.weighting != WeightingConfig::Supervised
    }

    /// Factor of the unsupervised loss at `step`, from 1; `None` while it is not in use.
    pub fn lambda_at(&self, step: u64) -> Option<f64> {
        let after = step.checked_sub(self.warmup).filter(|&n| n > 0 && self.uses_unlabelled())?;
        let grown = if self.ramp == 0 { 1.0 } else { (after as f64 / self.ramp as f64).min(1.0) };
        Some(self.lambda * grown)
    }

    /// How unlabelled images are mixed at `step`.
    pub(super) fn unlabelled_mix_at(&self, step: u64) -> MixConfig {
        if step > self.warmup.saturating_add(self.unmixed) { self.unlabelled_mix } else { MixConfig::None }
    }

    /// Checks every value.
    ///
    /// # Errors
    /// If one is out of range or two contradict each other; the message names the key.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, what: String| Err(Error::Config { key: format!("ssl.{key}"), what });
        if let Some((key, what)) = self.weighting.wrong() {
            return wrong(&format!("weighting.{key}"), what);
        }
        for (name, mix) in [("labelled_mix", &self.labelled_mix), ("unlabelled_mix", &self.unlabelled_mix)] {
            if let Some((key, what)) = mix.wrong() {
                return wrong(&format!("{name}.{key}"), what);
            }
        }
        for (name, value) in [("gamma", self.gamma), ("lambda", self.lambda), ("collapse", self.collapse)] {
            if !(value >= 0.0 && value.is_finite()) {
                return wrong(name, format!("must not be negative, got {value}"));
            }
        }
        if let PseudoLabels::Soft { temperature } = self.pseudo
            && !(temperature > 0.0 && temperature.is_finite())
        {
            return wrong("pseudo.temperature", format!("must be positive, got {temperature}"));
        }
        if let Some(t) = self.teacher.filter(|t| !(0.0..=1.0).contains(&t.decay)) {
            return wrong("teacher.decay", format!("expected a number from 0 to 1, got {}", t.decay));
        }
        if self.pairs == Pairs::Across && (!self.uses_unlabelled() || self.labelled_mix != self.unlabelled_mix) {
            return wrong("pairs", "`across` needs unlabelled images and the same mixing for both kinds".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_named_method_is_valid_and_survives_toml() {
        for name in METHODS {
            let config = SslConfig::named(name).unwrap_or_else(|| panic!("{name}"));
            config.validate().unwrap();
            let text = serde_json::to_string(&config).unwrap();
            assert_eq!(serde_json::from_str::<SslConfig>(&text).unwrap(), config, "{name}");
        }
        assert!(SslConfig::named("peppl").is_none());
    }

    #[test]
    fn unknown_keys_and_bad_values_are_named() {
        let say = |json: &str| match serde_json::from_str::<SslConfig>(json) {
            Ok(config) => config.validate().unwrap_err().to_string(),
            Err(e) => e.to_string(),
        };
        assert!(say(r#"{"lamda": 1}"#).contains("lamda"));
        assert!(say(r#"{"weighting": {"kind": "pepl", "beta": 1}}"#).contains("beta"));
        assert!(say(r#"{"weighting": {"kind": "pepl", "ema": 1.5}}"#).contains("ssl.weighting.ema"));
        assert!(say(r#"{"labelled_mix": {"kind": "snapmix", "alpha": 0}}"#).contains("ssl.labelled_mix.alpha"));
        assert!(say(r#"{"pairs": "across", "unlabelled_mix": {"kind": "none"}}"#).contains("ssl.pairs"));
        assert!(say(r#"{"pseudo": {"kind": "soft", "temperature": 0}}"#).contains("ssl.pseudo.temperature"));
    }

    #[test]
    fn lambda_waits_and_grows() {
        let config = SslConfig { warmup: 2, ramp: 4, lambda: 2.0, unmixed: 3, ..SslConfig::default() };
        let lambdas: Vec<_> = (1..=7).map(|step| config.lambda_at(step)).collect();
        assert_eq!(lambdas, [None, None, Some(0.5), Some(1.0), Some(1.5), Some(2.0), Some(2.0)]);
        assert_eq!(config.unlabelled_mix_at(5), MixConfig::None);
        assert_eq!(config.unlabelled_mix_at(6), config.unlabelled_mix);
        assert_eq!(SslConfig::named("supervised").unwrap().lambda_at(9), None);
    }

    #[test]
    fn strong_views_are_asked_for_where_used() {
        let needs = |name| SslConfig::named(name).unwrap().needs_strong();
        assert!(needs("fixmatch") && !needs("pseudo-label") && !needs("pepl") && !needs("snapmix"));
        assert!(SslConfig { view: MixView::Strong, ..SslConfig::default() }.needs_strong());
        assert!(SslConfig { unmixed: 1, ..SslConfig::default() }.needs_strong());
    }
}
