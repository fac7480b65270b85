//! `cargo xtask`: starts the recipes, tests, measures and keeps the house tidy.
//!
//! Everything that computes lives in the crates; this runner only starts it, so it builds in seconds and depends on none of them.
#![allow(clippy::print_stdout, reason = "a command line tool speaks on standard output")]

mod bench;
mod cargo;
mod ci;
mod example;
mod fetch;
mod help;
mod suite;
mod tidy;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), String> {
    let Some((command, rest)) = args.split_first() else {
        println!("{}", help::text());
        return Ok(());
    };
    match command.as_str() {
        "help" | "--help" | "-h" => {
            println!("{}", help::text());
            Ok(())
        }
        "--features" => with_features(rest),
        "test" => suite::run(rest),
        "ci" => ci::run(rest),
        "bench" => bench::run(rest),
        "fetch" => fetch::run(rest),
        "simulate" => example::simulate(rest),
        "tidy" => tidy::run(rest),
        option if option.starts_with('-') => Err(format!("unknown option `{option}`; see `cargo xtask help`")),
        word => match help::misspelt(word) {
            Some(meant) => Err(format!("unknown command `{word}`; did you mean `{meant}`?")),
            None => cargo::become_recipe(args),
        },
    }
}

/// `--features LIST COMMAND ...`: the list reaches every build that the command starts.
fn with_features(rest: &[String]) -> Result<(), String> {
    let (features, command) = rest.split_first().ok_or("--features needs a list, such as `--features cuda`")?;
    cargo::set_features(features);
    dispatch(command)
}
