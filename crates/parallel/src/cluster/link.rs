//! Link classes: latency, bandwidth and protocol knees.

use serde::{Deserialize, Serialize};

use super::sourced::Sourced;

/// The link types PaddlePaddle's files name, in the order of `nvidia-smi topo`, and the processor groups of Ascend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum LinkKind {
    /// A device with itself (its memory).
    Loc,
    /// Across the processor interconnect.
    Sys,
    /// Through a host bridge.
    Phb,
    /// Through one PCIe switch.
    Pix,
    /// Through several PCIe switches.
    Pib,
    /// Direct NVLink or an NVLink switch.
    Nvl,
    /// NVLink through a neighbour.
    Nvb,
    /// Ascend's link inside a group of four.
    Hccs,
    /// A network between machines.
    Net,
}

/// From a message size on, other constants hold (eager and rendezvous protocols, for example).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Knee {
    /// Smallest message, in bytes, to which these constants apply.
    pub from_bytes: f64,
    /// Latency of a message, microseconds.
    pub latency_us: Sourced,
    /// Bandwidth in one direction, GB/s.
    pub gb_s: Sourced,
}

/// One class of link, as seen by one device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkClass {
    /// Name by which machine groups refer to it.
    pub name: String,
    /// Kind.
    pub kind: LinkKind,
    /// Nominal bandwidth of one device in one direction, all its links together, GB/s (of one network adapter for `NET`).
    pub gb_s: Sourced,
    /// Nominal bandwidth between two particular devices where it is lower than `gb_s` (a mesh instead of a switch), GB/s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pair_gb_s: Option<Sourced>,
    /// Latency of one message, microseconds.
    pub latency_us: Sourced,
    /// Share of the nominal bandwidth that long messages reach, 0..=1.
    pub reached: Sourced,
    /// Protocol knees by ascending size; below the first, the constants above hold. Bandwidths here are reached, not nominal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub knees: Vec<Knee>,
}

/// Latency and reached bandwidth of a path, in SI units.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wire {
    /// Seconds for an empty message.
    pub latency_s: f64,
    /// Bytes per second in one direction.
    pub bytes_s: f64,
}

impl Wire {
    /// Seconds for a message of `bytes`.
    pub fn time(&self, bytes: f64) -> f64 {
        self.latency_s + bytes / self.bytes_s
    }

    /// The slower of two wires in each constant.
    pub fn worst(self, other: Self) -> Self {
        Self { latency_s: self.latency_s.max(other.latency_s), bytes_s: self.bytes_s.min(other.bytes_s) }
    }
}

impl LinkClass {
    /// Constants for collective traffic in messages of `bytes`: all links of the device work together.
    pub fn wire(&self, bytes: f64) -> Wire {
        self.at(bytes, self.gb_s.value)
    }

    /// Constants for one message of `bytes` between two devices.
    pub fn pair_wire(&self, bytes: f64) -> Wire {
        self.at(bytes, self.pair_gb_s.as_ref().map_or(self.gb_s.value, |p| p.value))
    }

    fn at(&self, bytes: f64, nominal_gb_s: f64) -> Wire {
        match self.knees.iter().rev().find(|k| bytes >= k.from_bytes) {
            Some(k) => Wire { latency_s: k.latency_us.value * 1e-6, bytes_s: k.gb_s.value * 1e9 },
            None => Wire { latency_s: self.latency_us.value * 1e-6, bytes_s: nominal_gb_s * self.reached.value * 1e9 },
        }
    }
}
