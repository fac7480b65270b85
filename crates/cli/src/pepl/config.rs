//! Settings of the recipe.

use super::method;
use crate::Result;
use chandlery::pseudo::data::{AuditConfig, Labelled, Layout, Location, SplitConfig};
use chandlery::pseudo::image::Views;
use chandlery::pseudo::models::{ModelConfig, NORM_PARAMS, Rates};
use chandlery::pseudo::ssl::{GROUP, SslConfig};
use chandlery::train::FitConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use toml::Table;

/// Everything that decides a run; written into its directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeplConfig {
    /// Always `pepl`.
    pub recipe: String,
    /// Which images, and which of their labels.
    pub data: DataConfig,
    /// How images become tensors.
    pub views: Views,
    /// The network.
    pub model: NetworkConfig,
    /// How pseudo-labels are made, weighed and mixed: `kind`, a name that [`SslConfig::named`] knows, and what differs
    /// from its published settings. All settings of it in a run's own file.
    pub method: Table,
    /// What differs from a method's published settings whenever this preset uses it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub methods: BTreeMap<String, Table>,
    /// The training loop; `batch` counts labelled images.
    pub fit: FitConfig,
    /// The evaluation.
    pub eval: EvalConfig,
}

/// Which images, and which of their labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataConfig {
    /// A folder or a list; the embedded part of Fashion-MNIST without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// How the data lie there; found out where it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Which training images keep their labels.
    pub labelled: Labels,
    /// Percentage of each class held out for choices and calibration. By default the data set's own validation part, and
    /// 15 where it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_percent: Option<f64>,
    /// Seed of the split.
    pub seed: u64,
    /// Long-tailed labels, see [`SplitConfig::tail`].
    pub tail: f64,
    /// Whether labelled images are among the unlabelled ones too.
    pub labelled_again: bool,
    /// Unlabelled images a step for each labelled one (mu).
    pub ratio: usize,
    /// At most this many images of each class and part; 0 = all.
    pub limit: usize,
    /// What is checked before the run.
    pub audit: AuditConfig,
    /// File that keeps decoded and resized images, made where it is not there; several runs may share it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<PathBuf>,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: None,
            layout: None,
            labelled: Labels::Auto,
            val_percent: None,
            seed: 1,
            tail: 1.0,
            labelled_again: false,
            ratio: 2,
            limit: 0,
            audit: AuditConfig::default(),
            cache: None,
        }
    }
}

/// Which training images keep their labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labels {
    /// All where the data set has unlabelled images of its own, else 20 %: the rest is hidden, and measures.
    #[default]
    Auto,
    /// All.
    All,
    /// This percentage of each class.
    Percent(f64),
    /// This many of each class.
    PerClass(usize),
    /// This many in all.
    Total(usize),
}

/// The network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkConfig {
    /// Which one.
    pub backbone: ModelConfig,
    /// File of published weights; empty: the network starts anew.
    #[serde(default)]
    pub pretrained: String,
    /// The last stage that keeps its published weights; empty: all are trained, as in a network that starts anew.
    #[serde(default)]
    pub freeze: String,
    /// Factors on the learning rate.
    #[serde(default)]
    pub rates: Rates,
    /// Keep what the frozen part gives, so that a step runs the rest of the network alone.
    #[serde(default)]
    pub kept: KeptConfig,
}

/// Which maps behind the frozen part are kept; see [`KeptMaps`](chandlery::pseudo::data::KeptMaps) for what it gives up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeptConfig {
    /// Weak, and as many strong, views of each image for fitting; 0: nothing is kept, and every step looks at new views.
    pub views: usize,
    /// The file, made where it is not there; several runs may share it. In the run's own directory where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
}

impl NetworkConfig {
    /// Whether maps are kept: a part is frozen, and the settings ask for it.
    pub fn keeps_maps(&self) -> bool {
        self.kept.views > 0 && !self.freeze.is_empty() && !self.pretrained.is_empty()
    }
}

/// The evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EvalConfig {
    /// Images at a time.
    pub batch: usize,
    /// Labels are kept from the probability at which so large a share of the held-out ones is right.
    pub precision: f64,
    /// Confusions shown with maps.
    pub confusions: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self { batch: 50, precision: 0.95, confusions: 6 }
    }
}

impl PeplConfig {
    /// The same with every setting of the method written out.
    ///
    /// # Errors
    /// If there is no such method or it has no such setting.
    pub fn settled(&self) -> Result<Self> {
        let (kind, table) = method::settle(&self.method, &self.methods)?;
        let mut all = table;
        all.insert("kind".into(), toml::Value::String(kind));
        Ok(Self { method: all, methods: BTreeMap::new(), ..self.clone() })
    }

    /// The method's name.
    pub fn kind(&self) -> &str {
        self.method.get("kind").and_then(toml::Value::as_str).unwrap_or_default()
    }

    /// The method's settings.
    ///
    /// # Errors
    /// As [`settled`](Self::settled).
    pub fn ssl(&self) -> Result<SslConfig> {
        method::parse(&self.method, &self.methods)
    }

    /// Checks every section.
    ///
    /// # Errors
    /// If a value is out of range; the message names its key.
    pub fn validate(&self) -> Result<()> {
        for (key, value) in [("data.ratio", self.data.ratio), ("eval.batch", self.eval.batch)] {
            if value == 0 {
                return Err(format!("settings: {key}: expected at least 1, got 0").into());
            }
        }
        if !(0.0..=1.0).contains(&self.eval.precision) {
            return Err(format!("settings: eval.precision: expected 0 to 1, got {}", self.eval.precision).into());
        }
        if !self.fit.groups.contains_key(GROUP) {
            return Err(format!("settings: fit.groups: expected the group `{GROUP}`").into());
        }
        self.views.check().map_err(|e| format!("settings: views: {e}"))?;
        self.ssl()?.validate()?;
        self.fit()?.validate().map_err(Into::into)
    }

    /// The loop's settings with the rates of the network's parts.
    ///
    /// # Errors
    /// If `model.rates.split` is no stage.
    pub fn fit(&self) -> Result<FitConfig> {
        let mut fit = self.fit.clone();
        if let Some(group) = fit.groups.get_mut(GROUP) {
            if group.lr_scale.is_empty() {
                let scales = self.model.backbone.lr_scale(&self.model.rates);
                group.lr_scale = scales.map_err(|e| format!("settings: model.rates.split: {e}"))?;
            }
            group.no_decay.extend(NORM_PARAMS.map(String::from));
        }
        Ok(fit)
    }
}

impl DataConfig {
    /// Where the data are.
    pub fn location(&self) -> Location {
        Location { path: self.path.clone(), layout: self.layout }
    }

    /// How to split them. `has_val` and `has_unlabelled`: what the data set brings.
    pub fn split(&self, has_val: bool, has_unlabelled: bool) -> SplitConfig {
        let labelled = match self.labelled {
            Labels::Auto if has_unlabelled => Labelled::All,
            Labels::Auto => Labelled::Percent(20.0),
            Labels::All => Labelled::All,
            Labels::Percent(p) => Labelled::Percent(p),
            Labels::PerClass(k) => Labelled::PerClass(k),
            Labels::Total(n) => Labelled::Total(n),
        };
        SplitConfig {
            seed: self.seed,
            labelled,
            val_percent: self.val_percent.unwrap_or(if has_val { 0.0 } else { 15.0 }),
            tail: self.tail,
            labelled_again: self.labelled_again,
            ..SplitConfig::default()
        }
    }
}
