//! Operands copied into the order in which the innermost loops read them: panels, one after the other, each with `depth`
//! rows of its width.

use crate::simd::simd_fn;

/// Values from which panels are copied: (k, j) at `data[k * k_stride + j * j_stride]`.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub data: &'a [f32],
    pub k_stride: usize,
    pub j_stride: usize,
}

/// One panel: columns `first .. first + width` as rows of `padded` values.
#[derive(Clone, Copy)]
pub(super) struct Panel {
    pub first: usize,
    pub width: usize,
    pub padded: usize,
}

simd_fn! {
    /// Copies `depth` rows of all `panels`; panel `p` begins at `p.first * depth` and is filled up with zeros.
    pub(super) fn pack<V>(from: Source<'_>, depth: usize, panels: &[Panel], dst: &mut [f32]) {
        if from.j_stride == 1 {
            // Several panels a row, so that the source is read in long pieces; not all, as their places in the destination
            // may fall into one set of the cache.
            for group in panels.chunks(4) {
                for k in 0..depth {
                    for p in group {
                        let src = &from.data[k * from.k_stride + p.first..][..p.width];
                        let dst = &mut dst[p.first * depth + k * p.padded..][..p.padded];
                        if p.width == V::ROWS && p.padded == V::ROWS {
                            dst[..V::ROWS].copy_from_slice(&src[..V::ROWS]);
                            continue;
                        }
                        let mut j = 0;
                        while j < p.padded {
                            let at = j.min(p.width);
                            let x = if at + V::N <= p.width { V::load(&src[at..]) } else { V::load_part(&src[at..], 0.0) };
                            if j + V::N <= p.padded { x.store(&mut dst[j..]) } else { x.store_part(&mut dst[j..]) }
                            j += V::N;
                        }
                    }
                }
            }
            return;
        }
        for p in panels {
            let dst = &mut dst[p.first * depth..][..depth * p.padded];
            let src = &from.data[p.first * from.j_stride..];
            let whole = if from.k_stride == 1 { [depth / V::N * V::N, p.width / V::N * V::N] } else { [0, 0] };
            for j in (0..whole[1]).step_by(V::N) {
                for k in (0..whole[0]).step_by(V::N) {
                    let to = &mut dst[k * p.padded + j..];
                    V::transpose(&src[j * from.j_stride + k..], from.j_stride, V::N, V::N, to, p.padded);
                }
            }
            for j in 0..p.padded {
                let first = if j < whole[1] { whole[0] } else { 0 };
                for k in first..depth {
                    let there = k * from.k_stride + j * from.j_stride;
                    dst[k * p.padded + j] = if j < p.width { src[there] } else { 0.0 };
                }
            }
        }
    }
}
