//! Where batches come from.

use crate::Result;
use chandlery_kernels::Key;

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchAt {
    /// The step, from 1.
    pub step: u64,
    /// The micro-batch within the step.
    pub micro: usize,
    /// Key for augmentation and masking: a function of seed, step and micro-batch.
    pub key: Key,
    /// Longest sequence at this step, where the run grows it (see [`Growth`](crate::Growth)).
    pub max_len: Option<usize>,
}

/// A set of items from which batches are made, on the loader's thread, and the held-out batches beside it.
pub trait Source: Sync {
    /// The task's batch.
    type Batch: Send;

    /// Number of training items.
    fn n_items(&self) -> usize;

    /// Makes the batch of these items: a function of its arguments alone.
    ///
    /// # Errors
    /// Whatever stops the run; the loop adds step and micro-batch.
    fn batch(&self, items: &[usize], at: BatchAt) -> Result<Self::Batch>;

    /// Number of held-out batches.
    fn n_eval(&self) -> usize {
        0
    }

    /// The `index`-th held-out batch.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn eval_batch(&self, index: usize) -> Result<Self::Batch> {
        Err(crate::Error::task(format!("this source has no held-out batch {index}")))
    }

    /// What identifies the data: a run is resumed only on data with the same text. A hash of the content is best.
    fn fingerprint(&self) -> String {
        format!("{} items, {} held-out batches", self.n_items(), self.n_eval())
    }
}

/// A source made of functions.
pub struct FnSource<B, E> {
    n_items: usize,
    batch: B,
    n_eval: usize,
    eval: E,
    fingerprint: Option<String>,
}

/// Makes batches of `n_items` items with `batch`.
pub fn from_fn<T, B>(n_items: usize, batch: B) -> FnSource<B, fn(usize) -> Result<T>>
where
    B: Fn(&[usize], BatchAt) -> Result<T> + Sync,
{
    let none: fn(usize) -> Result<T> = |i| Err(crate::Error::task(format!("no held-out batch {i}")));
    FnSource { n_items, batch, n_eval: 0, eval: none, fingerprint: None }
}

impl<B, E> FnSource<B, E> {
    /// Adds `n_eval` held-out batches.
    pub fn with_eval<T, F>(self, n_eval: usize, eval: F) -> FnSource<B, F>
    where
        F: Fn(usize) -> Result<T> + Sync,
    {
        FnSource { n_items: self.n_items, batch: self.batch, n_eval, eval, fingerprint: self.fingerprint }
    }

    /// Names the data, see [`Source::fingerprint`].
    pub fn with_fingerprint(self, fingerprint: impl Into<String>) -> Self {
        Self { fingerprint: Some(fingerprint.into()), ..self }
    }
}

impl<T, B, E> Source for FnSource<B, E>
where
    T: Send,
    B: Fn(&[usize], BatchAt) -> Result<T> + Sync,
    E: Fn(usize) -> Result<T> + Sync,
{
    type Batch = T;

    fn n_items(&self) -> usize {
        self.n_items
    }

    fn batch(&self, items: &[usize], at: BatchAt) -> Result<T> {
        (self.batch)(items, at)
    }

    fn n_eval(&self) -> usize {
        self.n_eval
    }

    fn eval_batch(&self, index: usize) -> Result<T> {
        (self.eval)(index)
    }

    fn fingerprint(&self) -> String {
        let size = format!("{} items, {} held-out batches", self.n_items, self.n_eval);
        self.fingerprint.as_ref().map_or(size.clone(), |name| format!("{name}: {size}"))
    }
}
