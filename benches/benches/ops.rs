//! Throughput of single operations, forward and backward: the workloads of `bench ops` under criterion, which adds
//! intervals, outliers and the change since the last run (`target/criterion`). It reports values of the first input a
//! second (`values/NAME`) and, for matrix products and attention, floating point operations a second (`flop/NAME`).
//!
//! It does not show peak memory, whole steps or other libraries; those are in `bench ops` and `bench steps`. Threads are
//! rayon's: `RAYON_NUM_THREADS=1` for one. `cargo xtask bench criterion [NAME]`.

#[allow(dead_code, reason = "what only the binary needs")]
#[path = "../src/measure.rs"]
mod measure;
#[path = "../src/ops.rs"]
mod ops;
#[allow(dead_code, reason = "what only the binary needs")]
#[path = "../src/peers.rs"]
mod peers;

use criterion::{Criterion, Throughput};
use measure::Work;
use std::time::Duration;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let slow = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(300));
    let mut criterion = slow.measurement_time(Duration::from_secs(1)).configure_from_args();
    for workload in ops::workloads() {
        let (unit, work) = match workload.work {
            Work::Values(n) => ("values", n),
            Work::Flops(n) => ("flop", n),
        };
        let mut group = criterion.benchmark_group(unit);
        group.throughput(Throughput::Elements(work));
        let (mut prepare, mut step) = (Some(workload.prepare), None);
        group.bench_function(&workload.name, |bencher| {
            // Only what the filter lets through is set up, and once.
            let step = step.get_or_insert_with(|| prepare.take().map(|prepare| prepare()));
            match step {
                Some(Ok(step)) => bencher.iter(step),
                Some(Err(why)) => peers::complain(&format!("{}: {why}", workload.name)),
                None => {}
            }
        });
        group.finish();
    }
    criterion.final_summary();
}
