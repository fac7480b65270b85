//! Sums that become means.

use std::collections::BTreeMap;

/// Measurements of an evaluation by name: each is a sum and the number of things summed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meters(BTreeMap<String, (f64, f64)>);

impl Meters {
    /// Adds a sum over `count` things (tokens, examples).
    pub fn add(&mut self, name: &str, sum: f64, count: usize) {
        let (total, n) = self.0.entry(name.to_string()).or_default();
        *total += sum;
        *n += count as f64;
    }

    /// The mean of one measurement; `None` before the first value.
    pub fn mean(&self, name: &str) -> Option<f64> {
        self.0.get(name).filter(|(_, n)| *n > 0.0).map(|(sum, n)| sum / n)
    }

    /// All means, in order of name.
    pub fn means(&self) -> BTreeMap<String, f64> {
        self.0.keys().filter_map(|name| Some((name.clone(), self.mean(name)?))).collect()
    }
}
