//! The folder of a run: one process at a time, only relative names inside.

use crate::disk::Disk;
use crate::{Error, Result};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open, locked run directory.
pub(crate) struct RunDir {
    path: PathBuf,
    pub disk: Arc<dyn Disk>,
    /// Locked as long as it is open; the system unlocks it when the process dies, however it dies.
    _lock: File,
}

impl RunDir {
    /// Opens `path`, making it where it does not exist, and removes what a killed process left half written.
    ///
    /// # Errors
    /// If it cannot be written or another process has it open.
    pub fn open(path: &Path, disk: Arc<dyn Disk>) -> Result<Self> {
        fs::create_dir_all(path.join("ckpt")).map_err(Error::io(path))?;
        let lock = File::create(path.join("lock")).map_err(Error::io(path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: path.to_path_buf() }),
            Err(TryLockError::Error(e)) => return Err(Error::io(path)(e)),
        }
        let dir = Self { path: path.to_path_buf(), disk, _lock: lock };
        for name in dir.names("ckpt")?.iter().filter(|name| name.starts_with('.')) {
            let left = dir.file("ckpt").join(name);
            fs::remove_dir_all(&left).map_err(Error::io(&left))?;
        }
        Ok(dir)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn names(&self, folder: &str) -> Result<Vec<String>> {
        let path = self.file(folder);
        let entries = fs::read_dir(&path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
        Ok(entries.map_err(Error::io(&path))?.iter().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
    }

    /// Replaces a file whole.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        let (path, temporary) = (self.file(name), self.file(&format!(".{name}.tmp")));
        let written = self.disk.write(&temporary, content.as_bytes());
        written.and_then(|()| self.disk.rename(&temporary, &path)).map_err(Error::io(path))
    }

    /// The text of a file; `None` where it does not exist.
    pub fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.file(name);
        match fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map(Some).map_err(|_| Error::damaged(path, "it is not UTF-8 text")),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io(path)(e)),
        }
    }

    /// Steps of all checkpoints, oldest first.
    pub fn checkpoints(&self) -> Result<Vec<u64>> {
        let step = |name: &String| name.strip_prefix("step-")?.parse().ok();
        let mut steps: Vec<u64> = self.names("ckpt")?.iter().filter_map(step).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Folder of the checkpoint of a step.
    pub fn checkpoint(&self, step: u64) -> PathBuf {
        self.file("ckpt").join(format!("step-{step}"))
    }

    /// Takes a damaged checkpoint out of the row, for inspection; it would count as one of the last otherwise.
    pub fn set_aside(&self, step: u64) -> Result<()> {
        let (path, aside) = (self.checkpoint(step), self.file("ckpt").join(format!("damaged-step-{step}")));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::io(&aside))?;
        }
        self.disk.rename(&path, &aside).map_err(Error::io(path))
    }

    /// Removes all checkpoints but the newest `keep` and `best`.
    pub fn prune(&self, keep: usize, best: Option<u64>) -> Result<()> {
        let steps = self.checkpoints()?;
        let old = &steps[..steps.len().saturating_sub(keep)];
        for &step in old.iter().filter(|step| Some(**step) != best) {
            let path = self.checkpoint(step);
            // Under a hidden name first: a kill in between leaves no half checkpoint that looks whole.
            let hidden = self.file("ckpt").join(format!(".old-step-{step}"));
            let removed = fs::rename(&path, &hidden).and_then(|()| fs::remove_dir_all(&hidden));
            removed.map_err(Error::io(path))?;
        }
        Ok(())
    }
}
