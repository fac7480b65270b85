//! The small part of a checkpoint.

use crate::events::{Mark, hex};
use crate::guard::Guard;
use crate::{Cursor, Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

const FORMAT: &str = "chandlery-checkpoint";
const VERSION: u64 = 1;

/// Everything of a run that is not a tensor.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Steps made.
    pub step: u64,
    /// Where the data go on.
    pub cursor: Cursor,
    /// How often the run went back to a checkpoint.
    pub rewinds: u64,
    /// Best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations since the best.
    pub stale: u64,
    /// Updates and recent values of each group.
    pub groups: BTreeMap<String, GroupState>,
    /// How far `events.jsonl` had come.
    pub events: Mark,
    /// The task's own values.
    pub extra: BTreeMap<String, Value>,
    /// The other files of the checkpoint.
    pub files: BTreeMap<String, FileMark>,
}

/// The best evaluation of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Its step; `ckpt/step-N` is kept.
    pub step: u64,
    /// The value of the configured meter.
    pub value: f64,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupState {
    pub t: u64,
    pub guard: Guard,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileMark {
    pub bytes: u64,
    pub sha256: String,
}

impl FileMark {
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: hex(Sha256::new_with_prefix(content)) }
    }
}

impl State {
    /// As text that carries its own version and checksum.
    pub fn to_text(&self) -> Result<String> {
        let state = serde_json::to_value(self).map_err(Error::task)?;
        let sha256 = FileMark::of(state.to_string().as_bytes()).sha256;
        let whole = json!({"format": FORMAT, "version": VERSION, "sha256": sha256, "state": state});
        Ok(format!("{whole:#}\n"))
    }

    /// From the text of `path`.
    ///
    /// # Errors
    /// If it is not whole, was changed, or is of another program or version.
    pub fn from_text(path: &Path, text: &str) -> Result<Self> {
        let damaged = |what: String| Error::damaged(path, what);
        let mut whole: Value = serde_json::from_str(text).map_err(|e| damaged(e.to_string()))?;
        if whole["format"] != FORMAT {
            return Err(damaged(format!("expected format {FORMAT}, found {}", whole["format"])));
        }
        if whole["version"] != VERSION {
            return Err(damaged(format!("expected version {VERSION}, found {}", whole["version"])));
        }
        let state = whole["state"].take();
        let sha256 = FileMark::of(state.to_string().as_bytes()).sha256;
        if whole["sha256"] != sha256 {
            return Err(damaged(format!("expected checksum {}, found {sha256}", whole["sha256"])));
        }
        serde_json::from_value(state).map_err(|e| damaged(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_returns_every_bit_and_shows_every_change() {
        let best = Some(Best { step: 3, value: 0.1 + 0.2 });
        let state = State { step: 7, best, ..State::default() };
        let (path, text) = (Path::new("state.json"), state.to_text().unwrap());
        let back = State::from_text(path, &text).unwrap();
        assert_eq!((back.step, back.best), (7, best));
        let say = |text: &str| State::from_text(path, text).err().unwrap().to_string();
        assert!(say(&text[..text.len() / 2]).contains("state.json is damaged"));
        assert!(say(&text.replace("\"step\": 7", "\"step\": 8")).contains("checksum"));
        assert!(say(&text.replace("\"version\": 1", "\"version\": 2")).contains("expected version 1, found 2"));
        assert!(say("{}").contains("expected format chandlery-checkpoint, found null"));
    }
}
