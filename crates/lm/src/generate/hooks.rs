//! What a caller may see and decide while texts grow.

/// A text that is being generated.
#[derive(Clone, Copy, Debug)]
pub struct Growing<'a> {
    /// Index of the prompt in the call.
    pub prompt: usize,
    /// Which of the prompt's samples.
    pub sample: usize,
    /// Tokens so far, without the prompt.
    pub tokens: &'a [u32],
}

/// Tokens that may come next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Allowed<'a> {
    /// Any.
    #[default]
    All,
    /// These and no other.
    Only(&'a [u32]),
    /// All but these.
    Except(&'a [u32]),
}

/// Whether a text goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Flow {
    /// It goes on.
    #[default]
    Continue,
    /// It ends here.
    Stop,
}

/// Constraints, streaming and stop rules. Every method has a default, `()` has no other.
///
/// ```
/// use chandlery_lm::generate::{Allowed, Growing, Hooks};
/// /// Every third token is number 7.
/// struct Rhythm;
/// impl Hooks for Rhythm {
///     fn allowed(&mut self, text: Growing<'_>) -> Allowed<'_> {
///         if text.tokens.len() % 3 == 2 { Allowed::Only(&[7]) } else { Allowed::All }
///     }
/// }
/// ```
pub trait Hooks {
    /// Called before a token is chosen.
    fn allowed(&mut self, text: Growing<'_>) -> Allowed<'_> {
        let _ = text;
        Allowed::All
    }

    /// Called before [`allowed`](Self::allowed) with the logits after guidance, one a token, to change as one likes.
    fn shape(&mut self, text: Growing<'_>, logits: &mut [f32]) {
        let _ = (text, logits);
    }

    /// Called after a token was chosen, which is the last of `text.tokens`; `log_prob` is the model's own.
    fn chosen(&mut self, text: Growing<'_>, log_prob: f32) -> Flow {
        let _ = (text, log_prob);
        Flow::Continue
    }
}

impl Hooks for () {}

/// Calls a function for every token: streaming in one line.
impl<F: FnMut(Growing<'_>) -> Flow> Hooks for F {
    fn chosen(&mut self, text: Growing<'_>, _: f32) -> Flow {
        self(text)
    }
}

/// Ends a text once it contains one of some strings.
#[derive(Clone, Debug)]
pub struct StopStrings<F> {
    stops: Vec<String>,
    decode: F,
    tail: usize,
}

impl<F: Fn(&[u32]) -> String> StopStrings<F> {
    /// With the tokenizer's `decode`.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>, decode: F) -> Self {
        let stops: Vec<String> = stops.into_iter().map(Into::into).filter(|s: &String| !s.is_empty()).collect();
        // A token has at least one byte, so a string that the last token completes starts among these.
        let tail = stops.iter().map(String::len).max().unwrap_or(0);
        Self { stops, decode, tail }
    }
}

impl<F: Fn(&[u32]) -> String> Hooks for StopStrings<F> {
    fn chosen(&mut self, text: Growing<'_>, _: f32) -> Flow {
        let tail = (self.decode)(&text.tokens[text.tokens.len().saturating_sub(self.tail)..]);
        if self.stops.iter().any(|stop| tail.contains(stop)) { Flow::Stop } else { Flow::Continue }
    }
}
