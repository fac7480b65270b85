//! A machine of integer arrays that runs partitioned graphs: every rank has a memory of its own, and data moves only as
//! the actions say.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use chandlery_parallel::graph::{Graph, OpKind, Region};
use chandlery_parallel::partition::{Action, Partition};
use chandlery_parallel::reshard::Transfers;
use std::collections::HashMap;

/// A dense array of integers, row by row; arithmetic wraps.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<i64>,
}

impl Array {
    pub fn build(shape: &[u64], f: impl Fn(&[usize]) -> i64) -> Self {
        let shape: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
        let count: usize = shape.iter().product();
        let mut index = vec![0; shape.len()];
        let mut data = Vec::with_capacity(count);
        for _ in 0..count {
            data.push(f(&index));
            for (x, &n) in index.iter_mut().zip(&shape).rev() {
                *x += 1;
                if *x < n {
                    break;
                }
                *x = 0;
            }
        }
        Self { shape, data }
    }

    fn at(&self, index: &[usize]) -> i64 {
        self.data[ravel(index, &self.shape)]
    }

    fn part(&self, region: &Region) -> Self {
        let offset = &region.offset;
        let shifted =
            |i: &[usize]| i.iter().zip(offset).zip(&self.shape).fold(0, |p, ((&x, &o), &n)| p * n + x + o as usize);
        Self::build(&region.size, |i| self.data[shifted(i)])
    }
}

fn unravel(mut i: usize, shape: &[usize]) -> Vec<usize> {
    let mut index = vec![0; shape.len()];
    for (x, &n) in index.iter_mut().zip(shape).rev() {
        *x = i % n;
        i /= n;
    }
    index
}

fn ravel(index: &[usize], shape: &[usize]) -> usize {
    index.iter().zip(shape).fold(0, |i, (&x, &n)| i * n + x)
}

/// An integer stand-in for each operator: not its numbers, but the same dependence of outputs on inputs. `rows` is the
/// first row of an embedding's table that this rank holds.
pub fn compute(kind: &OpKind, inputs: &[&Array], output: &[u64], rows: usize) -> Array {
    let x = inputs[0];
    let sum_along = |i: &[usize], axis: usize| {
        let stride: usize = x.shape[axis + 1..].iter().product();
        let start = ravel(i, &x.shape) - i[axis] * stride;
        (0..x.shape[axis]).fold(0i64, |s, j| s.wrapping_add(x.data[start + j * stride]))
    };
    let whole = |axis: i64, rank: usize| if axis < 0 { (axis + rank as i64) as usize } else { axis as usize };
    match kind {
        OpKind::MatMul { transpose_x, transpose_y } => matmul(x, inputs[1], (*transpose_x, *transpose_y), output),
        OpKind::Add => Array::build(output, |i| broadcast(x, i).wrapping_add(broadcast(inputs[1], i))),
        OpKind::Pointwise(_) => Array::build(output, |i| x.at(i).wrapping_mul(x.at(i)).wrapping_add(1)),
        OpKind::Softmax { axis } => {
            let axis = whole(*axis, x.shape.len());
            Array::build(output, |i| x.at(i).wrapping_mul(3).wrapping_add(sum_along(i, axis)))
        }
        OpKind::LayerNorm => Array::build(output, |i| {
            let h = i[i.len() - 1..].to_vec();
            let bias = inputs.get(2).map_or(0, |b| b.at(&h));
            x.at(i).wrapping_mul(inputs[1].at(&h)).wrapping_add(bias).wrapping_add(sum_along(i, i.len() - 1))
        }),
        OpKind::ReduceSum { axes, keepdim } => reduce(x, axes, *keepdim, output),
        OpKind::Transpose { perm } => Array::build(output, |i| {
            let mut at = vec![0; i.len()];
            perm.iter().zip(i).for_each(|(&p, &v)| at[p] = v);
            x.at(&at)
        }),
        OpKind::Embedding => Array::build(output, |i| {
            let id = x.at(&i[..i.len() - 1]).rem_euclid(29) as usize;
            let row = id.checked_sub(rows).filter(|&r| r < inputs[1].shape[0]);
            row.map_or(0, |r| inputs[1].at(&[r, i[i.len() - 1]]))
        }),
        OpKind::Concat { axis } => concat(inputs, whole(*axis, x.shape.len()), output),
        OpKind::Reshape { .. } => Array { shape: output.iter().map(|&n| n as usize).collect(), data: x.data.clone() },
        other => panic!("no stand-in for {other:?}"),
    }
}

