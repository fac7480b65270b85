//! A captured graph as a chain of units: the pieces between the places where a pipeline may cut it.

use std::collections::{BTreeMap, BTreeSet};

use crate::cost::{Platform, VECTOR_OPS};
use crate::graph::{Graph, OpKind, Operator, Origin};

/// Seconds and bytes of one piece of the network, for one micro-batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Unit {
    /// Its first operator.
    pub(super) name: String,
    /// Matrix products forward, seconds.
    pub(super) matrix: f64,
    /// Other kernels forward, seconds.
    pub(super) other: f64,
    /// Waiting for kernel launches forward, seconds.
    pub(super) launch: f64,
    /// Trained numbers, tables of rows apart.
    pub(super) dense: f64,
    /// Trained numbers in tables of rows that are looked up.
    pub(super) rows: f64,
    /// Numbers of those rows that one micro-batch touches.
    pub(super) touched: f64,
    /// Rows that one micro-batch looks up.
    pub(super) ids: f64,
    /// Numbers that leave the tables for the rest of the network.
    pub(super) looked_up: f64,
    /// Numbers of all activations, which the backward pass needs.
    pub(super) kept: f64,
    /// Numbers that pass to the next unit.
    pub(super) out: f64,
}

impl Unit {
    /// Seconds forward.
    pub(super) fn forward(&self) -> f64 {
        self.matrix + self.other + self.launch
    }

    /// Seconds of both gradients.
    pub(super) fn backward(&self) -> f64 {
        2.0 * self.forward()
    }

    fn add(&mut self, other: &Self) {
        self.matrix += other.matrix;
        self.other += other.other;
        self.launch += other.launch;
        self.dense += other.dense;
        self.rows += other.rows;
        self.touched += other.touched;
        self.ids += other.ids;
        self.looked_up += other.looked_up;
        self.kept += other.kept;
    }
}

/// Bytes a number takes and how fast the device handles it.
pub(super) struct Speed<'a> {
    pub(super) platform: &'a Platform,
    pub(super) float32: bool,
}

impl Speed<'_> {
    pub(super) fn word(&self) -> f64 {
        if self.float32 { 4.0 } else { 2.0 }
    }

    fn peak(&self) -> f64 {
        if self.float32 { self.platform.vector } else { self.platform.peak }
    }

    /// Seconds to move that many numbers between memory and kernels.
    fn moved(&self, numbers: f64) -> f64 {
        numbers * self.word() / (self.platform.memory_rate * self.platform.constants.memory)
    }

    /// (matrix, other, launch) seconds of an operator: a roofline whose arithmetic saturates with the sides of the product.
    fn operator(&self, graph: &Graph, op: &Operator) -> (f64, f64, f64) {
        let (flops, numbers) = (graph.flops(op), graph.elements_moved(op));
        let launch = self.platform.constants.launch_s;
        if matches!(op.kind, OpKind::Reshape { .. }) {
            return (0.0, 0.0, 0.0);
        }
        if !op.kind.is_product() {
            // The constant counts operations a byte of half precision.
            let arithmetic = 2.0 * VECTOR_OPS * numbers / self.platform.vector;
            let busy = self.moved(numbers) + arithmetic;
            return (0.0, busy, (launch - busy).max(0.0));
        }
        let (sides, steps) = sides(graph, op);
        let half = self.platform.constants.half_size;
        let saturation: f64 = sides.iter().map(|side| side / (side + half)).product();
        let arithmetic = flops / (self.peak() * self.platform.constants.matrix * saturation);
        let busy = arithmetic.max(self.moved(numbers));
        (busy, 0.0, (steps * launch - busy).max(0.0))
    }
}

