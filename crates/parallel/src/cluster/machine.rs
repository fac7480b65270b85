//! Machines and the cluster they form.

use serde::{Deserialize, Serialize};

use super::device::DeviceType;
use super::link::{LinkClass, Wire};

/// Identical machines.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineGroup {
    /// Name of the group; one machine's host name when `count` is 1.
    pub name: String,
    /// Number of machines.
    pub count: u32,
    /// Name of the [`DeviceType`] of its devices.
    pub device: String,
    /// Devices of one machine.
    pub devices: u32,
    /// Link class between the devices of one machine (of one domain, where there are several). Not needed with one device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intra: Option<String>,
    /// Devices that `intra` joins, where a machine has several such domains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<u32>,
    /// Link class between the domains of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bridge: Option<String>,
    /// Network adapters of one machine; its devices share them.
    #[serde(default)]
    pub nics: u32,
    /// Link class of one adapter. Not needed in a cluster of one machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nic: Option<String>,
    /// Switch the machines hang on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch: Option<String>,
}

/// A switch of the network; the switches form a forest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// Name.
    pub name: String,
    /// The switch above, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<String>,
    /// Link class of the uplink, for all machines below together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// Machines, devices, links.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cluster {
    /// Form of the file; `chandlery-cluster/1`.
    pub format: String,
    /// Name.
    pub name: String,
    /// Catalogue of device types.
    pub device_types: Vec<DeviceType>,
    /// Catalogue of link classes.
    #[serde(default)]
    pub links: Vec<LinkClass>,
    /// Machines, by group of identical ones.
    pub machines: Vec<MachineGroup>,
    /// Switches; empty = one network without a bottleneck.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub switches: Vec<Switch>,
}

/// Where a device stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceAt {
    /// Index into [`Cluster::machines`].
    pub group: usize,
    /// Number of the machine, over all groups.
    pub machine: usize,
    /// Number of the device inside its machine.
    pub local: usize,
}

/// What joins two devices.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Route {
    /// The same device.
    Same,
    /// Inside one machine and domain.
    Intra,
    /// Inside one machine, between domains.
    Bridge,
    /// Between machines.
    Network,
}

impl Cluster {
    /// Devices of all machines.
    pub fn device_count(&self) -> usize {
        self.machines.iter().map(|g| g.count as usize * g.devices as usize).sum()
    }

    /// Machines of all groups.
    pub fn machine_count(&self) -> usize {
        self.machines.iter().map(|g| g.count as usize).sum()
    }

    /// Where device `id` stands; `None` beyond the last device.
    pub fn locate(&self, id: usize) -> Option<DeviceAt> {
        let (mut first, mut machine) = (0, 0);
        for (group, g) in self.machines.iter().enumerate() {
            let (count, per) = (g.count as usize, g.devices as usize);
            if id < first + count * per {
                let offset = id - first;
                return Some(DeviceAt { group, machine: machine + offset / per, local: offset % per });
            }
            first += count * per;
            machine += count;
        }
        None
    }

    /// The device type called `name`.
    pub fn device_type(&self, name: &str) -> Option<&DeviceType> {
        self.device_types.iter().find(|d| d.name == name)
    }

    /// The link class called `name`.
    pub fn link(&self, name: &str) -> Option<&LinkClass> {
        self.links.iter().find(|l| l.name == name)
    }

    /// What joins devices `a` and `b`; `None` when one of them does not exist.
    pub fn route(&self, a: usize, b: usize) -> Option<Route> {
        let (x, y) = (self.locate(a)?, self.locate(b)?);
        Some(match (a == b, x.machine == y.machine) {
            (true, _) => Route::Same,
            (false, false) => Route::Network,
            (false, true) => {
                let domain = self.machines[x.group].domain.unwrap_or(u32::MAX) as usize;
                if x.local / domain == y.local / domain { Route::Intra } else { Route::Bridge }
            }
        })
    }

    /// Latency and reached bandwidth of one message of `bytes` from `a` to `b`, while nothing else is sent; `None` when one
    /// of them does not exist or nothing joins them. A device reaches its own memory at half the memory bandwidth.
    pub fn wire(&self, a: usize, b: usize, bytes: f64) -> Option<Wire> {
        let (x, y) = (self.locate(a)?, self.locate(b)?);
        let (gx, gy) = (&self.machines[x.group], &self.machines[y.group]);
        let pair = |name: &Option<String>| Some(self.link(name.as_deref()?)?.pair_wire(bytes));
        match self.route(a, b)? {
            Route::Same => {
                let memory = self.device_type(&gx.device)?;
                let rate = memory.memory_rate() * memory.efficiency.memory.value / 2.0;
                Some(Wire { latency_s: 0.0, bytes_s: rate })
            }
            Route::Intra => pair(&gx.intra),
            Route::Bridge => pair(&gx.bridge),
            Route::Network => Some(pair(&gx.nic)?.worst(pair(&gy.nic)?)),
        }
    }
}
