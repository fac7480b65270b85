//! A checkpoint: a folder that appears whole or not at all.

use crate::run_dir::RunDir;
use crate::state::{FileMark, State};
use crate::{Error, Result};
use candle_core::{Device, Tensor};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

pub(crate) type Tensors = BTreeMap<String, Tensor>;

/// All of a run at one step.
pub(crate) struct Checkpoint {
    pub state: State,
    /// Tensors by file: `params`, `optim`, and where used `ema` and `extra`.
    pub tensors: BTreeMap<&'static str, Tensors>,
}

const FILES: [&str; 4] = ["params", "optim", "ema", "extra"];

impl Checkpoint {
    /// Writes `ckpt/step-N` under a temporary name, makes it durable and renames it.
    ///
    /// # Errors
    /// If it cannot be written; then earlier checkpoints are as they were.
    pub fn save(mut self, dir: &RunDir) -> Result<()> {
        let step = self.state.step;
        let (path, temporary) = (dir.checkpoint(step), dir.file("ckpt").join(format!(".new-step-{step}")));
        let written = fs::create_dir_all(&temporary)
            .map_err(Error::io(&temporary))
            .and_then(|()| self.write(dir, &temporary))
            .and_then(|()| replace(dir, &temporary, &path));
        if written.is_err() {
            // The error that matters is the one at hand; the next start cleans up too.
            let _ = fs::remove_dir_all(&temporary);
        }
        written
    }

    fn write(&mut self, dir: &RunDir, folder: &Path) -> Result<()> {
        for (name, tensors) in std::mem::take(&mut self.tensors) {
            let name = format!("{name}.safetensors");
            let path = folder.join(&name);
            let contiguous = tensors.into_iter().map(|(name, t)| Ok((name, t.contiguous()?)));
            let tensors = contiguous.collect::<candle_core::Result<Vec<_>>>()?;
            let bytes = safetensors::serialize(tensors, None).map_err(Error::task)?;
            dir.disk.write(&path, &bytes).map_err(Error::io(&path))?;
            self.state.files.insert(name, FileMark::of(&bytes));
        }
        let path = folder.join("state.json");
        dir.disk.write(&path, self.state.to_text()?.as_bytes()).map_err(Error::io(path))
    }

    /// Reads and verifies the checkpoint of `step`.
    ///
    /// # Errors
    /// If a file is missing, cut short, changed or foreign; the message names it.
    pub fn load(dir: &RunDir, step: u64) -> Result<Self> {
        let folder = dir.checkpoint(step);
        let path = folder.join("state.json");
        let text = String::from_utf8(read(&path)?).map_err(|_| Error::damaged(&path, "it is not UTF-8 text"))?;
        let state = State::from_text(&path, &text)?;
        if state.step != step {
            return Err(Error::damaged(path, format!("expected step {step}, found {}", state.step)));
        }
        let mut tensors = BTreeMap::new();
        for name in FILES {
            let file = format!("{name}.safetensors");
            if let Some(mark) = state.files.get(&file) {
                tensors.insert(name, load_verified(&folder.join(file), mark)?);
            }
        }
        Ok(Self { state, tensors })
    }

    /// The newest checkpoint that is whole, and what was found wrong with newer ones, which are set aside as
    /// `ckpt/damaged-step-N`.
    ///
    /// # Errors
    /// If there are checkpoints but none is whole: the newest one's error, and nothing is moved.
    pub fn newest(dir: &RunDir) -> Result<(Option<Self>, Vec<Error>)> {
        let mut damaged = Vec::new();
        for &step in dir.checkpoints()?.iter().rev() {
            match Self::load(dir, step) {
                Ok(checkpoint) => {
                    damaged.iter().try_for_each(|(step, _)| dir.set_aside(*step))?;
                    return Ok((Some(checkpoint), damaged.into_iter().map(|(_, error)| error).collect()));
                }
                Err(e @ Error::Damaged { .. }) => damaged.push((step, e)),
                Err(e) => return Err(e),
            }
        }
        if damaged.is_empty() { Ok((None, vec![])) } else { Err(damaged.swap_remove(0).1) }
    }

    /// The tensors of one file, empty where it was not saved.
    pub fn take(&mut self, name: &str) -> Tensors {
        self.tensors.remove(name).unwrap_or_default()
    }
}

/// Puts a finished folder in its place; one of the same step is taken away first.
fn replace(dir: &RunDir, temporary: &Path, path: &Path) -> Result<()> {
    if path.exists() {
        let old = path.with_file_name(".replaced");
        let gone = dir.disk.rename(path, &old).and_then(|()| fs::remove_dir_all(&old));
        gone.map_err(Error::io(path))?;
    }
    dir.disk.rename(temporary, path).map_err(Error::io(path))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Error::damaged(path, "it is missing"),
        _ => Error::io(path)(e),
    })
}

fn load_verified(path: &Path, mark: &FileMark) -> Result<Tensors> {
    let bytes = read(path)?;
    let found = FileMark::of(&bytes);
    if found.bytes != mark.bytes {
        return Err(Error::damaged(path, format!("expected {} bytes, found {}", mark.bytes, found.bytes)));
    }
    if found != *mark {
        return Err(Error::damaged(path, format!("expected checksum {}, found {}", mark.sha256, found.sha256)));
    }
    let tensors = candle_core::safetensors::load_buffer(&bytes, &Device::Cpu);
    Ok(tensors.map_err(|e| Error::damaged(path, e))?.into_iter().collect())
}
