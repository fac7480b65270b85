//! The recommender pipeline on CPU/GPU mixes.

use super::{Report, chart};
use chandlery_parallel::model::{ModelSpec, Network, Recommender};
use chandlery_parallel::simulator::figure::Series;
use chandlery_parallel::simulator::recommender::{Line, Machines, Rates, flow, implied};
use std::error::Error;

const BATCH: f64 = 512.0;

/// Assumed machines: a core that gathers 1 GB/s of scattered rows and does 20 GFLOP/s, a V100 at 4 TFLOP/s on small
/// products, 6 cores of the host per GPU (two sockets of 24 for eight), 10 Gb/s of network per GPU, 20 us to read a sample.
fn machines() -> Machines {
    Machines { read: 20e-6, gather: 1e9, worker_flops: 20e9, gpu_flops: 4e12, host_workers: 6.0, link: 1.25e9 }
}

pub fn run(report: &mut Report) -> Result<(), Box<dyn Error>> {
    what_the_paper_implies(report);
    let spec = ModelSpec::preset("ctr-wide")?;
    let Network::Recommender(model) = &spec.network else { return Err("ctr-wide is no recommender".into()) };
    sweep(report, model)?;
    sensitivity(report, model)?;
    buffers(report, model)
}

fn what_the_paper_implies(report: &mut Report) {
    let mut rows = Vec::new();
    for (dense, sparse) in [(1.0, 1.0), (1.0, 0.8), (1.0, 0.6), (0.8, 1.0), (0.6, 1.0), (0.4, 1.0)] {
        let i = implied(2.1, 3.3, dense, sparse);
        rows.push(vec![
            format!("{:.3}", i.sparse_pool),
            format!("{:.3}", i.dense_gpu),
            format!("{:.3}", i.sparse_host),
            format!("{:.3}", i.dense_pool),
            format!("{:.2}", i.sparse_host / i.sparse_pool),
            format!("{:.2}", i.dense_pool / i.dense_gpu),
        ]);
    }
    let head = [
        "sparse, CPU pool",
        "dense, GPUs",
        "sparse, GPU hosts",
        "dense, CPU pool",
        "pool / hosts at sparse",
        "GPUs / pool at dense",
    ];
    report.table("Times that give exactly 2.1x and 3.3x (CPU-only step = 1)", &head, &rows);
}

