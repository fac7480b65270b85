//! Which runs an experiment is made of.

use super::super::config::{Labels, PeplConfig};
use crate::{Result, settings};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// An experiment: arms by shares of labels by seeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Preset that every run starts from.
    pub preset: String,
    /// Changes for every run.
    #[serde(default)]
    pub set: Vec<String>,
    /// Shares of labels.
    pub shares: Vec<Share>,
    /// Methods.
    pub arms: Vec<Arm>,
    /// Arms that the others are compared with.
    pub references: Vec<String>,
}

/// A share of labels with its seeds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// Percentage of each class; 100: all labels.
    pub percent: f64,
    /// Each draws its own split and its own run.
    pub seeds: Vec<u64>,
}

/// A method.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name in the table.
    pub name: String,
    /// What makes it.
    pub set: Vec<String>,
    /// Only at this percentage, where one is given; arms without it take part below 100.
    #[serde(default)]
    pub only: Option<f64>,
}

/// One run.
#[derive(Clone, Debug)]
pub struct Job {
    /// Its arm.
    pub arm: String,
    /// Percentage of labels.
    pub percent: f64,
    /// Seed of split and run.
    pub seed: u64,
    preset: String,
    set: Vec<String>,
}

impl Plan {
    /// The plan that comes with the program, or a file.
    pub fn load(name: &str) -> Result<Self> {
        let text = match name {
            "pepl" => include_str!("../../../presets/experiment-pepl.toml").to_string(),
            "pepl-long" => include_str!("../../../presets/experiment-pepl-long.toml").to_string(),
            path => std::fs::read_to_string(path).map_err(|e| format!("plan {path}: {e}"))?,
        };
        let plan: Self = toml::from_str(&text).map_err(|e| format!("plan {name}: {}", e.to_string().trim_end()))?;
        let unknown = plan.references.iter().find(|r| plan.arms.iter().all(|arm| arm.name != **r));
        match unknown {
            Some(reference) => Err(format!("plan {name}: references: no arm `{reference}`").into()),
            None => Ok(plan),
        }
    }

    /// All runs, seeds outermost, so that an experiment cut short has whole rows; each is checked. `only`: names of arms.
    pub fn jobs(&self, set: &[String], only: &[String]) -> Result<Vec<Job>> {
        if let Some(name) = only.iter().find(|name| self.arms.iter().all(|arm| arm.name != **name)) {
            let names: Vec<&str> = self.arms.iter().map(|arm| arm.name.as_str()).collect();
            return Err(format!("--only {name}: there are {}", names.join(", ")).into());
        }
        let most = self.shares.iter().map(|s| s.seeds.len()).max().unwrap_or(0);
        let mut jobs = Vec::new();
        for nth in 0..most {
            for share in self.shares.iter().filter(|s| nth < s.seeds.len()) {
                let fits = |arm: &&Arm| arm.only.map_or(share.percent < 100.0, |percent| percent == share.percent);
                let chosen = |arm: &&Arm| only.is_empty() || only.contains(&arm.name);
                for arm in self.arms.iter().filter(fits).filter(chosen) {
                    let set = self.set.iter().chain(&arm.set).chain(set).cloned().collect();
                    let (arm, percent, seed) = (arm.name.clone(), share.percent, share.seeds[nth]);
                    jobs.push(Job { arm, percent, seed, preset: self.preset.clone(), set });
                }
            }
        }
        // A mistake in the last run should not show after hours.
        jobs.iter().try_for_each(|job| job.config(Path::new("."))?.settled()?.validate())?;
        Ok(jobs)
    }
}

impl Job {
    /// As a person would call it.
    pub fn name(&self) -> String {
        format!("{}, {} % labels, seed {}", self.arm, self.percent, self.seed)
    }

    /// Its run directory in `out`.
    pub fn folder(&self, out: &Path) -> PathBuf {
        let arm: String = self.arm.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
        out.join(format!("{arm}-{}-{}", self.percent, self.seed))
    }

    /// Its settings; all runs in `out` share one file of decoded images and one of maps.
    pub fn config(&self, out: &Path) -> Result<PeplConfig> {
        let mut config: PeplConfig = settings::resolve(&self.preset, &self.set)?;
        config.data.labelled = if self.percent >= 100.0 { Labels::All } else { Labels::Percent(self.percent) };
        (config.data.seed, config.fit.seed) = (self.seed, self.seed);
        if config.data.path.is_some() && config.data.cache.is_none() {
            config.data.cache = Some(out.join("images.cache"));
        }
        if config.model.keeps_maps() && config.model.kept.path.is_none() {
            config.model.kept.path = Some(out.join("maps.cache"));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plan_has_every_row_of_the_table() {
        let plan = Plan::load("pepl").unwrap();
        let jobs = plan.jobs(&["data.path=photos".into()], &[]).unwrap();
        let count = |arm: &str, percent: f64| jobs.iter().filter(|j| j.arm == arm && j.percent == percent).count();
        for arm in [
            "supervised",
            "FixMatch",
            "FlexMatch",
            "FreeMatch",
            "SoftMatch",
            "PEPL without mixing",
            "PEPL by area",
            "PEPL",
        ] {
            assert_eq!((count(arm, 10.0), count(arm, 20.0) >= 3, count(arm, 30.0)), (1, true, 1), "{arm}");
        }
        assert_eq!((count("all labels", 100.0), count("PEPL", 100.0)), (1, 0));
        let mut folders: Vec<_> = jobs.iter().map(|j| j.folder(Path::new("out"))).collect();
        folders.sort();
        folders.dedup();
        assert_eq!(folders.len(), jobs.len());
    }

    #[test]
    fn arms_differ_in_the_method_alone() {
        for name in ["pepl", "pepl-long"] {
            let jobs = Plan::load(name).unwrap().jobs(&["data.path=photos".into()], &[]).unwrap();
            let at_20 = jobs.iter().filter(|job| job.percent == 20.0 && job.seed == 1);
            let mut configs = at_20.map(|job| job.config(Path::new("out")).unwrap().settled().unwrap());
            let first = configs.next().unwrap();
            for other in configs {
                assert_ne!(other.method, first.method);
                assert_eq!(PeplConfig { method: first.method.clone(), ..other }, first);
            }
        }
    }

    #[test]
    fn unknown_arms_are_named() {
        let plan = Plan::load("pepl").unwrap();
        assert!(plan.jobs(&[], &["PEPPL".into()]).unwrap_err().to_string().contains("there are supervised"));
    }
}
