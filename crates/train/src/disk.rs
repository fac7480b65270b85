//! Writing files so that they survive a crash; a seam for tests that let the disk fill up.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// The write operations of a run directory.
pub(crate) trait Disk: Send + Sync {
    /// Writes a new file and makes it durable.
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let mut file = File::create(path)?;
        file.write_all(content)?;
        file.sync_all()
    }

    /// Renames a file or folder and makes that durable.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)?;
        match to.parent() {
            Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
            _ => Ok(()),
        }
    }
}

/// The file system.
pub(crate) struct FileSystem;

impl Disk for FileSystem {}
