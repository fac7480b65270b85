//! Baseline JPEG of grey or YCbCr in one scan, by the loops of [`chandlery_kernels::jpeg`]: what cameras and data sets hold.
//! Anything else, damage included, is left to the other decoders.

use std::cell::RefCell;

use chandlery_kernels::jpeg::{
    Coefficients, Component, EntropyData, Huffman, Plane, Scan, Upsampling, grey_row, rgb_row,
};

use super::Segments;
use crate::image::Image;

/// Most bytes that a thread keeps for its next image.
const KEPT: usize = 8 << 20;

/// Buffers of one thread; the result depends on the content alone.
#[derive(Default)]
struct Room {
    dc: Vec<Huffman>,
    ac: Vec<Huffman>,
    data: EntropyData,
    planes: Vec<Plane>,
    sums: Vec<u16>,
    blue: Vec<u8>,
    red: Vec<u8>,
}

thread_local! {
    static ROOM: RefCell<Room> = RefCell::default();
}

/// Decodes at `1 / n` of the size, `n` 1, 2, 4 or 8, sides rounded up; `None` if this is another kind of JPEG or damaged.
pub(super) fn decode(content: &[u8], n: usize) -> Option<Image> {
    let frame = Frame::parse(content)?;
    ROOM.with_borrow_mut(|room| {
        let image = frame.decode(n, room);
        let held: usize = room.planes.iter().map(|p| p.samples.capacity()).sum();
        if held + room.data.capacity() > KEPT {
            (room.planes, room.data) = Default::default();
        }
        image
    })
}

/// Counts and symbols of one Huffman table, as they lie in the file.
#[derive(Clone, Copy)]
struct Codes<'a> {
    counts: &'a [u8; 16],
    symbols: &'a [u8],
}

/// What the file says of one component.
#[derive(Clone, Copy)]
struct Channel {
    id: u8,
    h: usize,
    v: usize,
    quantisers: usize,
    dc: usize,
    ac: usize,
}

