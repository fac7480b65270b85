use super::Tokenizer;

/// Turns ids into text one at a time, holding back what is no whole character yet.
///
/// ```
/// use chandlery_lm::tokenizer::{CharTokenizer, TextStream, Tokenizer};
/// # fn main() -> Result<(), chandlery_lm::tokenizer::TokenizerError> {
/// let tokenizer = Tokenizer::from(CharTokenizer::train(["山"], 1, "")?);
/// let mut stream = TextStream::new(&tokenizer);
/// let pieces: Vec<String> = tokenizer.encode("山水")?.into_iter().map(|id| stream.push(id)).collect();
/// assert_eq!(pieces, ["山", "", "", "水"]);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last ids: those whose text is out, as context for spaces between words, then those held back.
    ids: Vec<u32>,
    out: usize,
}

/// Ids held back at most; longer runs are no character any more.
const HELD_BACK: usize = 8;

impl<'a> TextStream<'a> {
    /// At the start of a text.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), out: 0 }
    }

    /// The text that `id` completes, often empty for one byte of several.
    pub fn push(&mut self, id: u32) -> String {
        self.ids.push(id);
        let whole = self.tokenizer.decode(&self.ids);
        match whole.ends_with('\u{fffd}') && self.ids.len() - self.out < HELD_BACK {
            true => String::new(),
            false => self.flush(&whole),
        }
    }

    /// What was held back, incomplete characters as U+FFFD.
    pub fn finish(&mut self) -> String {
        let whole = self.tokenizer.decode(&self.ids);
        self.flush(&whole)
    }

    fn flush(&mut self, whole: &str) -> String {
        let before = self.tokenizer.decode(&self.ids[..self.out]);
        self.ids.drain(..self.out);
        self.out = self.ids.len();
        whole.get(before.len()..).unwrap_or_default().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::{CharTokenizer, SubwordTokenizer};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static BOTH: LazyLock<[Tokenizer; 2]> = LazyLock::new(|| {
        let texts = ["the cat sat on the mat 山 水", "the hat 山"];
        [CharTokenizer::train(texts, 2, "").unwrap().into(), SubwordTokenizer::train_bpe(texts, 300, 2).unwrap().into()]
    });

    #[test]
    fn unfinished_character_comes_out_at_the_end() {
        let mut stream = TextStream::new(&BOTH[0]);
        let ids = BOTH[0].encode("何").unwrap();
        assert_eq!(stream.push(ids[0]), "");
        assert_eq!(stream.finish(), "\u{fffd}");
        assert_eq!(stream.finish(), "");
    }

    proptest! {
        #[test]
        fn pieces_make_up_the_text(text in "([a-z 山何\u{1f600}é]|the |\u{200d}){0,30}") {
            for tokenizer in BOTH.iter() {
                let mut stream = TextStream::new(tokenizer);
                let mut pieces: String = tokenizer.encode(&text).unwrap().iter().map(|&id| stream.push(id)).collect();
                pieces += &stream.finish();
                prop_assert_eq!(&pieces, &text);
            }
        }
    }
}
