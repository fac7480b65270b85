//! Measures this machine and prints it as a cluster file: `cargo run --release -p chandlery-parallel --example probe`.

#![allow(clippy::print_stdout, reason = "prints a file")]

fn main() -> Result<(), chandlery_parallel::cluster::ClusterError> {
    println!("{}", chandlery_parallel::cli::probe()?);
    Ok(())
}
