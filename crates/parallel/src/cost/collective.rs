//! Times of collectives on wires with a latency and a bandwidth.
//!
//! `bytes` is the size of the whole buffer (of the result for an all-gather, of the input for a reduce-scatter). Sources:
//! Thakur et al. 2005 (ring, tree); hierarchical: reduce-scatter inside, all-reduce across, all-gather inside.

use crate::cluster::Wire;

/// Ring all-reduce: `2(n-1)` messages of `bytes/n`.
pub fn ring_all_reduce(n: f64, bytes: f64, wire: Wire) -> f64 {
    2.0 * ring_half(n, bytes, wire)
}

/// Ring all-gather or reduce-scatter: `n-1` messages of `bytes/n`.
pub fn ring_half(n: f64, bytes: f64, wire: Wire) -> f64 {
    if n <= 1.0 { 0.0 } else { (n - 1.0) * wire.time(bytes / n) }
}

/// Double-binary-tree all-reduce: `2 log2 n` hops, twice the bytes.
pub fn tree_all_reduce(n: f64, bytes: f64, wire: Wire) -> f64 {
    if n <= 1.0 { 0.0 } else { 2.0 * n.log2().ceil() * wire.latency_s + 2.0 * bytes / wire.bytes_s }
}

/// All-to-all: `n-1` messages of `bytes/n`, where `bytes` is what one rank holds.
pub fn all_to_all(n: f64, bytes: f64, wire: Wire) -> f64 {
    ring_half(n, bytes, wire)
}

/// Ranks of a group on several machines: how many stand together, on how many machines, and the wires between them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Group {
    /// Ranks of the group on one machine (one domain).
    pub near: f64,
    /// Machines (domains) the group spans.
    pub far: f64,
    /// Wire inside.
    pub inner: Wire,
    /// Wire of one rank across, while every rank of the machine sends: the adapters are shared.
    pub outer: Wire,
}

impl Group {
    /// Ranks of the group.
    pub fn size(&self) -> f64 {
        self.near * self.far
    }

    /// Bandwidth of one ring over the whole group: what crosses a machine's border uses the adapters of all its ranks in
    /// the group, so `near` rings run side by side.
    fn ring_wire(&self) -> Wire {
        if self.far <= 1.0 {
            return self.inner;
        }
        let rate = (self.outer.bytes_s * self.near).min(self.inner.bytes_s);
        let hops = self.size() - 1.0;
        let latency = if self.near <= 1.0 {
            self.outer.latency_s
        } else {
            let across = self.far - 1.0;
            (across * self.outer.latency_s + (hops - across) * self.inner.latency_s) / hops.max(1.0)
        };
        Wire { latency_s: latency, bytes_s: if self.near <= 1.0 { self.outer.bytes_s } else { rate } }
    }

    /// All-reduce by the fastest of ring, tree and the two-level way.
    pub fn all_reduce(&self, bytes: f64) -> f64 {
        let n = self.size();
        if n <= 1.0 {
            return 0.0;
        }
        let wire = self.ring_wire();
        let flat = ring_all_reduce(n, bytes, wire).min(tree_all_reduce(n, bytes, wire));
        if self.near <= 1.0 || self.far <= 1.0 { flat } else { flat.min(self.hierarchical_all_reduce(bytes)) }
    }

    /// Reduce-scatter inside, all-reduce of a share across, all-gather inside.
    pub fn hierarchical_all_reduce(&self, bytes: f64) -> f64 {
        let share = bytes / self.near;
        let across = ring_all_reduce(self.far, share, self.outer).min(tree_all_reduce(self.far, share, self.outer));
        2.0 * ring_half(self.near, bytes, self.inner) + across
    }

    /// All-gather or reduce-scatter.
    pub fn half(&self, bytes: f64) -> f64 {
        let n = self.size();
        if n <= 1.0 {
            return 0.0;
        }
        let flat = ring_half(n, bytes, self.ring_wire());
        if self.near <= 1.0 || self.far <= 1.0 {
            return flat;
        }
        flat.min(ring_half(self.near, bytes, self.inner) + ring_half(self.far, bytes / self.near, self.outer))
    }

    /// All-to-all of `bytes` held by each rank: what stays inside and what crosses run side by side.
    pub fn all_to_all(&self, bytes: f64) -> f64 {
        let n = self.size();
        if n <= 1.0 {
            return 0.0;
        }
        let inside = (self.near - 1.0).max(0.0) * self.inner.time(bytes / n);
        let across = (n - self.near) * bytes / n / self.outer.bytes_s + (self.far - 1.0) * self.outer.latency_s;
        inside.max(if self.far > 1.0 { across } else { 0.0 })
    }
}
