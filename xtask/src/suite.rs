//! `cargo xtask test`: the whole suite, or a part of it, and a count that cannot be zero.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::cargo;

/// The folder of further test vectors that conformance tests read.
const VECTORS: &str = "CHANDLERY_VECTORS";

/// What was asked of the suite.
#[derive(Debug, Default, PartialEq)]
struct Choice {
    conformance: bool,
    crates: Vec<String>,
    /// Options of cargo test itself, such as `--release`.
    options: Vec<String>,
    /// What goes to the test binaries, behind `--`.
    harness: Vec<String>,
}

/// Counts summed over the closing lines of all test binaries.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Total {
    binaries: usize,
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs the tests that `args` choose.
///
/// # Errors
/// When a test fails, the build fails, a crate is unknown, or not one test ran.
pub fn run(args: &[String]) -> Result<(), String> {
    let choice = choose(args, &members()?)?;
    let mut command = command(&choice);
    if let Some(folder) = std::env::var_os(VECTORS) {
        command.env(VECTORS, vectors_folder(Path::new(&folder))?);
    }
    let (total, success) = watch(&mut command)?;
    println!("{total}");
    verdict(total, success)
}

fn verdict(total: Total, success: bool) -> Result<(), String> {
    match (success, total.passed + total.failed) {
        (false, _) if total.failed > 0 => Err(format!("{} of the tests failed", total.failed)),
        (false, _) => Err("the tests could not be built or run to their end".into()),
        (true, 0) => Err("no test ran: the choice matches nothing".into()),
        (true, _) => Ok(()),
    }
}

/// The names of the workspace's packages.
fn members() -> Result<Vec<String>, String> {
    let metadata = cargo::metadata(false)?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    Ok(packages.iter().filter_map(|package| package["name"].as_str()).map(str::to_owned).collect())
}

fn choose(args: &[String], members: &[String]) -> Result<Choice, String> {
    let mut choice = Choice::default();
    let (ours, harness) = match args.iter().position(|arg| arg == "--") {
        Some(at) => (&args[..at], &args[at + 1..]),
        None => (args, &[][..]),
    };
    choice.harness = harness.to_vec();
    for word in ours {
        if word == "conformance" {
            choice.conformance = true;
        } else if word.starts_with('-') {
            choice.options.push(word.clone());
        } else {
            choice.crates.push(package(word, members)?);
        }
    }
    Ok(choice)
}

/// The package that `word` names, in full or without `chandlery-`.
fn package(word: &str, members: &[String]) -> Result<String, String> {
    let full = format!("chandlery-{word}");
    members
        .iter()
        .find(|name| **name == full)
        .or_else(|| members.iter().find(|name| *name == word))
        .cloned()
        .ok_or_else(|| format!("no crate `{word}`; there are: {}", members.join(", ")))
}

fn command(choice: &Choice) -> Command {
    let mut command = cargo::cargo("test");
    command.current_dir(cargo::root()).arg("--no-fail-fast").args(&choice.options);
    cargo::add_features(&mut command);
    if choice.crates.is_empty() {
        command.arg("--workspace");
    }
    for name in &choice.crates {
        command.args(["--package", name]);
    }
    if choice.conformance {
        command.args(["--tests", "conformance"]);
    }
    if !choice.harness.is_empty() {
        command.arg("--").args(&choice.harness);
    }
    command
}

/// Cargo runs each test binary in its package's folder, so the path must be absolute.
fn vectors_folder(given: &Path) -> Result<PathBuf, String> {
    let folder = given.canonicalize().map_err(|why| format!("{VECTORS}={}: {why}", given.display()))?;
    if folder.is_dir() { Ok(folder) } else { Err(format!("{VECTORS}={}: not a folder", given.display())) }
}

/// Runs the tests, passes their output on line by line and counts what the closing lines say.
fn watch(command: &mut Command) -> Result<(Total, bool), String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|why| format!("cannot start cargo: {why}"))?;
    let stdout = child.stdout.take().ok_or("cargo test has no standard output")?;
    let mut total = Total::default();
    let mut terminal = std::io::stdout().lock();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line.map_err(|why| format!("reading the tests' output: {why}"))?;
        let _ = terminal.write_all(&line).and_then(|()| terminal.write_all(b"\n"));
        total.add(&String::from_utf8_lossy(&line));
    }
    let status = child.wait().map_err(|why| format!("waiting for cargo: {why}"))?;
    Ok((total, status.success()))
}

impl fmt::Display for Total {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { binaries, passed, failed, ignored } = self;
        let plural = if *binaries == 1 { "y" } else { "ies" };
        write!(f, "total: {passed} passed, {failed} failed, {ignored} ignored in {binaries} test binar{plural}")
    }
}

impl Total {
    /// Adds a line such as `test result: ok. 4 passed; 0 failed; 1 ignored; ...`; other lines change nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) else {
            return;
        };
        self.binaries += 1;
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(n, what)| (n.parse::<u64>(), what)) {
                Some((Ok(n), "passed")) => self.passed += n,
                Some((Ok(n), "failed")) => self.failed += n,
                Some((Ok(n), "ignored")) => self.ignored += n,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    fn workspace() -> Vec<String> {
        words("chandlery chandlery-kernels chandlery-lm xtask")
    }

    #[test]
    fn closing_lines_are_summed_and_others_are_not() {
        let mut total = Total::default();
        total.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in 0.01s");
        total.add("test layer_norm_passes_gradient ... ok");
        total.add("test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s");
        assert_eq!(total, Total { binaries: 2, passed: 14, failed: 1, ignored: 1 });
        assert_eq!(total.to_string(), "total: 14 passed, 1 failed, 1 ignored in 2 test binaries");
    }

    #[test]
    fn suite_without_a_test_is_a_failure() {
        assert!(verdict(Total { binaries: 3, ..Total::default() }, true).unwrap_err().contains("no test ran"));
        assert!(verdict(Total { passed: 1, ..Total::default() }, true).is_ok());
        assert!(verdict(Total { passed: 1, ..Total::default() }, false).is_err());
        assert!(verdict(Total { passed: 1, failed: 2, ..Total::default() }, false).unwrap_err().starts_with("2 "));
    }

    #[test]
    fn crates_go_by_their_short_names() {
        let choice = choose(&words("kernels chandlery conformance --release -- --nocapture"), &workspace()).unwrap();
        assert_eq!(choice.crates, ["chandlery-kernels", "chandlery"]);
        assert!(choice.conformance);
        let typed = cargo::line(&command(&choice));
        assert_eq!(
            typed,
            "cargo test --no-fail-fast --release --package chandlery-kernels --package chandlery --tests conformance -- --nocapture"
        );
    }

    #[test]
    fn no_choice_means_the_whole_workspace() {
        let choice = choose(&[], &workspace()).unwrap();
        assert_eq!(cargo::line(&command(&choice)), "cargo test --no-fail-fast --workspace");
    }

    #[test]
    fn unknown_crate_is_named_with_those_that_exist() {
        let why = choose(&words("kernel"), &workspace()).unwrap_err();
        assert!(why.contains("`kernel`") && why.contains("chandlery-kernels"), "{why}");
    }

    #[test]
    fn vectors_folder_must_exist() {
        assert!(vectors_folder(Path::new("no/such/folder")).unwrap_err().contains("CHANDLERY_VECTORS=no/such/folder"));
        assert!(vectors_folder(Path::new(".")).unwrap().is_absolute());
    }
}
