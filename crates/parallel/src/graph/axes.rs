//! Which dimensions of an operator's operands belong together, for each kind, and the shape of its output.

use super::GraphError;
use super::signature::{Role, Signature, SignatureBuilder};

fn role(whole: bool) -> Role {
    if whole { Role::Whole } else { Role::Free }
}

fn index(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(axis).ok().filter(|&a| a < rank)
}

pub fn matmul(mut b: SignatureBuilder, transpose_x: bool, transpose_y: bool) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (x, w) = (b.shape(0), b.shape(1));
    let (rx, rw) = (x.len(), w.len());
    b.require(rx >= 2 && (rw == 2 || (rw >= 2 && rw <= rx)), "x [.., m, k] and w [k, n] or [.., k, n]")?;
    let (dm, dk) = if transpose_x { (rx - 1, rx - 2) } else { (rx - 2, rx - 1) };
    let (wk, wn) = if transpose_y { (rw - 1, rw - 2) } else { (rw - 2, rw - 1) };
    b.require(x[dk] == w[wk], "equal inner dimensions k")?;
    let mut output = Vec::new();
    for (d, &n) in x[..rx - 2].iter().enumerate() {
        let in_w = (d + rw).checked_sub(rx).filter(|_| rw > 2);
        let size = in_w.map_or(n, |i| n.max(w[i]));
        let axis = b.axis(format!("batch{d}"), Role::Free);
        for (operand, dim) in std::iter::once((0, Some(d))).chain(std::iter::once((1, in_w))) {
            let Some(dim) = dim else { continue };
            let n = b.shape(operand)[dim];
            b.require(n == size || n == 1, "batch dimensions that agree or have size 1")?;
            if n == size {
                b.carry(operand, dim, axis);
            }
        }
        output.push((size, Some(axis)));
    }
    let (m, k, n) = (b.axis("m", Role::Free), b.axis("k", Role::Summed), b.axis("n", Role::Free));
    b.carry(0, dm, m);
    b.carry(0, dk, k);
    b.carry(1, wk, k);
    b.carry(1, wn, n);
    output.extend([(x[dm], Some(m)), (w[wn], Some(n))]);
    b.finish(output)
}

pub fn broadcast(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let shapes = [b.shape(0), b.shape(1)];
    let rank = shapes[0].len().max(shapes[1].len());
    let at = |operand: usize, d: usize| (d + shapes[operand].len()).checked_sub(rank);
    let mut output = Vec::new();
    for d in 0..rank {
        let sizes: Vec<u64> = (0..2).filter_map(|o| at(o, d).map(|i| shapes[o][i])).collect();
        let size = sizes.iter().copied().max().unwrap_or(1);
        b.require(sizes.iter().all(|&n| n == size || n == 1), "dimensions that agree from the right or have size 1")?;
        let axis = b.axis(format!("d{d}"), Role::Free);
        for (operand, shape) in shapes.iter().enumerate() {
            if let Some(i) = at(operand, d).filter(|&i| shape[i] == size) {
                b.carry(operand, i, axis);
            }
        }
        output.push((size, Some(axis)));
    }
    b.finish(output)
}

pub fn pointwise(mut b: SignatureBuilder, whole: Option<i64>) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let shape = b.shape(0);
    let whole = match whole.map(|axis| index(axis, shape.len())) {
        None => None,
        Some(Some(axis)) => Some(axis),
        Some(None) => return Err(b.fail("an axis within the input's dimensions")),
    };
    let output = (0..shape.len()).map(|d| {
        let axis = b.axis(format!("d{d}"), role(whole == Some(d)));
        b.carry(0, d, axis);
        (shape[d], Some(axis))
    });
    let output = output.collect();
    b.finish(output)
}

pub fn layer_norm(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 3)?;
    let shape = b.shape(0);
    let last = shape.last().copied();
    let vectors = (1..b.inputs()).all(|i| b.shape(i).len() == 1 && b.shape(i).last().copied() == last);
    b.require(last.is_some() && vectors, "x [.., h], scale [h] and bias [h]")?;
    let mut output = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        let whole = d + 1 == shape.len();
        let axis = b.axis(format!("d{d}"), role(whole));
        b.carry(0, d, axis);
        for operand in (1..b.inputs()).filter(|_| whole) {
            b.carry(operand, 0, axis);
        }
        output.push((n, Some(axis)));
    }
    b.finish(output)
}

pub fn channel_norm(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(3, 3)?;
    let shape = b.shape(0);
    let vectors = shape.len() >= 2 && (1..3).all(|i| b.shape(i) == [shape[1]]);
    b.require(vectors, "x [b, c, ..], scale [c] and shift [c]")?;
    let mut output = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        let axis = b.axis(format!("d{d}"), Role::Free);
        b.carry(0, d, axis);
        for operand in (1..3).filter(|_| d == 1) {
            b.carry(operand, 0, axis);
        }
        output.push((n, Some(axis)));
    }
    b.finish(output)
}

