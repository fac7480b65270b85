//! Examples of `chandlery-parallel` that make the published figures and measurements.

use crate::cargo;

/// Where the figures of `docs/results/simulator.md` live.
const FIGURES: &str = "docs/results/simulator";

/// Runs every simulation and writes its figures and tables, into `docs/results/simulator` or the folder named.
///
/// # Errors
/// More than one folder; what the simulations report.
pub fn simulate(args: &[String]) -> Result<(), String> {
    let folder = match args {
        [] => cargo::root().join(FIGURES),
        [one] => std::path::absolute(one).map_err(|why| format!("{one}: {why}"))?,
        _ => return Err("simulate takes one folder at most".into()),
    };
    run("simulate", &[folder.display().to_string()])?;
    println!("figures and tables: {}", folder.display());
    Ok(())
}

/// Measures how many plans a second the planner prices, and its whole answers.
///
/// # Errors
/// What the measurement reports.
pub fn planner(args: &[String]) -> Result<(), String> {
    run("planner_speed", args)
}

fn run(example: &str, args: &[String]) -> Result<(), String> {
    let mut command = cargo::cargo("run");
    command.args(["--release", "--package", "chandlery-parallel", "--example", example, "--"]).args(args);
    cargo::must_succeed(&mut command)
}
