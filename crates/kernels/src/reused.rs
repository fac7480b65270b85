//! Large buffers that are used again instead of being asked for, cleared and touched for the first time in every step.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers kept at most; more are given back to the system.
const KEPT: usize = 24;

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer whose content is left over from an earlier use and must be overwritten before it is read; empty by default.
#[derive(Default)]
pub(crate) struct Reused {
    /// At least `len` values; never shortened, as growing again would clear what is new.
    values: Vec<f32>,
    len: usize,
}

impl Reused {
    /// `len` values of any content.
    pub fn new(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest.
        let fits = (0..pool.len()).filter(|&i| pool[i].len() >= len).min_by_key(|&i| pool[i].len());
        let best = fits.or_else(|| (0..pool.len()).max_by_key(|&i| pool[i].len()));
        let mut values = best.map(|i| pool.swap_remove(i)).unwrap_or_default();
        drop(pool);
        if values.len() < len {
            values = vec![0.0; len];
        }
        Self { values, len }
    }

    /// The buffer as `len` values of any content.
    pub fn room(&mut self, len: usize) -> &mut [f32] {
        if self.values.len() < len {
            *self = Self::new(len);
        }
        self.len = len;
        self
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT && !self.values.is_empty() {
            pool.push(std::mem::take(&mut self.values));
        }
    }
}

impl Deref for Reused {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.values[..self.len]
    }
}

impl DerefMut for Reused {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[..self.len]
    }
}
