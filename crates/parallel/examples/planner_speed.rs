//! How many plans a second does the planner price on one core, and how long does a whole answer take?
//!
//! Input: GPT-175B on 64 to 4,096 modelled A100. Counts every plan priced, those replayed among them; the answer includes
//! explanation, sensitivities and placement. Not shown: parsing, drawing, machines of several types.
//! `cargo xtask bench planner`

#![allow(clippy::print_stdout, reason = "a measurement prints")]

use chandlery_parallel::cluster::Cluster;
use chandlery_parallel::cost::Attention;
use chandlery_parallel::model::ModelSpec;
use chandlery_parallel::planner::{Limits, plan, score_space};
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let model = ModelSpec::preset("gpt-175b")?;
    for devices in [64u32, 256, 1024, 4096] {
        let cluster = Cluster::preset(&format!("a100-{devices}"))?;
        let limits = Limits::new(1536, Attention::Unfused);
        let start = Instant::now();
        let priced = score_space(&model, &cluster, &limits)?;
        let scoring = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let answer = plan(&model, &cluster, &limits)?;
        println!(
            "{devices:>5} devices: {priced:>6} plans priced at {:>9.0} a second; whole answer {:.3} s, {} replayed, step {:.3} s, gap {:.2} %",
            priced as f64 / scoring,
            start.elapsed().as_secs_f64(),
            answer.search.replayed,
            answer.prediction.step_s,
            100.0 * answer.search.gap
        );
    }
    Ok(())
}
