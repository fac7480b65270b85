//! NaN, infinities and spikes.

use crate::config::GuardConfig;
use crate::{Error, Policy};
use serde::{Deserialize, Serialize};

/// The last values of one quantity.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Window {
    values: Vec<f64>,
    next: usize,
}

impl Window {
    /// Distance of `value` from the mean of a full window in standard deviations, then takes it in. A spike is taken in
    /// too, so that a lasting change of level is accepted after a while (as llm.c does).
    fn z(&mut self, value: f64, size: usize) -> f64 {
        if self.values.len() < size {
            self.values.push(value);
            return 0.0;
        }
        let n = self.values.len() as f64;
        let mean = self.values.iter().sum::<f64>() / n;
        let variance = self.values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
        self.values[self.next] = value;
        self.next = (self.next + 1) % self.values.len();
        let z = (value - mean) / variance.sqrt();
        if z.is_finite() { z } else { 0.0 }
    }
}

/// Recent losses and gradient norms of one parameter group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guard {
    loss: Window,
    norm: Window,
}

impl Guard {
    /// `None` where all is well, else what to do and why.
    pub fn judge(
        &mut self,
        config: &GuardConfig,
        (step, group): (u64, &str),
        loss: f64,
        norm: f64,
    ) -> Option<(Policy, Error)> {
        let values = [("loss", loss), ("gradient norm", norm)];
        if let Some((what, value)) = values.into_iter().find(|(_, v)| !v.is_finite()) {
            let error = Error::NotFinite { step, group: group.into(), what: what.into(), value };
            return Some((config.not_finite, error));
        }
        if config.spike_z <= 0.0 {
            return None;
        }
        let z = [self.loss.z(loss, config.window), self.norm.z(norm, config.window)];
        let at = z.iter().position(|z| *z > config.spike_z)?;
        let (what, value) = values[at];
        Some((config.spike, Error::Spike { step, group: group.into(), what, value, z: z[at] }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> GuardConfig {
        GuardConfig { spike_z: 4.0, window: 8, ..GuardConfig::default() }
    }

    fn quiet(guard: &mut Guard, steps: u64) {
        for s in 0..steps {
            let wobble = 0.01 * (s % 3) as f64;
            assert!(guard.judge(&config(), (s, "g"), 1.0 + wobble, 2.0 - wobble).is_none());
        }
    }

    #[test]
    fn spike_is_seen_only_above_and_only_with_a_full_window() {
        let mut guard = Guard::default();
        quiet(&mut guard, 7);
        assert!(guard.clone().judge(&config(), (7, "g"), 100.0, 2.0).is_none(), "window not full");
        quiet(&mut guard, 3);
        assert!(guard.clone().judge(&config(), (10, "g"), 0.0, 0.0).is_none(), "a fall is welcome");
        let (policy, error) = guard.judge(&config(), (10, "g"), 1.0, 100.0).unwrap();
        assert_eq!(policy, Policy::Skip);
        assert!(matches!(error, Error::Spike { step: 10, what: "gradient norm", .. }), "{error}");
    }

    #[test]
    fn nan_and_infinity_are_reported_and_not_remembered() {
        let mut guard = Guard::default();
        quiet(&mut guard, 10);
        let before = guard.clone();
        for bad in [f64::NAN, f64::INFINITY] {
            let (policy, error) = guard.judge(&config(), (10, "g"), 1.0, bad).unwrap();
            assert_eq!(policy, Policy::Stop);
            assert!(error.to_string().contains("step 10, group g: gradient norm is"), "{error}");
        }
        assert_eq!(guard, before);
    }

    #[test]
    fn lasting_change_of_level_is_accepted() {
        let mut guard = Guard::default();
        quiet(&mut guard, 10);
        let spikes = (0..20).filter(|&s| guard.judge(&config(), (s, "g"), 5.0 + 0.01 * (s % 3) as f64, 2.0).is_some());
        assert!(spikes.count() < 4);
    }
}