pub fn reduce_sum(mut b: SignatureBuilder, axes: &[i64], keepdim: bool) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let shape = b.shape(0);
    let summed: Option<Vec<usize>> = axes.iter().map(|&axis| index(axis, shape.len())).collect();
    let Some(summed) = summed else { return Err(b.fail("axes within the input's dimensions")) };
    let mut output = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        let gone = summed.contains(&d);
        let axis = b.axis(format!("d{d}"), if gone { Role::Summed } else { Role::Free });
        b.carry(0, d, axis);
        match (gone, keepdim) {
            (false, _) => output.push((n, Some(axis))),
            (true, true) => output.push((1, None)),
            (true, false) => {}
        }
    }
    b.finish(output)
}

pub fn transpose(mut b: SignatureBuilder, perm: &[usize]) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let shape = b.shape(0);
    let mut sorted = perm.to_vec();
    sorted.sort_unstable();
    b.require(sorted.iter().copied().eq(0..shape.len()), "a permutation of the input's dimensions")?;
    let axes: Vec<usize> = (0..shape.len()).map(|d| b.axis(format!("d{d}"), Role::Free)).collect();
    for (d, &axis) in axes.iter().enumerate() {
        b.carry(0, d, axis);
    }
    b.finish(perm.iter().map(|&d| (shape[d], Some(axes[d]))).collect())
}

pub fn embedding(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (ids, table) = (b.shape(0), b.shape(1));
    b.require(table.len() == 2, "ids [..] and a table [v, h]")?;
    let mut output = Vec::new();
    for (d, &n) in ids.iter().enumerate() {
        let axis = b.axis(format!("d{d}"), Role::Free);
        b.carry(0, d, axis);
        output.push((n, Some(axis)));
    }
    let (v, h) = (b.axis("v", Role::Summed), b.axis("h", Role::Free));
    b.carry(1, 0, v);
    b.carry(1, 1, h);
    output.push((table[1], Some(h)));
    b.finish(output)
}

pub fn concat(mut b: SignatureBuilder, axis: i64) -> Result<Signature, GraphError> {
    b.arity(1, usize::MAX)?;
    let shape = b.shape(0);
    let Some(along) = index(axis, shape.len()) else { return Err(b.fail("an axis within the inputs' dimensions")) };
    let rest = |s: &[u64]| s.iter().enumerate().filter(|(d, _)| *d != along).map(|(_, &n)| n).collect::<Vec<_>>();
    let alike = (0..b.inputs()).all(|i| b.shape(i).len() == shape.len() && rest(&b.shape(i)) == rest(&shape));
    b.require(alike, "inputs that agree in every other dimension")?;
    let total = (0..b.inputs()).try_fold(0u64, |sum, i| sum.checked_add(b.shape(i)[along]));
    let Some(total) = total else { return Err(b.fail("a length within 64 bits")) };
    let mut output = Vec::new();
    for (d, &n) in shape.iter().enumerate() {
        let shared = b.axis(if d == along { "c".into() } else { format!("d{d}") }, role(d == along));
        for operand in 0..b.inputs() {
            let axis = if d == along { b.axis(format!("c{operand}"), Role::Whole) } else { shared };
            b.carry(operand, d, axis);
        }
        output.push((if d == along { total } else { n }, Some(shared)));
    }
    b.finish(output)
}

pub fn reshape(mut b: SignatureBuilder, to: &[u64]) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let from = b.shape(0);
    let count = |s: &[u64]| s.iter().try_fold(1u128, |p, &n| p.checked_mul(u128::from(n)));
    b.require(count(&from) == count(to), "a new shape of as many elements")?;
    let wide = |s: &[u64]| (0..s.len()).filter(|&d| s[d] != 1).collect::<Vec<_>>();
    let (left, right) = (wide(&from), wide(to));
    let mut output: Vec<(u64, Option<usize>)> = to.iter().map(|&n| (n, None)).collect();
    let (mut i, mut j) = (0, 0);
    while i < left.len() && j < right.len() {
        let shared = b.axis(format!("g{i}"), Role::Free);
        b.carry(0, left[i], shared);
        output[right[j]].1 = Some(shared);
        let (mut p, mut q) = (u128::from(from[left[i]]), u128::from(to[right[j]]));
        while p != q {
            if p < q {
                i += 1;
                p *= u128::from(from[left[i]]);
                let axis = b.axis(format!("in{}", left[i]), Role::Whole);
                b.carry(0, left[i], axis);
            } else {
                j += 1;
                q *= u128::from(to[right[j]]);
                output[right[j]].1 = Some(b.axis(format!("out{}", right[j]), Role::Whole));
            }
        }
        (i, j) = (i + 1, j + 1);
    }
    b.finish(output)
}

pub fn cross_entropy(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (logits, targets) = (b.shape(0), b.shape(1));
    b.require(logits.split_last().is_some_and(|(_, rest)| *rest == targets), "logits [.., v] and targets [..]")?;
    let mut output = Vec::new();
    for (d, &n) in targets.iter().enumerate() {
        let axis = b.axis(format!("d{d}"), Role::Free);
        b.carry(0, d, axis);
        b.carry(1, d, axis);
        output.push((n, Some(axis)));
    }
    let v = b.axis("v", Role::Whole);
    b.carry(0, targets.len(), v);
    b.finish(output)
}

