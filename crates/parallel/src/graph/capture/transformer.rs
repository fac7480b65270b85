//! Decoder transformers.

use super::{GraphError, Net, OpKind, Pointwise};
use crate::model::Transformer;

const PRODUCT: OpKind = OpKind::MatMul { transpose_x: false, transpose_y: false };
const PRODUCT_T: OpKind = OpKind::MatMul { transpose_x: false, transpose_y: true };

impl Net {
    /// From token ids `[b, s]` to the loss of each token `[b, s]`.
    pub(super) fn transformer(&mut self, m: &Transformer, b: u64) -> Result<(), GraphError> {
        let (s, h, v) = (m.sequence, m.hidden, m.vocabulary);
        let ids = self.graph.input("ids", &[b, s])?;
        let targets = self.graph.input("targets", &[b, s])?;
        let table = self.graph.parameter("embedding.weight", &[v, h])?;
        let mut x = self.op("embedding".into(), OpKind::Embedding, &[ids, table])?;
        if m.learned_positions {
            let positions = self.graph.parameter("positions.weight", &[s, h])?;
            x = self.op("positions".into(), OpKind::Add, &[x, positions])?;
        }
        for layer in 0..m.layers {
            let name = format!("layer{layer}");
            let attended = self.attention(m, &name, x, b)?;
            x = self.op(format!("{name}.residual1"), OpKind::Add, &[x, attended])?;
            let normed = self.norm(&format!("{name}.norm2"), x, h, m.biases)?;
            let y = if m.has_experts(layer) {
                self.experts(m, &name, normed, b)?
            } else {
                self.feed_forward(m, &format!("{name}.ffn"), normed, m.ffn())?
            };
            x = self.op(format!("{name}.residual2"), OpKind::Add, &[x, y])?;
        }
        x = self.norm("final_norm", x, h, m.biases)?;
        let logits = if m.tied_head {
            self.op("logits".into(), PRODUCT_T, &[x, table])?
        } else {
            self.linear("logits", x, (h, v), false)?
        };
        self.op("loss".into(), OpKind::CrossEntropy, &[logits, targets]).map(|_| ())
    }

    /// Norm, projections, attention in heads, output projection: `[b, s, h]`. Query heads stand in groups over their
    /// key/value head.
    fn attention(&mut self, m: &Transformer, layer: &str, x: usize, b: u64) -> Result<usize, GraphError> {
        let (s, h, kv, d) = (m.sequence, m.hidden, m.kv(), m.head_dim());
        let group = m.heads / kv;
        let normed = self.norm(&format!("{layer}.norm1"), x, h, m.biases)?;
        let mut heads = Vec::new();
        for (part, width, groups) in [("q", h, group), ("k", kv * d, 1), ("v", kv * d, 1)] {
            let name = format!("{layer}.{part}");
            let y = self.linear(&name, normed, (h, width), m.biases)?;
            let split = self.reshape(format!("{name}.heads"), y, &[b, s, kv, groups, d])?;
            // [b, s, kv, g, d] -> [b, kv, g, s, d]
            let turn = OpKind::Transpose { perm: vec![0, 2, 3, 1, 4] };
            let mut turned = self.op(format!("{name}.turned"), turn, &[split])?;
            if !m.learned_positions && part != "v" {
                turned = self.pointwise(format!("{name}.rotary"), Pointwise::Rotary, turned)?;
            }
            heads.push(turned);
        }
        let scores = self.op(format!("{layer}.scores"), PRODUCT_T, &[heads[0], heads[1]])?;
        let weights = self.op(format!("{layer}.softmax"), OpKind::Softmax { axis: -1 }, &[scores])?;
        let mixed = self.op(format!("{layer}.context"), PRODUCT, &[weights, heads[2]])?;
        let back = OpKind::Transpose { perm: vec![0, 3, 1, 2, 4] };
        let mixed = self.op(format!("{layer}.context.turned"), back, &[mixed])?;
        let joined = self.reshape(format!("{layer}.context.joined"), mixed, &[b, s, h])?;
        self.linear(&format!("{layer}.out"), joined, (h, h), m.biases)
    }

