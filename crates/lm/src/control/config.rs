use serde::{Deserialize, Serialize};

use super::{ControlError, Places, Wording};

/// Learnable vectors that every genre owns, whether or not all are used (Titan 3.2.3).
pub const SOFT_PROMPTS: usize = 64;

/// The genres of the paper: its eleven sources of text.
pub const PAPER_GENRES: [&str; 11] = [
    "general",
    "web",
    "qa",
    "knowledge",
    "finance",
    "law",
    "medical",
    "novel",
    "couplet",
    "poet",
    "machine translation",
];

/// What becomes of a sample that is longer than the context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overlong {
    /// It is refused.
    #[default]
    Error,
    /// The end of the text is cut off, with the end token. The prompt stays whole.
    Cut,
}

/// How attributes become prompts. The default is the paper's, as far as the paper says; `docs/methods/controllable-lm.md`
/// lists what it leaves open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlConfig {
    /// Genres by name; the position selects the rows of the soft prompt.
    pub genres: Vec<String>,
    /// The number of soft prompt vectors is drawn from 0 to this, both included; at most [`SOFT_PROMPTS`].
    pub max_soft: usize,
    /// Soft prompt vectors of a request; `max_soft` unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_soft: Option<usize>,
    /// Id of the first soft prompt vector; the tokenizer's vocabulary size unless given. Give the model's where it has
    /// more entries than the tokenizer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub soft_start: Option<u32>,
    /// Probability that a sample has no prompt at all (equation 2).
    pub p_uncond: f64,
    /// Probability that an attribute of a sample with a prompt is left out.
    pub p_attr: f64,
    /// Whether attributes are left out one by one within the samples that have a prompt. If not, these show all their
    /// attributes and `p_attr` has no effect.
    pub nested: bool,
    /// Whether the genre, too, is left out with `p_attr`, besides its random number of vectors.
    pub drop_genre: bool,
    /// Whether a random part of the keywords is shown, uniformly 1 to all of them, so that requests of fewer are familiar.
    pub keyword_subset: bool,
    /// Whether the loss counts on the words of the prompt, too. Soft prompts have no words and never count.
    pub loss_on_prompt: bool,
    /// Most tokens that the model sees at once; no limit unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_len: Option<usize>,
    /// What becomes of longer samples.
    pub overlong: Overlong,
    /// The words around attribute values.
    pub wording: Wording,
    /// Positions of the parts; one after the other from 0 on unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub places: Option<Places>,
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            genres: Vec::new(),
            max_soft: SOFT_PROMPTS,
            request_soft: None,
            soft_start: None,
            p_uncond: 0.5,
            p_attr: 0.5,
            nested: true,
            drop_genre: false,
            keyword_subset: false,
            loss_on_prompt: false,
            max_len: None,
            overlong: Overlong::Error,
            wording: Wording::english(),
            places: None,
        }
    }
}

impl ControlConfig {
    /// Refuses values out of range and repeated genres.
    ///
    /// # Errors
    /// [`ControlError::Config`], which names the field.
    pub fn validate(&self) -> Result<(), ControlError> {
        for (field, p) in [("p_uncond", self.p_uncond), ("p_attr", self.p_attr)] {
            if !(0.0..=1.0).contains(&p) {
                return Err(ControlError::config(field, format!("expected a probability from 0 to 1, got {p}")));
            }
        }
        for (field, n) in [("max_soft", self.max_soft), ("request_soft", self.request_soft())] {
            if n > SOFT_PROMPTS {
                return Err(ControlError::config(field, format!("expected at most {SOFT_PROMPTS}, got {n}")));
            }
        }
        if self.max_len.is_some_and(|n| n < 2) {
            return Err(ControlError::config("max_len", "expected at least 2, the start and one token"));
        }
        if let Some(places) = &self.places {
            places.validate()?;
        }
        let repeated = |&(i, genre): &(usize, &String)| genre.trim().is_empty() || self.genres[..i].contains(genre);
        match self.genres.iter().enumerate().find(repeated) {
            Some((_, genre)) => {
                Err(ControlError::config("genres", format!("`{genre}` is empty or stands there twice")))
            }
            None => Ok(()),
        }
    }

    /// Soft prompt vectors of a request.
    pub fn request_soft(&self) -> usize {
        self.request_soft.unwrap_or(self.max_soft)
    }

    /// Rows that the model's embedding needs after its vocabulary: 64 for each genre.
    pub fn soft_rows(&self) -> usize {
        self.genres.len() * SOFT_PROMPTS
    }

    /// Position of a genre.
    ///
    /// # Errors
    /// [`ControlError::UnknownGenre`].
    pub fn genre(&self, name: &str) -> Result<usize, ControlError> {
        let found = self.genres.iter().position(|genre| genre == name);
        found.ok_or_else(|| ControlError::UnknownGenre { got: name.to_owned(), known: self.genres.clone() })
    }
}
