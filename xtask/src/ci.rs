//! `cargo xtask ci`: every check of the project, cheapest first.

use std::time::Instant;

use crate::{cargo, suite, tidy};

type Check = (&'static str, fn() -> Result<(), String>);

const CHECKS: &[Check] =
    &[("format", format), ("tidy", tidy), ("clippy", clippy), ("rustdoc", rustdoc), ("tests", tests)];

/// Runs all checks and stops at the first that fails.
pub fn run(args: &[String]) -> Result<(), String> {
    if let Some(extra) = args.first() {
        return Err(format!("ci takes no arguments, got `{extra}`"));
    }
    for (name, check) in CHECKS {
        println!("== {name}");
        let start = Instant::now();
        check().map_err(|why| format!("{name}: {why}"))?;
        println!("== {name}: fine ({:.1} s)", start.elapsed().as_secs_f64());
    }
    Ok(())
}

fn format() -> Result<(), String> {
    cargo::must_succeed(cargo::cargo("fmt").args(["--all", "--check"]))
}

fn tidy() -> Result<(), String> {
    tidy::run(&[])
}

fn clippy() -> Result<(), String> {
    let mut command = cargo::cargo("clippy");
    command.args(["--workspace", "--all-targets"]);
    cargo::add_features(&mut command);
    cargo::must_succeed(command.args(["--", "-D", "warnings"]))
}

/// The binaries first: the command and the umbrella crate share a name, and the crate's pages are those to keep.
fn rustdoc() -> Result<(), String> {
    for targets in ["--bins", "--lib"] {
        let mut command = cargo::cargo("doc");
        command.args(["--workspace", "--no-deps", targets]).env("RUSTDOCFLAGS", "-D warnings");
        cargo::add_features(&mut command);
        cargo::must_succeed(&mut command)?;
    }
    Ok(())
}

fn tests() -> Result<(), String> {
    suite::run(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_run_from_cheap_to_dear() {
        let names: Vec<_> = CHECKS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ["format", "tidy", "clippy", "rustdoc", "tests"]);
    }

    #[test]
    fn arguments_are_refused() {
        assert!(run(&["fast".into()]).unwrap_err().contains("`fast`"));
    }
}
