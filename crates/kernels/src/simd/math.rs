//! Vector exponential, hyperbolic tangent, error function and the loops that apply them to slices.
//!
//! `tests/accuracy.rs` bounds the error of what is built on them, in units in the last place: softmax 3, GELU (tanh form)
//! on positive values 3, SiLU 4.

use super::Lanes;

const LN2_HI: f32 = 0.693_359_4;
const LN2_LO: f32 = -2.121_944_4e-4;

/// `(n, r, q)` with `x = n ln 2 + r` and `q = e^r - 1 - r`.
#[inline(always)]
fn reduce<V: Lanes>(x: V) -> (V, V, V) {
    let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
    let r = n.fma(V::splat(-LN2_HI), x);
    let r = n.fma(V::splat(-LN2_LO), r);
    // Taylor terms up to r^7 / 7!: the remainder is below 2^-27 for |r| <= ln 2 / 2.
    let mut q = V::splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        q = q.fma(r, V::splat(c));
    }
    (n, r, q.mul(r).mul(r))
}

/// `e^x`, with gradual underflow, `inf` above 88.72 and NaN kept.
#[inline(always)]
pub(crate) fn exp<V: Lanes>(x: V) -> V {
    let clamped = x.max(V::splat(-104.0)).min(V::splat(89.0));
    let (n, r, q) = reduce(clamped);
    q.add(r).add(V::splat(1.0)).times_exp2_whole(n)
}

