//! What moving data costs: latency and bandwidth within a node, between nodes, and of a node's network ports together.

use super::transfers::Transfers;
use crate::cluster::{Cluster, ClusterError};
use crate::cost::Platform;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// A class of links: time = latency + bytes / rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Link {
    /// Seconds before the first byte arrives.
    pub latency: f64,
    /// Bytes per second in one direction.
    pub rate: f64,
}

/// The links of a cluster of equal nodes; node of a rank = rank / devices per node.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Links {
    /// Devices in a node.
    pub devices_per_node: usize,
    /// Between two devices of a node.
    pub within: Link,
    /// Between devices of two nodes, nobody else sending.
    pub between: Link,
    /// Bytes per second that all devices of a node together send to other nodes.
    pub node_rate: f64,
}

/// Volumes of a ring: what its slowest edge sees.
struct Ring {
    latency: f64,
    rate: f64,
}

impl Links {
    /// Eight devices over NVLink 3 with one 200 Gb/s port each: the nominal A100 node.
    pub fn a100() -> Self {
        let within = Link { latency: 5e-6, rate: 300e9 };
        Self { devices_per_node: 8, within, between: Link { latency: 10e-6, rate: 25e9 }, node_rate: 200e9 }
    }

    /// The links of machine group `index` of a cluster, at the rates that messages of 4 MiB reach.
    ///
    /// # Errors
    /// A group, device type or link class that does not exist.
    pub fn of(cluster: &Cluster, index: usize) -> Result<Self, ClusterError> {
        const BYTES: f64 = 4.0 * 1024.0 * 1024.0;
        let platform = Platform::of(cluster, index)?;
        let devices = f64::from(platform.node);
        let inner = platform.hop(1, BYTES);
        let within = match platform.node {
            0 | 1 => Link { latency: 0.0, rate: platform.memory_rate / 2.0 },
            _ => Link { latency: inner.latency_s, rate: inner.bytes_s },
        };
        if !platform.has_network() {
            return Ok(Self {
                devices_per_node: platform.node as usize,
                within,
                between: within,
                node_rate: within.rate,
            });
        }
        let shared = platform.hop(platform.node, BYTES);
        let adapters = cluster.machines.get(index).map_or(1.0, |group| f64::from(group.nics.max(1)));
        let node_rate = shared.bytes_s * devices;
        let between = Link { latency: shared.latency_s, rate: node_rate / adapters };
        Ok(Self { devices_per_node: platform.node as usize, within, between, node_rate })
    }

    /// Checks that all numbers are finite and positive.
    ///
    /// # Errors
    /// The name of the first number that is not.
    pub fn validate(&self) -> Result<(), &'static str> {
        let good = |x: f64| x.is_finite() && x > 0.0;
        match () {
            () if self.devices_per_node == 0 => Err("devices_per_node"),
            () if !(self.within.latency >= 0.0 && self.within.latency.is_finite()) => Err("within.latency"),
            () if !(self.between.latency >= 0.0 && self.between.latency.is_finite()) => Err("between.latency"),
            () if !good(self.within.rate) => Err("within.rate"),
            () if !good(self.between.rate) => Err("between.rate"),
            () if !good(self.node_rate) => Err("node_rate"),
            () => Ok(()),
        }
    }

    fn node(&self, rank: usize) -> usize {
        rank / self.devices_per_node.max(1)
    }

    /// Slowest edge when every group runs a ring at once: edges that leave a node share its ports.
    fn ring(&self, groups: &[Vec<usize>]) -> Ring {
        let mut leaving: HashMap<usize, usize> = HashMap::new();
        for group in groups {
            let next = group.iter().cycle().skip(1);
            for (&a, _) in group.iter().zip(next).filter(|(a, b)| self.node(**a) != self.node(**b)) {
                *leaving.entry(self.node(a)).or_insert(0) += 1;
            }
        }
        match leaving.values().max() {
            None => Ring { latency: self.within.latency, rate: self.within.rate },
            Some(&flows) => Ring {
                latency: self.between.latency,
                rate: self.between.rate.min(self.node_rate / flows as f64).min(self.within.rate),
            },
        }
    }

    /// Seconds of an all-gather or a reduce-scatter in every group at once; `bytes` = the whole gathered tensor of one
    /// group. Ring: n - 1 steps of bytes / n.
    pub fn gather_seconds(&self, groups: &[Vec<usize>], bytes: f64) -> f64 {
        let n = groups.first().map_or(1, Vec::len) as f64;
        let ring = self.ring(groups);
        (n - 1.0) * (ring.latency + bytes / n / ring.rate)
    }

    /// Seconds of an all-reduce in every group at once: the better of ring and tree.
    pub fn reduce_seconds(&self, groups: &[Vec<usize>], bytes: f64) -> f64 {
        let n = groups.first().map_or(1, Vec::len) as f64;
        let ring = self.ring(groups);
        let tree = 2.0 * n.log2().ceil() * ring.latency + 2.0 * bytes / ring.rate;
        if n > 1.0 { tree.min(2.0 * self.gather_seconds(groups, bytes)) } else { 0.0 }
    }

    /// Seconds of point-to-point messages, all started at once: the busiest sender, receiver or node decides.
    pub fn message_seconds(&self, transfers: &Transfers, item_bytes: f64) -> f64 {
        let mut ranks: HashMap<(usize, bool), [f64; 3]> = HashMap::new();
        let mut nodes: HashMap<(usize, bool), f64> = HashMap::new();
        for (&(from, to), &elements) in &transfers.volumes() {
            let bytes = elements as f64 * item_bytes;
            let (a, b) = (self.node(from), self.node(to));
            let far = a != b;
            for (rank, node, sends) in [(from, a, true), (to, b, false)] {
                let load = ranks.entry((rank, sends)).or_default();
                load[usize::from(far)] += bytes;
                load[2] += if far { self.between.latency } else { self.within.latency };
                if far {
                    *nodes.entry((node, sends)).or_default() += bytes;
                }
            }
        }
        let time = |load: &[f64; 3]| load[2] + (load[0] / self.within.rate).max(load[1] / self.between.rate);
        let busiest = ranks.values().map(time).fold(0.0, f64::max);
        let node = nodes.values().map(|bytes| bytes / self.node_rate).fold(0.0, f64::max);
        busiest.max(node)
    }
}
