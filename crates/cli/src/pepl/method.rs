//! A method by name, with what differs from its published settings.

use crate::Result;
use chandlery::pseudo::ssl::{METHODS, SslConfig};
use serde::Deserialize;
use std::collections::BTreeMap;
use toml::{Table, Value};

/// Lays `over` on `base`, section by section. A section that names another `kind` takes the place of the whole section,
/// whose other keys belong to the kind before.
fn lay(base: &mut Table, over: &Table) {
    for (key, value) in over {
        match (base.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(above)) if same_kind(below, above) => lay(below, above),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

fn same_kind(below: &Table, above: &Table) -> bool {
    above.get("kind").is_none_or(|kind| below.get("kind") == Some(kind))
}

/// Name and settings of `method`: the published ones, under those of `presets` for it, under its own.
pub fn settle(method: &Table, presets: &BTreeMap<String, Table>) -> Result<(String, Table)> {
    let kind = method.get("kind").and_then(Value::as_str).unwrap_or("pepl").to_string();
    let known = || METHODS.join(", ");
    let named = SslConfig::named(&kind);
    let named = named.ok_or_else(|| format!("settings: method.kind: no `{kind}`; there are {}", known()))?;
    let mut table = Table::try_from(named)?;
    let own: Table = method.iter().filter(|(key, _)| *key != "kind").map(|(k, v)| (k.clone(), v.clone())).collect();
    presets.get(&kind).into_iter().chain([&own]).for_each(|over| lay(&mut table, over));
    // Through the type and back: unknown keys are refused, and every default is written out.
    Ok((kind, Table::try_from(read(table)?)?))
}

/// The settings of `method`.
pub fn parse(method: &Table, presets: &BTreeMap<String, Table>) -> Result<SslConfig> {
    read(settle(method, presets)?.1)
}

fn read(table: Table) -> Result<SslConfig> {
    SslConfig::deserialize(table).map_err(|e| format!("settings: method: {}", e.to_string().trim_end()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery::pseudo::ssl::WeightingConfig;

    fn parsed(method: &str, presets: &str) -> Result<SslConfig> {
        let presets: Table = presets.parse().unwrap();
        let presets = presets.into_iter().map(|(k, v)| (k, v.as_table().unwrap().clone())).collect();
        parse(&method.parse().unwrap(), &presets)
    }

    #[test]
    fn every_method_survives_being_written_out() {
        for kind in METHODS {
            let method: Table = format!("kind = \"{kind}\"").parse().unwrap();
            let (_, table) = settle(&method, &BTreeMap::new()).unwrap();
            assert_eq!(read(table.clone()).unwrap(), SslConfig::named(kind).unwrap(), "{kind}");
            let mut again = table.clone();
            again.insert("kind".into(), Value::String(kind.into()));
            assert_eq!(settle(&again, &BTreeMap::new()).unwrap().1, table, "{kind}");
        }
    }

    #[test]
    fn own_settings_stand_above_the_presets() {
        let presets = "[pepl]\nlambda = 0.5\nwarmup = 9\nweighting = { ema = 0.9 }\n[fixmatch]\nlambda = 3.0";
        let config = parsed("kind = \"pepl\"\nlambda = 2.0", presets).unwrap();
        assert_eq!((config.lambda, config.warmup), (2.0, 9));
        assert!(matches!(config.weighting, WeightingConfig::Pepl(a) if a.ema == 0.9));
        assert_eq!(parsed("kind = \"fixmatch\"", presets).unwrap().lambda, 3.0);
        let other = parsed("kind = \"pepl\"\nweighting = { kind = \"fixmatch\", threshold = 0.8 }", presets);
        assert!(matches!(other.unwrap().weighting, WeightingConfig::Fixmatch(_)));
    }

    #[test]
    fn unknown_names_are_named() {
        let say = |method: &str| parsed(method, "").unwrap_err().to_string();
        assert!(say("kind = \"peppl\"").contains("no `peppl`; there are supervised"));
        assert!(say("kind = \"pepl\"\nlamda = 1.0").contains("lamda"));
        assert!(say("kind = \"pepl\"\nweighting = { emma = 1.0 }").contains("emma"));
    }
}
