//! Tables that turn the next bits into a run of zeros and a value, most of the time in one look.

use super::bits::Bits;

/// Bits of one look.
const LOOK: u32 = 11;

/// Marks an entry whose value is not in the table.
const OPEN: u32 = 0x80;

/// What a table's codes stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Coefficients {
    /// The first of a block: a code is the size of a difference.
    Dc,
    /// The others: a code is a run of zeros and a size.
    Ac,
}

/// One Huffman table (T.81, annex C).
#[derive(Clone, Debug)]
pub struct Huffman {
    of: Coefficients,
    counts: [u8; 16],
    values: Vec<u8>,
    /// For the next [`LOOK`] bits. Complete: bits in all (0..5), run (8..12), value (16..32). [`OPEN`]: bits of the code, or
    /// 0 where it is longer (0..5), symbol (16..24).
    looks: Box<[u32; 1 << LOOK]>,
    /// For each length the first 16 bits that are beyond its codes, and the place in `values` less the first code.
    longer: [(usize, isize); 17],
}

/// What the next bits stand for.
pub(super) enum Next {
    /// `run` zeros, then the value.
    Value(usize, i32),
    /// A symbol without a value: the end of the block, or sixteen zeros.
    Bare(u8),
}

impl Huffman {
    /// Takes the number of codes of each length and their symbols; `None` if there are more codes than bits allow, or other
    /// than as many symbols.
    pub fn new(of: Coefficients, counts: &[u8; 16], values: &[u8]) -> Option<Self> {
        let n: usize = counts.iter().map(|&c| usize::from(c)).sum();
        if n != values.len() || n > 256 {
            return None;
        }
        let mut table = Self {
            of,
            counts: *counts,
            values: values.to_vec(),
            looks: Box::new([OPEN; 1 << LOOK]),
            longer: [(0, 0); 17],
        };
        let (mut code, mut index) = (0_usize, 0_usize);
        for length in 1..=16 {
            let first = code;
            for _ in 0..counts[length - 1] {
                if code >= 1 << length {
                    return None;
                }
                table.enter(code, length as u32, values[index]);
                (code, index) = (code + 1, index + 1);
            }
            let start = index as isize - (code - first) as isize;
            table.longer[length] = (code << (16 - length), start - first as isize);
            code <<= 1;
        }
        Some(table)
    }

    /// Whether it was made of these.
    pub fn is_of(&self, of: Coefficients, counts: &[u8; 16], values: &[u8]) -> bool {
        self.of == of && self.counts == *counts && self.values == values
    }

    /// Fills in all looks that begin with `code`.
    fn enter(&mut self, code: usize, length: u32, symbol: u8) {
        let Some(free) = LOOK.checked_sub(length) else { return };
        let looks = &mut self.looks[code << free..(code + 1) << free];
        let size = u32::from(symbol & 15);
        let open = OPEN | length | u32::from(symbol) << 16;
        match self.of {
            Coefficients::Ac if size == 0 => looks.fill(open),
            _ if size > free || size != u32::from(symbol) && self.of == Coefficients::Dc => looks.fill(open),
            _ => {
                let run = u32::from(symbol >> 4);
                let each = 1_usize << (free - size);
                for (bits, looks) in looks.chunks_exact_mut(each).enumerate() {
                    let bits = bits as i32;
                    let low = size > 0 && bits < 1 << (size - 1);
                    let value = if low { bits - (1 << size) + 1 } else { bits };
                    looks.fill((length + size) | run << 8 | (value as u32) << 16);
                }
            }
        }
    }

    /// The entry of the next bits, which have to be ready.
    #[inline(always)]
    pub(super) fn look(&self, bits: &Bits<'_>) -> u32 {
        self.looks[bits.peek(LOOK)]
    }

    /// Whether an entry is complete.
    #[inline(always)]
    pub(super) fn is_complete(entry: u32) -> bool {
        entry & OPEN == 0
    }

    /// Run and value of a complete entry, whose bits are passed over.
    #[inline(always)]
    pub(super) fn take(entry: u32, bits: &mut Bits<'_>) -> (usize, i16) {
        bits.pass(entry & 31);
        ((entry >> 8 & 15) as usize, (entry >> 16) as i16)
    }

    /// What an entry that is not complete stands for; `None` if no code begins like this. Takes up to 31 bits that are ready.
    #[inline(always)]
    pub(super) fn finish(&self, entry: u32, bits: &mut Bits<'_>) -> Option<Next> {
        let (length, symbol) = match entry & 31 {
            0 => self.long(bits.peek(16))?,
            length => (length, (entry >> 16) as u8),
        };
        bits.pass(length);
        let size = u32::from(symbol & 15);
        if size == 0 {
            return Some(Next::Bare(symbol));
        }
        Some(Next::Value(usize::from(symbol >> 4), bits.signed(size)))
    }

    #[cold]
    fn long(&self, next: usize) -> Option<(u32, u8)> {
        for length in LOOK + 1..=16 {
            let (beyond, offset) = self.longer[length as usize];
            if next < beyond {
                let code = (next >> (16 - length)) as isize;
                return Some((length, *self.values.get(usize::try_from(code + offset).ok()?)?));
            }
        }
        None
    }
}