/// `tanh x = (e^{2|x|} - 1) / (e^{2|x|} + 1)` with the sign of `x`, through `expm1` so that small `x` keep all digits.
#[inline(always)]
pub(crate) fn tanh<V: Lanes>(x: V) -> V {
    let two = V::splat(2.0);
    let (n, r, q) = reduce(x.abs().min(V::splat(10.0)).mul(two));
    let scale = n.exp2_whole();
    let expm1 = q.add(r).mul(scale).add(scale.sub(V::splat(1.0)));
    let t = expm1.div(expm1.add(two));
    x.select_lt(V::splat(0.0), V::splat(0.0).sub(t), t)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<V: Lanes>(x: V) -> V {
    let one = V::splat(1.0);
    one.div(one.add(exp(V::splat(0.0).sub(x))))
}

/// Gauss error function by the rational approximation `x P(x^2) / Q(x^2)` on |x| <= 4.
#[inline(always)]
pub(crate) fn erf<V: Lanes>(x: V) -> V {
    const P: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_5e-8,
        -2.101_024_2e-6,
        -5.692_506_4e-5,
        -7.349_906_2e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const Q: [f32; 5] = [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.max(V::splat(-4.0)).min(V::splat(4.0));
    let x2 = x.mul(x);
    let (mut p, mut q) = (V::splat(P[0]), V::splat(Q[0]));
    for c in &P[1..] {
        p = p.fma(x2, V::splat(*c));
    }
    for c in &Q[1..] {
        q = q.fma(x2, V::splat(*c));
    }
    let y = x.mul(p).div(q);
    // Beyond 3.92 the function is +-1 in f32, which the approximation misses by one bit.
    let (edge, one) = (V::splat(3.92), V::splat(1.0));
    let y = edge.select_lt(x, one, y);
    x.select_lt(V::splat(-3.92), V::splat(-1.0), y)
}

// The loops below are plain loops on purpose: a closure of an iterator adaptor written here would be compiled without the
// caller's instruction set, and every vector operation in it would be a call. The `f` come from `simd_fn!` bodies.

/// Writes `f(src)` to `dst`, tails included.
#[inline(always)]
pub(crate) fn map1<V: Lanes>(src: &[f32], dst: &mut [f32], f: impl Fn(V) -> V) {
    let whole = src.len() / V::N * V::N;
    for i in (0..whole).step_by(V::N) {
        f(V::load(&src[i..])).store(&mut dst[i..]);
    }
    if whole < src.len() {
        f(V::load_part(&src[whole..], 0.0)).store_part(&mut dst[whole..]);
    }
}

/// Replaces `dst` by `f(dst)`, tails included.
#[inline(always)]
pub(crate) fn map_in_place<V: Lanes>(dst: &mut [f32], f: impl Fn(V) -> V) {
    let whole = dst.len() / V::N * V::N;
    for i in (0..whole).step_by(V::N) {
        f(V::load(&dst[i..])).store(&mut dst[i..]);
    }
    if whole < dst.len() {
        f(V::load_part(&dst[whole..], 0.0)).store_part(&mut dst[whole..]);
    }
}

/// Writes `f(a, b)` to `dst`, tails included.
#[inline(always)]
pub(crate) fn map2<V: Lanes>(a: &[f32], b: &[f32], dst: &mut [f32], f: impl Fn(V, V) -> V) {
    let whole = dst.len() / V::N * V::N;
    for i in (0..whole).step_by(V::N) {
        f(V::load(&a[i..]), V::load(&b[i..])).store(&mut dst[i..]);
    }
    if whole < dst.len() {
        f(V::load_part(&a[whole..], 0.0), V::load_part(&b[whole..dst.len()], 0.0)).store_part(&mut dst[whole..]);
    }
}

/// Replaces `dst` by `f(dst, src)`, tails included.
#[inline(always)]
pub(crate) fn update<V: Lanes>(dst: &mut [f32], src: &[f32], f: impl Fn(V, V) -> V) {
    let whole = dst.len() / V::N * V::N;
    for i in (0..whole).step_by(V::N) {
        f(V::load(&dst[i..]), V::load(&src[i..])).store(&mut dst[i..]);
    }
    if whole < dst.len() {
        let n = dst.len();
        f(V::load_part(&dst[whole..], 0.0), V::load_part(&src[whole..n], 0.0)).store_part(&mut dst[whole..]);
    }
}

/// Sums in flight at once, so that one addition need not wait for the one before it.
const SUMS: usize = 4;

/// `sum f(src)` in a fixed order; `f` must map the fill value `0.0` to what adds nothing, or get a matching `fill`.
#[inline(always)]
pub(crate) fn sum1<V: Lanes>(src: &[f32], fill: f32, f: impl Fn(V) -> V) -> f32 {
    let (whole, most) = (src.len() / V::N * V::N, src.len() / (SUMS * V::N) * (SUMS * V::N));
    let mut acc = [V::splat(0.0); SUMS];
    for i in (0..most).step_by(SUMS * V::N) {
        for (j, acc) in acc.iter_mut().enumerate() {
            *acc = acc.add(f(V::load(&src[i + j * V::N..])));
        }
    }
    for i in (most..whole).step_by(V::N) {
        acc[0] = acc[0].add(f(V::load(&src[i..])));
    }
    if whole < src.len() {
        acc[1] = acc[1].add(f(V::load_part(&src[whole..], fill)));
    }
    acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
}

/// `sum f(a, b)` in a fixed order; `f(0, 0)` must be zero.
#[inline(always)]
pub(crate) fn sum2<V: Lanes>(a: &[f32], b: &[f32], f: impl Fn(V, V) -> V) -> f32 {
    let (whole, most) = (a.len() / V::N * V::N, a.len() / (SUMS * V::N) * (SUMS * V::N));
    let mut acc = [V::splat(0.0); SUMS];
    for i in (0..most).step_by(SUMS * V::N) {
        for (j, acc) in acc.iter_mut().enumerate() {
            *acc = acc.add(f(V::load(&a[i + j * V::N..]), V::load(&b[i + j * V::N..])));
        }
    }
    for i in (most..whole).step_by(V::N) {
        acc[0] = acc[0].add(f(V::load(&a[i..]), V::load(&b[i..])));
    }
    if whole < a.len() {
        acc[1] = acc[1].add(f(V::load_part(&a[whole..], 0.0), V::load_part(&b[whole..a.len()], 0.0)));
    }
    acc[0].add(acc[1]).add(acc[2].add(acc[3])).sum()
}

/// Largest value; `-inf` for an empty slice.
#[inline(always)]
pub(crate) fn largest<V: Lanes>(src: &[f32]) -> f32 {
    let (whole, most) = (src.len() / V::N * V::N, src.len() / (SUMS * V::N) * (SUMS * V::N));
    let mut acc = [V::splat(f32::NEG_INFINITY); SUMS];
    for i in (0..most).step_by(SUMS * V::N) {
        for (j, acc) in acc.iter_mut().enumerate() {
            *acc = V::load(&src[i + j * V::N..]).max(*acc);
        }
    }
    for i in (most..whole).step_by(V::N) {
        acc[0] = V::load(&src[i..]).max(acc[0]);
    }
    if whole < src.len() {
        acc[1] = V::load_part(&src[whole..], f32::NEG_INFINITY).max(acc[1]);
    }
    acc[0].max(acc[1]).max(acc[2].max(acc[3])).largest()
}
