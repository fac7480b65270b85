//! Recommenders and recurrent readers.

use super::{GraphError, Net, OpKind, Pointwise};
use crate::model::{Reader, Recommender};

impl Net {
    /// From ids `[b, lookups]` per table and dense inputs `[b, n]` to scores `[b, outputs]`.
    pub(super) fn recommender(&mut self, m: &Recommender, b: u64) -> Result<(), GraphError> {
        let dense = self.graph.input("dense", &[b, m.dense_features])?;
        let (first, second) = (m.dense_layers(), m.bottom.len());
        let bottom = self.perceptron("bottom", dense, &first[..second], true)?;
        let mut vectors = vec![self.reshape("bottom.vector".into(), bottom, &[b, 1, m.embedding])?];
        for (i, &rows) in m.tables.iter().enumerate() {
            let ids = self.graph.input(&format!("ids{i}"), &[b, m.lookups])?;
            let table = self.graph.parameter(&format!("table{i}.weight"), &[rows, m.embedding])?;
            let rows = self.op(format!("table{i}"), OpKind::Embedding, &[ids, table])?;
            let sum = OpKind::ReduceSum { axes: vec![1], keepdim: true };
            vectors.push(self.op(format!("table{i}.sum"), sum, &[rows])?);
        }
        let all = self.op("vectors".into(), OpKind::Concat { axis: 1 }, &vectors)?;
        let pairs = self.op("pairs".into(), OpKind::Interaction, &[all])?;
        let joined = self.op("features".into(), OpKind::Concat { axis: 1 }, &[bottom, pairs])?;
        self.perceptron("top", joined, &first[second..], false).map(|_| ())
    }

    /// Linear layers with rectifiers between them, and behind the last one if `last`.
    fn perceptron(&mut self, name: &str, mut x: usize, sizes: &[(u64, u64)], last: bool) -> Result<usize, GraphError> {
        for (i, &io) in sizes.iter().enumerate() {
            x = self.linear(&format!("{name}{i}"), x, io, true)?;
            if last || i + 1 < sizes.len() {
                x = self.pointwise(format!("{name}{i}.relu"), Pointwise::Relu, x)?;
            }
        }
        Ok(x)
    }

    /// From question `[b, q]` and passage `[b, p]` ids to the loss of the answer's start and end `[b]`.
    pub(super) fn reader(&mut self, m: &Reader, b: u64) -> Result<(), GraphError> {
        let (q, p, h) = (m.question, m.passage, m.hidden);
        let table = self.graph.parameter("embedding.weight", &[m.vocabulary, m.embedding])?;
        let encoder = self.graph.parameter("encoder.weight", &[m.embedding + h + 1, 8 * h])?;
        let mut sides = Vec::new();
        for (side, n) in [("question", q), ("passage", p)] {
            let ids = self.graph.input(side, &[b, n])?;
            let words = self.op(format!("{side}.words"), OpKind::Embedding, &[ids, table])?;
            sides.push(self.op(format!("{side}.encoded"), OpKind::Recurrent, &[words, encoder])?);
        }
        let mut x = self.bidirectional_attention(sides[0], sides[1])?;
        for (layer, input) in m.recurrent_inputs().into_iter().enumerate().skip(1) {
            let w = self.graph.parameter(&format!("fusion{layer}.weight"), &[input + h + 1, 8 * h])?;
            x = self.op(format!("fusion{layer}"), OpKind::Recurrent, &[x, w])?;
        }
        for end in ["start", "end"] {
            let target = self.graph.input(&format!("{end}.target"), &[b])?;
            let scores = self.linear(end, x, (2 * h, 1), false)?;
            let scores = self.reshape(format!("{end}.scores"), scores, &[b, p])?;
            self.op(format!("{end}.loss"), OpKind::CrossEntropy, &[scores, target])?;
        }
        Ok(())
    }

    /// Passage words beside what the question says to them and the passage-to-question summary: `[b, p, 8h]`.
    fn bidirectional_attention(&mut self, question: usize, passage: usize) -> Result<usize, GraphError> {
        let width = self.graph.tensors()[passage].shape[2];
        let scale = self.graph.parameter("attention.weight", &[width])?;
        let scaled = self.op("attention.scaled".into(), OpKind::Mul, &[passage, scale])?;
        let product = |transpose_y| OpKind::MatMul { transpose_x: false, transpose_y };
        let scores = self.op("attention.scores".into(), product(true), &[scaled, question])?;
        let weights = self.op("attention.softmax".into(), OpKind::Softmax { axis: -1 }, &[scores])?;
        let to_passage = self.op("attention.to_passage".into(), product(false), &[weights, question])?;
        let both = self.op("attention.both".into(), OpKind::Mul, &[passage, to_passage])?;
        let turned = OpKind::MatMul { transpose_x: true, transpose_y: false };
        let to_question = self.op("attention.to_question".into(), turned, &[weights, passage])?;
        let back = self.op("attention.back".into(), product(false), &[weights, to_question])?;
        self.op("attention.joined".into(), OpKind::Concat { axis: 2 }, &[passage, to_passage, both, back])
    }
}
