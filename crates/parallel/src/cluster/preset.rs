//! Published machines that come with the crate.

use super::error::ClusterError;
use super::machine::Cluster;

/// Name, and the name used by the tables of published measurements, and the file.
const PRESETS: [(&str, &str, &str); 13] = [
    ("a100", "a100-80-sxm-selene", include_str!("../../presets/clusters/a100.json")),
    ("a100-40", "a100-40-sxm-dgxa100", include_str!("../../presets/clusters/a100-40.json")),
    ("a100-jeanzay", "a100-80-sxm-jeanzay", include_str!("../../presets/clusters/a100-jeanzay.json")),
    ("ascend910", "ascend910-atlas800", include_str!("../../presets/clusters/ascend910.json")),
    ("h100", "h100-80-sxm-eos", include_str!("../../presets/clusters/h100.json")),
    ("h100-96", "h100-96-hbm2e-grand-teton", include_str!("../../presets/clusters/h100-96.json")),
    ("h200", "h200-141-sxm", include_str!("../../presets/clusters/h200.json")),
    ("this-cpu", "this-cpu", include_str!("../../presets/clusters/this-cpu.json")),
    ("v100-16-dgx1", "v100-16-sxm-dgx1", include_str!("../../presets/clusters/v100-16-dgx1.json")),
    ("v100-dgx1", "v100-32-sxm-dgx1", include_str!("../../presets/clusters/v100-dgx1.json")),
    ("v100-dgx2", "v100-32-sxm-dgx2", include_str!("../../presets/clusters/v100-dgx2.json")),
    ("v100-p3", "v100-16-sxm-p3.16xlarge", include_str!("../../presets/clusters/v100-p3.json")),
    ("v100-paddle", "v100-32-sxm-paddle-node", include_str!("../../presets/clusters/v100-paddle.json")),
];

/// Names of the presets of one machine; `-N` behind a name makes a cluster of N devices.
pub fn preset_names() -> Vec<&'static str> {
    PRESETS.iter().map(|p| p.0).collect()
}

impl Cluster {
    /// A preset: a machine (`a100`), its hardware key (`a100-80-sxm-selene`), or a cluster of N devices in such machines
    /// (`a100-1024`).
    ///
    /// # Errors
    /// A name that is not known, or a number of devices that does not fill machines.
    pub fn preset(name: &str) -> Result<Self, ClusterError> {
        let lookup = |n: &str| PRESETS.iter().find(|p| p.0 == n || p.1 == n);
        if let Some(found) = lookup(name) {
            return Self::from_json(found.2);
        }
        let split = name.rsplit_once('-').and_then(|(base, n)| Some((lookup(base)?, n.parse::<u64>().ok()?)));
        let Some((found, devices)) = split else {
            let known = format!("{} (with -N for N devices)", preset_names().join(", "));
            return Err(ClusterError::Unknown {
                what: "cluster preset",
                name: name.into(),
                place: "presets".into(),
                known,
            });
        };
        let mut cluster = Self::from_json(found.2)?.with_devices(devices)?;
        cluster.name = name.into();
        Ok(cluster)
    }

    /// The first machine group with as many machines as `devices` devices fill, or one machine with fewer devices.
    ///
    /// # Errors
    /// A number that does not fill machines, zero, or too many.
    pub fn with_devices(mut self, devices: u64) -> Result<Self, ClusterError> {
        let name = self.name.clone();
        let Some(group) = self.machines.first_mut() else { return Err(ClusterError::Empty(name)) };
        let per = u64::from(group.devices);
        if devices == 0 {
            return Err(ClusterError::Empty(name));
        }
        if devices < per {
            group.devices = devices as u32;
            group.domain = group.domain.filter(|d| devices.is_multiple_of(u64::from(*d)));
            group.nics = group.nics.min(devices as u32).max(group.nics.min(1));
            group.count = 1;
        } else if devices.is_multiple_of(per) {
            let too_many = ClusterError::TooMany { name, devices, max: super::parse::MAX_DEVICES };
            group.count = u32::try_from(devices / per).map_err(|_| too_many)?;
        } else {
            let what = format!("{devices} devices do not fill machines of {per}; try {}", devices / per * per);
            return Err(ClusterError::Contradiction { place: format!("cluster `{name}`"), what });
        }
        self.machines.truncate(1);
        self.check()?;
        Ok(self)
    }
}
