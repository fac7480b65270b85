//! Images by their use.

use super::config::{DataConfig, NetworkConfig};
use super::network;
use crate::{Result, say};
use chandlery::kernels::Key;
use chandlery::nn::ParamStore;
use chandlery::nn::file::write_atomic;
use chandlery::pseudo::data::{Audit, DataError, Dataset, Fold, Images, KeptMaps, Split};
use chandlery::pseudo::image::{Seen, View, Views};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The images of a run.
pub struct Corpus {
    /// The data set as the network sees it.
    pub images: Images,
    /// What the frozen part of the network gives, where it is kept.
    maps: Option<KeptMaps>,
    /// Which image is for what.
    pub split: Split,
    /// What the look before the run found.
    pub audit: Audit,
    /// Identifies data and split.
    pub fingerprint: String,
}

/// What a run must remember of its data to label others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classes {
    /// Names of the classes.
    pub names: Vec<String>,
}

const CLASSES: &str = "classes.json";

impl Classes {
    /// Writes them into a run.
    pub fn save(&self, run: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self)?;
        Ok(write_atomic(&run.join(CLASSES), |w| w.write_all(json.as_bytes()))?)
    }

    /// Those of a run.
    pub fn load(run: &Path) -> Result<Self> {
        let path = run.join(CLASSES);
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()).into())
    }
}

/// The first `limit` images of each class and part.
fn limited(data: Dataset, limit: usize) -> Result<Dataset> {
    if limit == 0 {
        return Ok(data);
    }
    let mut seen: BTreeMap<(Fold, Option<usize>), usize> = BTreeMap::new();
    let mut take = |i: &usize| {
        let item = &data.items()[*i];
        let n = seen.entry((item.fold, item.label)).or_default();
        *n += 1;
        *n <= limit
    };
    let items: Vec<usize> = (0..data.len()).filter(|i| take(i)).collect();
    Ok(data.subset(&items)?)
}

impl Corpus {
    /// Opens the data, looks at every image once, and draws the split.
    pub fn load(config: &DataConfig, views: &Views) -> Result<Self> {
        let (data, audit) = limited(config.location().open()?, config.limit)?.audited(&views.decode, &config.audit)?;
        let has = |fold| !data.fold(fold).is_empty();
        if data.n_classes() < 2 {
            let n = data.n_classes();
            return Err(format!(
                "data: expected images of at least 2 classes, found {n}: put them into a folder a class"
            )
            .into());
        }
        let split = Split::draw(&data, &config.split(has(Fold::Val), has(Fold::Unlabelled)))?;
        let fingerprint = format!("images {}, split {}", data.fingerprint(), split.sha256(&data)?);
        let mut images = Images::new(data, views.clone(), config.audit.bad)?;
        if let Some(cache) = &config.cache {
            if let Some(folder) = cache.parent().filter(|f| !f.as_os_str().is_empty()) {
                std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
            }
            images = images.with_cache(cache)?;
        }
        let corpus = Self { images, maps: None, split, audit, fingerprint };
        if corpus.judged().is_empty() {
            return Err("data: no label is left to judge by: set data.val_percent".into());
        }
        Ok(corpus)
    }

    /// Keeps the maps of the frozen part where `config` says so; in `run` where it names no file.
    pub fn keep_maps(&mut self, config: &NetworkConfig, store: &ParamStore, run: &Path) -> Result<()> {
        if !config.keeps_maps() {
            return Ok(());
        }
        let path = config.kept.path.clone().unwrap_or_else(|| run.join("maps.cache"));
        if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        let frozen = network::frozen_part(config, store, self.images.data().n_classes())?;
        let mut told = 0;
        let mut progress = |done: usize, of: usize| {
            let tenths = 10 * done / of;
            if tenths > told {
                told = tenths;
                say(format!("maps of the frozen part: {done} of {of} images"));
            }
        };
        let (images, forward) = (&self.images, &*frozen.forward);
        self.maps = Some(KeptMaps::open(&path, images, config.kept.views, &frozen.hash, forward, &mut progress)?);
        Ok(())
    }

    /// What the trained part of the network takes: views of `items`, or maps of views where they are kept.
    pub fn look(&self, items: &[usize], views: &[View], key: Key) -> std::result::Result<Seen<DataError>, DataError> {
        match &self.maps {
            Some(maps) => maps.batch(&self.images, items, views, key),
            None => self.images.batch(items, views, key),
        }
    }

    /// The classes.
    pub fn classes(&self) -> Classes {
        Classes { names: self.images.data().classes.clone() }
    }

    /// What results are measured on: the test part, or else the held-out one.
    pub fn judged(&self) -> &[usize] {
        if self.split.test.is_empty() { &self.split.val } else { &self.split.test }
    }

    /// The name of [`judged`](Self::judged).
    pub fn judged_name(&self) -> &'static str {
        if self.split.test.is_empty() { "held-out" } else { "test" }
    }

    /// One line for a person.
    pub fn summary(&self) -> String {
        let s = &self.split;
        let mut text = format!(
            "{} classes; {} images with labels, {} without, {} held out, {} to test",
            self.images.data().n_classes(),
            s.labelled.len(),
            s.unlabelled.len(),
            s.val.len(),
            s.test.len(),
        );
        if !self.audit.bad.is_empty() {
            let first = &self.audit.bad[0];
            text += &format!("; {} cannot be used, first {}: {}", self.audit.bad.len(), first.name, first.why);
        }
        if !self.audit.dropped.is_empty() {
            text += &format!("; {} copies left out, first {}", self.audit.dropped.len(), self.audit.dropped[0]);
        }
        text
    }
}
