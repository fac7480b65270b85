//! Parameter groups: which parameter is stepped by which rule.

use crate::config::number;
use crate::{Error, Result, Schedule};
use chandlery_kernels::optim::{Adafactor, Adam, Muon, NAdam, RmsProp, Rule, Sgd};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Settings of one parameter group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GroupConfig {
    /// Patterns of its parameters; `*` stands for any text, `?` for one character.
    pub params: Vec<String>,
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay, decoupled for `adamw`.
    pub weight_decay: f64,
    /// Patterns of parameters without weight decay.
    pub no_decay: Vec<String>,
    /// Factors on the learning rate of single parameters; the first pattern that fits counts.
    pub lr_scale: Vec<LrScale>,
    /// Gradients are scaled down to this global norm; 0: not.
    pub clip_norm: f64,
    /// Gradient values are cut to this size; 0: not.
    pub clip_value: f64,
    /// The update rule.
    pub rule: RuleConfig,
    /// The learning rate's course.
    pub schedule: Schedule,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            params: vec!["*".into()],
            lr: 1e-3,
            weight_decay: 0.0,
            no_decay: vec!["*.bias".into(), "*norm*".into(), "ln*".into(), "*.ln*".into()],
            lr_scale: vec![],
            clip_norm: 1.0,
            clip_value: 0.0,
            rule: RuleConfig::default(),
            schedule: Schedule::default(),
        }
    }
}

/// A factor on the learning rate of some parameters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LrScale {
    /// Pattern of their names.
    pub params: String,
    /// The factor.
    pub factor: f64,
}

/// An update rule with its constants, which all have defaults; see [`chandlery_kernels::optim`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
#[allow(missing_docs, reason = "the constants are those of chandlery_kernels::optim, documented there")]
pub enum RuleConfig {
    /// Adam with decoupled weight decay.
    AdamW {
        #[serde(default = "default::beta1")]
        beta1: f64,
        #[serde(default = "default::beta2")]
        beta2: f64,
        #[serde(default = "default::eps")]
        eps: f64,
    },
    /// Adam with L2 decay.
    Adam {
        #[serde(default = "default::beta1")]
        beta1: f64,
        #[serde(default = "default::beta2")]
        beta2: f64,
        #[serde(default = "default::eps")]
        eps: f64,
    },
    /// Adam with Nesterov momentum.
    NAdam {
        #[serde(default = "default::beta1")]
        beta1: f64,
        #[serde(default = "default::beta2")]
        beta2: f64,
        #[serde(default = "default::eps")]
        eps: f64,
        #[serde(default = "default::momentum_decay")]
        momentum_decay: f64,
    },
    /// Gradient descent.
    Sgd {
        #[serde(default)]
        momentum: f64,
        #[serde(default)]
        nesterov: bool,
    },
    /// RMSProp.
    RmsProp {
        #[serde(default = "default::alpha")]
        alpha: f64,
        #[serde(default = "default::eps")]
        eps: f64,
        #[serde(default)]
        momentum: f64,
        #[serde(default)]
        centered: bool,
    },
    /// Adafactor.
    Adafactor {
        #[serde(default = "default::beta2_decay")]
        beta2_decay: f64,
        #[serde(default = "default::eps2")]
        eps2: f64,
        #[serde(default = "default::clip")]
        clip: f64,
    },
    /// Muon, for hidden matrices only.
    Muon {
        #[serde(default = "default::muon_momentum")]
        momentum: f64,
        #[serde(default = "default::nesterov")]
        nesterov: bool,
    },
}

/// PyTorch's defaults.
mod default {
    pub fn beta1() -> f64 {
        0.9
    }
    pub fn beta2() -> f64 {
        0.999
    }
    pub fn eps() -> f64 {
        1e-8
    }
    pub fn momentum_decay() -> f64 {
        0.004
    }
    pub fn alpha() -> f64 {
        0.99
    }
    pub fn beta2_decay() -> f64 {
        -0.8
    }
    pub fn eps2() -> f64 {
        1e-3
    }
    pub fn clip() -> f64 {
        1.0
    }
    pub fn muon_momentum() -> f64 {
        0.95
    }
    pub fn nesterov() -> bool {
        true
    }
}

impl Default for RuleConfig {
    fn default() -> Self {
        Self::AdamW { beta1: default::beta1(), beta2: default::beta2(), eps: default::eps() }
    }
}

impl RuleConfig {
    /// The rule with this weight decay.
    pub(crate) fn build(&self, weight_decay: f64) -> Box<dyn Rule> {
        match *self {
            Self::AdamW { beta1, beta2, eps } => Box::new(Adam { beta1, beta2, eps, weight_decay, decoupled: true }),
            Self::Adam { beta1, beta2, eps } => Box::new(Adam { beta1, beta2, eps, weight_decay, decoupled: false }),
            Self::NAdam { beta1, beta2, eps, momentum_decay } => {
                Box::new(NAdam { beta1, beta2, eps, weight_decay, momentum_decay })
            }
            Self::Sgd { momentum, nesterov } => Box::new(Sgd { momentum, nesterov, weight_decay }),
            Self::RmsProp { alpha, eps, momentum, centered } => {
                Box::new(RmsProp { alpha, eps, weight_decay, momentum, centered })
            }
            Self::Adafactor { beta2_decay, eps2, clip } => {
                Box::new(Adafactor { beta2_decay, eps1: None, eps2, clip, weight_decay })
            }
            Self::Muon { momentum, nesterov } => Box::new(Muon { momentum, nesterov, weight_decay }),
        }
    }

