use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use super::special::SPECIALS;
use super::{Fingerprint, TokenizerError};

/// First id of the 256 bytes.
const FIRST_BYTE: u32 = SPECIALS.len() as u32;
/// First id of the characters.
const FIRST_CHAR: u32 = FIRST_BYTE + 256;

/// One id for each frequent character, one for each byte of the others' UTF-8, and the [`SPECIALS`].
///
/// Ids: the specials at 0..17, the bytes at 17..273, then the characters. Nothing is normalised, so
/// `decode(encode(text)) == text` for every text, and no text becomes a special token.
///
/// ```
/// use chandlery_lm::tokenizer::CharTokenizer;
/// # fn main() -> Result<(), chandlery_lm::tokenizer::TokenizerError> {
/// let tokenizer = CharTokenizer::train(["山中何所有", "山中相送罢"], 2, "")?;
/// assert_eq!(tokenizer.characters(), ['中', '山']);
/// assert_eq!(tokenizer.encode("山何"), [274, 17 + 0xe4, 17 + 0xbd, 17 + 0x95]);
/// assert_eq!(tokenizer.decode(&tokenizer.encode("[t]何")), "[t]何");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct CharTokenizer {
    chars: Vec<char>,
    ids: HashMap<char, u32>,
    fingerprint: Fingerprint,
}

/// What an id stands for.
enum Entry {
    Special(&'static str),
    Byte(u8),
    Char(char),
}

impl CharTokenizer {
    /// Gives an id to every character that occurs at least `min_count` times in `texts` and to every one in `always`,
    /// the most frequent first and equally frequent ones by code point.
    ///
    /// What attributes are written with (digits, names of forms) belongs into `texts` or `always`; otherwise it costs
    /// three tokens a character.
    ///
    /// # Errors
    /// If that is no character at all.
    pub fn train<T: AsRef<str>>(
        texts: impl IntoIterator<Item = T>,
        min_count: u64,
        always: &str,
    ) -> Result<Self, TokenizerError> {
        let mut counts: BTreeMap<char, u64> = BTreeMap::new();
        for text in texts {
            text.as_ref().chars().for_each(|c| *counts.entry(c).or_default() += 1);
        }
        let total = counts.values().sum();
        let wanted: HashSet<char> = always.chars().collect();
        wanted.iter().for_each(|&c| *counts.entry(c).or_default() += 0);
        let mut kept: Vec<(char, u64)> =
            counts.into_iter().filter(|&(c, n)| n >= min_count.max(1) || wanted.contains(&c)).collect();
        kept.sort_by_key(|&(_, n)| Reverse(n));
        match kept.is_empty() {
            true => Err(TokenizerError::NothingToLearn { chars: total, min_count }),
            false => Ok(Self::from_chars(kept.into_iter().map(|(c, _)| c).collect())),
        }
    }

    /// A tokenizer of these characters, which must differ.
    pub(super) fn from_chars(chars: Vec<char>) -> Self {
        let ids = chars.iter().zip(FIRST_CHAR..).map(|(&c, id)| (c, id)).collect();
        let mut content = SPECIALS.join("\n");
        content.push('\n');
        content.extend(&chars);
        Self { chars, ids, fingerprint: Fingerprint::of(content.as_bytes()) }
    }

    /// Ids of `text`; never a special one.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 2);
        for c in text.chars() {
            match self.ids.get(&c) {
                Some(&id) => ids.push(id),
                None => ids.extend(c.encode_utf8(&mut [0; 4]).bytes().map(|byte| FIRST_BYTE + u32::from(byte))),
            }
        }
        ids
    }

