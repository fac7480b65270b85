use std::collections::HashMap;
use std::path::Path;

use chandlery_kernels::{Key, Stream};
use chandlery_nn::file::write_atomic;
use serde::{Deserialize, Serialize};

use super::{ContentHash, DataError, Dataset, Fold, examples};

/// How many images keep their labels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Labelled {
    /// All of the training fold.
    All,
    /// This percentage of each class of the training fold, rounded half up, but at least one image.
    Percent(f64),
    /// This many of each class.
    PerClass(usize),
    /// This many in all, as evenly over the classes as the number allows; who gets one more is drawn.
    Total(usize),
}

/// How the training fold is divided for semi-supervised learning.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SplitConfig {
    /// Seed of all draws. With one seed, fewer labels are always a part of more.
    pub seed: u64,
    /// Which share keeps its labels.
    pub labelled: Labelled,
    /// Percentage of each class of the training fold held out for choices, rounded half up; its labels are beyond those
    /// of `labelled`. 0 takes the data set's own validation fold.
    pub val_percent: f64,
    /// Long-tailed labels: how many times more the first class has than the last; between them the numbers fall
    /// geometrically, rounded down, at least one. 1 is no tail.
    pub tail: f64,
    /// Open set: this many classes, drawn, keep no label and are only met among the unlabelled images.
    pub unknown_classes: usize,
    /// Whether the labelled images are among the unlabelled ones too, as in FixMatch.
    pub labelled_again: bool,
    /// Lets classes without any training image pass.
    pub empty_classes: bool,
}

impl Default for SplitConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            labelled: Labelled::Percent(20.0),
            val_percent: 0.0,
            tail: 1.0,
            unknown_classes: 0,
            labelled_again: false,
            empty_classes: false,
        }
    }
}

/// Indices of a data set's items by their use; all ascending.
#[derive(Clone, Debug, PartialEq)]
pub struct Split {
    /// What it was drawn by.
    pub config: SplitConfig,
    /// Fitted on with labels.
    pub labelled: Vec<usize>,
    /// Fitted on without labels, whatever the data set knows of them.
    pub unlabelled: Vec<usize>,
    /// For choices.
    pub val: Vec<usize>,
    /// For results.
    pub test: Vec<usize>,
    /// Test images of classes that keep no label.
    pub test_unknown: Vec<usize>,
    /// Whether each class keeps labels.
    pub known: Vec<bool>,
}

impl Split {
    /// Draws a split; the same for the same data set, configuration and seed on every machine.
    ///
    /// # Errors
    /// If the configuration makes no sense, a class lacks images, or there are fewer labels than classes.
    pub fn draw(data: &Dataset, config: &SplitConfig) -> Result<Self, DataError> {
        config.check(data)?;
        let key = Key::new(config.seed).named("split");
        let n_classes = data.n_classes();
        let mut by_class = vec![Vec::new(); n_classes];
        let mut unlabelled = data.fold(Fold::Unlabelled);
        for i in data.fold(Fold::Train) {
            data.items()[i].label.map_or_else(|| unlabelled.push(i), |label| by_class[label].push(i));
        }
        let known = known(n_classes, config.unknown_classes, key.named("unknown"));
        refuse_empty(data, config, &by_class, &known)?;
        let budget = config.budget(&by_class, &known, key.named("total"))?;

        let (mut labelled, mut val) = (Vec::new(), Vec::new());
        for (class, mut items) in by_class.into_iter().enumerate() {
            Stream::new(key.named("class").at(class as u64)).shuffle(&mut items);
            if !known[class] {
                unlabelled.extend(items);
                continue;
            }
            let held = rounded(items.len(), config.val_percent);
            if budget[class] + held > items.len() {
                let (name, n) = (&data.classes[class], items.len());
                let asked = budget[class];
                return Err(DataError::Split(format!(
                    "class {name}: {asked} labelled and {held} held out of {n} images"
                )));
            }
            // Labels from one end and the held-out part from the other: neither number moves the other's draw.
            val.extend(items.drain(items.len() - held..));
            unlabelled.extend(&items[if config.labelled_again { 0 } else { budget[class] }..]);
            labelled.extend(&items[..budget[class]]);
        }
        let is_known = |i: &usize| data.items()[*i].label.is_none_or(|label| known[label]);
        if config.val_percent == 0.0 {
            val = data.fold(Fold::Val).into_iter().filter(is_known).collect();
        }
        let (test, test_unknown) = data.fold(Fold::Test).into_iter().partition(is_known);
        let mut split = Self { config: config.clone(), labelled, unlabelled, val, test, test_unknown, known };
        split.parts_mut().into_iter().for_each(|part| part.sort_unstable());
        Ok(split)
    }

