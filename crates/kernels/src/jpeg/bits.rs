//! Entropy-coded bytes without their stuffing, and a reader of bits.

/// The entropy-coded bytes of one scan, byte stuffing removed, cut where restart markers stood.
#[derive(Debug, Default)]
pub struct EntropyData {
    bytes: Vec<u8>,
    /// Where each restart interval ends in `bytes`.
    ends: Vec<usize>,
}

impl EntropyData {
    /// Takes the bytes from the first one of the scan's data to the first marker that is no restart marker, in place of what
    /// was held before. Bytes beyond that marker are not looked at.
    pub fn fill(&mut self, mut from: &[u8]) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.reserve(from.len());
        while let Some(at) = find_ff(from) {
            self.bytes.extend_from_slice(&from[..at]);
            from = &from[at..];
            match from {
                [_, 0, rest @ ..] => {
                    self.bytes.push(0xff);
                    from = rest;
                }
                [_, 0xd0..=0xd7, rest @ ..] => {
                    self.ends.push(self.bytes.len());
                    from = rest;
                }
                // A filling byte before a marker.
                [_, 0xff, ..] => from = &from[1..],
                _ => {
                    from = &[];
                    break;
                }
            }
        }
        self.bytes.extend_from_slice(from);
        self.ends.push(self.bytes.len());
    }

    /// Bytes that are held in memory for the next scan.
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// The bits of restart interval `index`, and the position after its last one.
    pub(super) fn interval(&self, index: usize) -> Option<(Bits<'_>, usize)> {
        let end = *self.ends.get(index)?;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        Some((Bits { bytes: &self.bytes, at: start, buffer: 0, count: 0 }, end * 8))
    }
}

/// Position of the first byte 0xff; eight bytes at a time.
fn find_ff(bytes: &[u8]) -> Option<usize> {
    let (ones, tops) = (0x0101_0101_0101_0101_u64, 0x8080_8080_8080_8080_u64);
    let mut at = 0;
    for eight in bytes.chunks_exact(8) {
        let word = u64::from_le_bytes(eight.try_into().unwrap_or_default());
        // The lowest bit that is set marks a zero byte of `!word`, which is 0xff in `word`.
        let found = (!word).wrapping_sub(ones) & word & tops;
        if found != 0 {
            return Some(at + found.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    bytes[at..].iter().position(|&b| b == 0xff).map(|i| at + i)
}

/// Reads bits, the highest of each byte first; beyond the end they are 0.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, from the highest down.
    buffer: u64,
    /// How many of them have been counted into `at`.
    count: u32,
}

impl Bits<'_> {
    /// Makes at least 56 bits ready.
    #[inline(always)]
    pub(super) fn refill(&mut self) {
        // Nothing here takes a reference to the reader, which lives in registers.
        let word = match self.bytes.get(self.at..self.at + 8).map(<[u8; 8]>::try_from) {
            Some(Ok(eight)) => u64::from_be_bytes(eight),
            _ => word_at_end(self.bytes, self.at),
        };
        self.buffer |= word >> self.count;
        self.at += (63 - self.count as usize) >> 3;
        self.count |= 56;
    }

    /// The next `n` bits, 1 to 16 of those that are ready.
    #[inline(always)]
    pub(super) fn peek(&self, n: u32) -> usize {
        (self.buffer >> (64 - n)) as usize
    }

    /// Passes over `n` bits that are ready.
    #[inline(always)]
    pub(super) fn pass(&mut self, n: u32) {
        self.buffer <<= n;
        self.count = self.count.wrapping_sub(n);
    }

    /// Takes a value of `size` bits, 1 to 15, whose highest bit says its sign (T.81, F.2.2.1).
    #[inline(always)]
    pub(super) fn signed(&mut self, size: u32) -> i32 {
        let value = self.peek(size) as i32;
        self.pass(size);
        if value < 1 << (size - 1) { value - (1 << size) + 1 } else { value }
    }

    /// Position of the next bit.
    pub(super) fn position(&self) -> usize {
        self.at * 8 - self.count as usize
    }
}

/// The last bytes and zeros after them.
#[cold]
fn word_at_end(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    let rest = bytes.get(at..).unwrap_or_default();
    eight[..rest.len()].copy_from_slice(rest);
    u64::from_be_bytes(eight)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stuffing_goes_and_restart_markers_cut() {
        let mut data = EntropyData::default();
        data.fill(&[1, 0xff, 0, 2, 0xff, 0xff, 0xd0, 3, 4, 5, 6, 7, 8, 9, 0xff, 0xd9, 10]);
        assert_eq!(data.bytes, [1, 0xff, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(data.ends, [3, 10]);
        data.fill(&[]);
        assert_eq!((data.bytes.len(), data.ends.as_slice()), (0, [0].as_slice()));
        data.fill(&[7, 0xff]);
        assert_eq!(data.bytes, [7]);
    }

    #[test]
    fn bits_come_in_order_and_zeros_after_them() {
        let mut data = EntropyData::default();
        let bytes: Vec<u8> = (0..20).map(|i| (i * 37) as u8).collect();
        data.fill(&bytes);
        let (mut bits, end) = data.interval(0).unwrap();
        assert_eq!(end, 160);
        let bit = |i: usize| bytes.get(i / 8).map_or(0, |b| usize::from(b >> (7 - i % 8) & 1));
        let mut at = 0;
        for n in (1..=16).cycle().take(40) {
            bits.refill();
            assert_eq!(bits.position(), at);
            let expected = (at..at + n).fold(0, |value, i| value << 1 | bit(i));
            assert_eq!(bits.peek(n as u32), expected, "{n} bits at {at}");
            bits.pass(n as u32);
            at += n;
        }
        assert!(bits.position() > end);
    }
}
