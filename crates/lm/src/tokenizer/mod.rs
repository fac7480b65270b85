//! Text to ids and back.
//!
//! [`CharTokenizer`] has one id for each frequent character and spells the others in bytes, which suits Chinese;
//! [`SubwordTokenizer`] runs any `tokenizer.json` and trains byte-level BPE. [`Tokenizer`] is either. No text ever
//! becomes a special token unless asked to with [`Tokenizer::encode_marked`].

mod character;
mod error;
mod file;
mod fingerprint;
mod special;
mod stream;
mod subword;

use std::path::Path;

pub use character::CharTokenizer;
pub use error::TokenizerError;
pub use fingerprint::Fingerprint;
pub use special::{BOS, CLS, EOS, EXTRA, KEYWORDS, LENGTH, MASK, PAD, SENTIMENT, SEP, SPECIALS, TOPIC, UNK};
pub use stream::TextStream;
pub use subword::SubwordTokenizer;

/// Names under which published tokenizers keep the start of a sequence, the likeliest first.
const STARTS: [&str; 6] = [BOS, "<s>", "<|begin_of_text|>", "<bos>", CLS, "<|endoftext|>"];
/// The same for the end of a text.
const ENDS: [&str; 6] = [EOS, "</s>", "<|end_of_text|>", "<eos>", "<|endoftext|>", SEP];
/// The same for padding.
const PADS: [&str; 3] = [PAD, "<pad>", "<|pad|>"];

/// Either kind of tokenizer.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Tokenizer {
    /// Characters with bytes for the rare ones.
    Char(CharTokenizer),
    /// A `tokenizer.json`.
    Subword(Box<SubwordTokenizer>),
}

impl From<CharTokenizer> for Tokenizer {
    fn from(tokenizer: CharTokenizer) -> Self {
        Self::Char(tokenizer)
    }
}

impl From<SubwordTokenizer> for Tokenizer {
    fn from(tokenizer: SubwordTokenizer) -> Self {
        Self::Subword(Box::new(tokenizer))
    }
}

