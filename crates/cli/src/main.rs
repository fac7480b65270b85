//! The command `chandlery`: recipe and settings in, run directory out.

mod args;
mod engine;
mod pepl;
mod plan;
mod poet;
mod probe;
mod report;
mod settings;

use args::{Cluster, Command, Data};
use clap::Parser;
use settings::Recipe;
use std::io::Write;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Whatever stops a command; its text is all that the user sees.
type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// One line to standard output; a closed pipe ends the reader's interest, not the work.
fn say(text: impl AsRef<str>) {
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

fn run(command: Command) -> Result<()> {
    match command {
        Command::Train(args) => match Recipe::of_preset(&args.preset)? {
            Recipe::Poet => poet::train(&args),
            Recipe::Pepl => pepl::train(&args),
        },
        Command::Eval(args) => match Recipe::of_run(&args.run)? {
            Recipe::Poet => poet::eval(&args),
            Recipe::Pepl => pepl::eval(&args),
        },
        Command::Predict(args) => pepl::predict(&args),
        Command::Cam(args) => pepl::cam(&args),
        Command::Experiment(args) => pepl::experiment(&args),
        Command::Generate(args) => poet::generate(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Cluster(Cluster::Probe { ranks }) => probe::probe(ranks),
        Command::Data(Data::PackPoetry { source, out }) => {
            say(chandlery::lm::poetry::pack_poetry(source, out)?.to_string());
            Ok(())
        }
        Command::Data(Data::ConvertTorch { source, out }) => {
            say(chandlery::pseudo::weights::convert_torch(source, out)?.to_string());
            Ok(())
        }
    }
}

fn main() -> ExitCode {
    match run(args::Args::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}
