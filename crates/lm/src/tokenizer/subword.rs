use std::collections::BTreeMap;
use std::path::Path;

use tokenizers::decoders::byte_level::ByteLevel;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::{AddedToken, NormalizerWrapper, PostProcessorWrapper, TokenizerImpl};

use super::special::{SPECIALS, UNK};
use super::{Fingerprint, TokenizerError, file};

/// Any `tokenizer.json`, run by the `tokenizers` library.
///
/// Truncation and padding set in the file are switched off: they would cut text in silence.
#[derive(Clone)]
pub struct SubwordTokenizer {
    inner: tokenizers::Tokenizer,
    json: String,
    vocab_size: usize,
    specials: BTreeMap<String, u32>,
    fingerprint: Fingerprint,
}

impl std::fmt::Debug for SubwordTokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { vocab_size, fingerprint, .. } = self;
        f.debug_struct("SubwordTokenizer").field("vocab_size", vocab_size).field("fingerprint", fingerprint).finish()
    }
}

fn library(e: tokenizers::Error) -> TokenizerError {
    TokenizerError::Library(e.to_string())
}

impl SubwordTokenizer {
    /// Loads a `tokenizer.json`.
    ///
    /// # Errors
    /// If the file cannot be read or is no tokenizer.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        Self::parse(path, file::read(path)?)
    }

    pub(super) fn parse(path: &Path, json: String) -> Result<Self, TokenizerError> {
        let wrong = |e: tokenizers::Error| TokenizerError::Json { path: path.to_owned(), problem: e.to_string() };
        let inner = tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(wrong)?;
        Self::wrap(inner, json)
    }

    fn wrap(mut inner: tokenizers::Tokenizer, json: String) -> Result<Self, TokenizerError> {
        inner.with_truncation(None).map_err(library)?;
        inner.with_padding(None);
        // Literal specials in a user's text stay text.
        inner.set_encode_special_tokens(true);
        let last = inner.get_vocab(true).into_values().max();
        let added = inner.get_added_tokens_decoder().into_iter().filter(|(_, token)| token.special);
        Ok(Self {
            specials: added.map(|(id, token)| (token.content, id)).collect(),
            vocab_size: last.map_or(0, |id| id as usize + 1),
            fingerprint: Fingerprint::of(json.as_bytes()),
            inner,
            json,
        })
    }

    /// Learns a byte-level BPE of `vocab_size` entries, the [`SPECIALS`] at 0..17 and the 256 bytes among them.
    ///
    /// Pairs that occur less than `min_count` times are not merged, so there can be fewer entries. Nothing is normalised:
    /// `decode(encode(text)) == text`.
    ///
    /// # Errors
    /// If `vocab_size` has no room for specials and bytes, or the texts are empty.
    pub fn train_bpe<T: AsRef<str> + Send>(
        texts: impl IntoIterator<Item = T, IntoIter: Send>,
        vocab_size: usize,
        min_count: u64,
    ) -> Result<Self, TokenizerError> {
        let least = SPECIALS.len() + 256;
        if vocab_size < least {
            return Err(TokenizerError::VocabTooSmall { got: vocab_size, least });
        }
        let mut bytes = 0;
        let texts = texts.into_iter().inspect(|text| bytes += text.as_ref().len() as u64);
        let json = learn(texts, vocab_size, min_count).map_err(library)?;
        if bytes == 0 {
            return Err(TokenizerError::NothingToLearn { chars: 0, min_count });
        }
        Self::wrap(tokenizers::Tokenizer::from_bytes(&json).map_err(library)?, json)
    }

    /// Adds those of `names` that are no special tokens yet, at the end of the vocabulary: [`SPECIALS`] make a pretrained
    /// tokenizer fit for training with attributes. The model's embedding has to grow with it.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn with_specials(self, names: &[&str]) -> Result<Self, TokenizerError> {
        let mut inner = self.inner;
        let missing = names.iter().filter(|&&name| !self.specials.contains_key(name));
        let tokens: Vec<AddedToken> = missing.map(|&name| AddedToken::from(name, true)).collect();
        if tokens.is_empty() {
            return Self::wrap(inner, self.json);
        }
        inner.add_special_tokens(tokens).map_err(library)?;
        let json = inner.to_string(false).map_err(library)?;
        Self::wrap(inner, json)
    }

    /// Writes the `tokenizer.json` as it was read or trained, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TokenizerError> {
        file::write(path.as_ref(), &self.json)
    }

    /// Ids of `text`; never a special one, and none added before or after.
    ///
    /// # Errors
    /// If the library refuses, as for a word that is unknown and no unknown token.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, false).map_err(library)?.get_ids().to_vec())
    }

    /// Ids of `text` with what the file's template puts around it, such as `<s>` before it.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_framed(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        Ok(self.inner.encode_fast(text, true).map_err(library)?.get_ids().to_vec())
    }

    /// The text of `ids`, without special ones and without such as are not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> String {
        let plain = |_| ids.iter().filter_map(|&id| self.token(id)).collect();
        self.inner.decode(ids, true).unwrap_or_else(plain)
    }

    /// The highest id and 1.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The id of a special token.
    pub fn special(&self, name: &str) -> Option<u32> {
        self.specials.get(name).copied()
    }

    /// All special tokens, by name.
    pub fn specials(&self) -> &BTreeMap<String, u32> {
        &self.specials
    }

    /// An entry as it stands in the file.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// See [`Fingerprint`].
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