    fn parts_mut(&mut self) -> [&mut Vec<usize>; 5] {
        [&mut self.labelled, &mut self.unlabelled, &mut self.val, &mut self.test, &mut self.test_unknown]
    }

    /// SHA-256 over configuration, names and labels of the split: two splits with the same one are the same.
    ///
    /// # Errors
    /// If an index is not in the data set.
    pub fn sha256(&self, data: &Dataset) -> Result<String, DataError> {
        Ok(Saved::new(self, data)?.sha256)
    }

    /// Writes the split as JSON: names rather than positions, with seed and SHA-256.
    ///
    /// # Errors
    /// If the file cannot be written, or an index is not in the data set.
    pub fn save(&self, data: &Dataset, path: &Path) -> Result<(), DataError> {
        let saved = Saved::new(self, data)?;
        let text = serde_json::to_vec_pretty(&saved).map_err(|e| DataError::layout(path, e.to_string()))?;
        Ok(write_atomic(path, |to| to.write_all(&text))?)
    }

    /// Reads a split that was saved for this data set.
    ///
    /// # Errors
    /// If the file is damaged or changed, names images that the data set has not, or gives them other labels.
    pub fn load(data: &Dataset, path: &Path) -> Result<Self, DataError> {
        let text = std::fs::read(path).map_err(DataError::io(path))?;
        let saved: Saved = serde_json::from_slice(&text).map_err(|e| DataError::layout(path, e.to_string()))?;
        if saved.version != VERSION {
            return Err(DataError::layout(path, format!("version: expected {VERSION}, got {}", saved.version)));
        }
        let sha256 = saved.hash()?;
        if sha256 != saved.sha256 {
            let problem = format!("sha256: expected {}, got {sha256}: the file was changed", saved.sha256);
            return Err(DataError::layout(path, problem));
        }
        saved.resolve(data, path)
    }
}

impl SplitConfig {
    fn check(&self, data: &Dataset) -> Result<(), DataError> {
        let refuse = |what: String| Err(DataError::Split(what));
        let percent = |p: f64| (0.0..=100.0).contains(&p);
        if let Labelled::Percent(p) = self.labelled
            && !(percent(p) && p > 0.0)
        {
            return refuse(format!("labelled: expected a percentage above 0 and up to 100, got {p}"));
        }
        if matches!(self.labelled, Labelled::PerClass(0)) {
            return refuse("labelled: expected at least 1 image a class, got 0".into());
        }
        if !percent(self.val_percent) {
            return refuse(format!("val_percent: expected 0 to 100, got {}", self.val_percent));
        }
        if !(self.tail >= 1.0 && self.tail.is_finite()) {
            return refuse(format!("tail: expected 1 or more, got {}", self.tail));
        }
        if self.unknown_classes >= data.n_classes() {
            return refuse(format!(
                "unknown_classes: expected fewer than {}, got {}",
                data.n_classes(),
                self.unknown_classes
            ));
        }
        Ok(())
    }

    /// Labels of each class.
    fn budget(&self, by_class: &[Vec<usize>], known: &[bool], key: Key) -> Result<Vec<usize>, DataError> {
        let takes = |c: &usize| known[*c] && !by_class[*c].is_empty();
        let mut classes: Vec<usize> = (0..by_class.len()).filter(takes).collect();
        let mut budget = vec![0; by_class.len()];
        match self.labelled {
            Labelled::All => classes
                .iter()
                .for_each(|&c| budget[c] = by_class[c].len() - rounded(by_class[c].len(), self.val_percent)),
            Labelled::Percent(p) => classes.iter().for_each(|&c| budget[c] = rounded(by_class[c].len(), p).max(1)),
            Labelled::PerClass(k) => classes.iter().for_each(|&c| budget[c] = k),
            Labelled::Total(n) if n < classes.len() => {
                let problem = format!("labelled: {n} labels are fewer than the {} classes", classes.len());
                return Err(DataError::Split(problem));
            }
            Labelled::Total(n) => {
                let each = n / classes.len().max(1);
                let mut drawn = classes.clone();
                Stream::new(key).shuffle(&mut drawn);
                drawn.iter().enumerate().for_each(|(i, &c)| budget[c] = each + usize::from(i < n % classes.len()));
            }
        }
        if self.tail > 1.0 && classes.len() > 1 {
            let last = (classes.len() - 1) as f64;
            for (rank, c) in classes.drain(..).enumerate() {
                let share = self.tail.powf(-(rank as f64) / last);
                // A hair more, so that exact shares are not rounded down by the power's last bit.
                budget[c] = ((budget[c] as f64 * share + 1e-9) as usize).max(1);
            }
        }
        Ok(budget)
    }
}