    /// The text of `ids`, without special ones and without such as are not in the vocabulary. Bytes that are no UTF-8
    /// together become U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(3 * ids.len());
        for entry in ids.iter().filter_map(|&id| self.entry(id)) {
            match entry {
                Entry::Special(_) => {}
                Entry::Byte(byte) => bytes.push(byte),
                Entry::Char(c) => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Specials, bytes and characters.
    pub fn vocab_size(&self) -> usize {
        FIRST_CHAR as usize + self.chars.len()
    }

    /// The characters with an id of their own, in the order of their ids.
    pub fn characters(&self) -> &[char] {
        &self.chars
    }

    /// The id of a character that has one of its own.
    pub fn char_id(&self, c: char) -> Option<u32> {
        self.ids.get(&c).copied()
    }

    /// The id of a special token.
    pub fn special(&self, name: &str) -> Option<u32> {
        SPECIALS.iter().zip(0..).find_map(|(&special, id)| (special == name).then_some(id))
    }

    /// How an entry is written for people: `[EOS]`, `<0xE4>`, `山`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.entry(id).map(|entry| match entry {
            Entry::Special(name) => name.to_owned(),
            Entry::Byte(byte) => format!("<0x{byte:02X}>"),
            Entry::Char(c) => c.to_string(),
        })
    }

    /// See [`Fingerprint`].
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    fn entry(&self, id: u32) -> Option<Entry> {
        match id {
            0..FIRST_BYTE => SPECIALS.get(id as usize).map(|&name| Entry::Special(name)),
            FIRST_BYTE..FIRST_CHAR => u8::try_from(id - FIRST_BYTE).ok().map(Entry::Byte),
            _ => self.chars.get((id - FIRST_CHAR) as usize).map(|&c| Entry::Char(c)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> CharTokenizer {
        CharTokenizer::train(["山山山水水[t]", "月月 a"], 2, "约字0123456789").unwrap()
    }

    #[test]
    fn frequent_characters_come_first_and_ties_by_code_point() {
        assert_eq!(sample().characters().iter().collect::<String>(), "山月水0123456789字约");
    }

    #[test]
    fn order_of_texts_does_not_matter() {
        let other = CharTokenizer::train(["月月 a", "水[t]水山山山"], 2, "字约9876543210").unwrap();
        assert_eq!(other.fingerprint(), sample().fingerprint());
    }

    #[test]
    fn literal_special_stays_text() {
        let ids = sample().encode("[t]山[EOS]");
        assert!(ids.iter().all(|&id| id >= FIRST_BYTE));
        assert_eq!(sample().decode(&ids), "[t]山[EOS]");
    }

    #[test]
    fn specials_and_foreign_ids_leave_no_text() {
        let tokenizer = sample();
        let mut ids = vec![2, 7];
        ids.extend(tokenizer.encode("山"));
        ids.extend([8, 3, tokenizer.vocab_size() as u32, u32::MAX]);
        assert_eq!(tokenizer.decode(&ids), "山");
    }

    #[test]
    fn broken_bytes_decode_to_the_replacement_character() {
        let tokenizer = sample();
        let ids = [FIRST_BYTE + 0xe4, tokenizer.char_id('山').unwrap()];
        assert_eq!(tokenizer.decode(&ids), "\u{fffd}山");
    }

    #[test]
    fn empty_text_teaches_nothing() {
        let error = CharTokenizer::train(["", "山"], 2, "").unwrap_err();
        assert_eq!(error.to_string(), "the training text holds 1 characters, of which none occurs 2 times or more");
    }

    #[test]
    fn every_id_has_a_token_and_none_beyond() {
        let tokenizer = sample();
        assert!((0..tokenizer.vocab_size() as u32).all(|id| tokenizer.token(id).is_some()));
        assert_eq!(tokenizer.token(tokenizer.vocab_size() as u32), None);
        assert_eq!(tokenizer.token(tokenizer.special("[/a]").unwrap()).as_deref(), Some("[/a]"));
        assert_eq!(tokenizer.special("[x]"), None);
    }

    proptest! {
        #[test]
        fn decode_inverts_encode(text in any::<String>()) {
            prop_assert_eq!(sample().decode(&sample().encode(&text)), text);
        }

        #[test]
        fn ids_are_in_the_vocabulary_and_not_special(text in "[山水月何\\[\\]t/kPAD ]{0,40}") {
            let tokenizer = sample();
            let size = tokenizer.vocab_size() as u32;
            prop_assert!(tokenizer.encode(&text).iter().all(|&id| (FIRST_BYTE..size).contains(&id)));
        }
    }
}
