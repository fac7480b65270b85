//! Which classes are taken for which.

use super::Predictions;
use std::collections::BTreeMap;

/// Examples of one class that are taken for another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Confusion {
    /// Their class.
    pub truth: u32,
    /// What they are taken for.
    pub predicted: u32,
    /// Their number.
    pub n: usize,
    /// Their share of the examples of their class.
    pub share: f64,
}

/// The `k` most frequent confusions; among equally frequent ones the lower classes come first.
pub fn top_confusions(all: &Predictions, k: usize) -> Vec<Confusion> {
    let mut sizes = vec![0_usize; all.n_classes()];
    let mut pairs: BTreeMap<(u32, u32), usize> = BTreeMap::new();
    for (&truth, predicted) in all.labels().iter().zip(all.predicted()) {
        sizes[truth as usize] += 1;
        if truth != predicted {
            *pairs.entry((truth, predicted)).or_default() += 1;
        }
    }
    let share = |truth: u32, n: usize| n as f64 / sizes[truth as usize] as f64;
    let confusion = |((truth, predicted), n)| Confusion { truth, predicted, n, share: share(truth, n) };
    let mut found: Vec<Confusion> = pairs.into_iter().map(confusion).collect();
    found.sort_by_key(|c| std::cmp::Reverse(c.n));
    found.truncate(k);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_frequent_come_first() {
        let mut all = Predictions::new(3);
        let predicted = [0, 1, 1, 2, 0, 0, 2];
        let labels = [0, 0, 0, 0, 1, 1, 2];
        for (p, l) in predicted.into_iter().zip(labels) {
            let mut row = [0.0; 3];
            row[p] = 1.0;
            all.push(&row, &[l]).unwrap();
        }
        let top = top_confusions(&all, 2);
        assert_eq!(top[0], Confusion { truth: 0, predicted: 1, n: 2, share: 0.5 });
        assert_eq!(top[1], Confusion { truth: 1, predicted: 0, n: 2, share: 1.0 });
    }
}
