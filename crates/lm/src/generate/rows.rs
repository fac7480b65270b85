//! One text of a batch.

use super::history::History;
use super::{Completion, Finish, Flow, Growing, Hooks, Options, Prompt};
use crate::Error;
use chandlery_kernels::{Key, Stream};

#[derive(Debug)]
pub(super) struct Row {
    pub prompt: usize,
    pub sample: usize,
    pub history: History,
    pub finish: Option<Finish>,
    log_probs: Vec<f32>,
    stream: Stream,
}

impl Row {
    pub fn new(index: usize, sample: usize, prompt: &Prompt, key: Key) -> Self {
        Self {
            prompt: index,
            sample,
            history: History::new(&prompt.tokens),
            finish: None,
            log_probs: Vec::new(),
            stream: Stream::new(key.at(prompt.id).at(sample as u64)),
        }
    }

    pub fn growing(&self) -> Growing<'_> {
        Growing { prompt: self.prompt, sample: self.sample, tokens: self.history.generated() }
    }

    /// The row's next draw.
    pub fn uniform(&mut self) -> f64 {
        self.stream.uniform()
    }

    /// The token to feed; any where the row has ended.
    pub fn last(&self) -> u32 {
        self.history.generated().last().copied().unwrap_or(0)
    }

    /// Adds a token and sees whether the text ends with it.
    pub fn push(&mut self, token: u32, log_prob: f32, options: &Options, hooks: &mut dyn Hooks) {
        self.history.push(token);
        self.log_probs.push(log_prob);
        let flow = hooks.chosen(self.growing(), log_prob);
        if options.stop_tokens.contains(&token) {
            self.finish = Some(Finish::StopToken);
        } else if flow == Flow::Stop {
            self.finish = Some(Finish::Hook);
        } else if self.log_probs.len() >= options.max_tokens {
            self.finish = Some(Finish::Length);
        }
    }

    /// No token could be chosen.
    pub fn stuck(&self) -> Error {
        let at = self.log_probs.len();
        let what =
            format!("no token can follow token {at} of sample {}: none is allowed or the logits are NaN", self.sample);
        Error::Prompt { index: self.prompt, what }
    }

    pub fn into_completion(self) -> Completion {
        Completion {
            sample: self.sample,
            tokens: self.history.generated().to_vec(),
            log_probs: self.log_probs,
            finish: self.finish.unwrap_or(Finish::Length),
        }
    }
}
