use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ControlError;
use crate::tokenizer::{EXTRA, KEYWORDS, LENGTH, SENTIMENT, TOPIC};

/// Learned positions for every part of a prompt and for the text.
///
/// Each kind of attribute begins at a position of its own and the text at one of its own, whatever else is shown, and
/// `[BOS]` stands right before the text. A single attention head can then look at, say, the keywords without first
/// finding out where they are. For models with learned positions; the order of the tokens stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Places {
    /// Of the text's first token.
    pub text: usize,
    /// Of the genre's first vector.
    #[serde(default)]
    pub soft: usize,
    /// Of `[t]`.
    #[serde(default)]
    pub topic: usize,
    /// Of `[k]`.
    #[serde(default)]
    pub keywords: usize,
    /// Of `[senti]`.
    #[serde(default)]
    pub sentiment: usize,
    /// Of `[w]`.
    #[serde(default)]
    pub length: usize,
    /// Of the `[a]` of each free-form attribute, by name.
    #[serde(default)]
    pub extra: BTreeMap<String, usize>,
}

impl Places {
    /// Refuses places that are not before the text.
    pub(super) fn validate(&self) -> Result<(), ControlError> {
        let fixed = [self.soft, self.topic, self.keywords, self.sentiment, self.length];
        match fixed.iter().chain(self.extra.values()).find(|&&place| place + 1 >= self.text) {
            Some(place) => {
                let what = format!("a part at {place} does not stand before `[BOS]` and the text at {}", self.text);
                Err(ControlError::config("places", what))
            }
            None => Ok(()),
        }
    }

    /// Where the part with these markers begins; `name` is a free-form attribute's.
    pub(super) fn hard(&self, markers: [&str; 2], name: Option<&str>) -> Result<usize, ControlError> {
        let unknown = || ControlError::config("places", format!("no place for `{}`", name.unwrap_or(markers[0])));
        match name {
            Some(name) => self.extra.get(name).copied().ok_or_else(unknown),
            None => {
                [(TOPIC, self.topic), (KEYWORDS, self.keywords), (SENTIMENT, self.sentiment), (LENGTH, self.length)]
                    .into_iter()
                    .find_map(|(known, place)| (known == markers && known != EXTRA).then_some(place))
                    .ok_or_else(unknown)
            }
        }
    }

    /// `n` positions from `place` on, none of them at or after that of `[BOS]`.
    pub(super) fn run(&self, place: usize, n: usize) -> impl Iterator<Item = u32> {
        let last = self.text.saturating_sub(2);
        (place..place + n).map(move |at| at.min(last) as u32)
    }
}