fn broadcast(x: &Array, index: &[usize]) -> i64 {
    let index = &index[index.len() - x.shape.len()..];
    x.data[index.iter().zip(&x.shape).fold(0, |p, (&i, &n)| p * n + if n == 1 { 0 } else { i })]
}

/// Row-major strides of the last two dimensions, exchanged where asked, and the start of a batch entry.
fn view(a: &Array, turned: bool, batch: &[usize]) -> (usize, usize, usize) {
    let (batch_shape, last) = a.shape.split_at(a.shape.len() - 2);
    let skip = batch.len() - batch_shape.len().min(batch.len());
    let at = batch[skip..].iter().zip(batch_shape).fold(0, |i, (&x, &n)| i * n + if n == 1 { 0 } else { x });
    let start = at * last[0] * last[1];
    if turned { (start, 1, last[1]) } else { (start, last[1], 1) }
}

fn matmul(x: &Array, w: &Array, (tx, ty): (bool, bool), output: &[u64]) -> Array {
    let k = x.shape[x.shape.len() - if tx { 2 } else { 1 }];
    let mut result = Array::build(output, |_| 0);
    let (rows, columns) = (output[output.len() - 2] as usize, output[output.len() - 1] as usize);
    let batch_shape = result.shape[..output.len() - 2].to_vec();
    for (b, block) in result.data.chunks_mut((rows * columns).max(1)).enumerate() {
        let batch = unravel(b, &batch_shape);
        let ((x0, xm, xk), (w0, wk, wn)) = (view(x, tx, &batch), view(w, ty, &batch));
        for (i, cell) in block.iter_mut().enumerate() {
            let (m, n) = (i / columns, i % columns);
            let product = |j: usize| x.data[x0 + m * xm + j * xk].wrapping_mul(w.data[w0 + j * wk + n * wn]);
            *cell = (0..k).fold(0i64, |sum, j| sum.wrapping_add(product(j)));
        }
    }
    result
}

fn reduce(x: &Array, axes: &[i64], keepdim: bool, output: &[u64]) -> Array {
    let gone = |d: usize| axes.iter().any(|&a| a == d as i64 || a + x.shape.len() as i64 == d as i64);
    let mut result = Array::build(output, |_| 0);
    for (i, &v) in x.data.iter().enumerate() {
        let index = unravel(i, &x.shape);
        let kept = index.iter().enumerate().filter(|(d, _)| keepdim || !gone(*d));
        let at: Vec<usize> = kept.map(|(d, &v)| if gone(d) { 0 } else { v }).collect();
        let place = ravel(&at, &result.shape);
        result.data[place] = result.data[place].wrapping_add(v);
    }
    result
}

fn concat(inputs: &[&Array], axis: usize, output: &[u64]) -> Array {
    Array::build(output, |i| {
        let mut at = i.to_vec();
        for input in inputs {
            if at[axis] < input.shape[axis] {
                return input.at(&at);
            }
            at[axis] -= input.shape[axis];
        }
        unreachable!("index beyond the last input")
    })
}

/// Values of the inputs: small, different everywhere.
pub fn feed(tensor: usize, shape: &[u64]) -> Array {
    let dims: Vec<usize> = shape.iter().map(|&n| n as usize).collect();
    Array::build(shape, |i| ((ravel(i, &dims) * 31 + tensor * 17) % 23) as i64 - 9)
}

/// All tensors, computed on whole arrays.
pub fn serial(graph: &Graph) -> Vec<Array> {
    let mut values: Vec<Option<Array>> = vec![None; graph.tensors().len()];
    for op in graph.operators() {
        for &t in &op.inputs {
            values[t].get_or_insert_with(|| feed(t, &graph.tensors()[t].shape));
        }
        let inputs: Vec<&Array> = op.inputs.iter().map(|&t| values[t].as_ref().unwrap()).collect();
        values[op.output] = Some(compute(&op.kind, &inputs, &graph.tensors()[op.output].shape, 0));
    }
    values.into_iter().enumerate().map(|(t, v)| v.unwrap_or_else(|| feed(t, &graph.tensors()[t].shape))).collect()
}

/// What each rank holds of each version: (version, rank).
type Memory = HashMap<(usize, usize), Array>;