/// The `tokenizer.json` of a byte-level BPE learnt from `texts`.
fn learn<T: AsRef<str> + Send>(
    texts: impl Iterator<Item = T> + Send,
    vocab_size: usize,
    min_count: u64,
) -> tokenizers::Result<String> {
    let mut trainer = BpeTrainer::builder()
        .show_progress(false)
        .vocab_size(vocab_size)
        .min_frequency(min_count)
        .special_tokens(SPECIALS.iter().map(|&name| AddedToken::from(name, true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build();
    let model = BPE::builder().unk_token(UNK.to_owned()).build()?;
    let mut inner: TokenizerImpl<BPE, NormalizerWrapper, ByteLevel, PostProcessorWrapper, ByteLevel> =
        TokenizerImpl::new(model);
    let bytes = ByteLevel::new(false, false, true);
    inner.with_pre_tokenizer(Some(bytes)).with_decoder(Some(bytes));
    inner.train(&mut trainer, texts)?;
    inner.to_string(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::BOS;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static BPE_300: LazyLock<SubwordTokenizer> = LazyLock::new(|| {
        let lines = ["the cat sat on the mat", "白日依山尽，黄河入海流", "the hat of the cat"];
        SubwordTokenizer::train_bpe(lines, 300, 2).unwrap()
    });

    #[test]
    fn trained_bpe_has_specials_first_and_merges_frequent_pairs() {
        assert_eq!(SPECIALS.map(|name| BPE_300.special(name).unwrap()), std::array::from_fn(|i| i as u32));
        assert!(BPE_300.vocab_size() > 273 && BPE_300.vocab_size() <= 300);
        assert!(BPE_300.encode("the cat").unwrap().len() < 7);
    }

    #[test]
    fn training_twice_gives_the_same_file() {
        let lines = ["the cat sat on the mat", "白日依山尽，黄河入海流", "the hat of the cat"];
        let again = SubwordTokenizer::train_bpe(lines, 300, 2).unwrap();
        assert_eq!(again.fingerprint(), BPE_300.fingerprint());
    }

    #[test]
    fn literal_special_stays_text() {
        let ids = BPE_300.encode("[t] the [EOS]").unwrap();
        assert!(ids.iter().all(|&id| id >= SPECIALS.len() as u32));
        assert_eq!(BPE_300.decode(&ids), "[t] the [EOS]");
    }

    #[test]
    fn saved_file_is_the_same_tokenizer() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        BPE_300.save(&path).unwrap();
        let read = SubwordTokenizer::load(&path).unwrap();
        assert_eq!(read.fingerprint(), BPE_300.fingerprint());
        assert_eq!(read.encode("the cat").unwrap(), BPE_300.encode("the cat").unwrap());
    }

    #[test]
    fn added_specials_come_after_the_vocabulary() {
        let more = BPE_300.clone().with_specials(&["<x>", BOS]).unwrap();
        assert_eq!(more.special("<x>"), Some(BPE_300.vocab_size() as u32));
        assert_eq!(more.vocab_size(), BPE_300.vocab_size() + 1);
        assert_ne!(more.fingerprint(), BPE_300.fingerprint());
        assert_eq!(more.decode(&more.encode("a <x> b").unwrap()), "a <x> b");
    }

    #[test]
    fn too_small_vocabulary_and_empty_text_are_errors() {
        let error = SubwordTokenizer::train_bpe(["a"], 272, 1).unwrap_err();
        assert_eq!(error.to_string(), "a vocabulary of 272 entries was asked for, expected at least 273");
        assert!(matches!(
            SubwordTokenizer::train_bpe([""; 3], 300, 1),
            Err(TokenizerError::NothingToLearn { chars: 0, .. })
        ));
    }

    #[test]
    fn truncated_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        for cut in [0, 1, 100, BPE_300.json.len() - 1] {
            std::fs::write(&path, &BPE_300.json[..cut]).unwrap();
            let message = SubwordTokenizer::load(&path).unwrap_err().to_string();
            assert!(message.contains("tokenizer.json: no tokenizer: "), "{message}");
        }
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(text in any::<String>()) {
            prop_assert_eq!(BPE_300.decode(&BPE_300.encode(&text).unwrap()), text);
        }
    }
}
