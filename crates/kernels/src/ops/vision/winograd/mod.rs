//! 3x3 convolution with stride 1 by the minimal filtering F(2x2, 3x3) of Winograd (Lavin and Gray, arXiv 1509.09308).
//!
//! A tile of 2x2 results takes 16 products instead of 36. With `V = B^T x B` of each 4x4 input tile and `U = G w G^T` of
//! each kernel, the result is `A^T (U V) A`, where the 16 products over channels are matrix products. The gradient of
//! the input is the same operation with kernels turned around; that of the weights is `G^T (A dy A^T)(V)^T G`.
//!
//! Channels stand side by side in everything but input and result, so that images of any size fill whole vectors.

mod kernels;
mod transform;

use super::multiply::{Left, multiply, transpose};
use super::pixels::{Images, PLANES, Strip};
use crate::ops::vision::conv::Finish;
use crate::reused::Reused;
use crate::shared::Shared;
pub(super) use kernels::Kernels;
use rayon::prelude::*;
use transform::{Stack, TAPS, grad_tiles, input_tiles, output_tiles};

/// Bytes of transformed values that one task keeps in its second-level cache.
const BLOCK_BYTES: usize = 768 << 10;
/// Bytes of transformed values that all tasks share through the third-level cache.
const SHARED_BYTES: usize = 16 << 20;
/// Bytes of transformed kernels that stay in a second-level cache beside a block.
const KERNEL_BYTES: usize = 1 << 20;
/// Tiles that an image needs for a task of its own.
const TILES: usize = 24;

/// One convolution: `c` channels of [h, w] in, `o` of [oh, ow] out, `top` and `left` zeros before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Winograd {
    pub b: usize,
    pub c: usize,
    pub h: usize,
    pub w: usize,
    pub o: usize,
    pub oh: usize,
    pub ow: usize,
    pub top: usize,
    pub left: usize,
}

/// Scratch of one task.
#[derive(Default)]
struct Scratch {
    pixels: Reused,
    planes: Reused,
    v: Reused,
    m: Reused,
}

impl Winograd {
    fn th(&self) -> usize {
        self.oh.div_ceil(2)
    }

    fn tw(&self) -> usize {
        self.ow.div_ceil(2)
    }

    /// The images in strips of at most `tiles` tiles (but at least a row).
    fn strips(&self, tiles: usize) -> Vec<Strip> {
        Strip::cut(self.b, self.th(), self.tw(), tiles)
    }

    /// Writes `V` of a strip to `v`, its first tile to row `first`.
    fn input(&self, x: &[f32], strip: &Strip, v: &Shared, first: usize, stack: Stack, pixels: &mut Reused) {
        let (tw, wide, c) = (self.tw(), 2 * self.tw() + 2, self.c);
        let images = Images { data: x, c, h: self.h, w: self.w };
        let corner = (2 * strip.rows.start as isize - self.top as isize, -(self.left as isize));
        let pixels = pixels.room((2 * strip.rows.len() + 2) * wide * c);
        images.fill(strip.image, corner, wide, pixels);
        for row in 0..strip.rows.len() {
            input_tiles(&pixels[2 * row * wide * c..], wide * c, tw, stack, first + row * tw, v);
        }
    }

    /// Writes `A dy A^T` of a strip to `m`, its first tile to row `first`.
    fn grad(&self, dy: &[f32], strip: &Strip, m: &Shared, first: usize, stack: Stack, pixels: &mut Reused) {
        let (tw, wide, o) = (self.tw(), 2 * self.tw(), self.o);
        let images = Images { data: dy, c: o, h: self.oh, w: self.ow };
        let pixels = pixels.room(2 * strip.rows.len() * wide * o);
        images.fill(strip.image, (2 * strip.rows.start as isize, 0), wide, pixels);
        for row in 0..strip.rows.len() {
            grad_tiles(&pixels[2 * row * wide * o..], wide * o, tw, stack, first + row * tw, m);
        }
    }

    /// Writes the results of a strip, whose first tile is row `first` of `m`.
    fn output(&self, m: &[f32], first: usize, stack: Stack, strip: &Strip, y: &Output<'_>, rooms: [&mut Reused; 2]) {
        let (Self { o, oh, ow, .. }, tw) = (*self, self.tw());
        let top = 2 * strip.rows.start;
        let n = ow * (2 * strip.rows.len()).min(oh - top);
        let [pixels, planes] = rooms;
        let (pixels, planes) = (pixels.room(n * o), planes.room(n * PLANES));
        let to = Shared::new(pixels);
        for row in 0..strip.rows.len() {
            let tall = 2.min(oh - top - 2 * row);
            output_tiles(m, stack, first + row * tw, tw, &to, 2 * row * ow * o, ow * o, ow, tall);
        }
        for channel in (0..o).step_by(PLANES) {
            let live = PLANES.min(o - channel);
            // [n, live] to [live, n]
            transpose(&pixels[channel..], o, n, live, planes, n);
            for (r, plane) in planes.chunks_exact(n).enumerate().take(live) {
                let place = ((strip.image * o + channel + r) * oh + top) * ow;
                // SAFETY: each task writes the rows of its own strip.
                y.finish.row(channel + r, place, plane, unsafe { y.values.slice(place, n) });
            }
        }
    }

