//! How and where a run takes place.

use crate::disk::{Disk, FileSystem};
use crate::run_dir::RunDir;
use crate::{Alone, Error, FitConfig, Interrupt, Progress, Reducer, Result};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const FORMAT: &str = "chandlery-run";
const VERSION: u64 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    New,
    Resume,
    Either,
}

/// A run directory and everything around a run that is not part of its result.
pub struct Run {
    path: PathBuf,
    start: Start,
    config: Option<toml::Value>,
    pub(crate) accept_changes: bool,
    pub(crate) progress: Progress,
    pub(crate) interrupt: Interrupt,
    pub(crate) reducer: Box<dyn Reducer>,
    disk: Arc<dyn Disk>,
}

impl Run {
    fn at(path: &Path, start: Start) -> Self {
        Self {
            path: path.to_path_buf(),
            start,
            config: None,
            accept_changes: false,
            progress: Progress::silent(),
            interrupt: Interrupt::default(),
            reducer: Box::new(Alone),
            disk: Arc::new(FileSystem),
        }
    }

    /// A new run; an error where one exists.
    pub fn create(path: impl AsRef<Path>) -> Self {
        Self::at(path.as_ref(), Start::New)
    }

    /// Goes on with the newest whole checkpoint; an error where no run exists.
    pub fn resume(path: impl AsRef<Path>) -> Self {
        Self::at(path.as_ref(), Start::Resume)
    }

    /// Goes on where a run exists, starts one where not.
    pub fn open(path: impl AsRef<Path>) -> Self {
        Self::at(path.as_ref(), Start::Either)
    }

    /// Shows progress (default: nowhere).
    pub fn progress(self, progress: Progress) -> Self {
        Self { progress, ..self }
    }

    /// Ends early when this is raised (default: never).
    pub fn interrupt(self, interrupt: Interrupt) -> Self {
        Self { interrupt, ..self }
    }

    /// Sums gradients over processes (default: this one alone).
    pub fn reducer(self, reducer: impl Reducer + 'static) -> Self {
        Self { reducer: Box::new(reducer), ..self }
    }

    /// Resumes although configuration or data differ from those of the start, or `events.jsonl` is damaged; the damaged
    /// file is kept as `events.damaged.jsonl`.
    pub fn accept_changes(self, accept: bool) -> Self {
        Self { accept_changes: accept, ..self }
    }

    /// The whole resolved configuration of the program, written to `config.toml` and compared on resume (default: the
    /// [`FitConfig`] alone).
    ///
    /// # Errors
    /// If it cannot be written as TOML.
    pub fn config(self, config: &impl Serialize) -> Result<Self> {
        let config = toml::Value::try_from(config).map_err(|e| Error::config("(program)", e.to_string()))?;
        Ok(Self { config: Some(config), ..self })
    }

    #[cfg(test)]
    pub(crate) fn disk(self, disk: impl Disk + 'static) -> Self {
        Self { disk: Arc::new(disk), ..self }
    }

    /// Opens and locks the directory and compares what it holds with what is asked for; returns accepted changes.
    pub(crate) fn begin(&mut self, config: &FitConfig, data: &str) -> Result<(RunDir, Vec<String>)> {
        let resolved = match self.config.take() {
            Some(config) => config,
            None => toml::Value::try_from(config).map_err(|e| Error::config("(fit)", e.to_string()))?,
        };
        if self.start == Start::Resume && !self.path.join("manifest.json").exists() {
            return Err(Error::NoRun { path: self.path.clone() });
        }
        let dir = RunDir::open(&self.path, self.disk.clone())?;
        let manifest = dir.read("manifest.json")?;
        let changes = match (&manifest, self.start) {
            (Some(_), Start::New) => return Err(Error::Exists { path: self.path.clone() }),
            (Some(manifest), _) => differences(&dir, manifest, &resolved, data)?,
            (None, _) => vec![],
        };
        if !changes.is_empty() && !self.accept_changes {
            return Err(Error::Changed { what: changes });
        }
        if manifest.is_none() || !changes.is_empty() {
            let text = toml::to_string(&resolved).map_err(|e| Error::config("(program)", e.to_string()))?;
            dir.write("config.toml", &text)?;
            dir.write("manifest.json", &format!("{:#}\n", new_manifest(config, data)))?;
        }
        Ok((dir, changes))
    }
}

fn new_manifest(config: &FitConfig, data: &str) -> Value {
    json!({
        "format": FORMAT,
        "version": VERSION,
        "program": concat!("chandlery-train ", env!("CARGO_PKG_VERSION")),
        "seed": config.seed,
        "data": data,
        "machine": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
        "threads": std::thread::available_parallelism().map_or(1, usize::from),
    })
}

/// What differs between the run in `dir` and what is asked for now.
fn differences(dir: &RunDir, manifest: &str, config: &toml::Value, data: &str) -> Result<Vec<String>> {
    let path = dir.file("manifest.json");
    let manifest: Value = serde_json::from_str(manifest).map_err(|e| Error::damaged(&path, e))?;
    if manifest["format"] != FORMAT || manifest["version"] != VERSION {
        let what = format!("expected {FORMAT} {VERSION}, found {} {}", manifest["format"], manifest["version"]);
        return Err(Error::damaged(path, what));
    }
    let path = dir.file("config.toml");
    let text = dir.read("config.toml")?.ok_or_else(|| Error::damaged(&path, "it is missing"))?;
    let old: toml::Value = toml::from_str(&text).map_err(|e| Error::damaged(&path, e))?;
    let (mut before, mut now) = (BTreeMap::new(), BTreeMap::new());
    flatten("", &old, &mut before);
    flatten("", config, &mut now);
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let show = |side: &BTreeMap<String, String>, key| side.get(key).cloned().unwrap_or("nothing".into());
    let differing = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    let mut changes: Vec<String> =
        differing.map(|key| format!("{key} was {}, is {}", show(&before, key), show(&now, key))).collect();
    let old_data = manifest["data"].as_str().unwrap_or("nothing");
    if old_data != data {
        changes.push(format!("data was {old_data}, is {data}"));
    }
    Ok(changes)
}

fn flatten(key: &str, value: &toml::Value, into: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            for (name, value) in table {
                let key = if key.is_empty() { name.clone() } else { format!("{key}.{name}") };
                flatten(&key, value, into);
            }
        }
        other => {
            into.insert(key.to_string(), other.to_string());
        }
    }
}
