//! The axes of an operator: which dimensions of its operands are split together.

use super::GraphError;

/// What splitting an axis means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Each rank computes its part of the output.
    Free,
    /// Each rank computes a summand of the output.
    Summed,
    /// It may not be split.
    Whole,
}

/// One axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// Name within the operator, such as `k`.
    pub name: String,
    /// What splitting it means.
    pub role: Role,
}

/// The axes of an operator on operands of given shapes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// In order of first appearance: inputs left to right, then the output; dimensions left to right.
    pub axes: Vec<Axis>,
    /// For each input and then the output, the axis of each dimension; none where a size-1 dimension is repeated.
    pub operands: Vec<Vec<Option<usize>>>,
    /// Shape of the output.
    pub output: Vec<u64>,
}

/// Collects axes while the shapes are being checked.
pub(super) struct SignatureBuilder {
    operator: String,
    kind: &'static str,
    shapes: Vec<Vec<u64>>,
    axes: Vec<Axis>,
    operands: Vec<Vec<Option<usize>>>,
}

impl SignatureBuilder {
    pub fn new(operator: &str, kind: &'static str, inputs: &[&[u64]]) -> Self {
        let operands = inputs.iter().map(|shape| vec![None; shape.len()]).collect();
        let shapes = inputs.iter().map(|s| s.to_vec()).collect();
        Self { operator: operator.into(), kind, shapes, axes: Vec::new(), operands }
    }

    pub fn inputs(&self) -> usize {
        self.shapes.len()
    }

    pub fn shape(&self, operand: usize) -> Vec<u64> {
        self.shapes[operand].clone()
    }

    pub fn fail(&self, expected: &str) -> GraphError {
        let (operator, kind) = (self.operator.clone(), self.kind);
        GraphError::Operand { operator, kind, expected: expected.into(), got: format!("shapes {:?}", self.shapes) }
    }

    pub fn require(&self, holds: bool, expected: &str) -> Result<(), GraphError> {
        if holds { Ok(()) } else { Err(self.fail(expected)) }
    }

    pub fn arity(&self, least: usize, most: usize) -> Result<(), GraphError> {
        let words = if most == least { format!("{least} inputs") } else { format!("at least {least} inputs") };
        self.require((least..=most).contains(&self.shapes.len()), &words)
    }

    pub fn axis(&mut self, name: impl Into<String>, role: Role) -> usize {
        self.axes.push(Axis { name: name.into(), role });
        self.axes.len() - 1
    }

    pub fn carry(&mut self, operand: usize, dim: usize, axis: usize) {
        self.operands[operand][dim] = Some(axis);
    }

    /// Adds the output, given as (size, axis) per dimension, and puts the axes in order of first appearance.
    pub fn finish(mut self, output: Vec<(u64, Option<usize>)>) -> Result<Signature, GraphError> {
        let elements = output.iter().try_fold(1u64, |p, (n, _)| p.checked_mul(*n)).filter(|&p| p <= 1 << 53);
        self.require(elements.is_some_and(|n| n > 0), "an output of 1 to 2^53 elements")?;
        self.operands.push(output.iter().map(|(_, axis)| *axis).collect());
        let mut place: Vec<Option<usize>> = vec![None; self.axes.len()];
        let mut order = Vec::new();
        for axis in self.operands.iter().flatten().flatten() {
            if place[*axis].is_none() {
                place[*axis] = Some(order.len());
                order.push(self.axes[*axis].clone());
            }
        }
        let operands =
            self.operands.into_iter().map(|dims| dims.into_iter().map(|a| a.and_then(|a| place[a])).collect());
        Ok(Signature {
            axes: order,
            operands: operands.collect(),
            output: output.into_iter().map(|(n, _)| n).collect(),
        })
    }
}