impl Tokenizer {
    /// Loads either kind; the file says which.
    ///
    /// # Errors
    /// If the file cannot be read, is cut off, damaged, of another version or no tokenizer; the message names the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        let text = file::read(path)?;
        match file::is_char_file(path, &text)? {
            true => CharTokenizer::parse(path, &text).map(Self::Char),
            false => SubwordTokenizer::parse(path, text).map(Self::from),
        }
    }

    /// Writes a file for [`load`](Self::load), whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TokenizerError> {
        match self {
            Self::Char(tokenizer) => tokenizer.save(path),
            Self::Subword(tokenizer) => tokenizer.save(path),
        }
    }

    /// Ids of `text`; never a special one, and none added before or after.
    ///
    /// # Errors
    /// Only of a `tokenizer.json`, if the library refuses.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        match self {
            Self::Char(tokenizer) => Ok(tokenizer.encode(text)),
            Self::Subword(tokenizer) => tokenizer.encode(text),
        }
    }

    /// As [`encode`](Self::encode), but names of special tokens in `text` become those; only for text of one's own.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_marked(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let specials = self.specials();
        let (mut ids, mut from, mut at) = (Vec::new(), 0, 0);
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let found = specials.iter().filter(|(name, _)| rest.starts_with(name)).max_by_key(|(name, _)| name.len());
            match found {
                Some((name, id)) => {
                    ids.extend(self.encode(&text[from..at])?);
                    ids.push(*id);
                    at += name.len();
                    from = at;
                }
                None => at += rest.chars().next().map_or(1, char::len_utf8),
            }
        }
        ids.extend(self.encode(&text[from..])?);
        Ok(ids)
    }

    /// The text of `ids`, without special ones and without such as are not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> String {
        match self {
            Self::Char(tokenizer) => tokenizer.decode(ids),
            Self::Subword(tokenizer) => tokenizer.decode(ids),
        }
    }

    /// Ids that can occur are below this.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Char(tokenizer) => tokenizer.vocab_size(),
            Self::Subword(tokenizer) => tokenizer.vocab_size(),
        }
    }

    /// The id of a special token, as `special(EOS)`.
    pub fn special(&self, name: &str) -> Option<u32> {
        match self {
            Self::Char(tokenizer) => tokenizer.special(name),
            Self::Subword(tokenizer) => tokenizer.special(name),
        }
    }

    /// All special tokens with their ids, in the order of their names.
    pub fn specials(&self) -> Vec<(String, u32)> {
        match self {
            Self::Char(_) => SPECIALS.iter().zip(0..).map(|(&name, id)| (name.to_owned(), id)).collect(),
            Self::Subword(tokenizer) => tokenizer.specials().iter().map(|(name, &id)| (name.clone(), id)).collect(),
        }
    }

    /// The start of a sequence under its usual names.
    ///
    /// # Errors
    /// If there is none.
    pub fn bos(&self) -> Result<u32, TokenizerError> {
        self.first_special(&STARTS)
    }

    /// The end of a text under its usual names.
    ///
    /// # Errors
    /// If there is none.
    pub fn eos(&self) -> Result<u32, TokenizerError> {
        self.first_special(&ENDS)
    }

    /// Padding under its usual names; else the end of a text, which is as good where a mask hides it.
    ///
    /// # Errors
    /// If there is none.
    pub fn pad(&self) -> Result<u32, TokenizerError> {
        self.first_special(&PADS).or_else(|_| self.eos())
    }

    fn first_special(&self, names: &[&str]) -> Result<u32, TokenizerError> {
        let found = names.iter().find_map(|name| self.special(name));
        found.ok_or_else(|| TokenizerError::MissingSpecial { name: names.join(" or ") })
    }

    /// An entry for people to read.
    pub fn token(&self, id: u32) -> Option<String> {
        match self {
            Self::Char(tokenizer) => tokenizer.token(id),
            Self::Subword(tokenizer) => tokenizer.token(id),
        }
    }

    /// See [`Fingerprint`].
    pub fn fingerprint(&self) -> &Fingerprint {
        match self {
            Self::Char(tokenizer) => tokenizer.fingerprint(),
            Self::Subword(tokenizer) => tokenizer.fingerprint(),
        }
    }

    /// Refuses this tokenizer for `model` (a name or file, for the message) of `vocab` entries that was trained with the
    /// tokenizer of `fingerprint`, where that is known. A model may have more entries than the tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::WrongTokenizer`] or [`TokenizerError::VocabSize`].
    pub fn check_model(
        &self,
        model: &str,
        vocab: usize,
        fingerprint: Option<&Fingerprint>,
    ) -> Result<(), TokenizerError> {
        if let Some(expected) = fingerprint.filter(|&expected| expected != self.fingerprint()) {
            let (expected, got) = (expected.clone(), self.fingerprint().clone());
            return Err(TokenizerError::WrongTokenizer { model: model.to_owned(), expected, got });
        }
        match self.vocab_size() <= vocab {
            true => Ok(()),
            false => {
                Err(TokenizerError::VocabSize { model: model.to_owned(), expected: vocab, got: self.vocab_size() })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> [Tokenizer; 2] {
        let texts = ["山中何所有 the cat the cat"];
        [CharTokenizer::train(texts, 1, "").unwrap().into(), SubwordTokenizer::train_bpe(texts, 280, 2).unwrap().into()]
    }

    #[test]
    fn load_tells_the_kinds_apart() {
        let dir = tempfile::tempdir().unwrap();
        for tokenizer in both() {
            let path = dir.path().join("tokenizer.json");
            tokenizer.save(&path).unwrap();
            let read = Tokenizer::load(&path).unwrap();
            assert_eq!(std::mem::discriminant(&read), std::mem::discriminant(&tokenizer));
            assert_eq!(read.fingerprint(), tokenizer.fingerprint());
        }
    }

    #[test]
    fn marked_text_gives_specials_only_when_asked() {
        for tokenizer in both() {
            let ids = tokenizer.encode_marked("[t]the[/t][senti][tx").unwrap();
            let mut expected = vec![tokenizer.special("[t]").unwrap()];
            expected.extend(tokenizer.encode("the").unwrap());
            expected.extend([tokenizer.special("[/t]").unwrap(), tokenizer.special("[senti]").unwrap()]);
            expected.extend(tokenizer.encode("[tx").unwrap());
            assert_eq!(ids, expected);
            assert!(tokenizer.encode("[t]").unwrap().iter().all(|&id| id as usize >= SPECIALS.len()));
        }
    }

    #[test]
    fn start_end_and_padding_are_found() {
        for tokenizer in both() {
            assert_eq!((tokenizer.bos().unwrap(), tokenizer.eos().unwrap(), tokenizer.pad().unwrap()), (2, 3, 0));
        }
    }

    #[test]
    fn another_tokenizer_is_refused() {
        let [character, subword] = both();
        let vocab = character.vocab_size();
        character.check_model("a.safetensors", vocab + 64, Some(character.fingerprint())).unwrap();
        let wrong = character.check_model("a.safetensors", vocab, Some(subword.fingerprint())).unwrap_err().to_string();
        assert!(wrong.starts_with("a.safetensors was trained with tokenizer "), "{wrong}");
        let small = character.check_model("a.safetensors", vocab - 1, None).unwrap_err().to_string();
        assert_eq!(small, format!("a.safetensors has a vocabulary of {}, the tokenizer one of {vocab}", vocab - 1));
    }

    #[test]
    fn missing_and_foreign_files_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.json");
        assert!(Tokenizer::load(&path).unwrap_err().to_string().contains("t.json: "));
        for text in ["", "[]", "{}", "{\"format\": 3}", "hello"] {
            std::fs::write(&path, text).unwrap();
            let message = Tokenizer::load(&path).unwrap_err().to_string();
            assert!(message.contains("t.json: no tokenizer: "), "{message}");
        }
    }
}