/// `percent` of `n`, rounded half up.
fn rounded(n: usize, percent: f64) -> usize {
    (n as f64 * percent / 100.0 + 0.5) as usize
}

fn known(n_classes: usize, unknown: usize, key: Key) -> Vec<bool> {
    let mut classes: Vec<usize> = (0..n_classes).collect();
    Stream::new(key).shuffle(&mut classes);
    let mut known = vec![true; n_classes];
    classes.iter().take(unknown).for_each(|&c| known[c] = false);
    known
}

fn refuse_empty(
    data: &Dataset,
    config: &SplitConfig,
    by_class: &[Vec<usize>],
    known: &[bool],
) -> Result<(), DataError> {
    let empty: Vec<&String> = data
        .classes
        .iter()
        .zip(by_class)
        .zip(known)
        .filter(|((_, items), k)| **k && items.is_empty())
        .map(|x| x.0.0)
        .collect();
    if empty.is_empty() || config.empty_classes {
        return Ok(());
    }
    let (n, names) = (empty.len(), examples(empty));
    Err(DataError::Split(format!(
        "{n} classes have no labelled training image: {names} (`empty_classes` lets them pass)"
    )))
}

const VERSION: u32 = 1;

/// A split on disk.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u32,
    sha256: String,
    config: SplitConfig,
    classes: Vec<String>,
    known: Vec<bool>,
    /// Name and class.
    labelled: Vec<(String, String)>,
    unlabelled: Vec<String>,
    val: Vec<String>,
    test: Vec<String>,
    test_unknown: Vec<String>,
}

impl Saved {
    fn new(split: &Split, data: &Dataset) -> Result<Self, DataError> {
        let names = |part: &[usize]| -> Result<Vec<String>, DataError> {
            part.iter().map(|&i| data.item(i).map(|item| item.name.clone())).collect()
        };
        let mut labelled = Vec::new();
        for &i in &split.labelled {
            let item = data.item(i)?;
            labelled.push((item.name.clone(), item.label.map_or_else(String::new, |l| data.classes[l].clone())));
        }
        let mut saved = Self {
            version: VERSION,
            sha256: String::new(),
            config: split.config.clone(),
            classes: data.classes.clone(),
            known: split.known.clone(),
            labelled,
            unlabelled: names(&split.unlabelled)?,
            val: names(&split.val)?,
            test: names(&split.test)?,
            test_unknown: names(&split.test_unknown)?,
        };
        saved.sha256 = saved.hash()?;
        Ok(saved)
    }

    fn hash(&self) -> Result<String, DataError> {
        let content = (
            (self.version, &self.config, &self.classes, &self.known),
            (&self.labelled, &self.unlabelled, &self.val, &self.test, &self.test_unknown),
        );
        let text = serde_json::to_vec(&content).map_err(|e| DataError::Split(e.to_string()))?;
        Ok(ContentHash::of(&text).to_string())
    }

    fn resolve(self, data: &Dataset, path: &Path) -> Result<Split, DataError> {
        if self.classes != data.classes {
            return Err(DataError::layout(path, "its classes are not those of the data set"));
        }
        let at: HashMap<&str, usize> =
            data.items().iter().enumerate().map(|(i, item)| (item.name.as_str(), i)).collect();
        let mut missing = Vec::new();
        let mut indices = |names: Vec<String>| -> Vec<usize> {
            let mut find = |name: String| {
                at.get(name.as_str()).copied().or_else(|| {
                    missing.push(name);
                    None
                })
            };
            names.into_iter().filter_map(&mut find).collect()
        };
        let (names, labels): (Vec<String>, Vec<String>) = self.labelled.into_iter().unzip();
        let split = Split {
            labelled: indices(names),
            unlabelled: indices(self.unlabelled),
            val: indices(self.val),
            test: indices(self.test),
            test_unknown: indices(self.test_unknown),
            config: self.config,
            known: self.known,
        };
        if !missing.is_empty() {
            let problem = format!("{} of its images are not in the data set: {}", missing.len(), examples(&missing));
            return Err(DataError::layout(path, problem));
        }
        let other = split
            .labelled
            .iter()
            .zip(&labels)
            .find(|(i, label)| data.items()[**i].label.is_none_or(|l| data.classes[l] != **label));
        match other {
            Some((&i, label)) => {
                let problem = format!("{} was labelled {label}, the data set says otherwise", data.items()[i].name);
                Err(DataError::layout(path, problem))
            }
            None => Ok(split),
        }
    }
}
