//! Graphs with user annotations as JSON.

use super::operator::{OpKind, Pointwise};
use super::{DimsMapping, Graph, GraphError, Mesh};
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

/// A graph as it stands in a file: mesh sizes, tensors by name, operators in any order.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphFile {
    /// Sizes of the mesh dimensions.
    pub mesh: Vec<usize>,
    #[serde(deserialize_with = "entries")]
    tensors: Vec<(String, TensorEntry)>,
    ops: Vec<OpEntry>,
}

/// A graph, the mesh it is to run on, and the mappings that the user fixed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AnnotatedGraph {
    /// The graph.
    pub graph: Graph,
    /// Sizes of the mesh dimensions.
    pub mesh: Vec<usize>,
    /// Fixed mappings by index of tensor; they are never changed.
    pub annotations: BTreeMap<usize, DimsMapping>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct TensorEntry {
    shape: Vec<u64>,
    #[serde(default)]
    annotation: Option<Vec<i64>>,
    #[serde(default)]
    parameter: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct OpEntry {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    inputs: Vec<String>,
    outputs: Vec<String>,
    #[serde(default)]
    attrs: Attributes,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(default)]
    axis: Option<i64>,
    #[serde(default)]
    axes: Vec<i64>,
    #[serde(default)]
    keepdim: bool,
    #[serde(default)]
    perm: Vec<usize>,
    #[serde(default)]
    transpose_x: bool,
    #[serde(default)]
    transpose_y: bool,
    #[serde(default)]
    stride: Option<u64>,
}

/// Entries of a JSON object in the order of the file, doubles kept so that they can be refused.
fn entries<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<(String, TensorEntry)>, D::Error> {
    struct Entries;
    impl<'de> Visitor<'de> for Entries {
        type Value = Vec<(String, TensorEntry)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object of tensors by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut list = Vec::new();
            while let Some(entry) = map.next_entry()? {
                list.push(entry);
            }
            Ok(list)
        }
    }
    deserializer.deserialize_map(Entries)
}

impl AnnotatedGraph {
    /// Reads a graph from JSON; `place` names the text in errors.
    ///
    /// # Errors
    /// `Syntax` for text that is no graph; else as [`GraphFile::build`].
    pub fn parse(text: &str, place: &str) -> Result<Self, GraphError> {
        let syntax = |e: serde_json::Error| GraphError::Syntax { place: place.into(), message: e.to_string() };
        serde_json::from_str::<GraphFile>(text).map_err(syntax)?.build()
    }
}

impl GraphFile {
    /// Checks names, shapes and annotations and puts the operators in topological order (file order where it is one).
    ///
    /// # Errors
    /// `Duplicate`, `UnknownTensor`, `Cycle`, `Operand`, `Size`, `Mesh`, or `Placement` for an annotation that does not
    /// fit its tensor or the mesh.
    pub fn build(&self) -> Result<AnnotatedGraph, GraphError> {
        Mesh::contiguous(&self.mesh, 0)?;
        let producers = self.producers()?;
        let shapes: HashMap<&str, &TensorEntry> = self.tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
        let mut graph = Graph::new();
        for (name, tensor) in self.tensors.iter().filter(|(name, _)| !producers.contains_key(name.as_str())) {
            if tensor.parameter {
                graph.parameter(name, &tensor.shape)?
            } else {
                graph.input(name, &tensor.shape)?
            };
        }
        for &i in &self.order(&producers)? {
            self.add(&mut graph, &self.ops[i], &shapes)?;
        }
        let mut annotations = BTreeMap::new();
        for (name, tensor) in &self.tensors {
            if let (Some(annotation), Some(index)) = (&tensor.annotation, graph.find(name)) {
                annotations.insert(index, mapping(name, &tensor.shape, annotation, self.mesh.len())?);
            }
        }
        Ok(AnnotatedGraph { graph, mesh: self.mesh.clone(), annotations })
    }

    /// Operator that computes each tensor that has one.
    fn producers(&self) -> Result<HashMap<&str, usize>, GraphError> {
        let mut names = HashMap::new();
        for (name, _) in &self.tensors {
            if names.insert(name.as_str(), ()).is_some() {
                return Err(GraphError::Duplicate { what: "tensor", name: name.clone() });
            }
        }
        let mut producers = HashMap::new();
        for (i, op) in self.ops.iter().enumerate() {
            if let Some(tensor) = op.inputs.iter().chain(&op.outputs).find(|t| !names.contains_key(t.as_str())) {
                return Err(GraphError::UnknownTensor { operator: op.name.clone(), tensor: tensor.clone() });
            }
            if op.outputs.len() != 1 {
                return Err(operand(op, "one output".into(), op.outputs.len().to_string()));
            }
            if producers.insert(op.outputs[0].as_str(), i).is_some() {
                return Err(GraphError::Duplicate { what: "producer of tensor", name: op.outputs[0].clone() });
            }
        }
        Ok(producers)
    }

