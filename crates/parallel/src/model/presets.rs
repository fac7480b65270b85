//! Shapes that come with the crate.

use super::{ModelError, ModelSpec};

/// Name and text of each preset, in alphabetical order.
const PRESETS: &[(&str, &str)] = &[
    ("bidaf", include_str!("presets/bidaf.toml")),
    ("ctr-wide", include_str!("presets/ctr-wide.toml")),
    ("dlrm-criteo", include_str!("presets/dlrm-criteo.toml")),
    ("ernie-260b", include_str!("presets/ernie-260b.toml")),
    ("gpt-1.7b", include_str!("presets/gpt-1.7b.toml")),
    ("gpt-145b", include_str!("presets/gpt-145b.toml")),
    ("gpt-175b", include_str!("presets/gpt-175b.toml")),
    ("gpt-18b", include_str!("presets/gpt-18b.toml")),
    ("gpt-1t", include_str!("presets/gpt-1t.toml")),
    ("gpt-22b", include_str!("presets/gpt-22b.toml")),
    ("gpt-3.6b", include_str!("presets/gpt-3.6b.toml")),
    ("gpt-310b", include_str!("presets/gpt-310b.toml")),
    ("gpt-39b", include_str!("presets/gpt-39b.toml")),
    ("gpt-530b", include_str!("presets/gpt-530b.toml")),
    ("gpt-7.5b", include_str!("presets/gpt-7.5b.toml")),
    ("gpt-76b", include_str!("presets/gpt-76b.toml")),
    ("gpt2-xl", include_str!("presets/gpt2-xl.toml")),
    ("llama2-7b", include_str!("presets/llama2-7b.toml")),
    ("llama3-405b", include_str!("presets/llama3-405b.toml")),
    ("mixtral-8x7b", include_str!("presets/mixtral-8x7b.toml")),
    ("moe-gpt-1.3b-e64", include_str!("presets/moe-gpt-1.3b-e64.toml")),
    ("poet", include_str!("presets/poet.toml")),
    ("poet-base", include_str!("presets/poet-base.toml")),
    ("resnet-50", include_str!("presets/resnet-50.toml")),
    ("smollm2-135m", include_str!("presets/smollm2-135m.toml")),
];

/// Names of all presets, in alphabetical order.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.iter().map(|(name, _)| *name).collect()
}

/// The preset called `name`.
pub(super) fn find(name: &str) -> Result<ModelSpec, ModelError> {
    let Some((_, text)) = PRESETS.iter().find(|(preset, _)| *preset == name) else {
        return Err(ModelError::UnknownPreset { name: name.into(), known: preset_names().join(", ") });
    };
    ModelSpec::parse(text, &format!("preset {name}"))
}
