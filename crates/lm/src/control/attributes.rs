use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ControlError;

/// What a text is to be like. Everything is optional.
///
/// Genre, topic, keywords, sentiment and length are those of ERNIE 3.0 Titan (arXiv 2112.12731, 3.2.3); `extra` is our
/// extension for whatever else the data knows, such as a poem's form, dynasty or author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Attributes {
    /// One of the configured genres; becomes a soft prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genre: Option<String>,
    /// Topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Keywords, in the order in which they are written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keywords: Vec<String>,
    /// Sentiment label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sentiment: Option<String>,
    /// Length of the text, in whatever unit the wording names: tokens in the paper, characters for Chinese.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub length: Option<usize>,
    /// Free-form attributes by name, written in the order of their names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, String>,
}

impl Attributes {
    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Adds a free-form attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.extra.insert(name.to_owned(), value.into());
        self
    }

    /// Refuses names and values of white space only.
    ///
    /// # Errors
    /// [`ControlError::EmptyAttribute`].
    pub fn validate(&self) -> Result<(), ControlError> {
        let named = [("genre", &self.genre), ("topic", &self.topic), ("sentiment", &self.sentiment)];
        let named = named.into_iter().filter_map(|(name, value)| value.as_ref().map(|value| (name, value)));
        let keywords = self.keywords.iter().map(|word| ("keywords", word));
        let extra = self.extra.iter().map(|(name, value)| (name.as_str(), value));
        let blank = |(name, value): &(&str, &String)| name.trim().is_empty() || value.trim().is_empty();
        match named.chain(keywords).chain(extra).find(blank) {
            Some((name, _)) => Err(ControlError::EmptyAttribute { name: name.to_owned() }),
            None => Ok(()),
        }
    }
}
