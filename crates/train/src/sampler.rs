//! Which item comes next.

use chandlery_kernels::{Key, Stream};
use serde::{Deserialize, Serialize};

/// Where a run stands in its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Complete passes over all items.
    pub epoch: u64,
    /// Items taken in this pass.
    pub position: u64,
}

/// Walks over `n_items` items, each once an epoch, in an order that depends on key and epoch alone.
#[derive(Clone, Debug)]
pub struct Sampler {
    key: Key,
    n_items: usize,
    shuffle: bool,
    cursor: Cursor,
    order: Vec<usize>,
}

impl Sampler {
    /// Starts at `cursor`.
    pub fn new(key: Key, n_items: usize, shuffle: bool, cursor: Cursor) -> Self {
        let mut sampler = Self { key, n_items, shuffle, cursor, order: Vec::new() };
        sampler.deal();
        sampler
    }

    /// Where the next item will come from.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next `k` items; goes on in the next epoch where this one ends.
    pub fn take(&mut self, k: usize) -> Vec<usize> {
        let mut items = Vec::with_capacity(k);
        while items.len() < k && self.n_items > 0 {
            let from = self.cursor.position as usize;
            let to = (from + k - items.len()).min(self.n_items);
            items.extend_from_slice(&self.order[from..to]);
            self.cursor.position = to as u64;
            if to == self.n_items {
                self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
                self.deal();
            }
        }
        items
    }

    fn deal(&mut self) {
        self.order = (0..self.n_items).collect();
        if self.shuffle {
            Stream::new(self.key.at(self.cursor.epoch)).shuffle(&mut self.order);
        }
        self.cursor.position = self.cursor.position.min(self.n_items as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_comes_once_an_epoch_whatever_the_batch() {
        for k in [1, 3, 7, 10, 25] {
            let mut sampler = Sampler::new(Key::new(1), 10, true, Cursor::default());
            let mut drawn = Vec::new();
            while drawn.len() < 50 {
                drawn.extend(sampler.take(k));
            }
            for epoch in drawn[..50].chunks(10) {
                let mut sorted = epoch.to_vec();
                sorted.sort_unstable();
                assert_eq!(sorted, (0..10).collect::<Vec<_>>(), "batch {k}");
            }
            assert_ne!(drawn[..10], drawn[10..20], "epochs differ in order");
        }
    }

    #[test]
    fn cursor_addresses_the_order() {
        let mut whole = Sampler::new(Key::new(2), 7, true, Cursor::default());
        let mut first = Sampler::new(Key::new(2), 7, true, Cursor::default());
        let (all, head) = (whole.take(20), first.take(9));
        let mut rest = Sampler::new(Key::new(2), 7, true, first.cursor());
        assert_eq!(all, [head, rest.take(11)].concat());
    }

    #[test]
    fn unshuffled_keeps_the_order() {
        let mut sampler = Sampler::new(Key::new(3), 3, false, Cursor::default());
        assert_eq!(sampler.take(7), [0, 1, 2, 0, 1, 2, 0]);
        assert!(Sampler::new(Key::new(3), 0, true, Cursor::default()).take(2).is_empty());
    }
}
