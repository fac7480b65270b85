//! Presets and what the command line changes in them.

use crate::Result;
use serde::de::DeserializeOwned;
use std::path::Path;
use toml::{Table, Value};

/// The presets by name.
pub const PRESETS: [(&str, &str); 6] = [
    ("poet", include_str!("../presets/poet.toml")),
    ("poet-base", include_str!("../presets/poet-base.toml")),
    ("smoke", include_str!("../presets/smoke.toml")),
    ("pepl", include_str!("../presets/pepl.toml")),
    ("pepl-photos", include_str!("../presets/pepl-photos.toml")),
    ("pepl-smoke", include_str!("../presets/pepl-smoke.toml")),
];

/// What a preset trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// A language model of verse.
    Poet,
    /// A classifier of images.
    Pepl,
}

impl Recipe {
    fn named(name: &str) -> Result<Self> {
        match name {
            "poet" => Ok(Self::Poet),
            "pepl" => Ok(Self::Pepl),
            other => Err(format!("recipe: expected poet or pepl, got {other}").into()),
        }
    }

    /// That of a preset.
    pub fn of_preset(preset: &str) -> Result<Self> {
        Self::of_table(&preset_table(preset)?)
    }

    /// That of a run, by the settings in its directory.
    pub fn of_run(run: &Path) -> Result<Self> {
        let path = run.join("config.toml");
        let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let table: Table = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
        Self::of_table(&table)
    }

    fn of_table(table: &Table) -> Result<Self> {
        Self::named(table.get("recipe").and_then(Value::as_str).unwrap_or("nothing"))
    }
}

fn preset_table(name: &str) -> Result<Table> {
    let known = || PRESETS.map(|(name, _)| name).join(", ");
    let (_, text) = PRESETS
        .into_iter()
        .find(|(n, _)| *n == name)
        .ok_or_else(|| format!("no preset `{name}`; there are {}", known()))?;
    Ok(text.parse()?)
}

/// The preset `name` with every `path=value` of `changes` applied; an unknown key is an error that names it.
///
/// A preset for data that need no download may name another one, `with_path`, for data of one's own: it takes its place
/// where the changes set `data.path`.
pub fn resolve<T: DeserializeOwned>(name: &str, changes: &[String]) -> Result<T> {
    let mut table = preset_table(name)?;
    let other = table.remove("with_path");
    changes.iter().try_for_each(|change| apply(&mut table, change))?;
    let has_path = table.get("data").is_some_and(|data| data.get("path").is_some());
    if let Some(other) = other.as_ref().and_then(Value::as_str).filter(|_| has_path) {
        table = preset_table(other)?;
        changes.iter().try_for_each(|change| apply(&mut table, change))?;
    }
    T::deserialize(table).map_err(|e| format!("settings: {}", e.to_string().trim_end()).into())
}

/// Sets one dotted path.
fn apply(table: &mut Table, change: &str) -> Result<()> {
    let (path, value) = change.split_once('=').ok_or_else(|| format!("--set {change}: expected PATH=VALUE"))?;
    // What is no TOML value is meant as text.
    let parsed = format!("v = {value}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
    let value = parsed.unwrap_or_else(|| Value::String(value.to_string()));
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap_or_default();
    let mut place = table;
    for key in keys {
        let inner = place.entry(key).or_insert_with(|| Value::Table(Table::new()));
        if inner.is_str() {
            // A choice by name, such as `labelled = "auto"`, gives way to one with values.
            *inner = Value::Table(Table::new());
        }
        place = inner.as_table_mut().ok_or_else(|| format!("--set {change}: `{key}` is not a section"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pepl::PeplConfig;
    use crate::poet::PoetConfig;

    #[test]
    fn every_preset_is_valid() {
        for (name, _) in PRESETS {
            match Recipe::of_preset(name).unwrap() {
                Recipe::Poet => resolve::<PoetConfig>(name, &[]).unwrap().validate().unwrap(),
                Recipe::Pepl => {
                    for kind in chandlery::pseudo::ssl::METHODS {
                        let config: PeplConfig = resolve(name, &[format!("method.kind={kind}")]).unwrap();
                        let settled = config.settled().unwrap();
                        settled.validate().unwrap();
                        assert_eq!(settled.settled().unwrap(), settled, "{name} {kind}");
                    }
                }
            }
        }
    }

    #[test]
    fn data_of_ones_own_take_the_preset_for_them() {
        let config: PeplConfig = resolve("pepl", &["data.path=photos".into(), "fit.steps=3".into()]).unwrap();
        let photos: PeplConfig = resolve("pepl-photos", &[]).unwrap();
        assert_eq!((config.model, config.fit.steps), (photos.model, 3));
    }

    #[test]
    fn changes_reach_their_place() {
        let set = ["fit.steps=7", "sample.temperature=0.5", "data.path=poems.jsonl"].map(String::from);
        let config: PoetConfig = resolve("smoke", &set).unwrap();
        assert_eq!((config.fit.steps, config.sample.temperature), (7, 0.5));
        assert_eq!(config.data.path.unwrap().to_str(), Some("poems.jsonl"));
    }

    #[test]
    fn unknown_preset_and_key_are_named() {
        let error = |name: &str, set: &str| resolve::<PoetConfig>(name, &[set.to_string()]).unwrap_err().to_string();
        assert!(error("poets", "fit.steps=1").contains("no preset `poets`"));
        assert!(error("poet", "model.widht=3").contains("widht"));
        assert!(error("poet", "fit.steps=many").contains("steps") || error("poet", "fit.steps=many").contains("many"));
        assert!(error("poet", "fit").contains("PATH=VALUE"));
    }
}
