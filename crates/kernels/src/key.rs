//! Random numbers that are named, seeded and savable.
//!
//! A [`Key`] is a pure function of its seed and of the names and numbers folded into it, so a draw depends on *what* it
//! is for and never on how many draws came before, on which thread it runs or on a global state. A [`Stream`] walks
//! along one key and can be saved as a single counter.

/// 2^64 divided by the golden ratio: successive multiples spread evenly (SplitMix64, Steele et al. 2014).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// The finaliser of SplitMix64: a bijection of u64 that passes statistical tests on consecutive inputs.
#[inline(always)]
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A splittable random key.
///
/// ```
/// use chandlery_kernels::Key;
/// let root = Key::new(7);
/// assert_eq!(root.named("dropout").at(3).u64(0), Key::new(7).named("dropout").at(3).u64(0));
/// assert_ne!(root.named("dropout").u64(0), root.named("shuffle").u64(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(u64);

impl Key {
    /// The root key of a seed.
    pub fn new(seed: u64) -> Self {
        Self(mix(seed.wrapping_add(GOLDEN)))
    }

    /// The key for a purpose, by name.
    pub fn named(self, name: &str) -> Self {
        let hash =
            name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
        self.at(mix(hash))
    }

    /// The key for the `index`-th of many.
    #[inline(always)]
    pub fn at(self, index: u64) -> Self {
        Self(mix(mix(self.0.wrapping_add(GOLDEN)) ^ index.wrapping_mul(GOLDEN)))
    }

    /// The `index`-th 64 random bits.
    #[inline(always)]
    pub fn u64(self, index: u64) -> u64 {
        mix(self.0.wrapping_add(index.wrapping_mul(GOLDEN)))
    }

    /// The `index`-th draw, uniform in [0, 1).
    #[inline(always)]
    pub fn uniform(self, index: u64) -> f64 {
        (self.u64(index) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }

    /// The `index`-th draw of a standard normal variable (Box-Muller).
    pub fn normal(self, index: u64) -> f64 {
        let (u, v) = (1.0 - self.uniform(2 * index), self.uniform(2 * index + 1));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }
}

/// A sequence of draws along one key; its whole state is a counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    key: Key,
    next: u64,
}

impl Stream {
    /// Starts at the first draw of `key`.
    pub fn new(key: Key) -> Self {
        Self { key, next: 0 }
    }

    /// Goes on where a saved stream stood.
    pub fn with_state(key: Key, state: u64) -> Self {
        Self { key, next: state }
    }

    /// The number of draws made, which is all there is to save.
    pub fn state(&self) -> u64 {
        self.next
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.next += 1;
        self.key.u64(self.next - 1)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.next += 1;
        self.key.uniform(self.next - 1)
    }

    /// Standard normal.
    pub fn normal(&mut self) -> f64 {
        let (u, v) = (1.0 - self.uniform(), self.uniform());
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    }

    /// Uniform in `0..n`; 0 where `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next_u64()) * n as u128) >> 64) as usize
    }

    /// Reorders `items` uniformly (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_resumes_from_its_counter() {
        let key = Key::new(1).named("shuffle");
        let mut whole = Stream::new(key);
        let first: Vec<u64> = (0..10).map(|_| whole.next_u64()).collect();
        let mut part = Stream::new(key);
        (0..4).for_each(|_| {
            part.next_u64();
        });
        let mut resumed = Stream::with_state(key, part.state());
        let rest: Vec<u64> = (4..10).map(|_| resumed.next_u64()).collect();
        assert_eq!(first[4..], rest);
    }

    #[test]
    fn uniform_and_normal_have_their_moments() {
        let key = Key::new(2);
        let n = 100_000;
        let mean = (0..n).map(|i| key.uniform(i)).sum::<f64>() / n as f64;
        let normals: Vec<f64> = (0..n).map(|i| key.normal(i)).collect();
        let m = normals.iter().sum::<f64>() / n as f64;
        let var = normals.iter().map(|x| (x - m).powi(2)).sum::<f64>() / n as f64;
        // Five standard errors each.
        assert!((mean - 0.5).abs() < 5.0 * (1.0 / 12.0_f64 / n as f64).sqrt());
        assert!(m.abs() < 5.0 / (n as f64).sqrt());
        assert!((var - 1.0).abs() < 5.0 * (2.0 / n as f64).sqrt());
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..100).collect();
        Stream::new(Key::new(3)).shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
    }
}
