//! The command `chandlery`: recipe and settings in, run directory out.

mod args;
mod plan;
mod poet;
mod probe;
mod report;
mod settings;

use args::{Cluster, Command, Data};
use clap::Parser;
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
        Command::Train(args) => poet::train(&args),
        Command::Eval(args) => poet::eval(&args),
        Command::Generate(args) => poet::generate(&args),
        Command::Plan(args) => plan::plan(&args),
        Command::Cluster(Cluster::Probe { ranks }) => probe::probe(ranks),
        Command::Data(Data::PackPoetry { source, out }) => {
            say(chandlery::lm::poetry::pack_poetry(source, out)?.to_string());
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