    /// Constants that must lie in [0, 1), by name.
    fn shares(&self) -> Vec<(&'static str, f64)> {
        match *self {
            Self::AdamW { beta1, beta2, .. } | Self::Adam { beta1, beta2, .. } | Self::NAdam { beta1, beta2, .. } => {
                vec![("beta1", beta1), ("beta2", beta2)]
            }
            Self::Sgd { momentum, .. } | Self::Muon { momentum, .. } => vec![("momentum", momentum)],
            Self::RmsProp { alpha, momentum, .. } => vec![("alpha", alpha), ("momentum", momentum)],
            Self::Adafactor { .. } => vec![],
        }
    }
}

impl GroupConfig {
    pub(crate) fn validate(&self, key: &str) -> Result<()> {
        let positive = |name: &str, value| number(&format!("{key}.{name}"), value, 0.0..=f64::MAX);
        positive("lr", self.lr)?;
        positive("weight_decay", self.weight_decay)?;
        positive("clip_norm", self.clip_norm)?;
        positive("clip_value", self.clip_value)?;
        self.lr_scale.iter().try_for_each(|s| positive("lr_scale.factor", s.factor))?;
        number(&format!("{key}.schedule.floor"), self.schedule.floor, 0.0..=1.0)?;
        for (name, share) in self.rule.shares() {
            number(&format!("{key}.rule.{name}"), share, 0.0..=0.999_999_999)?;
        }
        Ok(())
    }

    pub(crate) fn decays(&self, name: &str) -> bool {
        self.weight_decay > 0.0 && !fits_any(&self.no_decay, name)
    }

    pub(crate) fn scale_of(&self, name: &str) -> f64 {
        self.lr_scale.iter().find(|s| fits(&s.params, name)).map_or(1.0, |s| s.factor)
    }
}

/// Whether `name` fits a pattern in which `*` stands for any text and `?` for one character.
pub(crate) fn fits(pattern: &str, name: &str) -> bool {
    let (p, n): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut i, mut j, mut star) = (0, 0, None);
    while j < n.len() {
        match p.get(i) {
            Some('*') => {
                star = Some((i, j));
                i += 1;
            }
            Some(&c) if c == '?' || c == n[j] => {
                i += 1;
                j += 1;
            }
            // Let the last star take one character more.
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    i = at + 1;
                    j = taken + 1;
                }
                None => return false,
            },
        }
    }
    p[i..].iter().all(|&c| c == '*')
}

pub(crate) fn fits_any(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|p| fits(p, name))
}

/// The group of each parameter, by index into `names`.
///
/// # Errors
/// If a parameter is in no group or in two, or a group has none.
pub(crate) fn assign(
    groups: &BTreeMap<String, GroupConfig>,
    frozen: &[String],
    names: &[&str],
) -> Result<BTreeMap<String, Vec<usize>>> {
    let mut members: BTreeMap<String, Vec<usize>> = groups.keys().map(|g| (g.clone(), vec![])).collect();
    for (at, name) in names.iter().enumerate() {
        let takers = groups.iter().filter(|(_, g)| fits_any(&g.params, name)).map(|(group, _)| group.as_str());
        let takers: Vec<&str> = takers.chain(fits_any(frozen, name).then_some("(frozen)")).collect();
        let wrong = |what: String| Error::Parameter { name: name.to_string(), what };
        match takers[..] {
            [] => return Err(wrong("is in no group and not frozen".into())),
            ["(frozen)"] => {}
            [group] => members.entry(group.to_string()).or_default().push(at),
            _ => return Err(wrong(format!("is in more than one group: {}", takers.join(", ")))),
        }
    }
    match members.iter().find(|(_, of_group)| of_group.is_empty()) {
        Some((group, _)) => Err(Error::config(format!("groups.{group}.params"), "no parameter fits")),
        None => Ok(members),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_like_a_shell() {
        for (pattern, name, yes) in [
            ("*", "", true),
            ("*.bias", "a.b.bias", true),
            ("*.bias", "a.bias.x", false),
            ("h.?.w", "h.1.w", true),
            ("h.?.w", "h.12.w", false),
            ("*norm*weight", "x.norm.1.weight", true),
            ("a*b*c", "aXbYbZc", true),
            ("a*b*c", "aXc", false),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern, name), yes, "{pattern} {name}");
        }
    }

    fn groups(list: &[(&str, &str)]) -> BTreeMap<String, GroupConfig> {
        let group = |p: &str| GroupConfig { params: vec![p.into()], ..GroupConfig::default() };
        list.iter().map(|(name, p)| (name.to_string(), group(p))).collect()
    }

    #[test]
    fn every_parameter_has_exactly_one_group() {
        let names = ["d.w", "g.w", "teacher.w"];
        let frozen = ["teacher.*".to_string()];
        let found = assign(&groups(&[("disc", "d.*"), ("gen", "g.*")]), &frozen, &names).unwrap();
        assert_eq!(found, BTreeMap::from([("disc".into(), vec![0]), ("gen".into(), vec![1])]));
        let say = |g: &[(&str, &str)]| assign(&groups(g), &frozen, &names).unwrap_err().to_string();
        assert_eq!(say(&[("gen", "g.*")]), "parameter d.w: is in no group and not frozen");
        assert_eq!(say(&[("a", "?.*"), ("b", "g.*")]), "parameter g.w: is in more than one group: a, b");
        assert_eq!(say(&[("a", "*")]), "parameter teacher.w: is in more than one group: a, (frozen)");
        assert_eq!(say(&[("a", "?.*"), ("b", "z.*")]), "config: groups.b.params: no parameter fits");
    }
}
