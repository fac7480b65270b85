//! A hash that is the same on every machine and in every release.

/// FNV-1a over the characters, finished by a mixer so that the low bits are as good as the high ones.
pub(super) fn stable_hash(chars: impl IntoIterator<Item = char>) -> u64 {
    let fnv = |hash: u64, c: char| (hash ^ u64::from(u32::from(c))).wrapping_mul(0x0000_0100_0000_01B3);
    mix(chars.into_iter().fold(0xCBF2_9CE4_8422_2325, fnv))
}

/// The finaliser of SplitMix64.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
