//! A buffer that several tasks write to at once.

/// A buffer whose rows are written by different tasks; rows of one task lie between those of others, so it is handed
/// out as pointers and never as overlapping slices.
pub(crate) struct Shared(*mut f32, usize);

// SAFETY: what is taken from it is used by one task for values that no other task touches (see the callers).
unsafe impl Sync for Shared {}

impl Shared {
    pub fn new(data: &mut [f32]) -> Self {
        Self(data.as_mut_ptr(), data.len())
    }

    /// Pointer to the first of `n` rows of `d` values at `at`, checked to lie within the buffer.
    pub fn rows(&self, at: usize, n: usize, stride: usize, d: usize) -> *mut f32 {
        assert!(n > 0 && at + (n - 1) * stride + d <= self.1, "a task reaches past its buffer");
        // SAFETY: within the allocation (asserted).
        unsafe { self.0.add(at) }
    }

    /// `n` values at `at`.
    ///
    /// # Safety
    /// No other task may use any of them while the slice lives, and the buffer must outlive it.
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn slice(&self, at: usize, n: usize) -> &mut [f32] {
        assert!(at + n <= self.1, "a task reaches past its buffer");
        // SAFETY: within the allocation (asserted) and exclusive (the caller's promise).
        unsafe { std::slice::from_raw_parts_mut(self.0.add(at), n) }
    }
}
