//! Batches made ahead of the step that needs them.

use crate::{BatchAt, Cursor, Error, FitConfig, Result, Sampler, Source};
use chandlery_kernels::Key;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::Scope;

/// A batch and where the data go on after it.
pub(crate) struct Loaded<B> {
    pub batch: B,
    pub n_items: usize,
    pub next: Cursor,
}

/// The receiving end of a thread that makes at most `prefetch` batches ahead.
///
/// Dropping it ends the thread after the batch it is making.
pub(crate) struct Loader<B>(Receiver<Result<Loaded<B>>>);

/// What the loader's thread needs to know.
#[derive(Clone, Copy)]
pub(crate) struct Route<'a> {
    pub config: &'a FitConfig,
    pub key: Key,
    pub rank: usize,
    pub ranks: usize,
}

impl<B: Send> Loader<B> {
    /// Starts after step `done` at `cursor`.
    pub fn start<'scope, 'env, S: Source<Batch = B>>(
        scope: &'scope Scope<'scope, 'env>,
        source: &'env S,
        route: Route<'env>,
        done: u64,
        cursor: Cursor,
    ) -> Self
    where
        B: 'scope,
    {
        let (sender, receiver) = sync_channel(route.config.prefetch);
        scope.spawn(move || work(source, route, done, cursor, &sender));
        Self(receiver)
    }

    /// The next batch in order.
    pub fn next(&self, step: u64, micro: usize) -> Result<Loaded<B>> {
        let gone = || Error::Source { step, micro, what: "the loader's thread has ended".into() };
        self.0.recv().map_err(|_| gone())?
    }
}

fn work<S: Source>(
    source: &S,
    route: Route<'_>,
    done: u64,
    from: Cursor,
    sender: &SyncSender<Result<Loaded<S::Batch>>>,
) {
    let config = route.config;
    let mut sampler = Sampler::new(route.key.named("order"), source.n_items(), config.shuffle, from);
    for step in done + 1..=config.steps {
        for micro in 0..config.accumulate {
            let loaded = load(source, route, &mut sampler, step, micro);
            let failed = loaded.is_err();
            if sender.send(loaded).is_err() || failed {
                return;
            }
        }
    }
}

fn load<S: Source>(
    source: &S,
    route: Route<'_>,
    sampler: &mut Sampler,
    step: u64,
    micro: usize,
) -> Result<Loaded<S::Batch>> {
    let batch = route.config.batch_at(step);
    let all = sampler.take(batch * route.ranks);
    let items: Vec<usize> = all.into_iter().skip(route.rank).step_by(route.ranks).collect();
    let key = route.key.named("batch").at(step).at(micro as u64).at(route.rank as u64);
    let at = BatchAt { step, micro, key, max_len: route.config.max_len_at(step) };
    let failed = |what: String| Error::Source { step, micro, what };
    match catch_unwind(AssertUnwindSafe(|| source.batch(&items, at))) {
        Ok(Ok(batch)) => Ok(Loaded { batch, n_items: items.len(), next: sampler.cursor() }),
        Ok(Err(e)) => Err(failed(e.to_string())),
        Err(panic) => Err(failed(format!("panic: {}", message(&*panic)))),
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}
