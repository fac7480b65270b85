//! Reading and checking a cluster description.

use serde_json::Value;

use super::device::DeviceType;
use super::error::ClusterError;
use super::link::LinkClass;
use super::machine::{Cluster, MachineGroup};
use super::paddle;
use super::sourced::Sourced;

/// Form of the native file.
pub const FORMAT: &str = "chandlery-cluster/1";
/// Most devices a cluster may have; far above anything built.
pub const MAX_DEVICES: u64 = 1 << 24;

impl Cluster {
    /// Reads a cluster: the native form, or a file of PaddlePaddle's planner (`machines` without `format`, or a map of
    /// mesh groups).
    ///
    /// # Errors
    /// Anything that is missing, unknown, out of range, duplicate or contradictory, by name; see [`ClusterError`].
    pub fn from_json(text: &str) -> Result<Self, ClusterError> {
        let value: Value = serde_json::from_str(text).map_err(|e| ClusterError::Parse(e.to_string()))?;
        let cluster = match value.get("format") {
            Some(Value::String(f)) if f == FORMAT => {
                serde_json::from_value(value).map_err(|e| ClusterError::Parse(e.to_string()))?
            }
            Some(other) => return Err(ClusterError::Parse(format!("format is {other}; expected \"{FORMAT}\""))),
            None => paddle::read(&value)?,
        };
        cluster.check()?;
        Ok(cluster)
    }

    /// The native form.
    ///
    /// # Errors
    /// A number that JSON cannot hold.
    pub fn to_json(&self) -> Result<String, ClusterError> {
        serde_json::to_string_pretty(self).map_err(|e| ClusterError::Parse(e.to_string()))
    }

    /// Checks every name, number and reference.
    ///
    /// # Errors
    /// The first fault found.
    pub fn check(&self) -> Result<(), ClusterError> {
        unique("device type", self.device_types.iter().map(|d| &d.name))?;
        unique("link class", self.links.iter().map(|l| &l.name))?;
        unique("machine group", self.machines.iter().map(|m| &m.name))?;
        unique("switch", self.switches.iter().map(|s| &s.name))?;
        self.device_types.iter().try_for_each(device)?;
        self.links.iter().try_for_each(link)?;
        self.machines.iter().try_for_each(|m| self.machine(m))?;
        self.uplinks()?;
        self.count()
    }

    fn count(&self) -> Result<(), ClusterError> {
        let of = |m: &MachineGroup| u64::from(m.count) * u64::from(m.devices);
        let devices = self.machines.iter().fold(0u64, |sum, m| sum.saturating_add(of(m)));
        match devices {
            0 => Err(ClusterError::Empty(self.name.clone())),
            _ if devices > MAX_DEVICES => {
                Err(ClusterError::TooMany { name: self.name.clone(), devices, max: MAX_DEVICES })
            }
            _ => Ok(()),
        }
    }

    fn machine(&self, m: &MachineGroup) -> Result<(), ClusterError> {
        let place = || format!("machine group `{}`", m.name);
        if self.device_type(&m.device).is_none() {
            let known = names(self.device_types.iter().map(|d| &d.name));
            return Err(ClusterError::Unknown { what: "device type", name: m.device.clone(), place: place(), known });
        }
        for name in [&m.intra, &m.bridge, &m.nic].into_iter().flatten() {
            self.known_link(name, place())?;
        }
        if let Some(switch) = m.switch.as_ref().filter(|s| !self.switches.iter().any(|k| &k.name == *s)) {
            let known = names(self.switches.iter().map(|s| &s.name));
            return Err(ClusterError::Unknown { what: "switch", name: switch.clone(), place: place(), known });
        }
        let missing = |field: &'static str| Err(ClusterError::Missing { field, place: place() });
        if m.devices > 1 && m.intra.is_none() {
            return missing("intra");
        }
        if self.machines.iter().map(|g| u64::from(g.count)).sum::<u64>() > 1 && (m.nic.is_none() || m.nics == 0) {
            return missing("nic (a cluster of several machines needs a network)");
        }
        self.domains(m, place())
    }

    fn domains(&self, m: &MachineGroup, place: String) -> Result<(), ClusterError> {
        let Some(domain) = m.domain else { return Ok(()) };
        if domain == 0 || !m.devices.is_multiple_of(domain) {
            let what = format!("domains of {domain} devices do not divide {} devices", m.devices);
            return Err(ClusterError::Contradiction { place, what });
        }
        if domain < m.devices && m.bridge.is_none() {
            return Err(ClusterError::Missing { field: "bridge", place });
        }
        Ok(())
    }

