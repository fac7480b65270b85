//! What the cost model sees of a machine group: rates reached, not nominal ones.

use crate::cluster::{Cluster, ClusterError, LinkClass, Wire};
use serde::{Deserialize, Serialize};

use super::collective::Group;

/// The constants that calibration moves. Each has a physical meaning and a range; nominal rates are no part of them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constants {
    /// Share of the matrix peak that a very large matrix product reaches.
    pub matrix: f64,
    /// Side of a matrix product at which that side alone halves the rate.
    pub half_size: f64,
    /// Share of the memory bandwidth that elementwise kernels reach.
    pub memory: f64,
    /// Factor on the reached bandwidth of links inside a machine.
    pub inner: f64,
    /// Factor on the reached bandwidth of the network.
    pub outer: f64,
    /// Seconds the host needs to launch one kernel.
    pub launch_s: f64,
    /// Slowdown of a collective that runs beside computation (1.1-1.3 measured by Galvatron).
    pub overlap_slowdown: f64,
}

/// A machine group as the cost model uses it.
#[derive(Clone, Debug, PartialEq)]
pub struct Platform {
    /// Name of the device type.
    pub device: String,
    /// Dense half-precision peak, FLOP/s.
    pub peak: f64,
    /// Single-precision peak of the vector units, FLOP/s; a sixteenth of the matrix peak where the description does not say.
    pub vector: f64,
    /// Memory of a device, bytes.
    pub memory: f64,
    /// Nominal memory bandwidth, bytes/s.
    pub memory_rate: f64,
    /// Constants.
    pub constants: Constants,
    /// Devices joined by the fast links.
    pub domain: u32,
    /// Devices of one machine.
    pub node: u32,
    /// Devices of the group.
    pub devices: u64,
    pub(crate) inner: LinkClass,
    pub(crate) bridge: Option<LinkClass>,
    pub(crate) nic: Option<LinkClass>,
    pub(crate) nics: u32,
}

impl Platform {
    /// The machine group `index` of `cluster`.
    ///
    /// # Errors
    /// A group, device type or link class that does not exist; several devices without a link between them.
    pub fn of(cluster: &Cluster, index: usize) -> Result<Self, ClusterError> {
        let missing = |field: &'static str| ClusterError::Missing { field, place: format!("machine group {index}") };
        let group = cluster.machines.get(index).ok_or_else(|| missing("the group"))?;
        let device = cluster.device_type(&group.device).ok_or_else(|| missing("the device type"))?;
        let link = |name: &Option<String>| name.as_deref().and_then(|n| cluster.link(n)).cloned();
        let inner = match link(&group.intra) {
            Some(l) => l,
            None if group.devices > 1 => return Err(missing("intra")),
            None => link(&group.nic).unwrap_or_else(|| no_link(group.device.clone())),
        };
        let e = &device.efficiency;
        Ok(Self {
            device: device.name.clone(),
            peak: device.half_flops(),
            vector: device.single_tflops.as_ref().map_or(device.half_flops() / 16.0, |s| s.value * 1e12),
            memory: device.memory_bytes(),
            memory_rate: device.memory_rate(),
            constants: Constants {
                matrix: e.matrix.value,
                half_size: e.half_size.value,
                memory: e.memory.value,
                inner: 1.0,
                outer: 1.0,
                launch_s: if device.kind == crate::cluster::DeviceKind::Cpu { 0.0 } else { LAUNCH_S },
                overlap_slowdown: OVERLAP_SLOWDOWN,
            },
            domain: group.domain.unwrap_or(group.devices).min(group.devices),
            node: group.devices,
            devices: u64::from(group.count) * u64::from(group.devices),
            inner,
            bridge: link(&group.bridge),
            nic: link(&group.nic),
            nics: group.nics,
        })
    }

    /// The same machines with other constants.
    pub fn with(&self, constants: Constants) -> Self {
        Self { constants, ..self.clone() }
    }

    /// Ranks that stand `stride` devices apart, `size` of them, devices numbered machine by machine; every other rank of
    /// the machines runs the same collective at the same time. `bytes` selects the protocol knee. Infinite time when
    /// machines have no network.
    pub fn group(&self, size: u32, stride: u32, bytes: f64) -> Group {
        let near_of = |inside: u32| (inside / stride).clamp(1, size);
        let node = near_of(self.node);
        let domain = near_of(self.domain);
        let inner = self.inside(size.min(domain), bytes / f64::from(size.max(1)));
        if size <= domain {
            return Group { near: f64::from(size), far: 1.0, inner, outer: inner };
        }
        if size <= node {
            let outer = self.bridge.as_ref().map_or(inner, |b| self.scaled(b.wire(bytes), self.constants.inner));
            return Group { near: f64::from(domain), far: f64::from(size.div_ceil(domain)), inner, outer };
        }
        let inner =
            if domain < node { self.bridge.as_ref().map_or(inner, |b| inner.worst(b.wire(bytes))) } else { inner };
        Group { near: f64::from(node), far: f64::from(size.div_ceil(node)), inner, outer: self.adapter(bytes) }
    }

    /// One rank's share of the machine's adapters while all its devices send.
    fn adapter(&self, bytes: f64) -> Wire {
        let Some(nic) = &self.nic else { return Wire { latency_s: f64::INFINITY, bytes_s: 1.0 } };
        let wire = self.scaled(nic.wire(bytes), self.constants.outer);
        let share = f64::from(self.nics) / f64::from(self.node);
        Wire { bytes_s: wire.bytes_s * share, ..wire }
    }

    /// Wire between neighbouring pipeline stages `distance` devices apart, every device sending.
    pub fn hop(&self, distance: u32, bytes: f64) -> Wire {
        if distance < self.domain {
            self.scaled(self.inner.pair_wire(bytes), self.constants.inner)
        } else if distance < self.node {
            let link = self.bridge.as_ref().unwrap_or(&self.inner);
            self.scaled(link.pair_wire(bytes), self.constants.inner)
        } else {
            self.adapter(bytes)
        }
    }

    /// Wire of one of `size` ranks that exchange messages of `bytes` inside a domain. Where devices are joined pair by pair,
    /// only the links to the other ranks of the group count.
    fn inside(&self, size: u32, bytes: f64) -> Wire {
        let (all, pair) = (self.inner.wire(bytes), self.inner.pair_wire(bytes));
        let reachable = pair.bytes_s * f64::from(size.max(2) - 1);
        self.scaled(Wire { bytes_s: all.bytes_s.min(reachable), ..all }, self.constants.inner)
    }

    /// Whether machines can talk to each other.
    pub fn has_network(&self) -> bool {
        self.nic.is_some() && self.nics > 0
    }

    fn scaled(&self, wire: Wire, factor: f64) -> Wire {
        Wire { bytes_s: wire.bytes_s * factor, ..wire }
    }
}

/// Launch of one kernel from an eager framework, seconds.
const LAUNCH_S: f64 = 4e-6;
/// Middle of the range Galvatron's documents give (1.1-1.3).
const OVERLAP_SLOWDOWN: f64 = 1.2;

fn no_link(name: String) -> LinkClass {
    use crate::cluster::{Confidence, LinkKind, Sourced};
    let none = |v: f64| Sourced::new(v, "a single device needs no link", Confidence::High);
    LinkClass {
        name,
        kind: LinkKind::Loc,
        gb_s: none(1.0),
        pair_gb_s: None,
        latency_us: none(0.0),
        reached: none(1.0),
        knees: Vec::new(),
    }
}
