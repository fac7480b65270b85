//! From what was measured on a machine to its description.
//!
//! This crate knows no tensor and no engine: whoever does measures ([`Readings`]), and here the constants of the cost model are
//! fitted to the readings. Every number of the resulting cluster says from what it was fitted and how far the fit is off.

use super::least_squares;
use crate::cluster::{
    Cluster, ClusterError, DeviceKind, DeviceType, Efficiency, FORMAT, LinkClass, LinkKind, MachineGroup, Sourced, Wire,
};
use crate::cost::VECTOR_OPS;
use crate::cost::collective::ring_all_reduce;

/// One matrix product `[m, k]` by `[k, n]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    /// Rows.
    pub m: f64,
    /// Columns.
    pub n: f64,
    /// Length of each sum.
    pub k: f64,
    /// Seconds it took on one rank while all ranks did the same.
    pub seconds: f64,
}

/// Bytes moved and seconds taken, on one rank while all ranks did the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moved {
    /// Bytes read and written.
    pub bytes: f64,
    /// Seconds.
    pub seconds: f64,
}

/// What was measured on one machine whose cores are shared by `ranks` ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Readings {
    /// Name of the device type, such as `this-cpu`.
    pub name: String,
    /// Ranks.
    pub ranks: u32,
    /// What computed, for the sources of the numbers.
    pub kernels: String,
    /// Matrix products of several sizes.
    pub products: Vec<Product>,
    /// A stream over arrays far larger than the caches.
    pub stream: Moved,
    /// Elementwise kernels, with the bytes that their operands hold.
    pub elementwise: Vec<Moved>,
    /// What the ranks spoke through, for the sources of the numbers.
    pub engine: String,
    /// All-reduces over all ranks: bytes of the buffer, seconds; empty with one rank.
    pub all_reduce: Vec<Moved>,
    /// Memory of the machine in bytes.
    pub memory: f64,
}

impl Readings {
    /// A cluster of this one machine, a device a rank, every number with how it was measured.
    ///
    /// # Errors
    /// `Missing` readings; fitted numbers outside the range a cluster accepts.
    pub fn to_cluster(&self) -> Result<Cluster, ClusterError> {
        let missing = |field: &'static str| ClusterError::Missing { field, place: "readings".into() };
        let positive = |values: &[f64]| values.iter().all(|v| v.is_finite() && *v > 0.0);
        if self.ranks == 0 {
            return Err(missing("ranks"));
        }
        if self.products.is_empty() || !self.products.iter().all(|p| positive(&[p.m, p.n, p.k, p.seconds])) {
            return Err(missing("products"));
        }
        let moved = self.elementwise.iter().chain(&self.all_reduce).chain([&self.stream]);
        if self.elementwise.is_empty() || !moved.clone().all(|m| positive(&[m.bytes, m.seconds])) {
            return Err(missing("elementwise kernels and streams"));
        }
        if self.ranks > 1 && self.all_reduce.is_empty() {
            return Err(missing("all_reduce"));
        }
        let device = self.device();
        let links = if self.ranks > 1 { vec![self.link()] } else { Vec::new() };
        let machine = MachineGroup {
            name: "this-machine".into(),
            count: 1,
            device: device.name.clone(),
            devices: self.ranks,
            intra: links.first().map(|l| l.name.clone()),
            domain: None,
            bridge: None,
            nics: 0,
            nic: None,
            switch: None,
        };
        let cluster = Cluster {
            format: FORMAT.into(),
            name: self.name.clone(),
            device_types: vec![device],
            links,
            machines: vec![machine],
            switches: Vec::new(),
        };
        cluster.check().map(|()| cluster)
    }

