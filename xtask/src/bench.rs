//! `cargo xtask bench`: the release build of the benchmarks and, on request, an interpreter for the peers.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo;

/// Names an interpreter that has the peers' packages; set for the benchmark binary as well.
const PEER_PYTHON: &str = "PEER_PYTHON";
/// What the peers' work imports.
const PACKAGES: &[&str] = &["torch", "numpy"];
/// What the peer of `images` imports; torchvision brings Pillow.
const IMAGE_PACKAGES: &[&str] = &["torch", "numpy", "torchvision"];
const KINDS: &[&str] = &["steps", "ops", "images", "planner", "criterion"];

/// Builds and becomes the benchmark binary.
///
/// # Errors
/// When the kind of benchmark is unknown or the peers' interpreter cannot be had.
pub fn run(args: &[String]) -> Result<(), String> {
    check_kind(args.first())?;
    match args {
        [kind, rest @ ..] if kind == "planner" => return crate::example::planner(rest),
        [kind, rest @ ..] if kind == "criterion" => {
            return cargo::replace_self(cargo::bench("chandlery-benches", rest));
        }
        _ => {}
    }
    let mut command = cargo::run_release("chandlery-benches", args);
    if args.iter().any(|arg| arg == "--peers") {
        let named = std::env::var_os(PEER_PYTHON);
        let packages = if args[0] == "images" { IMAGE_PACKAGES } else { PACKAGES };
        command.env(PEER_PYTHON, interpreter(named, &cargo::root().join("target/peers"), packages)?);
    }
    cargo::replace_self(command)
}

fn check_kind(kind: Option<&String>) -> Result<(), String> {
    match kind {
        Some(kind) if KINDS.contains(&kind.as_str()) => Ok(()),
        Some(kind) => Err(format!("no benchmarks called `{kind}`; there are: {}", KINDS.join(", "))),
        None => Err(format!("bench what? {}", KINDS.join(", "))),
    }
}

/// The interpreter `named`, or that of a virtual environment in `folder`, made and filled when it is not there yet.
fn interpreter(named: Option<OsString>, folder: &Path, packages: &[&str]) -> Result<PathBuf, String> {
    if let Some(python) = named.map(PathBuf::from) {
        return match imports(&python, packages) {
            Ok(()) => Ok(python),
            Err(why) => Err(format!("{PEER_PYTHON}={}: {why}", python.display())),
        };
    }
    let python = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if imports(&python, packages).is_ok() {
        return Ok(python);
    }
    eprintln!("peers: making a virtual environment in {}", folder.display());
    let system = if cfg!(windows) { "python" } else { "python3" };
    cargo::must_succeed(Command::new(system).args(["-m", "venv"]).arg(folder))
        .map_err(|why| format!("{why}; install Python 3 with venv, or name an interpreter in {PEER_PYTHON}"))?;
    eprintln!("peers: installing {} (a large download, once)", packages.join(" and "));
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install"]).args(packages).stdout(std::io::stderr());
    cargo::must_succeed(&mut pip)
        .map_err(|why| format!("{why}; an interpreter that has them can be named in {PEER_PYTHON}"))?;
    imports(&python, packages).map(|()| python)
}

/// Whether `python` starts and imports every package.
fn imports(python: &Path, packages: &[&str]) -> Result<(), String> {
    let program = packages.iter().map(|name| format!("import {name}")).collect::<Vec<_>>().join("\n");
    let out = Command::new(python).args(["-c", &program]).output().map_err(|why| format!("cannot start: {why}"))?;
    if out.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&out.stderr);
    Err(format!("cannot import {}: {}", packages.join(", "), said.lines().last().unwrap_or("no reason given")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_kind_is_answered_with_those_that_exist() {
        assert!(check_kind(Some(&"step".into())).unwrap_err().contains("steps, ops, images, planner, criterion"));
        assert!(check_kind(None).unwrap_err().contains("steps, ops, images, planner, criterion"));
        assert!(check_kind(Some(&"ops".into())).is_ok());
    }

    #[test]
    fn named_interpreter_that_is_missing_is_an_error_and_makes_nothing() {
        let folder = Path::new("no/such/environment");
        let why = interpreter(Some("no-such-python".into()), folder, PACKAGES).unwrap_err();
        assert!(why.contains("PEER_PYTHON=no-such-python"), "{why}");
        assert!(!folder.exists());
    }

    #[cfg(unix)]
    #[test]
    fn interpreter_without_the_package_is_refused_with_its_reason() {
        let failing = imports(Path::new("/bin/false"), &["torch"]).unwrap_err();
        assert!(failing.contains("cannot import torch"), "{failing}");
        assert!(imports(Path::new("/bin/true"), &["torch"]).is_ok());
    }
}
