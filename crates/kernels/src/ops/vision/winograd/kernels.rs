//! Kernels in the form that products take, and their gradients back.

use super::transform::{Stack, kernel_grads, kernel_tiles};
use crate::matmul::buffer;
use crate::ops::vision::multiply::{BLOCK, transpose};
use crate::reused::Reused;
use crate::shared::Shared;
use rayon::prelude::*;

/// Channels of a part of the work.
const PART: usize = 16;

/// Transformed kernels: 16 matrices [channels in, channels out].
pub(in super::super) struct Kernels {
    pub(super) values: Reused,
    pub(super) stack: Stack,
}

impl Kernels {
    /// For the result, from `weight`: [o, c, 3, 3].
    pub fn forward(weight: &[f32], o: usize, c: usize) -> Self {
        let stack = Stack::blocked(c, o);
        let mut values = Reused::new(stack.len());
        let to = Shared::new(&mut values);
        let task = |lines: &mut Vec<f32>, task: usize| {
            let (block, first) = (task % stack.blocks(), task / stack.blocks() * PART);
            let (width, live) = (stack.width(block), PART.min(c - first));
            // [width, 9 live] to [9 live, width]
            lines.resize(9 * PART * BLOCK, 0.0);
            transpose(&weight[(block * BLOCK * c + first) * 9..], 9 * c, width, 9 * live, lines, BLOCK);
            for (k, lines) in lines.chunks_exact(9 * BLOCK).enumerate().take(live) {
                kernel_tiles(lines, BLOCK, width, false, &to, stack.at(first + k, block), stack.tap);
            }
        };
        (0..stack.blocks() * c.div_ceil(PART)).into_par_iter().for_each_init(Vec::new, task);
        Self { values, stack }
    }

    /// For the gradient of the input, whose channels become results.
    pub fn turned(weight: &[f32], o: usize, c: usize) -> Self {
        let stack = Stack::blocked(o, c);
        let mut values = Reused::new(stack.len());
        let to = Shared::new(&mut values);
        let task = |lines: &mut Vec<f32>, task: usize| {
            // A few rows of one block: their places lie on few pages.
            let (block, first) = (task % stack.blocks(), task / stack.blocks() * PART);
            let width = stack.width(block);
            lines.resize(9 * BLOCK, 0.0);
            for r in first..(first + PART).min(o) {
                // [width, 9] to [9, width]
                transpose(&weight[(r * c + block * BLOCK) * 9..], 9, width, 9, lines, BLOCK);
                kernel_tiles(lines, BLOCK, width, true, &to, stack.at(r, block), stack.tap);
            }
        };
        (0..stack.blocks() * o.div_ceil(PART)).into_par_iter().for_each_init(Vec::new, task);
        Self { values, stack }
    }
}

/// The gradient of the weights [o, c, 3, 3] from that of the transformed ones.
pub(super) fn weight_grad(du: &[f32], stack: Stack) -> Vec<f32> {
    let (c, o) = (stack.rows, stack.channels);
    let mut dw = buffer(o * c * 9);
    let to = Shared::new(&mut dw);
    let task = |(lines, turned): &mut (Vec<f32>, Vec<f32>), task: usize| {
        let (block, first) = (task % stack.blocks(), task / stack.blocks() * PART);
        let (width, live) = (stack.width(block), PART.min(c - first));
        lines.resize(9 * PART * BLOCK, 0.0);
        turned.resize(9 * PART * BLOCK, 0.0);
        let own = Shared::new(lines);
        for k in 0..live {
            kernel_grads(&du[stack.at(first + k, block)..], stack.tap, width, &own, 9 * BLOCK * k, BLOCK);
        }
        // [9 live, width] to [width, 9 live]
        transpose(lines, BLOCK, 9 * live, width, turned, 9 * PART);
        for (r, line) in turned.chunks_exact(9 * PART).enumerate().take(width) {
            let at = ((block * BLOCK + r) * c + first) * 9;
            // SAFETY: each task writes the kernels of its own channels.
            unsafe { to.slice(at, 9 * live) }.copy_from_slice(&line[..9 * live]);
        }
    };
    (0..stack.blocks() * c.div_ceil(PART)).into_par_iter().for_each_init(Default::default, task);
    dw
}
