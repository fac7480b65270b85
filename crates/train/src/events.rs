//! What happened at which step, one JSON object a line.

use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// How far the events had come at a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mark {
    pub bytes: u64,
    pub sha256: String,
}

/// `events.jsonl`: it depends on seed, data and configuration alone, so the same run writes the same bytes.
pub(crate) struct Events {
    path: PathBuf,
    file: File,
    hash: Sha256,
    bytes: u64,
}

impl Events {
    /// Starts an empty file.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path))?;
        Ok(Self { path: path.to_path_buf(), file, hash: Sha256::new(), bytes: 0 })
    }

    /// Goes on after `mark` and cuts off what was written later.
    ///
    /// # Errors
    /// If the file is shorter than the mark or was changed before it.
    pub fn reopen(path: &Path, mark: &Mark) -> Result<Self> {
        let mut file = OpenOptions::new().read(true).write(true).open(path).map_err(Error::io(path))?;
        let mut head = Vec::new();
        (&mut file).take(mark.bytes).read_to_end(&mut head).map_err(Error::io(path))?;
        if (head.len() as u64) < mark.bytes {
            let what = format!("expected at least {} bytes, found {}", mark.bytes, head.len());
            return Err(Error::damaged(path, what));
        }
        let hash = Sha256::new_with_prefix(&head);
        if hex(hash.clone()) != mark.sha256 {
            return Err(Error::damaged(path, "it is not the file that this checkpoint was written with"));
        }
        file.set_len(mark.bytes).map_err(Error::io(path))?;
        file.seek(SeekFrom::End(0)).map_err(Error::io(path))?;
        Ok(Self { path: path.to_path_buf(), file, hash, bytes: mark.bytes })
    }

    /// Appends a line.
    pub fn write(&mut self, step: u64, kind: &str, fields: Map<String, Value>) -> Result<()> {
        let mut line = json!({"step": step, "event": kind});
        if let Value::Object(object) = &mut line {
            object.extend(fields);
        }
        let line = format!("{line}\n");
        self.file.write_all(line.as_bytes()).map_err(Error::io(&self.path))?;
        self.hash.update(&line);
        self.bytes += line.len() as u64;
        Ok(())
    }

    /// Makes the lines durable and says how far they go.
    pub fn mark(&mut self) -> Result<Mark> {
        self.file.sync_data().map_err(Error::io(&self.path))?;
        Ok(Mark { bytes: self.bytes, sha256: hex(self.hash.clone()) })
    }
}

/// Numbers as JSON fields; NaN and infinities as text, which JSON has no numbers for.
pub(crate) fn numbers(values: &BTreeMap<String, f64>) -> Map<String, Value> {
    values.iter().map(|(name, value)| (name.clone(), number(*value))).collect()
}

pub(crate) fn number(value: f64) -> Value {
    if value.is_finite() { json!(value) } else { json!(value.to_string()) }
}

pub(crate) fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> (PathBuf, Mark, String) {
        let path = dir.join("events.jsonl");
        let mut events = Events::create(&path).unwrap();
        events.write(1, "train", numbers(&BTreeMap::from([("loss".into(), 0.5)]))).unwrap();
        let mark = events.mark().unwrap();
        let head = std::fs::read_to_string(&path).unwrap();
        events.write(2, "train", numbers(&BTreeMap::from([("loss".into(), f64::NAN)]))).unwrap();
        (path, mark, head)
    }

    #[test]
    fn reopening_cuts_off_what_came_after_the_mark() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mark, head) = written(dir.path());
        assert!(
            std::fs::read_to_string(&path).unwrap().ends_with("{\"event\":\"train\",\"loss\":\"NaN\",\"step\":2}\n")
        );
        drop(Events::reopen(&path, &mark).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), head);
    }

    #[test]
    fn truncated_changed_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (path, mark, head) = written(dir.path());
        let refused = |content: &str| {
            std::fs::write(&path, content).unwrap();
            let error = Events::reopen(&path, &mark).err().unwrap();
            assert!(matches!(error, Error::Damaged { .. }), "{error}");
            error.to_string()
        };
        assert!(refused(&head[..head.len() - 1]).contains("expected at least"));
        assert!(refused(&head.replace("0.5", "0.6")).contains("events.jsonl is damaged: it is not the file"));
        assert!(refused(&"x".repeat(head.len())).contains("not the file"));
    }
}