    fn known_link(&self, name: &str, place: String) -> Result<(), ClusterError> {
        if self.link(name).is_some() {
            return Ok(());
        }
        let known = names(self.links.iter().map(|l| &l.name));
        Err(ClusterError::Unknown { what: "link class", name: name.into(), place, known })
    }

    /// Every uplink exists, and following them ends.
    fn uplinks(&self) -> Result<(), ClusterError> {
        for switch in &self.switches {
            let mut seen = vec![&switch.name];
            let mut at = switch;
            if let Some(name) = &switch.link {
                self.known_link(name, format!("switch `{}`", switch.name))?;
            }
            while let Some(up) = &at.uplink {
                let Some(next) = self.switches.iter().find(|s| &s.name == up) else {
                    let known = names(self.switches.iter().map(|s| &s.name));
                    let place = format!("switch `{}`", at.name);
                    return Err(ClusterError::Unknown { what: "switch", name: up.clone(), place, known });
                };
                if seen.contains(&&next.name) {
                    let path: Vec<&str> = seen.iter().map(|s| s.as_str()).chain([next.name.as_str()]).collect();
                    return Err(ClusterError::Cycle(path.join(" -> ")));
                }
                seen.push(&next.name);
                at = next;
            }
        }
        Ok(())
    }
}

fn device(d: &DeviceType) -> Result<(), ClusterError> {
    let place = || format!("device type `{}`", d.name);
    let positive = [
        ("half_tflops", Some(&d.half_tflops)),
        ("single_tflops", d.single_tflops.as_ref()),
        ("double_tflops", d.double_tflops.as_ref()),
        ("memory_gib", Some(&d.memory_gib)),
        ("memory_gb_s", Some(&d.memory_gb_s)),
    ];
    for (field, value) in positive {
        range(field, value, &place, |v| v > 0.0 && v <= 1e9, "above 0, at most 10^9")?;
    }
    for (field, value) in [("efficiency.matrix", &d.efficiency.matrix), ("efficiency.memory", &d.efficiency.memory)] {
        range(field, Some(value), &place, |v| v > 0.0 && v <= 1.0, "above 0, at most 1")?;
    }
    let half = Some(&d.efficiency.half_size);
    range("efficiency.half_size", half, &place, |v| (0.0..=1e6).contains(&v), "0 to 10^6")?;
    range("failures_per_hour", d.failures_per_hour.as_ref(), &place, |v| (0.0..=1e6).contains(&v), "0 to 10^6")?;
    range("price_per_hour", d.price_per_hour.as_ref(), &place, |v| (0.0..=1e9).contains(&v), "0 to 10^9")
}

fn link(l: &LinkClass) -> Result<(), ClusterError> {
    let place = || format!("link class `{}`", l.name);
    let rate = |v: f64| v > 0.0 && v <= 1e9;
    let latency = |v: f64| (0.0..=1e9).contains(&v);
    range("gb_s", Some(&l.gb_s), &place, rate, "above 0, at most 10^9")?;
    range("pair_gb_s", l.pair_gb_s.as_ref(), &place, rate, "above 0, at most 10^9")?;
    range("latency_us", Some(&l.latency_us), &place, latency, "0 to 10^9")?;
    range("reached", Some(&l.reached), &place, |v| v > 0.0 && v <= 1.0, "above 0, at most 1")?;
    let mut from = 0.0;
    for knee in &l.knees {
        range("knee gb_s", Some(&knee.gb_s), &place, rate, "above 0, at most 10^9")?;
        range("knee latency_us", Some(&knee.latency_us), &place, latency, "0 to 10^9")?;
        if !knee.from_bytes.is_finite() || knee.from_bytes <= from {
            let what = format!("knees must ascend from above 0; {} follows {from}", knee.from_bytes);
            return Err(ClusterError::Contradiction { place: place(), what });
        }
        from = knee.from_bytes;
    }
    Ok(())
}

fn range(
    field: &'static str,
    number: Option<&Sourced>,
    place: &impl Fn() -> String,
    good: impl Fn(f64) -> bool,
    expected: &'static str,
) -> Result<(), ClusterError> {
    match number {
        Some(n) if !good(n.value) => Err(ClusterError::OutOfRange { field, place: place(), value: n.value, expected }),
        _ => Ok(()),
    }
}

fn unique<'a>(what: &'static str, names: impl Iterator<Item = &'a String>) -> Result<(), ClusterError> {
    let mut seen = std::collections::BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return Err(ClusterError::Duplicate { what, id: name.clone() });
        }
    }
    Ok(())
}

/// Names for an error message.
pub(super) fn names<'a>(list: impl Iterator<Item = &'a String>) -> String {
    list.map(String::as_str).collect::<Vec<_>>().join(", ")
}
