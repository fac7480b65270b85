//! `cluster probe`: what the machine it runs on can do.

use std::hint::black_box;
use std::time::Instant;

use crate::cluster::{
    Cluster, ClusterError, DeviceKind, DeviceType, Efficiency, FORMAT, LinkClass, LinkKind, MachineGroup, Sourced,
};

/// What was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// Processors the system offers.
    pub cores: u32,
    /// FLOP/s of a blocked single-precision matrix product in plain Rust, one core.
    pub matrix_flops: f64,
    /// The same on 64 x 64 matrices.
    pub small_flops: f64,
    /// Bytes/s of a stream that reads one array and writes another, one core.
    pub memory_bytes: f64,
    /// Memory of the machine, bytes; 0 when the system does not say.
    pub memory_size: f64,
    /// Bytes/s of copying between two buffers, as ranks of one machine do.
    pub copy_bytes: f64,
    /// Seconds for a message between two threads and back, halved.
    pub latency_s: f64,
}

impl Probe {
    /// Measures; takes about a second.
    pub fn measure() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u32);
        Self {
            cores,
            matrix_flops: product_rate(384, 3),
            small_flops: product_rate(64, 300),
            memory_bytes: stream_rate(64 << 20),
            memory_size: memory_size(),
            copy_bytes: stream_rate(4 << 20) / 2.0,
            latency_s: latency(),
        }
    }

    /// A cluster of this one machine, a device per core, every number with how it was measured.
    ///
    /// # Errors
    /// A measurement outside the range a cluster accepts.
    pub fn to_cluster(&self) -> Result<Cluster, ClusterError> {
        let how = |value: f64, how: &str| Sourced::measured(value, format!("probe: {how}"));
        let n = f64::from(self.cores.max(1));
        let (peak, small) = (self.matrix_flops, self.small_flops);
        // rate(x) = peak x^3/(x+n)^3, read off at 64.
        let half = if small < peak { 64.0 * ((peak / small).cbrt() - 1.0) } else { 0.0 };
        let size = if self.memory_size > 0.0 { self.memory_size } else { (1u64 << 30) as f64 };
        let device = DeviceType {
            name: "this-cpu".into(),
            kind: DeviceKind::Cpu,
            half_tflops: how(peak / 1e12, "single-precision matrix product of side 384 in plain Rust, one core"),
            single_tflops: Some(how(peak / 1e12, "as half precision: the processor computes in single precision")),
            double_tflops: None,
            memory_gib: how(size / n / (1u64 << 30) as f64, "memory of the machine over its cores"),
            memory_gb_s: how(self.memory_bytes / 1e9, "reading one array of 64 MiB and writing another, one core"),
            efficiency: Efficiency {
                matrix: how(1.0, "the peak above is a measured one"),
                half_size: how(half, "from the rate at side 64"),
                memory: how(1.0, "the bandwidth above is a measured one"),
            },
            failures_per_hour: None,
            price_per_hour: None,
        };
        let link = LinkClass {
            name: "shared-memory".into(),
            kind: LinkKind::Sys,
            gb_s: how(self.copy_bytes / 1e9, "copying 4 MiB"),
            pair_gb_s: None,
            latency_us: how(self.latency_s * 1e6, "message between two threads and back, halved"),
            reached: how(1.0, "measured"),
            knees: Vec::new(),
        };
        let cluster = one_machine(device, link, self.cores.max(1));
        cluster.check().map(|()| cluster)
    }
}

/// A cluster of one machine.
fn one_machine(device: DeviceType, link: LinkClass, devices: u32) -> Cluster {
    let machine = MachineGroup {
        name: "this-machine".into(),
        count: 1,
        device: device.name.clone(),
        devices,
        intra: Some(link.name.clone()),
        domain: None,
        bridge: None,
        nics: 0,
        nic: None,
        switch: None,
    };
    Cluster {
        format: FORMAT.into(),
        name: device.name.clone(),
        device_types: vec![device],
        links: vec![link],
        machines: vec![machine],
        switches: Vec::new(),
    }
}

/// Measures this machine and describes it as a cluster, in JSON.
///
/// # Errors
/// A measurement outside the range a cluster accepts.
pub fn probe() -> Result<String, ClusterError> {
    Probe::measure().to_cluster()?.to_json()
}

/// FLOP/s of `[n, n]` by `[n, n]`, the best of `rounds`.
fn product_rate(n: usize, rounds: usize) -> f64 {
    let (a, b) = (vec![1.0f32; n * n], vec![0.5f32; n * n]);
    let mut c = vec![0.0f32; n * n];
    let mut best = f64::INFINITY;
    for _ in 0..rounds {
        let start = Instant::now();
        product(&a, &b, &mut c, n);
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&c);
    }
    2.0 * (n * n * n) as f64 / best.max(1e-9)
}

/// c += a b, rows of b streamed so that the inner loop is a multiply-add over contiguous numbers.
fn product(a: &[f32], b: &[f32], c: &mut [f32], n: usize) {
    const BLOCK: usize = 64;
    for first in (0..n).step_by(BLOCK) {
        let last = (first + BLOCK).min(n);
        for i in 0..n {
            let row = &mut c[i * n..(i + 1) * n];
            for k in first..last {
                let factor = a[i * n + k];
                row.iter_mut().zip(&b[k * n..(k + 1) * n]).for_each(|(c, b)| *c += factor * b);
            }
        }
    }
}

/// Bytes read and written per second over arrays of `bytes`, the best of three.
fn stream_rate(bytes: usize) -> f64 {
    let source = vec![1.0f32; bytes / 4];
    let mut target = vec![0.0f32; bytes / 4];
    let mut best = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        target.iter_mut().zip(&source).for_each(|(t, s)| *t = 1.5 * s);
        best = best.min(start.elapsed().as_secs_f64());
        black_box(&target);
    }
    2.0 * bytes as f64 / best.max(1e-9)
}

/// Half the time of a message between two threads and back, mean of many.
fn latency() -> f64 {
    const ROUNDS: u32 = 2000;
    let (to, from_here) = std::sync::mpsc::channel::<u32>();
    let (back, answers) = std::sync::mpsc::channel::<u32>();
    let echo = std::thread::spawn(move || {
        while let Ok(i) = from_here.recv() {
            if back.send(i).is_err() {
                return;
            }
        }
    });
    let start = Instant::now();
    for i in 0..ROUNDS {
        if to.send(i).is_err() || answers.recv().is_err() {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64() / f64::from(ROUNDS) / 2.0;
    drop(to);
    // The echo ends when its channel closes; a panic there has nothing to tell.
    let _ = echo.join();
    seconds
}

/// Memory of the machine in bytes, 0 when the system does not say.
fn memory_size() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("MemTotal:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or(0.0) * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probe_describes_this_machine() {
        let cluster = Cluster::from_json(&probe().expect("probe")).expect("its own cluster");
        assert!(cluster.device_count() >= 1);
        let device = &cluster.device_types[0];
        assert!(device.half_tflops.value > 1e-4 && device.memory_gb_s.value > 0.01, "{device:?}");
    }
}
