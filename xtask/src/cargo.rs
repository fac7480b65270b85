//! Starting cargo: where the workspace lies, what reaches a child, and how we become one.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

static FEATURES: OnceLock<String> = OnceLock::new();

/// Makes every later build use these cargo features (the first call counts).
pub fn set_features(list: &str) {
    FEATURES.get_or_init(|| list.to_owned());
}

/// The workspace's root folder.
pub fn root() -> PathBuf {
    let package =
        std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map(PathBuf::from).unwrap_or(package)
}

/// A cargo command on this workspace, without the variables that `cargo run` set for xtask itself
/// (build scripts that watch them would otherwise run again on every start).
pub fn cargo(subcommand: &str) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command.arg(subcommand);
    command
}

/// How long the allocator of our binaries keeps freed memory, in milliseconds; -1 = for good.
const PURGE_DELAY: &str = "MIMALLOC_PURGE_DELAY";
/// How often candle's element-wise threads look for work before they sleep.
const SPIN_LIMIT: &str = "CANDLE_BARRIER_POOL_SPIN_LIMIT";

/// Settings of our processes' allocator and of candle's threads, where the user has none.
fn keep_memory(command: &mut Command) {
    // Training frees and takes the same large blocks at every step. Kept in the process they cost nothing; handed back
    // and forth between process and system, clearing them anew takes 7 % of `gpt-step-f32`.
    // candle's own threads spin before they sleep, and on few cores take time from ours.
    for (name, value) in [(PURGE_DELAY, "-1"), (SPIN_LIMIT, "100")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
}

/// `cargo bench` of one package, with `args` for its benchmarks.
pub fn bench(package: &str, args: &[String]) -> Command {
    let mut command = cargo("bench");
    command.arg("--manifest-path").arg(root().join("Cargo.toml")).args(["--package", package, "--bench", "ops"]);
    keep_memory(&mut command);
    command.arg("--").args(args);
    command
}

/// `cargo run --release` of one package's binary with `args`, in the folder the user stands in.
pub fn run_release(package: &str, args: &[String]) -> Command {
    let mut command = cargo("run");
    command.arg("--manifest-path").arg(root().join("Cargo.toml"));
    keep_memory(&mut command);
    command.args(["--release", "--package", package]);
    if let Some(features) = FEATURES.get() {
        command.args(["--features", features]);
    }
    command.arg("--").args(args);
    command
}

/// Appends the chosen features, if any, to a build of the whole workspace.
pub fn add_features(command: &mut Command) {
    if let Some(features) = FEATURES.get() {
        command.args(["--features", features]);
    }
}

/// Starts the binary `chandlery` in release; does not return when it could be started.
pub fn become_recipe(args: &[String]) -> Result<(), String> {
    replace_self(run_release("chandlery-cli", args))
}

/// Becomes `command`: terminal, signals and exit code are the child's own.
#[cfg(unix)]
pub fn replace_self(mut command: Command) -> Result<(), String> {
    use std::os::unix::process::CommandExt;
    Err(not_started(&command.exec()))
}

/// Runs `command` and leaves with its exit code; Ctrl-C is the child's to answer.
#[cfg(not(unix))]
pub fn replace_self(mut command: Command) -> Result<(), String> {
    ctrlc::set_handler(|| {}).map_err(|why| format!("cannot leave Ctrl-C to the child: {why}"))?;
    let status = command.status().map_err(|why| not_started(&why))?;
    std::process::exit(status.code().unwrap_or(1))
}

/// Runs `command` to its end in the workspace's root; an error names it when it fails.
pub fn must_succeed(command: &mut Command) -> Result<(), String> {
    let status = command.current_dir(root()).status().map_err(|why| not_started(&why))?;
    if status.success() { Ok(()) } else { Err(format!("`{}` failed ({status})", line(command))) }
}

/// The standard output of `command`, run in the workspace's root.
pub fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let out = command.current_dir(root()).output().map_err(|why| not_started(&why))?;
    if out.status.success() {
        Ok(out.stdout)
    } else {
        Err(format!("`{}` failed ({})\n{}", line(command), out.status, String::from_utf8_lossy(&out.stderr)))
    }
}

/// What `cargo metadata` says of the workspace; `whole` adds the third-party packages that this machine builds.
pub fn metadata(whole: bool) -> Result<serde_json::Value, String> {
    let mut command = cargo("metadata");
    command.args(["--format-version", "1"]);
    if whole {
        command.args(["--filter-platform", &host()?]);
    } else {
        command.arg("--no-deps");
    }
    serde_json::from_slice(&output(&mut command)?).map_err(|why| format!("cargo metadata: {why}"))
}

/// The machine's target triple, as rustc calls it.
fn host() -> Result<String, String> {
    let out = output(Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV"))?;
    let text = String::from_utf8_lossy(&out).into_owned();
    text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned).ok_or("rustc -vV names no host".into())
}

/// A command as a person would type it.
pub fn line(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let mut words = vec![program.file_name().unwrap_or_default().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

fn not_started(why: &std::io::Error) -> String {
    format!("cannot start the command: {why}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_holds_the_workspace_manifest() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn recipe_arguments_stand_behind_a_double_dash() {
        let command = run_release("chandlery-cli", &["train".into(), "poet".into()]);
        let typed = line(&command);
        assert!(typed.starts_with("cargo run --manifest-path "), "{typed}");
        assert!(typed.ends_with("--release --package chandlery-cli -- train poet"), "{typed}");
    }

    #[test]
    fn failing_command_is_named() {
        let mut command = Command::new("cargo");
        let why = must_succeed(command.arg("no-such-subcommand-here").stderr(std::process::Stdio::null())).unwrap_err();
        assert!(why.contains("cargo no-such-subcommand-here"), "{why}");
    }
}