/// Rows, columns and sum length of an operator's product, and how many of them must run one after the other.
fn sides(graph: &Graph, op: &Operator) -> ([f64; 3], f64) {
    let shape = |i: usize| -> &[u64] { op.inputs.get(i).map_or(&[], |&t| graph.tensors()[t].shape.as_slice()) };
    let dim = |s: &[u64], d: usize| s.get(d).copied().unwrap_or(1) as f64;
    let out = &graph.tensors()[op.output].shape;
    let last = |s: &[u64]| s.last().copied().unwrap_or(1) as f64;
    match op.kind {
        OpKind::Convolution { .. } => {
            let w = shape(1);
            let rows = dim(out, 0) * dim(out, 2) * dim(out, 3);
            ([rows, dim(w, 0), dim(w, 1) * dim(w, 2) * dim(w, 3)], 1.0)
        }
        // The input's part could run for all times at once; the state's part cannot, and sets the pace.
        OpKind::Recurrent => ([dim(shape(0), 0), last(shape(1)) / 2.0, dim(shape(1), 0)], dim(shape(0), 1)),
        OpKind::Interaction => ([dim(shape(0), 1), dim(shape(0), 1), dim(shape(0), 2)], 1.0),
        _ => {
            let columns = last(out);
            let rows = out.iter().rev().skip(1).map(|&n| n as f64).product::<f64>();
            let rows = if shape(1).len() > 2 { dim(out, out.len().saturating_sub(2)) } else { rows };
            let sum = graph.flops(op) / 2.0 / graph.tensors()[op.output].elements() as f64;
            ([rows, columns, sum], 1.0)
        }
    }
}

/// The chain. A cut is possible where exactly one activation passes and no parameter is used on both sides.
pub(super) fn units(graph: &Graph, speed: &Speed<'_>) -> Vec<Unit> {
    let ops = graph.operators();
    let (mut first, mut last) = (BTreeMap::new(), BTreeMap::new());
    for (i, op) in ops.iter().enumerate() {
        for &t in &op.inputs {
            last.insert(t, i);
            first.entry(t).or_insert(i);
        }
    }
    let mut from_table: BTreeSet<usize> = BTreeSet::new();
    let parameter = |t: usize| graph.tensors()[t].origin == Origin::Parameter;
    let mut chain: Vec<Unit> = Vec::new();
    let mut open = Unit::default();
    // Activations, and parameters used before, that operators still to come need.
    let (mut passing, mut shared) = (BTreeSet::new(), 0usize);
    for (i, op) in ops.iter().enumerate() {
        if open.name.is_empty() {
            open.name.clone_from(&op.name);
        }
        let new = |t: usize| parameter(t) && first.get(&t) == Some(&i);
        open.add(&one(graph, op, speed, new, &from_table));
        if op.kind == OpKind::Embedding {
            from_table.insert(op.output);
        }
        let inputs: BTreeSet<usize> = op.inputs.iter().copied().collect();
        for t in inputs.into_iter().filter(|t| parameter(*t)) {
            let (begins, ends) = (first.get(&t) == Some(&i), last.get(&t) == Some(&i));
            shared = shared + usize::from(begins && !ends) - usize::from(ends && !begins);
        }
        passing.retain(|t| last.get(t).is_some_and(|&u| u > i));
        if last.get(&op.output).is_some_and(|&u| u > i) {
            passing.insert(op.output);
        }
        if let (1, Some(&t), 0) = (passing.len(), passing.first(), shared) {
            open.out = graph.tensors()[t].elements() as f64;
            chain.push(std::mem::take(&mut open));
        }
    }
    if !open.name.is_empty() {
        chain.push(open);
    }
    chain
}

fn one(
    graph: &Graph,
    op: &Operator,
    speed: &Speed<'_>,
    new: impl Fn(usize) -> bool,
    from_table: &BTreeSet<usize>,
) -> Unit {
    let (matrix, other, launch) = speed.operator(graph, op);
    let elements = |t: usize| graph.tensors()[t].elements() as f64;
    let mut unit = Unit { matrix, other, launch, ..Unit::default() };
    if !matches!(op.kind, OpKind::Reshape { .. }) {
        unit.kept = elements(op.output);
    }
    for &t in op.inputs.iter().filter(|t| new(**t)) {
        if op.kind == OpKind::Embedding {
            unit.rows += elements(t);
            unit.touched += elements(op.output).min(elements(t));
            unit.ids += op.inputs.first().map_or(0.0, |&ids| elements(ids));
        } else {
            unit.dense += elements(t);
        }
    }
    // What a sum over looked-up rows gives is what leaves a table.
    if matches!(op.kind, OpKind::ReduceSum { .. }) && op.inputs.iter().any(|t| from_table.contains(t)) {
        unit.looked_up = elements(op.output);
    }
    unit
}