    /// Depth first in file order, without recursion; finds a cycle where there is one.
    fn order(&self, producers: &HashMap<&str, usize>) -> Result<Vec<usize>, GraphError> {
        let needs = |i: usize| self.ops[i].inputs.iter().filter_map(|t| producers.get(t.as_str()).copied());
        let mut state = vec![0u8; self.ops.len()];
        let mut order = Vec::with_capacity(self.ops.len());
        for root in 0..self.ops.len() {
            let mut stack = vec![root];
            while let Some(&op) = stack.last() {
                if state[op] == 0 {
                    state[op] = 1;
                }
                match needs(op).find(|&n| state[n] != 2) {
                    Some(next) if state[next] == 1 => return Err(self.cycle(&stack, next)),
                    Some(next) => stack.push(next),
                    None => {
                        stack.pop();
                        if state[op] == 1 {
                            state[op] = 2;
                            order.push(op);
                        }
                    }
                }
            }
        }
        Ok(order)
    }

    fn cycle(&self, stack: &[usize], again: usize) -> GraphError {
        let start = stack.iter().position(|&op| op == again).unwrap_or(0);
        let names = stack[start..].iter().chain(std::iter::once(&again)).map(|&op| self.ops[op].name.clone());
        let mut path: Vec<String> = names.collect();
        path.reverse();
        GraphError::Cycle { path }
    }

    fn add(&self, graph: &mut Graph, op: &OpEntry, tensors: &HashMap<&str, &TensorEntry>) -> Result<(), GraphError> {
        let unknown = |t: &String| GraphError::UnknownTensor { operator: op.name.clone(), tensor: t.clone() };
        let inputs: Result<Vec<usize>, GraphError> =
            op.inputs.iter().map(|t| graph.find(t).ok_or_else(|| unknown(t))).collect();
        let output = &op.outputs[0];
        let declared = &tensors.get(output.as_str()).ok_or_else(|| unknown(output))?.shape;
        let index = graph.apply(&op.name, output, op.kind(declared)?, &inputs?)?;
        let inferred = &graph.tensors()[index].shape;
        if inferred == declared {
            return Ok(());
        }
        Err(operand(op, format!("output `{output}` of shape {inferred:?}"), format!("{declared:?}")))
    }
}

impl OpEntry {
    fn kind(&self, output: &[u64]) -> Result<OpKind, GraphError> {
        let a = &self.attrs;
        let axis = || a.axis.ok_or_else(|| operand(self, "attribute `axis`".into(), "none".into()));
        Ok(match self.kind.as_str() {
            "matmul" => OpKind::MatMul { transpose_x: a.transpose_x, transpose_y: a.transpose_y },
            "add" => OpKind::Add,
            "mul" => OpKind::Mul,
            "gelu" => OpKind::Pointwise(Pointwise::Gelu),
            "silu" => OpKind::Pointwise(Pointwise::Silu),
            "relu" => OpKind::Pointwise(Pointwise::Relu),
            "softmax" => OpKind::Softmax { axis: axis()? },
            "layer_norm" => OpKind::LayerNorm,
            "reduce_sum" => OpKind::ReduceSum { axes: a.axes.clone(), keepdim: a.keepdim },
            "transpose" => OpKind::Transpose { perm: a.perm.clone() },
            "embedding" => OpKind::Embedding,
            "concat" => OpKind::Concat { axis: axis()? },
            "reshape" => OpKind::Reshape { shape: output.to_vec() },
            "cross_entropy" => OpKind::CrossEntropy,
            "convolution" => OpKind::Convolution { stride: a.stride.unwrap_or(1) },
            other => return Err(operand(self, "a known operator type".into(), format!("`{other}`"))),
        })
    }
}

fn operand(op: &OpEntry, expected: String, got: String) -> GraphError {
    GraphError::Operand { operator: op.name.clone(), kind: "from a file", expected, got }
}

/// Checks a user's mapping: one entry per dimension, -1 or a mesh dimension, none of them twice.
fn mapping(tensor: &str, shape: &[u64], annotation: &[i64], axes: usize) -> Result<DimsMapping, GraphError> {
    let fail = |expected: String| GraphError::Placement {
        what: format!("tensor `{tensor}` (annotation)"),
        expected,
        got: format!("{annotation:?}"),
    };
    if annotation.len() != shape.len() {
        return Err(fail(format!("{} entries", shape.len())));
    }
    let mut seen = vec![false; axes];
    let mut result = Vec::with_capacity(annotation.len());
    for &entry in annotation {
        let axis = usize::try_from(entry).ok().filter(|&a| a < axes);
        match axis {
            None if entry == -1 => {}
            None => return Err(fail(format!("-1 or a mesh dimension below {axes}"))),
            Some(a) if std::mem::replace(&mut seen[a], true) => {
                return Err(fail(format!("mesh dimension {a} once at most")));
            }
            Some(_) => {}
        }
        result.push(axis);
    }
    Ok(result)
}
