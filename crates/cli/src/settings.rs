//! Presets and what the command line changes in them.

use crate::Result;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// The presets by name.
pub const PRESETS: [(&str, &str); 3] = [
    ("poet", include_str!("../presets/poet.toml")),
    ("poet-base", include_str!("../presets/poet-base.toml")),
    ("smoke", include_str!("../presets/smoke.toml")),
];

/// The preset `name` with every `path=value` of `changes` applied; an unknown key is an error that names it.
pub fn resolve<T: DeserializeOwned>(name: &str, changes: &[String]) -> Result<T> {
    let known = || PRESETS.map(|(name, _)| name).join(", ");
    let (_, text) = PRESETS
        .into_iter()
        .find(|(n, _)| *n == name)
        .ok_or_else(|| format!("no preset `{name}`; there are {}", known()))?;
    let mut table: Table = text.parse()?;
    changes.iter().try_for_each(|change| apply(&mut table, change))?;
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
        place = inner.as_table_mut().ok_or_else(|| format!("--set {change}: `{key}` is not a section"))?;
    }
    place.insert(last.to_string(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poet::PoetConfig;

    #[test]
    fn every_preset_is_valid() {
        for (name, _) in PRESETS {
            let config: PoetConfig = resolve(name, &[]).unwrap();
            config.validate().unwrap();
        }
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