/// Speed-ups against CPU workers per GPU.
fn sweep(report: &mut Report, model: &Recommender) -> Result<(), Box<dyn Error>> {
    let rates = Rates::of(model, BATCH, &machines())?;
    let (mut over_gpu, mut over_cpu, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    let narrow = Rates::of(model, BATCH, &Machines { host_workers: 4.7, ..machines() })?;
    let mut over_narrow = Vec::new();
    for workers in [1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 60, 62, 70, 80, 100] {
        let workers = f64::from(workers);
        let t = rates.throughput(workers, 1.0)?;
        over_gpu.push((workers, t.pipeline / t.gpu_only));
        over_narrow
            .push((workers, narrow.throughput(workers, 1.0)?.pipeline / narrow.throughput(workers, 1.0)?.gpu_only));
        if workers > 30.0 {
            over_cpu.push((workers, t.pipeline / t.cpu_only));
        }
        rows.push(vec![
            format!("{workers}"),
            format!("{:.0}", BATCH * t.cpu_only),
            format!("{:.0}", BATCH * t.gpu_only),
            format!("{:.0}", BATCH * t.pipeline),
            format!("{:.2}", t.pipeline / t.gpu_only),
            format!("{:.2}", t.pipeline / t.cpu_only),
            format!("{:?}", t.bound),
        ]);
    }
    let head =
        ["CPU workers per GPU", "CPU only, samples/s", "GPU only", "pipeline", "over GPU", "over CPU", "bound by"];
    report.table("ctr-wide on assumed machines, one GPU", &head, &rows);
    let lines = vec![
        Series::line("over GPU only", over_gpu),
        Series::line("same, 4.7 host cores a GPU", over_narrow),
        Series::line("over CPU only", over_cpu),
    ];
    let mut figure =
        chart("Recommender pipeline, ctr-wide: speed-up by capacity", "CPU workers per GPU", "speed-up", lines);
    figure.levels = vec![(2.1, "published 2.1x over GPU".into()), (3.3, "published 3.3x over CPU".into())];
    figure.log_x = true;
    Ok(report.figure("recommender-mix", &figure)?)
}

/// Largest speed-up over GPU-only, and the speed-up over CPU-only with the same fleet, when constants move.
fn sensitivity(report: &mut Report, model: &Recommender) -> Result<(), Box<dyn Error>> {
    let m = machines();
    let varied = [
        ("as assumed", m),
        ("reading twice as slow", Machines { read: 2.0 * m.read, ..m }),
        ("reading free", Machines { read: 0.0, ..m }),
        ("gathering twice as fast", Machines { gather: 2.0 * m.gather, ..m }),
        ("GPU twice as fast", Machines { gpu_flops: 2.0 * m.gpu_flops, ..m }),
        ("GPU half as fast", Machines { gpu_flops: 0.5 * m.gpu_flops, ..m }),
        ("CPU cores twice as fast at dense", Machines { worker_flops: 2.0 * m.worker_flops, ..m }),
        ("12 host cores per GPU", Machines { host_workers: 12.0, ..m }),
        ("3 host cores per GPU", Machines { host_workers: 3.0, ..m }),
        ("25 Gb/s per GPU", Machines { link: 2.5 * m.link, ..m }),
    ];
    let mut rows = Vec::new();
    for (what, machines) in varied {
        let rates = Rates::of(model, BATCH, &machines)?;
        let mut knee = (0.0, rates.throughput(1.0, 1.0)?);
        for workers in 1..=400 {
            let t = rates.throughput(f64::from(workers), 1.0)?;
            if t.pipeline > knee.1.pipeline * 1.000_001 || knee.0 == 0.0 {
                knee = (f64::from(workers), t);
            }
        }
        rows.push(vec![
            what.into(),
            format!("{:.0}", knee.0),
            format!("{:.2}", knee.1.pipeline / knee.1.gpu_only),
            format!("{:.2}", knee.1.pipeline / knee.1.cpu_only),
            format!("{:?}", knee.1.bound),
            format!("{:.1}", rates.sparse_worker / (1.1 * rates.dense_gpu)),
            format!("{:.0}", (rates.sparse_worker + rates.dense_worker) / (3.3 * rates.dense_gpu)),
        ]);
    }
    let head = [
        "constant",
        "workers per GPU at the knee",
        "over GPU",
        "over CPU",
        "bound by",
        "host cores per GPU for exactly 2.1x",
        "CPU workers per GPU for exactly 3.3x",
    ];
    report.table("Recommender: where more CPU workers stop helping", &head, &rows);
    Ok(())
}

/// Events: what variation costs and what buffers give back.
fn buffers(report: &mut Report, model: &Recommender) -> Result<(), Box<dyn Error>> {
    let rates = Rates::of(model, BATCH, &machines())?;
    let gpus = 4;
    let knee = (gpus as f64 * rates.sparse_worker / rates.dense_gpu.max(rates.transfer)).ceil() as usize;
    let capacity = rates.throughput(knee as f64, gpus as f64)?.pipeline;
    let stages = vec![(knee, rates.sparse_worker), (gpus, rates.transfer), (gpus, rates.dense_gpu)];
    let (mut rows, mut lines) = (Vec::new(), Vec::new());
    for spread in [0.0, 0.3, 0.6, 1.0] {
        let mut points = Vec::new();
        for buffer in [1, 2, 4, 8, 16, 32, 64] {
            let line = Line { stages: stages.clone(), buffer, spread, batches: 60_000, seed: 11 };
            let got = flow(&line)?;
            points.push((buffer as f64, 100.0 * got.throughput / capacity));
            rows.push(vec![
                format!("{spread}"),
                buffer.to_string(),
                format!("{:.1}", 100.0 * got.throughput / capacity),
                format!("{:.1}", got.staleness),
                got.worst_staleness.to_string(),
                got.in_flight.to_string(),
            ]);
        }
        lines.push(Series::line(&format!("spread {spread}"), points));
    }
    let title = format!("Recommender by events, {knee} CPU workers and {gpus} GPUs (seed 11, 60,000 batches)");
    let head = [
        "spread of log service time",
        "buffer, batches",
        "% of capacity",
        "staleness, updates",
        "worst",
        "most in flight",
    ];
    report.table(&title, &head, &rows);
    let mut figure =
        chart("Recommender by events: throughput over capacity", "batches a stage may queue", "% of capacity", lines);
    figure.log_x = true;
    Ok(report.figure("recommender-buffers", &figure)?)
}