    fn device(&self) -> DeviceType {
        let n = f64::from(self.ranks);
        let how = |value: f64, how: String| Sourced::measured(value, format!("probe: {how}"));
        let (peak, half, off) = saturation(&self.products);
        let sides = self.products.iter().flat_map(|p| [p.m, p.n, p.k]);
        let (least, most) = sides.fold((f64::INFINITY, 0.0f64), |(a, b), s| (a.min(s), b.max(s)));
        let products = format!(
            "{} products with sides {least} to {most} by {} on each of {} ranks at once; the fit is off by {:.0} % in the mean",
            self.products.len(),
            self.kernels,
            self.ranks,
            100.0 * off
        );
        let rate = self.stream.bytes / self.stream.seconds;
        let reached = elementwise_share(&self.elementwise, rate, peak);
        DeviceType {
            name: self.name.clone(),
            kind: DeviceKind::Cpu,
            half_tflops: how(peak / 1e12, format!("rate of a very large product, extrapolated from {products}")),
            single_tflops: Some(how(
                peak / 1e12,
                "as half precision: the processor computes in single precision".into(),
            )),
            double_tflops: None,
            memory_gib: how(self.memory / n / (1u64 << 30) as f64, "memory of the machine over its ranks".into()),
            memory_gb_s: how(
                rate / 1e9,
                format!("stream over {:.0} MB on each of {} ranks at once", self.stream.bytes / 1e6, self.ranks),
            ),
            efficiency: Efficiency {
                matrix: how(1.0, "the peak above is a reached one".into()),
                half_size: how(half, format!("side at which a product loses half its rate, from the same {products}")),
                memory: how(
                    reached,
                    format!("{} elementwise kernels, their arithmetic taken off", self.elementwise.len()),
                ),
            },
            failures_per_hour: None,
            price_per_hour: None,
        }
    }

    fn link(&self) -> LinkClass {
        let how = |value: f64, how: String| Sourced::measured(value, format!("probe: {how}"));
        let (latency, rate, off) = ring(f64::from(self.ranks), &self.all_reduce);
        let largest = self.all_reduce.iter().map(|m| m.bytes).fold(0.0, f64::max);
        let source = format!(
            "all-reduce of up to {:.0} MB over {} ranks through {}, read as a ring; the fit is off by {:.0} % in the mean",
            largest / 1e6,
            self.ranks,
            self.engine,
            100.0 * off
        );
        LinkClass {
            name: "between-ranks".into(),
            kind: LinkKind::Sys,
            gb_s: how(rate / 1e9, source.clone()),
            pair_gb_s: None,
            latency_us: how(latency * 1e6, source),
            reached: how(1.0, "the bandwidth above is a reached one".into()),
            knees: Vec::new(),
        }
    }
}

/// Peak rate, half-rate side and mean error of `rate = peak * prod(x / (x + half))` over the sides x of the products; least
/// squares in logarithms, so that small products count as much as large ones.
fn saturation(products: &[Product]) -> (f64, f64, f64) {
    let rate = |p: &Product| 2.0 * p.m * p.n * p.k / p.seconds;
    let form = |p: &Product, x: &[f64]| {
        let half = x[1].exp();
        x[0] + [p.m, p.n, p.k].iter().map(|side| (side / (side + half)).ln()).sum::<f64>()
    };
    let best = products.iter().map(rate).fold(0.0, f64::max);
    // A weak hold near 8 keeps the half-rate side finite where all products run alike.
    let residuals = |x: &[f64]| -> Vec<f64> {
        let rows = products.iter().map(|p| form(p, x) - rate(p).ln());
        rows.chain([0.05 * (x[1] - 8f64.ln())]).collect()
    };
    let x = least_squares(&[best.ln(), 8f64.ln()], residuals);
    let off = products.iter().map(|p| ((form(p, &x) - rate(p).ln()).exp() - 1.0).abs()).sum::<f64>();
    (x[0].exp(), x[1].exp(), off / products.len() as f64)
}

/// Share of the stream's rate that elementwise kernels reach beside their arithmetic, which runs at `vector` FLOP/s; kernels
/// that do better than the stream (their operands stay in a cache) count as 1.
fn elementwise_share(kernels: &[Moved], rate: f64, vector: f64) -> f64 {
    let share = |m: &Moved| {
        // Half as many operations a byte as in half precision, in which the constant is stated.
        let arithmetic = VECTOR_OPS / 2.0 * m.bytes / vector;
        let moving = (m.seconds - arithmetic).max(0.05 * m.seconds);
        (m.bytes / moving / rate).ln()
    };
    let mean = kernels.iter().map(share).sum::<f64>() / kernels.len() as f64;
    mean.exp().clamp(0.01, 1.0)
}