    /// The convolution of `x`: [b, c, h, w] into `y`: [b, o, oh, ow].
    pub fn run(&self, x: &[f32], u: &Kernels, finish: &Finish<'_>, y: &mut [f32]) {
        let (c, o) = (self.c, self.o);
        let y = Output { values: Shared::new(y), finish };
        let bytes = 4 * TAPS * (c + o);
        // Small kernels stay in a core's cache, so a task takes a strip of tiles; large ones should be read once, so a
        // task takes one product over many tiles.
        if 4 * u.values.len() <= KERNEL_BYTES + KERNEL_BYTES / 8 && self.th() * self.tw() >= TILES {
            self.strips(BLOCK_BYTES / bytes).par_iter().for_each_init(Scratch::default, |s, strip| {
                let tiles = strip.rows.len() * self.tw();
                let (to_v, to_m) = (Stack::plain(tiles, c), Stack::blocked(tiles, o));
                let (v, m) = (s.v.room(to_v.len()), s.m.room(to_m.len()));
                self.input(x, strip, &Shared::new(v), 0, to_v, &mut s.pixels);
                let places = Places::new(to_v);
                for (at, m) in m.chunks_exact_mut(to_m.block).enumerate() {
                    products(u, v, to_v, &places, at, m, to_m);
                }
                self.output(m, 0, to_m, strip, &y, [&mut s.pixels, &mut s.planes]);
            });
            return;
        }
        for strips in self.chunks(&self.strips(SHARED_BYTES / bytes), SHARED_BYTES / bytes) {
            let (tiles, start) = self.extent(strips);
            let (to_v, to_m) = (Stack::plain(tiles, c), Stack::blocked(tiles, o));
            let (mut v, mut m) = (Reused::new(to_v.len()), Reused::new(to_m.len()));
            let shared = Shared::new(&mut v);
            strips.par_iter().for_each_init(Reused::default, |pixels, strip| {
                self.input(x, strip, &shared, strip.first - start, to_v, pixels);
            });
            let places = Places::new(to_v);
            let product = |(at, m): (usize, &mut [f32])| products(u, &v, to_v, &places, at, m, to_m);
            m.par_chunks_exact_mut(to_m.block).enumerate().for_each(product);
            strips.par_iter().for_each_init(Scratch::default, |s, strip| {
                self.output(&m, strip.first - start, to_m, strip, &y, [&mut s.pixels, &mut s.planes]);
            });
        }
    }

    /// Runs of strips with at most `tiles` tiles together (but at least one).
    fn chunks<'a>(&self, strips: &'a [Strip], tiles: usize) -> Vec<&'a [Strip]> {
        let most = strips.first().map_or(1, |s| s.rows.len().max(1) * self.tw());
        strips.chunks((tiles / most).max(1)).collect()
    }

    /// Number of tiles of neighbouring strips, and the first of them.
    fn extent(&self, strips: &[Strip]) -> (usize, usize) {
        (strips.iter().map(|s| s.rows.len() * self.tw()).sum(), strips.first().map_or(0, |s| s.first))
    }

    /// The gradient of the weights, [o, c, 3, 3].
    pub fn weight_grad(&self, x: &[f32], dy: &[f32]) -> Vec<f32> {
        let (c, o) = (self.c, self.o);
        let most = SHARED_BYTES / (4 * TAPS * (c + o));
        let sums = Stack::blocked(c, o);
        let mut du = Reused::new(sums.len());
        for (at, strips) in self.chunks(&self.strips(most.min(256)), most).into_iter().enumerate() {
            let (tiles, start) = self.extent(strips);
            let (to_v, to_m) = (Stack::plain(tiles, c), Stack::blocked(tiles, o));
            let (mut v, mut m) = (Reused::new(to_v.len()), Reused::new(to_m.len()));
            let shared = (Shared::new(&mut v), Shared::new(&mut m));
            strips.par_iter().for_each_init(Reused::default, |pixels, strip| {
                self.input(x, strip, &shared.0, strip.first - start, to_v, pixels);
                self.grad(dy, strip, &shared.1, strip.first - start, to_m, pixels);
            });
            let places = Places::new(to_v);
            du.par_chunks_exact_mut(sums.block).enumerate().for_each(|(part, du)| {
                let (tap, block) = (part / sums.blocks(), part % sums.blocks());
                // Transposed: [c, tiles]
                let a =
                    Left { data: &v[tap * to_v.tap..][..tiles * c], rows: &places.channels, columns: &places.tiles };
                multiply(a, &m[tap * to_m.tap + block * to_m.block..], sums.width(block), du, at > 0);
            });
        }
        kernels::weight_grad(&du, sums)
    }
}

/// Where results go.
struct Output<'a> {
    values: Shared,
    finish: &'a Finish<'a>,
}

/// Where the tiles and channels of `V` lie in one of its matrices.
struct Places {
    tiles: Vec<u32>,
    channels: Vec<u32>,
}

impl Places {
    fn new(stack: Stack) -> Self {
        let tiles = (0..stack.rows).map(|t| (t * stack.row) as u32).collect();
        Self { tiles, channels: (0..stack.channels as u32).collect() }
    }
}

/// Part `at` of `M = V U`: one block of one of its matrices.
fn products(u: &Kernels, v: &[f32], to_v: Stack, places: &Places, at: usize, m: &mut [f32], to_m: Stack) {
    let (tap, block) = (at / to_m.blocks(), at % to_m.blocks());
    let data = &v[tap * to_v.tap..][..to_v.rows * to_v.channels];
    let a = Left { data, rows: &places.tiles, columns: &places.channels };
    multiply(a, &u.values[tap * u.stack.tap + block * u.stack.block..], to_m.width(block), m, false);
}
