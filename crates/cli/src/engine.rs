//! All-reduce between threads that share memory: the engine that every build has.

use std::sync::{Barrier, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// A part of one rank's buffer.
type Part = RwLock<Vec<f32>>;

/// Buffers of all ranks, each in as many parts as there are ranks.
pub struct Shared {
    parts: Vec<Vec<Part>>,
    barrier: Barrier,
}

impl Shared {
    /// `ranks` buffers of `len` numbers; rank r starts with r + 1 everywhere.
    pub fn new(ranks: usize, len: usize) -> Self {
        let ends = |i: usize| i * len / ranks;
        let buffer = |rank: usize| -> Vec<Part> {
            (0..ranks).map(|i| RwLock::new(vec![(rank + 1) as f32; ends(i + 1) - ends(i)])).collect()
        };
        Self { parts: (0..ranks).map(buffer).collect(), barrier: Barrier::new(ranks) }
    }

    /// Sums the buffers of all ranks into every one of them; every rank calls it from its own thread. A rank sums the part
    /// that bears its number over all ranks, always in the same order, then fetches the other parts.
    pub fn all_reduce(&self, rank: usize) {
        let n = self.parts.len();
        self.barrier.wait();
        let mut mine = write(&self.parts[rank][rank]);
        for other in (0..n).filter(|&r| r != rank) {
            mine.iter_mut().zip(read(&self.parts[other][rank]).iter()).for_each(|(sum, x)| *sum += x);
        }
        drop(mine);
        self.barrier.wait();
        for owner in (0..n).filter(|&r| r != rank) {
            write(&self.parts[rank][owner]).copy_from_slice(&read(&self.parts[owner][owner]));
        }
    }

    /// The buffer of a rank.
    #[cfg(test)]
    fn buffer(&self, rank: usize) -> Vec<f32> {
        self.parts[rank].iter().flat_map(|part| read(part).clone()).collect()
    }
}

/// A rank that panicked leaves numbers behind that are still numbers; its panic surfaces where it is joined.
fn read(part: &Part) -> RwLockReadGuard<'_, Vec<f32>> {
    part.read().unwrap_or_else(PoisonError::into_inner)
}

fn write(part: &Part) -> RwLockWriteGuard<'_, Vec<f32>> {
    part.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_ends_with_the_sum() {
        for (ranks, len) in [(1, 5), (2, 7), (3, 10), (4, 2)] {
            let shared = Shared::new(ranks, len);
            std::thread::scope(|s| {
                (0..ranks).for_each(|r| {
                    drop(s.spawn({
                        let shared = &shared;
                        move || shared.all_reduce(r)
                    }))
                })
            });
            let sum = (ranks * (ranks + 1) / 2) as f32;
            (0..ranks).for_each(|r| assert_eq!(shared.buffer(r), vec![sum; len], "{ranks} ranks, {len} numbers"));
        }
    }
}