/// Latency, bandwidth and mean error of a ring all-reduce over `n` ranks; least squares in logarithms.
fn ring(n: f64, readings: &[Moved]) -> (f64, f64, f64) {
    let form = |m: &Moved, x: &[f64]| {
        let wire = Wire { latency_s: x[0].exp(), bytes_s: x[1].exp() };
        ring_all_reduce(n, m.bytes, wire).ln()
    };
    let short = readings.iter().map(|m| m.seconds).fold(f64::INFINITY, f64::min) / (2.0 * (n - 1.0));
    let fast = readings.iter().map(|m| 2.0 * (n - 1.0) / n * m.bytes / m.seconds).fold(0.0, f64::max);
    let residuals = |x: &[f64]| -> Vec<f64> { readings.iter().map(|m| form(m, x) - m.seconds.ln()).collect() };
    let x = least_squares(&[short.ln(), fast.ln()], residuals);
    let off = readings.iter().map(|m| ((form(m, &x) - m.seconds.ln()).exp() - 1.0).abs()).sum::<f64>();
    (x[0].exp(), x[1].exp(), off / readings.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn readings(ranks: u32) -> Readings {
        let product = |side: f64| {
            let rate = 50e9 * (side / (side + 20.0)).powi(3);
            Product { m: side, n: side, k: side, seconds: 2.0 * side.powi(3) / rate }
        };
        let wire = Wire { latency_s: 5e-6, bytes_s: 4e9 };
        let reduce = |bytes: f64| Moved { bytes, seconds: ring_all_reduce(f64::from(ranks), bytes, wire) };
        let moved = |share: f64| Moved { bytes: 1e8, seconds: 1e8 / (10e9 * share) + VECTOR_OPS / 2.0 * 1e8 / 50e9 };
        Readings {
            name: "this-cpu".into(),
            ranks,
            kernels: "test".into(),
            products: [32.0, 128.0, 512.0].map(product).to_vec(),
            stream: Moved { bytes: 1e8, seconds: 1e-2 },
            elementwise: vec![moved(0.5), moved(0.5)],
            engine: "test".into(),
            all_reduce: if ranks > 1 { [1e3, 1e6, 1e8].map(reduce).to_vec() } else { Vec::new() },
            memory: (8u64 << 30) as f64,
        }
    }

    #[test]
    fn constants_that_made_the_readings_are_found_again() {
        let cluster = readings(4).to_cluster().expect("cluster");
        let (device, link) = (&cluster.device_types[0], &cluster.links[0]);
        let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.02, "{got} instead of {want}");
        near(device.half_tflops.value, 0.05);
        near(device.efficiency.half_size.value, 20.0);
        near(device.efficiency.memory.value, 0.5);
        near(device.memory_gb_s.value, 10.0);
        near(device.memory_gib.value, 2.0);
        near(link.gb_s.value, 4.0);
        near(link.latency_us.value, 5.0);
        assert!(device.half_tflops.source.contains("off by"), "{}", device.half_tflops.source);
        let text = cluster.to_json().expect("json");
        assert_eq!(Cluster::from_json(&text).expect("its own file").device_count(), 4);
    }

    #[test]
    fn one_rank_needs_no_link_and_several_need_one() {
        assert!(readings(1).to_cluster().expect("cluster").links.is_empty());
        let silent = Readings { all_reduce: Vec::new(), ..readings(2) };
        assert!(silent.to_cluster().expect_err("no link").to_string().contains("all_reduce"));
    }

    #[test]
    fn readings_that_are_no_numbers_are_refused() {
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let mut bad = readings(2);
            bad.products[1].seconds = seconds;
            assert!(bad.to_cluster().is_err(), "{seconds}");
            let bad = Readings { stream: Moved { bytes: 1e6, seconds }, ..readings(2) };
            assert!(bad.to_cluster().is_err(), "{seconds}");
        }
        assert!(Readings { ranks: 0, ..readings(2) }.to_cluster().is_err());
    }
}