    fn feed_forward(&mut self, m: &Transformer, name: &str, x: usize, f: u64) -> Result<usize, GraphError> {
        let up = self.linear(&format!("{name}.up"), x, (m.hidden, f), m.biases)?;
        let inner = if m.gated {
            let gate = self.linear(&format!("{name}.gate"), x, (m.hidden, f), m.biases)?;
            let gate = self.pointwise(format!("{name}.silu"), Pointwise::Silu, gate)?;
            self.op(format!("{name}.gated"), OpKind::Mul, &[up, gate])?
        } else {
            self.pointwise(format!("{name}.gelu"), Pointwise::Gelu, up)?
        };
        self.linear(&format!("{name}.down"), inner, (f, m.hidden), m.biases)
    }

    /// Router, dispatch to `[e, b, c, h]`, two or three products per expert, combination; shared experts beside them.
    fn experts(&mut self, m: &Transformer, layer: &str, x: usize, b: u64) -> Result<usize, GraphError> {
        let Some(e) = &m.experts else { return Ok(x) };
        let (s, h, f) = (m.sequence, m.hidden, m.expert_ffn());
        let slots = (s as f64 * e.active as f64 * e.capacity_factor / e.count as f64).ceil() as u64;
        let capacity = slots.max(1);
        let name = format!("{layer}.experts");
        let routing = self.linear(&format!("{name}.router"), x, (h, e.count), false)?;
        let routing = self.op(format!("{name}.routing"), OpKind::Softmax { axis: -1 }, &[routing])?;
        let sent = self.op(format!("{name}.dispatch"), OpKind::Dispatch { experts: e.count, capacity }, &[x])?;
        let rows = self.reshape(format!("{name}.rows"), sent, &[e.count, b * capacity, h])?;
        let inner = self.expert_products(&name, rows, (e.count, h, f), m.gated, m.biases)?;
        let down = self.batched(&format!("{name}.down"), inner, (e.count, f, h), m.biases)?;
        let back = self.reshape(format!("{name}.slots"), down, &[e.count, b, capacity, h])?;
        let mut y = self.op(format!("{name}.combine"), OpKind::Combine, &[back, routing])?;
        for shared in 0..e.shared {
            let z = self.feed_forward(m, &format!("{name}.shared{shared}"), x, f)?;
            y = self.op(format!("{name}.sum{shared}"), OpKind::Add, &[y, z])?;
        }
        Ok(y)
    }

    fn expert_products(
        &mut self,
        name: &str,
        rows: usize,
        (count, h, f): (u64, u64, u64),
        gated: bool,
        biases: bool,
    ) -> Result<usize, GraphError> {
        let up = self.batched(&format!("{name}.up"), rows, (count, h, f), biases)?;
        if !gated {
            return self.pointwise(format!("{name}.gelu"), Pointwise::Gelu, up);
        }
        let gate = self.batched(&format!("{name}.gate"), rows, (count, h, f), biases)?;
        let gate = self.pointwise(format!("{name}.silu"), Pointwise::Silu, gate)?;
        self.op(format!("{name}.gated"), OpKind::Mul, &[up, gate])
    }

    /// One product per expert: `[e, n, i]` times `[e, i, o]`, plus a bias `[e, 1, o]` where there is one.
    fn batched(&mut self, name: &str, x: usize, eio: (u64, u64, u64), bias: bool) -> Result<usize, GraphError> {
        let w = self.graph.parameter(&format!("{name}.weight"), &[eio.0, eio.1, eio.2])?;
        let y = self.op(name.into(), PRODUCT, &[x, w])?;
        if !bias {
            return Ok(y);
        }
        let b = self.graph.parameter(&format!("{name}.bias"), &[eio.0, 1, eio.2])?;
        self.op(format!("{name}.biased"), OpKind::Add, &[y, b])
    }
}
