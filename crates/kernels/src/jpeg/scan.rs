//! One scan that interleaves all components, from bits to planes.

use super::bits::{Bits, EntropyData};
use super::huffman::{Huffman, Next};
use super::idct::{Block, PLACES, Plain, Transform};

/// Most blocks of a unit; the format allows ten.
const MOST: usize = 12;

/// What the scan says of one component.
#[derive(Clone, Debug)]
pub struct Component {
    /// Blocks of a unit side by side.
    pub h: usize,
    /// Blocks of a unit on top of one another.
    pub v: usize,
    /// Quantisers in the order of the file.
    pub quantisers: [u16; 64],
    /// Index into [`Scan::dc`].
    pub dc: usize,
    /// Index into [`Scan::ac`].
    pub ac: usize,
    /// Pixels a block, each way: 8, 4, 2 or 1.
    pub side: usize,
}

/// What is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    /// Units across.
    pub across: usize,
    /// Units down.
    pub down: usize,
    /// All components, in their order within a unit.
    pub components: &'a [Component],
    /// Tables for the first coefficients.
    pub dc: &'a [Huffman],
    /// Tables for the others.
    pub ac: &'a [Huffman],
    /// Units between restart markers; 0 is none.
    pub restart: usize,
    /// The bits.
    pub data: &'a EntropyData,
}

/// Samples of one component, `[rows, stride]`, padded to whole units.
#[derive(Clone, Debug, Default)]
pub struct Plane {
    /// Row by row.
    pub samples: Vec<u8>,
    /// Bytes from row to row.
    pub stride: usize,
}

/// The data are not what the tables and sizes promise: a code that none of them has, or too few bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

impl Scan<'_> {
    /// Decodes into `planes`, one for each component, whose former content is overwritten.
    ///
    /// # Errors
    /// If the data are broken; and if a table is missing or a side is none of 8, 4, 2 and 1.
    pub fn decode(&self, planes: &mut Vec<Plane>) -> Result<(), Broken> {
        let sound = |c: &Component| {
            let tables = c.dc < self.dc.len() && c.ac < self.ac.len();
            tables && matches!(c.side, 1 | 2 | 4 | 8) && (1..=4).contains(&c.h) && (1..=4).contains(&c.v)
        };
        let blocks: usize = self.components.iter().map(|c| c.h.saturating_mul(c.v)).sum();
        if !self.components.iter().all(sound) || self.components.len() > 4 || blocks > MOST {
            return Err(Broken);
        }
        planes.resize_with(self.components.len(), Plane::default);
        for (plane, c) in planes.iter_mut().zip(self.components) {
            plane.stride = self.across * c.h * c.side;
            plane.samples.resize(plane.stride * self.down * c.v * c.side, 0);
        }
        #[cfg(target_arch = "x86_64")]
        if crate::isa() != crate::Isa::Portable && is_x86_feature_detected!("bmi2") && is_x86_feature_detected!("bmi1")
        {
            // SAFETY: `isa` names these sets only after the processor reported AVX2; the others are asked for here.
            return unsafe { self.decode_avx2(planes) };
        }
        self.units::<Plain>(planes)
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,lzcnt")]
    fn decode_avx2(&self, planes: &mut [Plane]) -> Result<(), Broken> {
        self.units::<super::avx2::Avx2>(planes)
    }

    #[inline(always)]
    fn units<T: Transform>(&self, planes: &mut [Plane]) -> Result<(), Broken> {
        let whole = self.across * self.down;
        let interval = if self.restart == 0 { whole } else { self.restart };
        // A unit is decoded before any of it is transformed: wide loads right after narrow stores would wait for them.
        let mut blocks: [Block; MOST] = [[0; 64]; MOST];
        let mut lasts = [0; MOST];
        let (mut row, mut column) = (0, 0);
        for (index, first) in (0..whole).step_by(interval.max(1)).enumerate() {
            let (mut bits, end) = self.data.interval(index).ok_or(Broken)?;
            let mut before = [0_i32; 4];
            for _ in first..whole.min(first + interval) {
                let mut at = 0;
                for (component, before) in self.components.iter().zip(&mut before) {
                    for _ in 0..component.h * component.v {
                        lasts[at] = self.block(component, &mut bits, before, &mut blocks[at])?;
                        at += 1;
                    }
                }
                at = 0;
                for (component, plane) in self.components.iter().zip(planes.iter_mut()) {
                    let (h, v, side, stride) = (component.h, component.v, component.side, plane.stride);
                    for y in 0..v {
                        let line = (row * v + y) * side * stride + column * h * side;
                        for x in 0..h {
                            T::write(side, &blocks[at], lasts[at], &mut plane.samples[line + x * side..], stride);
                            at += 1;
                        }
                    }
                }
                column += 1;
                if column == self.across {
                    (row, column) = (row + 1, 0);
                }
            }
            if bits.position() > end {
                return Err(Broken);
            }
        }
        Ok(())
    }

    /// Decodes one block; returns where its last coefficient lies in the file's order.
    #[inline(always)]
    fn block(&self, c: &Component, bits: &mut Bits<'_>, before: &mut i32, block: &mut Block) -> Result<usize, Broken> {
        let (dc, ac) = (&self.dc[c.dc], &self.ac[c.ac]);
        *block = [0; 64];
        bits.refill();
        let entry = dc.look(bits);
        let difference = if Huffman::is_complete(entry) {
            i32::from(Huffman::take(entry, bits).1)
        } else {
            match dc.finish(entry, bits).ok_or(Broken)? {
                Next::Value(0, value) => value,
                Next::Bare(0) => 0,
                _ => return Err(Broken),
            }
        };
        *before = before.wrapping_add(difference);
        block[0] = (*before as i16).wrapping_mul(c.quantisers[0] as i16);

        let mut last = 0;
        let mut put = |k: usize, value: i16| {
            block[usize::from(PLACES[k & 63])] = value.wrapping_mul(c.quantisers[k & 63] as i16);
            last = k;
            k + 1
        };
        let mut k = 1;
        'block: while k < 64 {
            // Of 56 bits two complete entries take 22 at most, and what may follow them 31.
            bits.refill();
            for _ in 0..3 {
                let entry = ac.look(bits);
                if !Huffman::is_complete(entry) {
                    match ac.finish(entry, bits).ok_or(Broken)? {
                        Next::Value(run, value) => k = put(k + run, value as i16),
                        Next::Bare(0xf0) => k += 16,
                        Next::Bare(_) => break 'block,
                    }
                    continue 'block;
                }
                let (run, value) = Huffman::take(entry, bits);
                k = put(k + run, value);
                if k >= 64 {
                    break 'block;
                }
            }
        }
        if last < 64 { Ok(last) } else { Err(Broken) }
    }
}