/// Everything before the entropy-coded data.
struct Frame<'a> {
    width: usize,
    height: usize,
    channels: Vec<Channel>,
    quantisers: [Option<[u16; 64]>; 4],
    dc: [Option<Codes<'a>>; 4],
    ac: [Option<Codes<'a>>; 4],
    restart: usize,
    jfif: bool,
    /// Adobe's marker: 0 says that no colour was transformed.
    transform: Option<u8>,
    coded: &'a [u8],
}

impl<'a> Frame<'a> {
    fn parse(content: &'a [u8]) -> Option<Self> {
        let mut frame = Self {
            width: 0,
            height: 0,
            channels: Vec::new(),
            quantisers: [None; 4],
            dc: [None; 4],
            ac: [None; 4],
            restart: 0,
            jfif: false,
            transform: None,
            coded: &[],
        };
        let mut segments = Segments::new(content);
        while let Some(segment) = segments.next() {
            let (marker, body) = segment.ok()?;
            match (marker, body) {
                (0xe0, [b'J', b'F', b'I', b'F', 0, ..]) => frame.jfif = true,
                (0xee, [b'A', b'd', b'o', b'b', b'e', _, _, _, _, _, _, transform, ..]) => {
                    frame.transform = Some(*transform);
                }
                (0xdb, _) => frame.quantise(body)?,
                (0xc4, _) => frame.code(body)?,
                // Baseline, and the extended form that differs in the number of tables.
                (0xc0 | 0xc1, _) => frame.size(body)?,
                (0xc2..=0xcf, _) => return None,
                (0xdd, &[high, low, ..]) => frame.restart = usize::from(u16::from_be_bytes([high, low])),
                (0xda, _) => {
                    frame.scan(body)?;
                    frame.coded = segments.rest;
                    return Some(frame);
                }
                _ => {}
            }
        }
        None
    }

    fn quantise(&mut self, mut body: &[u8]) -> Option<()> {
        while let [head, rest @ ..] = body {
            let (wide, index) = (usize::from(head >> 4), usize::from(head & 15));
            let bytes = 64 * (wide + 1);
            if wide > 1 || rest.len() < bytes {
                return None;
            }
            let value =
                |k: usize| if wide == 1 { u16::from_be_bytes([rest[2 * k], rest[2 * k + 1]]) } else { rest[k].into() };
            *self.quantisers.get_mut(index)? = Some(std::array::from_fn(value));
            body = &rest[bytes..];
        }
        Some(())
    }

    fn code(&mut self, mut body: &'a [u8]) -> Option<()> {
        while let [head, rest @ ..] = body {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let n = counts.iter().map(|&c| usize::from(c)).sum();
            let tables = if head >> 4 == 0 { &mut self.dc } else { &mut self.ac };
            *tables.get_mut(usize::from(head & 15))? = Some(Codes { counts, symbols: rest.get(..n)? });
            body = &rest[n..];
        }
        Some(())
    }

    fn size(&mut self, body: &[u8]) -> Option<()> {
        let &[8, h1, h0, w1, w0, n @ (1 | 3), ref rest @ ..] = body else { return None };
        if !self.channels.is_empty() {
            // The limits were held against the first.
            return None;
        }
        let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
        (self.width, self.height) = (side(w1, w0), side(h1, h0));
        let rest = rest.get(..3 * usize::from(n))?;
        self.channels = rest
            .chunks_exact(3)
            .map(|c| {
                let (h, v) = (usize::from(c[1] >> 4), usize::from(c[1] & 15));
                Channel { id: c[0], h, v, quantisers: c[2].into(), dc: 0, ac: 0 }
            })
            .collect();
        if let [only] = &mut self.channels[..] {
            // A scan of one component is not interleaved: a unit is a block.
            (only.h, only.v) = (1, 1);
        }
        Some(())
    }

    fn scan(&mut self, body: &[u8]) -> Option<()> {
        let (&n, rest) = body.split_first()?;
        if usize::from(n) != self.channels.len() || self.width == 0 || self.height == 0 {
            return None;
        }
        for (channel, spec) in self.channels.iter_mut().zip(rest.get(..2 * usize::from(n))?.chunks_exact(2)) {
            if channel.id != spec[0] {
                return None;
            }
            (channel.dc, channel.ac) = ((spec[1] >> 4).into(), (spec[1] & 15).into());
        }
        let ids: Vec<u8> = self.channels.iter().map(|c| c.id).collect();
        // libjpeg's rules for what three components are.
        let rgb = !self.jfif && (self.transform == Some(0) || self.transform.is_none() && ids == *b"RGB");
        if ids.len() == 3 && rgb { None } else { Some(()) }
    }

    fn decode(&self, n: usize, room: &mut Room) -> Option<Image> {
        let most = |of: fn(&Channel) -> usize| self.channels.iter().map(of).max().unwrap_or(0);
        let (h, v) = (most(|c| c.h), most(|c| c.v));
        if self.channels.iter().any(|c| !matches!((c.h, c.v), (1 | 2, 1 | 2))) {
            return None;
        }
        // Many files share their tables; of others' no more than this is kept.
        [&mut room.dc, &mut room.ac].into_iter().filter(|tables| tables.len() > 8).for_each(Vec::clear);
        let mut components = Vec::with_capacity(3);
        for channel in &self.channels {
            let tables = (self.dc.get(channel.dc)?.as_ref()?, self.ac.get(channel.ac)?.as_ref()?);
            let (dc, ac) =
                (slot(&mut room.dc, Coefficients::Dc, tables.0)?, slot(&mut room.ac, Coefficients::Ac, tables.1)?);
            let mut side = 8 / n;
            // A plane of less resolution is shrunk less, as far as that saves its upsampling.
            while side < 8
                && (h * (8 / n)).is_multiple_of(channel.h * side * 2)
                && (v * (8 / n)).is_multiple_of(channel.v * side * 2)
            {
                side *= 2;
            }
            let quantisers = (*self.quantisers.get(channel.quantisers)?)?;
            components.push(Component { h: channel.h, v: channel.v, quantisers, dc, ac, side });
        }
        room.data.fill(self.coded);
        let (across, down) = (self.width.div_ceil(8 * h), self.height.div_ceil(8 * v));
        let scan = Scan {
            across,
            down,
            components: &components,
            dc: &room.dc,
            ac: &room.ac,
            restart: self.restart,
            data: &room.data,
        };
        scan.decode(&mut room.planes).ok()?;
        let (width, height) = (self.width.div_ceil(n), self.height.div_ceil(n));
        let ([luma, chroma @ ..], [y, others @ ..]) = (&room.planes[..], &components[..]) else { return None };
        let row = |plane: &Plane, i: usize| i * plane.stride..(i + 1) * plane.stride;
        let ([cb, cr], [other, same]) = (chroma, others) else {
            return Some(Image::build(width, height, |out| {
                for (i, line) in out.chunks_exact_mut(width * 3).enumerate() {
                    grey_row(&luma.samples[row(luma, i)][..width], line);
                }
            }));
        };
        let size = |c: &Component| (c.h * c.side, c.v * c.side);
        if size(y) != (h * 8 / n, v * 8 / n) || size(other) != size(same) {
            return None;
        }
        let doubled = |full: usize, part: usize| match full / part {
            1 => Some(false),
            2 => Some(true),
            _ => None,
        };
        let up = Upsampling {
            across: doubled(size(y).0, size(other).0)?,
            down: doubled(size(y).1, size(other).1)?,
            smooth: n < 8,
        };
        let part = |side: usize, of: usize, full: usize| (side * of).div_ceil(full * 8);
        let small = (part(self.width, size(other).0, h), part(self.height, size(other).1, v));
        for line in [&mut room.blue, &mut room.red] {
            line.resize(small.0 << usize::from(up.across), 0);
        }
        Some(Image::build(width, height, |out| {
            for (i, line) in out.chunks_exact_mut(width * 3).enumerate() {
                up.row(|k| &cb.samples[row(cb, k)], small, i, &mut room.sums, &mut room.blue);
                up.row(|k| &cr.samples[row(cr, k)], small, i, &mut room.sums, &mut room.red);
                rgb_row(&luma.samples[row(luma, i)][..width], &room.blue, &room.red, line);
            }
        }))
    }
}

/// Where the table of these codes is among those of this image and of earlier ones; made now if it is not.
fn slot(tables: &mut Vec<Huffman>, of: Coefficients, codes: &Codes<'_>) -> Option<usize> {
    let known = tables.iter().position(|t| t.is_of(of, codes.counts, codes.symbols));
    if known.is_none() {
        tables.push(Huffman::new(of, codes.counts, codes.symbols)?);
    }
    known.or(Some(tables.len() - 1))
}
