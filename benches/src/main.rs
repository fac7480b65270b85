//! Benchmarks side by side with their peers, in one invocation.
//!
//! `steps` measures whole workloads, `ops` single operations forward and backward, `images` the way from files to views.
//! Every workload runs in a process of its own, so that peak memory is its own too; with `--peers` the same work runs in
//! PyTorch right after it, in turns for `--rounds` rounds (three beside peers), so that both see the same clock.
//! What it does not show: anything on a busy machine. Look at `min_ms` beside `ms` (the median) to see how quiet it was.
//! `--plot` draws the workloads over sizes (`gpt-length-*`, `gpt-width-*`).

mod gpt;
mod images;
mod measure;
mod network;
mod ops;
mod peers;
mod plot;
mod steps;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str =
    "usage: bench steps|ops|images [--only NAME] [--json] [--peers] [--threads N] [--rounds N] [--plot FILE] [--list]";

/// The command line.
struct Args {
    suite: String,
    only: Option<String>,
    plot: Option<String>,
    json: bool,
    peers: bool,
    list: bool,
    child: bool,
    threads: usize,
    rounds: Option<usize>,
}

fn parse(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    let suite = words.next().ok_or(USAGE)?;
    let mut args = Args {
        suite,
        only: None,
        plot: None,
        json: false,
        peers: false,
        list: false,
        child: false,
        threads: 2,
        rounds: None,
    };
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--only" => args.only = Some(value()?),
            "--plot" => args.plot = Some(value()?),
            "--threads" => args.threads = value()?.parse().map_err(|e| format!("--threads: {e}"))?,
            "--rounds" => args.rounds = Some(value()?.parse().map_err(|e| format!("--rounds: {e}"))?),
            "--json" => args.json = true,
            "--peers" => args.peers = true,
            "--list" => args.list = true,
            "--child" => args.child = true,
            other => return Err(format!("unknown argument `{other}`\n{USAGE}")),
        }
    }
    Ok(args)
}

fn run() -> Result<(), String> {
    let args = parse(std::env::args().skip(1))?;
    let workloads = match args.suite.as_str() {
        "steps" => steps::workloads(),
        "ops" => ops::workloads(),
        "images" => images::workloads(),
        other => return Err(format!("unknown suite `{other}`\n{USAGE}")),
    };
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    if args.child {
        let exact = workloads.into_iter().find(|w| Some(&w.name) == args.only.as_ref()).ok_or("no such workload")?;
        return measure::child(exact, args.threads);
    }
    let names: Vec<String> = workloads.into_iter().map(|w| w.name).filter(|n| wanted(n)).collect();
    if names.is_empty() {
        return Err("no workload of that name; try --list".to_string());
    }
    if args.suite == "images" && !args.list {
        images::prepare()?;
    }
    let mut table = peers::Table::new(args.json);
    let mut rows = Vec::new();
    for name in names {
        if args.list {
            table.line(&name);
            continue;
        }
        let routes = match args.suite.as_str() {
            _ if !args.peers => &[][..],
            "images" => &peers::IMAGE_ROUTES[..],
            _ => &[""][..],
        };
        let mut rounds = vec![Vec::new(); 1 + routes.len()];
        for _ in 0..args.rounds.unwrap_or(if args.peers { 3 } else { 1 }).max(1) {
            rounds[0].push(measure::spawn(&args.suite, &name, args.threads)?);
            for (route, round) in routes.iter().zip(&mut rounds[1..]) {
                round.push(peers::spawn(&args.suite, &format!("{name}{route}"), args.threads)?);
            }
        }
        let all: Vec<_> = rounds.into_iter().map(measure::together).collect();
        if args.suite == "images" {
            table.rates(&all[0], &all[1..]);
        } else {
            rows.push(table.row(&all[0], all.get(1)));
        }
    }
    if let Some(file) = args.plot {
        std::fs::write(&file, plot::svg(&rows)).map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            peers::complain(&message);
            ExitCode::FAILURE
        }
    }
}