pub fn dispatch(mut b: SignatureBuilder, experts: u64, capacity: u64) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let x = b.shape(0);
    b.require(x.len() == 3, "tokens [b, s, h]")?;
    let (batch, s, h) = (b.axis("b", Role::Free), b.axis("s", Role::Whole), b.axis("h", Role::Free));
    for (d, axis) in [batch, s, h].into_iter().enumerate() {
        b.carry(0, d, axis);
    }
    let (e, c) = (b.axis("e", Role::Free), b.axis("c", Role::Whole));
    b.finish(vec![(experts, Some(e)), (x[0], Some(batch)), (capacity, Some(c)), (x[2], Some(h))])
}

pub fn combine(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (y, r) = (b.shape(0), b.shape(1));
    b.require(y.len() == 4 && r.len() == 3 && y[0] == r[2] && y[1] == r[0], "outputs [e, b, c, h], routing [b, s, e]")?;
    let names = [("e", Role::Summed), ("b", Role::Free), ("c", Role::Whole), ("h", Role::Free), ("s", Role::Free)];
    let [e, batch, c, h, s] = names.map(|(name, role)| b.axis(name, role));
    for (operand, axes) in [(0, vec![e, batch, c, h]), (1, vec![batch, s, e])] {
        for (d, axis) in axes.into_iter().enumerate() {
            b.carry(operand, d, axis);
        }
    }
    b.finish(vec![(r[0], Some(batch)), (r[1], Some(s)), (y[3], Some(h))])
}

pub fn convolution(mut b: SignatureBuilder, stride: u64) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (x, w) = (b.shape(0), b.shape(1));
    b.require(
        x.len() == 4 && w.len() == 4 && x[1] == w[1] && stride > 0,
        "x [b, c, y, x], w [o, c, k, k], stride >= 1",
    )?;
    let (batch, c, o) = (b.axis("b", Role::Free), b.axis("c", Role::Summed), b.axis("o", Role::Free));
    let (rows, columns) = (b.axis("y", Role::Whole), b.axis("x", Role::Whole));
    for (d, axis) in [batch, c, rows, columns].into_iter().enumerate() {
        b.carry(0, d, axis);
    }
    b.carry(1, 0, o);
    b.carry(1, 1, c);
    let (y, x2) = (x[2].div_ceil(stride), x[3].div_ceil(stride));
    b.finish(vec![(x[0], Some(batch)), (w[0], Some(o)), (y, Some(rows)), (x2, Some(columns))])
}

pub fn pool(mut b: SignatureBuilder, stride: u64) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let x = b.shape(0);
    b.require(x.len() == 4, "x [b, c, y, x]")?;
    let (batch, c) = (b.axis("b", Role::Free), b.axis("c", Role::Free));
    let (rows, columns) = (b.axis("y", Role::Whole), b.axis("x", Role::Whole));
    for (d, axis) in [batch, c, rows, columns].into_iter().enumerate() {
        b.carry(0, d, axis);
    }
    let mut output = vec![(x[0], Some(batch)), (x[1], Some(c))];
    if stride > 0 {
        output.extend([(x[2].div_ceil(stride), Some(rows)), (x[3].div_ceil(stride), Some(columns))]);
    }
    b.finish(output)
}

pub fn recurrent(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(2, 2)?;
    let (x, w) = (b.shape(0), b.shape(1));
    let fits = x.len() == 3 && w.len() == 2 && w[1] % 8 == 0 && w[0] == x[2] + w[1] / 8 + 1;
    b.require(fits, "x [b, t, i] and weights [i + h + 1, 8h]")?;
    let (batch, t, i) = (b.axis("b", Role::Free), b.axis("t", Role::Whole), b.axis("i", Role::Whole));
    for (d, axis) in [batch, t, i].into_iter().enumerate() {
        b.carry(0, d, axis);
    }
    let h = b.axis("h", Role::Whole);
    let rows = b.axis("i+h+1", Role::Whole);
    b.carry(1, 0, rows);
    b.carry(1, 1, h);
    b.finish(vec![(x[0], Some(batch)), (x[1], Some(t)), (w[1] / 4, Some(h))])
}

pub fn interaction(mut b: SignatureBuilder) -> Result<Signature, GraphError> {
    b.arity(1, 1)?;
    let x = b.shape(0);
    b.require(x.len() == 3 && x[1] >= 2, "vectors [b, n, d] with n >= 2")?;
    let (batch, n, d) = (b.axis("b", Role::Free), b.axis("n", Role::Whole), b.axis("d", Role::Summed));
    for (dim, axis) in [batch, n, d].into_iter().enumerate() {
        b.carry(0, dim, axis);
    }
    let pairs = b.axis("pairs", Role::Whole);
    b.finish(vec![(x[0], Some(batch)), (x[1] * (x[1] - 1) / 2, Some(pairs))])
}