/// Runs the partition and compares every version of every tensor on every rank with the serial values; pending sums are
/// compared after they are resolved.
pub fn check(name: &str, graph: &Graph, split: &Partition, devices_per_node: usize) {
    let reference = serial(graph);
    let mut memory: Memory = HashMap::new();
    for action in &split.actions {
        match action {
            Action::Compute { operator, inputs, output } => {
                inputs.iter().for_each(|&v| load(graph, split, v, &mut memory));
                run(graph, split, *operator, inputs, *output, &mut memory);
            }
            Action::Reshard { from, to, route } => {
                load(graph, split, *from, &mut memory);
                let shape = &graph.tensors()[split.versions[*from].tensor].shape;
                let ranks = split.versions[*from].layout.mesh.ranks();
                let mut held: HashMap<usize, (Region, Array)> = (ranks.iter())
                    .map(|&r| (r, (split.part(graph, *from, r).unwrap(), memory[&(*from, r)].clone())))
                    .collect();
                for step in &route.steps {
                    held = exchange(shape, &held, &step.to, &step.transfers(shape, devices_per_node).unwrap());
                }
                memory.extend(held.into_iter().map(|(rank, (_, array))| ((*to, rank), array)));
            }
        }
    }
    let mut compared = 0;
    for (&(version, rank), array) in &memory {
        if split.versions[version].layout.partial_axes().is_empty() {
            let whole = &reference[split.versions[version].tensor];
            let tensor = &graph.tensors()[split.versions[version].tensor].name;
            assert_eq!(
                *array,
                whole.part(&split.part(graph, version, rank).unwrap()),
                "{name}: `{tensor}`, rank {rank}"
            );
            compared += 1;
        }
    }
    assert!(compared > 0, "{name}");
}

/// Puts inputs and parameters into the ranks' memories when first used.
fn load(graph: &Graph, split: &Partition, version: usize, memory: &mut Memory) {
    let tensor = split.versions[version].tensor;
    for &rank in split.versions[version].layout.mesh.ranks() {
        memory.entry((version, rank)).or_insert_with(|| {
            let made = graph.operators().iter().any(|op| op.output == tensor);
            assert!(!made && split.home[tensor] == Some(version), "a version is used before it is made");
            let part = split.part(graph, version, rank).unwrap();
            feed(tensor, &graph.tensors()[tensor].shape).part(&part)
        });
    }
}

fn run(graph: &Graph, split: &Partition, op: usize, inputs: &[usize], output: usize, memory: &mut Memory) {
    for &rank in split.versions[output].layout.mesh.ranks() {
        let arrays: Vec<&Array> = inputs.iter().map(|&v| &memory[&(v, rank)]).collect();
        let kind = &graph.operators()[op].kind;
        let rows = match kind {
            OpKind::Embedding => split.part(graph, inputs[1], rank).unwrap().offset[0] as usize,
            _ => 0,
        };
        let size = split.part(graph, output, rank).unwrap().size;
        let result = compute(kind, &arrays, &size, rows);
        memory.insert((output, rank), result);
    }
}

/// Applies moves: every receiver starts from zeros and adds what it keeps and gets.
fn exchange(
    shape: &[u64],
    held: &HashMap<usize, (Region, Array)>,
    to: &chandlery_parallel::graph::Layout,
    moves: &Transfers,
) -> HashMap<usize, (Region, Array)> {
    let mut after: HashMap<usize, (Region, Array)> = HashMap::new();
    for (position, &rank) in to.mesh.ranks().iter().enumerate() {
        let region = to.region(shape, position);
        after.insert(rank, (region.clone(), Array::build(&region.size, |_| 0)));
    }
    let kept = moves.kept.iter().map(|(rank, region)| (*rank, *rank, region));
    for (from, to, region) in moves.moves.iter().map(|t| (t.from, t.to, &t.region)).chain(kept) {
        let (source_region, source) = &held[&from];
        let (target_region, target) = after.get_mut(&to).unwrap();
        let outer = Array::build(&region.size, |i| {
            let at = i.iter().zip(&region.offset).zip(&source_region.offset).zip(&source.shape);
            source.data[at.fold(0, |p, (((&x, &o), &b), &n)| p * n + x + (o - b) as usize)]
        });
        for (i, &v) in outer.data.iter().enumerate() {
            let index = unravel(i, &outer.shape);
            let at = index.iter().zip(&region.offset).zip(&target_region.offset).zip(&target.shape);
            let place = at.fold(0, |p, (((&x, &o), &b), &n)| p * n + x + (o - b) as usize);
            target.data[place] = target.data[place].wrapping_add(v);
        }
    }
    after
}
