//! Large buffers that are used again instead of being asked for, cleared and touched for the first time in every step.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Buffers kept at most; more are given back to the system.
const KEPT: usize = 6;

static POOL: Mutex<Vec<Vec<f32>>> = Mutex::new(Vec::new());

/// A buffer whose content is left over from an earlier use and must be overwritten before it is read.
pub(crate) struct Reused(Vec<f32>);

impl Reused {
    /// `len` values of any content.
    pub fn new(len: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        // The smallest that is large enough, or else the largest.
        let fits = (0..pool.len()).filter(|&i| pool[i].capacity() >= len).min_by_key(|&i| pool[i].capacity());
        let best = fits.or_else(|| (0..pool.len()).max_by_key(|&i| pool[i].capacity()));
        let mut buffer = best.map(|i| pool.swap_remove(i)).unwrap_or_default();
        drop(pool);
        if buffer.capacity() < len {
            buffer = vec![0.0; len];
        }
        buffer.resize(len, 0.0);
        Self(buffer)
    }
}

impl Drop for Reused {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < KEPT {
            pool.push(std::mem::take(&mut self.0));
        }
    }
}

impl Deref for Reused {
    type Target = [f32];
    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Reused {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
