//! What the tokens so far mean for the next one.

use super::{Allowed, Options};
use std::collections::BTreeMap;

/// Prompt and text of one row, with the number of times each token was generated.
#[derive(Clone, Debug)]
pub(super) struct History {
    tokens: Vec<u32>,
    prompt: usize,
    /// Generated occurrences of every token of prompt or text.
    counts: BTreeMap<u32, u32>,
}

impl History {
    pub fn new(prompt: &[u32]) -> Self {
        let counts = prompt.iter().map(|&token| (token, 0)).collect();
        Self { tokens: prompt.to_vec(), prompt: prompt.len(), counts }
    }

    pub fn push(&mut self, token: u32) {
        self.tokens.push(token);
        *self.counts.entry(token).or_insert(0) += 1;
    }

    pub fn generated(&self) -> &[u32] {
        &self.tokens[self.prompt..]
    }

    /// Changes `logits` by the penalties and sets tokens that must not come to `-inf`.
    pub fn shape(&self, logits: &mut [f32], options: &Options, allowed: Allowed<'_>) {
        self.penalise(logits, options);
        match allowed {
            Allowed::All => {}
            Allowed::Except(tokens) => forbid(logits, tokens.iter().copied()),
            Allowed::Only(tokens) => keep(logits, tokens),
        }
        self.forbid_repeats(logits, options.no_repeat_ngram);
    }

    fn penalise(&self, logits: &mut [f32], options: &Options) {
        let repetition = options.repetition_penalty as f32;
        let (frequency, presence) = (options.frequency_penalty as f32, options.presence_penalty as f32);
        if repetition == 1.0 && frequency == 0.0 && presence == 0.0 {
            return;
        }
        for (&token, &count) in &self.counts {
            // Soft prompts are no tokens.
            let Some(x) = logits.get_mut(token as usize) else { continue };
            *x = if *x > 0.0 { *x / repetition } else { *x * repetition };
            if count > 0 {
                *x -= presence + frequency * count as f32;
            }
        }
    }

    /// Forbids every token that would complete a run of `n` seen before, unless that leaves nothing.
    fn forbid_repeats(&self, logits: &mut [f32], n: usize) {
        if n == 0 || self.tokens.len() < n {
            return;
        }
        let start = &self.tokens[self.tokens.len() - (n - 1)..];
        let mut repeats: Vec<u32> =
            self.tokens.windows(n).filter(|run| run[..n - 1] == *start).map(|run| run[n - 1]).collect();
        if repeats.is_empty() {
            return;
        }
        repeats.sort_unstable();
        let others =
            |(token, &x): (usize, &f32)| x > f32::NEG_INFINITY && repeats.binary_search(&(token as u32)).is_err();
        if logits.iter().enumerate().any(others) {
            forbid(logits, repeats.into_iter());
        }
    }
}

fn forbid(logits: &mut [f32], tokens: impl Iterator<Item = u32>) {
    for token in tokens {
        if let Some(x) = logits.get_mut(token as usize) {
            *x = f32::NEG_INFINITY;
        }
    }
}

fn keep(logits: &mut [f32], tokens: &[u32]) {
    let kept: Vec<(usize, f32)> =
        tokens.iter().filter_map(|&token| Some((token as usize, *logits.get(token as usize)?))).collect();
    logits.fill(f32::NEG_INFINITY);
    kept.into_iter().for_each(|(token, x)| logits[token] = x);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NO: f32 = f32::NEG_INFINITY;

    /// Logits 1, -2, 3, 0 after prompt `[0, 1]` and text `[1, 2, 2]`.
    fn shaped(options: Options, allowed: Allowed<'_>) -> Vec<f32> {
        let mut history = History::new(&[0, 1]);
        [1, 2, 2].into_iter().for_each(|token| history.push(token));
        let mut logits = vec![1.0, -2.0, 3.0, 0.5];
        history.shape(&mut logits, &options, allowed);
        logits
    }

    #[test]
    fn repetition_penalty_shrinks_positive_and_grows_negative_logits_of_prompt_and_text() {
        let options = Options { repetition_penalty: 2.0, ..Options::default() };
        assert_eq!(shaped(options, Allowed::All), [0.5, -4.0, 1.5, 0.5]);
    }

    #[test]
    fn frequency_and_presence_count_the_text_only() {
        let options = Options { frequency_penalty: 0.5, presence_penalty: 0.25, ..Options::default() };
        assert_eq!(shaped(options, Allowed::All), [1.0, -2.75, 1.75, 0.5]);
    }

    #[test]
    fn constraints_forbid_or_keep() {
        assert_eq!(shaped(Options::default(), Allowed::Only(&[3, 1])), [NO, -2.0, NO, 0.5]);
        assert_eq!(shaped(Options::default(), Allowed::Except(&[2, 99])), [1.0, -2.0, NO, 0.5]);
    }

    #[test]
    fn token_that_repeats_a_run_is_forbidden() {
        let bigrams = |tokens: &[u32]| {
            let mut logits = vec![1.0; 4];
            let options = Options { no_repeat_ngram: 2, ..Options::default() };
            History::new(tokens).shape(&mut logits, &options, Allowed::All);
            logits
        };
        assert_eq!(bigrams(&[3, 1, 3, 2, 3]), [1.0, NO, NO, 1.0]);
        assert_eq!(bigrams(&[1]), [1.0; 4]);
        let ones = Options { no_repeat_ngram: 1, ..Options::default() };
        assert_eq!(shaped(ones, Allowed::All), [NO, NO, NO, 0.5]);
    }

    #[test]
    fn repeat_is_allowed_where_nothing_else_is() {
        let options = Options { no_repeat_ngram: 1, ..Options::default() };
        assert_eq!(shaped(options, Allowed::Only(&[2])), [NO, NO, 3.0, NO]);
    }
}
