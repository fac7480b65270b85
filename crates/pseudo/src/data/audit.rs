use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{ContentHash, DataError, Dataset, Fold, Split, examples};
use crate::image::Decode;

/// How far each image is looked at before a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Its header is held against the limits.
    Header,
    /// It is decoded.
    Pixels,
}

/// What is done with images that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnBad {
    /// The run does not start, or ends.
    Refuse,
    /// They are left out, counted and listed.
    Skip,
}

/// What is done with files of equal content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnDuplicate {
    /// The run does not start if two folds share one.
    Refuse,
    /// One copy stays: that of the test fold before validation, training and unlabelled.
    Drop,
    /// They stay, counted and listed.
    Keep,
}

/// What is checked before a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// How far each image is looked at.
    pub depth: Depth,
    /// What becomes of images that cannot be used.
    pub bad: OnBad,
    /// What becomes of equal files.
    pub duplicates: OnDuplicate,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { depth: Depth::Header, bad: OnBad::Skip, duplicates: OnDuplicate::Drop }
    }
}

/// An image that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bad {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

/// What an audit found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Audit {
    /// Images looked at.
    pub n_images: usize,
    /// Those that cannot be used.
    pub bad: Vec<Bad>,
    /// Names of files of equal content, at least two in each group, as they were found.
    pub duplicates: Vec<Vec<String>>,
    /// Names of the copies that were left out.
    pub dropped: Vec<String>,
}

impl Dataset {
    /// Looks at every image, several at a time, and returns the data set without what `config` leaves out.
    ///
    /// # Errors
    /// If `config` refuses what is found, or no image is left.
    pub fn audited(self, decode: &Decode, config: &AuditConfig) -> Result<(Self, Audit), DataError> {
        let looked: Vec<Result<ContentHash, DataError>> =
            (0..self.len()).into_par_iter().map(|i| self.look(i, decode, config.depth)).collect();
        let mut audit = Audit { n_images: self.len(), bad: Vec::new(), duplicates: Vec::new(), dropped: Vec::new() };
        let mut copies: HashMap<ContentHash, Vec<usize>> = HashMap::new();
        let mut keep = vec![true; self.len()];
        for (i, result) in looked.into_iter().enumerate() {
            match result {
                Ok(hash) => copies.entry(hash).or_default().push(i),
                Err(e) => {
                    keep[i] = false;
                    let name = self.items[i].name.clone();
                    // The error begins with the name where it is the image's own.
                    let why = e.to_string();
                    let why = why.strip_prefix(&format!("{name}: ")).map(str::to_owned).unwrap_or(why);
                    audit.bad.push(Bad { name, why });
                }
            }
        }
        let all_bad = audit.bad.len() == self.len() && !self.is_empty();
        if all_bad || config.bad == OnBad::Refuse && !audit.bad.is_empty() {
            let examples = examples(audit.bad.iter().map(|b| format!("{} ({})", b.name, b.why)));
            return Err(DataError::TooManyBad { bad: audit.bad.len(), total: self.len(), examples });
        }
        let mut groups: Vec<Vec<usize>> = copies.into_values().filter(|group| group.len() > 1).collect();
        groups.sort();
        self.refuse_shared(&groups, config)?;
        for mut group in groups {
            audit.duplicates.push(group.iter().map(|&i| self.items[i].name.clone()).collect());
            if config.duplicates == OnDuplicate::Drop {
                group.sort_by_key(|&i| (rank(self.items[i].fold), i));
                group[1..].iter().for_each(|&i| keep[i] = false);
                audit.dropped.extend(group[1..].iter().map(|&i| self.items[i].name.clone()));
            }
        }
        let mut keep = keep.into_iter();
        let mut data = self;
        data.items.retain(|_| keep.next().unwrap_or(true));
        Ok((data, audit))
    }

    fn look(&self, i: usize, decode: &Decode, depth: Depth) -> Result<ContentHash, DataError> {
        let content = self.content(&self.items[i], decode)?;
        if depth == Depth::Pixels {
            self.image(i, decode, None)?;
        } else if !matches!(self.items[i].pixels, super::Pixels::Raw { .. }) {
            let fail = |source| DataError::Image { name: self.items[i].name.clone(), source };
            decode.admit(&content).map_err(fail)?;
        }
        Ok(ContentHash::of(&content))
    }

    fn refuse_shared(&self, groups: &[Vec<usize>], config: &AuditConfig) -> Result<(), DataError> {
        let crosses = |group: &&Vec<usize>| group.iter().any(|&i| self.items[i].fold != self.items[group[0]].fold);
        let shared: Vec<&Vec<usize>> = groups.iter().filter(crosses).collect();
        if shared.is_empty() || config.duplicates != OnDuplicate::Refuse {
            return Ok(());
        }
        let names =
            |group: &&Vec<usize>| group.iter().map(|&i| self.items[i].name.as_str()).collect::<Vec<_>>().join(" = ");
        Err(DataError::Duplicates { n: shared.len(), examples: examples(shared.iter().map(names)) })
    }
}

/// Which copy stays: results first.
fn rank(fold: Fold) -> u8 {
    match fold {
        Fold::Test => 0,
        Fold::Val => 1,
        Fold::Train => 2,
        Fold::Unlabelled => 3,
    }
}

impl Audit {
    /// Groups of equal files of which one is fitted on and another is for choices or results: where the data set keeps
    /// its duplicates, a split drawn from one fold may part them.
    pub fn leaks(&self, data: &Dataset, split: &Split) -> Vec<&[String]> {
        let names = |parts: &[&[usize]]| -> std::collections::HashSet<&str> {
            parts
                .iter()
                .flat_map(|part| part.iter())
                .filter_map(|&i| Some(data.items().get(i)?.name.as_str()))
                .collect()
        };
        let fitted = names(&[&split.labelled, &split.unlabelled]);
        let judged = names(&[&split.val, &split.test, &split.test_unknown]);
        let leaks = |group: &&[String]| {
            group.iter().any(|n| fitted.contains(n.as_str())) && group.iter().any(|n| judged.contains(n.as_str()))
        };
        self.duplicates.iter().map(Vec::as_slice).filter(leaks).collect()
    }
}
