use serde::{Deserialize, Serialize};

/// The words around attribute values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wording {
    /// Before and after the number of the length.
    pub length: [String; 2],
    /// Between two keywords.
    pub keyword_separator: String,
    /// Between name and value of a free-form attribute.
    pub value_separator: String,
}

impl Wording {
    /// As in the paper: `About 50 words`, `kw0, kw1`.
    pub fn english() -> Self {
        Self::new(["About ", " words"], ", ", ": ")
    }

    /// For Chinese data: `约50字`, `明月、故乡`, `体裁：七绝`.
    pub fn chinese() -> Self {
        Self::new(["约", "字"], "、", "：")
    }

    fn new(length: [&str; 2], keyword_separator: &str, value_separator: &str) -> Self {
        Self {
            length: length.map(str::to_owned),
            keyword_separator: keyword_separator.to_owned(),
            value_separator: value_separator.to_owned(),
        }
    }

    /// Every character that prompts contain besides names and values: for a tokenizer that is to have an id for each.
    pub fn alphabet(&self) -> String {
        [&self.length[0], &self.length[1], &self.keyword_separator, &self.value_separator, "0123456789"].concat()
    }
}

impl Default for Wording {
    fn default() -> Self {
        Self::english()
    }
}
