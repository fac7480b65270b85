//! Words that a text is to contain.

use super::{Growing, Hooks};

/// Leads every text to words that it is to contain, by raising the logits of the tokens that begin or continue them.
///
/// A missing word's next token gains `start + growth * n` after `n` tokens of text, and as much again for every token of
/// the word that stands already. The model's own scores still decide where a word fits best; as the push grows,
/// the word comes sooner or later (the idea of Pascual et al., arXiv 2109.09707, on tokens instead of their neighbours).
/// Guidance goes on pushing towards a word that stands already; [`spent`](Self::spent) takes that back.
#[derive(Clone, Debug)]
pub struct Words {
    of_prompts: Vec<Vec<Vec<u32>>>,
    start: f32,
    growth: f32,
    spent: f32,
}

impl Words {
    /// The tokens of each word, for each prompt of the call; empty words are passed over.
    pub fn new(of_prompts: Vec<Vec<Vec<u32>>>, start: f32, growth: f32) -> Self {
        Self { of_prompts, start, growth, spent: 0.0 }
    }

    /// Lowers the logits of a word's tokens by `by` once the word stands.
    pub fn spent(self, by: f32) -> Self {
        Self { spent: by, ..self }
    }
}

/// How many tokens of `word` the text ends with, of those that do not complete it.
fn begun(text: &[u32], word: &[u32]) -> usize {
    (1..word.len()).rev().find(|&n| text.ends_with(&word[..n])).unwrap_or(0)
}

impl Hooks for Words {
    fn shape(&mut self, text: Growing<'_>, logits: &mut [f32]) {
        let words = self.of_prompts.get(text.prompt).map_or(&[][..], Vec::as_slice);
        let push = self.start + self.growth * text.tokens.len() as f32;
        for word in words.iter().filter(|word| !word.is_empty()) {
            if text.tokens.windows(word.len()).any(|run| run == word) {
                for &token in word {
                    if let Some(logit) = logits.get_mut(token as usize) {
                        *logit -= self.spent;
                    }
                }
                continue;
            }
            let n = begun(text.tokens, word);
            if let Some(logit) = logits.get_mut(word[n] as usize) {
                *logit += push * (1 + n) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaped(tokens: &[u32]) -> Vec<f32> {
        let mut words = Words::new(vec![vec![], vec![vec![1, 2, 3], vec![4]]], 1.0, 0.5);
        let mut logits = vec![0.0; 6];
        words.shape(Growing { prompt: 1, sample: 0, tokens }, &mut logits);
        logits
    }

    #[test]
    fn missing_words_gain_at_their_next_token_and_more_as_the_text_grows() {
        assert_eq!(shaped(&[]), [0.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        assert_eq!(shaped(&[0, 0]), [0.0, 2.0, 0.0, 0.0, 2.0, 0.0]);
    }

    #[test]
    fn begun_word_gains_at_its_continuation_and_a_complete_one_nowhere() {
        assert_eq!(shaped(&[0, 1]), [0.0, 0.0, 4.0, 0.0, 2.0, 0.0]);
        assert_eq!(shaped(&[1, 2]), [0.0, 0.0, 0.0, 6.0, 2.0, 0.0]);
        assert_eq!(shaped(&[1, 2, 3]), [0.0, 0.0, 0.0, 0.0, 2.5, 0.0]);
        assert_eq!(shaped(&[4, 1, 2, 3]), [0.0; 6]);
    }

    #[test]
    fn complete_word_loses_where_guidance_would_repeat_it() {
        let mut words = Words::new(vec![vec![vec![1, 2]]], 1.0, 0.5).spent(3.0);
        let mut logits = vec![0.0; 4];
        words.shape(Growing { prompt: 0, sample: 0, tokens: &[1, 2, 0] }, &mut logits);
        assert_eq!(logits, [0.0, -3.0, -3.0, 0.0]);
    }

    #[test]
    fn prompt_without_words_and_words_beyond_the_vocabulary_change_nothing() {
        let mut words = Words::new(vec![vec![vec![]], vec![vec![9]]], 1.0, 0.0);
        for prompt in 0..3 {
            let mut logits = vec![0.0; 3];
            words.shape(Growing { prompt, sample: 0, tokens: &[] }, &mut logits);
            assert_eq!(logits, [0.0; 3]);
        }
    }
}
