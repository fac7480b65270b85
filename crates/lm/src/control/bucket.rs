//! Which samples share a batch.

use chandlery_kernels::{Key, Stream};
use serde::{Deserialize, Serialize};

use super::ControlError;

/// How much a batch holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BatchSize {
    /// Rows.
    Samples(usize),
    /// Rows times the longest of them, padding included.
    Tokens(usize),
}

/// Batches' worth of samples that are sorted by length together; more pad less and mix less.
const POOL: usize = 64;

/// Divides an epoch into batches of samples of similar length: a random order, sorted by length within pools of about 64
/// batches, cut into batches, and these in random order. Each sample occurs once; the last batches of a pool may be smaller.
///
/// A pure function of `lengths`, `size` and `key`: give the epoch's own, `key.named("batches").at(epoch)`.
///
/// # Errors
/// If `size` is 0 or one sample is longer than a batch may be.
pub fn bucket(lengths: &[usize], size: BatchSize, key: Key) -> Result<Vec<Vec<usize>>, ControlError> {
    let limit = match size {
        BatchSize::Samples(n) | BatchSize::Tokens(n) => n,
    };
    if limit == 0 {
        return Err(ControlError::config("batch", "expected at least 1, got 0"));
    }
    let long = |&(_, &len): &(usize, &usize)| matches!(size, BatchSize::Tokens(n) if len > n);
    if let Some((index, &len)) = lengths.iter().enumerate().find(long) {
        return Err(ControlError::Oversized { index, len, limit });
    }
    let mut stream = Stream::new(key);
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    stream.shuffle(&mut order);
    let mean = lengths.iter().sum::<usize>() / lengths.len().max(1);
    let pool = match size {
        BatchSize::Samples(n) => POOL.saturating_mul(n),
        BatchSize::Tokens(n) => POOL.saturating_mul(n / mean.max(1)).max(1),
    };
    let mut batches: Vec<Vec<usize>> = order.chunks_mut(pool).flat_map(|pool| cut(pool, lengths, size)).collect();
    stream.shuffle(&mut batches);
    Ok(batches)
}

fn cut(pool: &mut [usize], lengths: &[usize], size: BatchSize) -> Vec<Vec<usize>> {
    pool.sort_by_key(|&i| lengths[i]);
    let mut batches: Vec<Vec<usize>> = Vec::new();
    for &i in pool.iter() {
        // Sorted, so the newcomer is the longest.
        let full = |batch: &Vec<usize>| match size {
            BatchSize::Samples(n) => batch.len() >= n,
            BatchSize::Tokens(n) => (batch.len() + 1) * lengths[i] > n,
        };
        match batches.last_mut() {
            Some(batch) if !full(batch) => batch.push(i),
            _ => batches.push(vec![i]),
        }
    }
    batches
}

/// Share of the positions in `batches` that would be padding, 0 for no batches.
pub fn waste(lengths: &[usize], batches: &[Vec<usize>]) -> f64 {
    let padded = |batch: &Vec<usize>| batch.len() * batch.iter().map(|&i| lengths[i]).max().unwrap_or(0);
    let positions: usize = batches.iter().map(padded).sum();
    let used: usize = batches.iter().flatten().map(|&i| lengths[i]).sum();
    if positions == 0 { 0.0 } else { 1.0 - used as f64 / positions as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Lengths like those of poems with prompts: many short, a long tail.
    fn lengths(n: u64) -> Vec<usize> {
        let key = Key::new(5);
        (0..n).map(|i| 25 + (60.0 * -(1.0 - key.uniform(i)).ln()) as usize).collect()
    }

    #[test]
    fn less_than_a_tenth_is_padding() {
        let lengths = lengths(10_000);
        for size in [BatchSize::Samples(8), BatchSize::Samples(128), BatchSize::Tokens(4096)] {
            let batches = bucket(&lengths, size, Key::new(1)).unwrap();
            assert!(waste(&lengths, &batches) < 0.1, "{size:?}: {}", waste(&lengths, &batches));
        }
    }

    #[test]
    fn same_key_same_batches_another_key_others() {
        let lengths = lengths(3000);
        let run = |seed| bucket(&lengths, BatchSize::Samples(16), Key::new(seed)).unwrap();
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn batches_do_not_come_in_order_of_length() {
        let lengths = lengths(2000);
        let batches = bucket(&lengths, BatchSize::Samples(20), Key::new(1)).unwrap();
        assert!(!batches.is_sorted_by_key(|batch| lengths[batch[0]]));
    }

    #[test]
    fn impossible_sizes_are_errors() {
        assert!(bucket(&[1], BatchSize::Samples(0), Key::new(1)).is_err());
        let error = bucket(&[5, 9], BatchSize::Tokens(8), Key::new(1)).unwrap_err();
        assert_eq!(error.to_string(), "sample 1 has 9 tokens, expected at most 8");
        assert_eq!(waste(&[], &bucket(&[], BatchSize::Samples(4), Key::new(1)).unwrap()), 0.0);
    }

    proptest! {
        #[test]
        fn each_sample_occurs_once_and_no_batch_is_too_large(
            lengths in prop::collection::vec(1_usize..40, 0..300), n in 1_usize..20, seed: u64,
        ) {
            for size in [BatchSize::Samples(n), BatchSize::Tokens(40 * n)] {
                let batches = bucket(&lengths, size, Key::new(seed)).unwrap();
                let mut seen = batches.concat();
                seen.sort_unstable();
                prop_assert_eq!(seen, (0..lengths.len()).collect::<Vec<_>>());
                let tokens = |b: &Vec<usize>| b.len() * b.iter().map(|&i| lengths[i]).max().unwrap();
                let fits = |b: &Vec<usize>| match size {
                    BatchSize::Samples(n) => b.len() <= n,
                    BatchSize::Tokens(n) => tokens(b) <= n,
                };
                prop_assert!(batches.iter().all(fits));
            }
        }
    }
}
