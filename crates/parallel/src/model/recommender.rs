//! Click-through networks: large sparse tables in front of a dense interaction network.

use super::error::{ModelError, product, size, sum};
use super::transformer::MAX_SIZE;
use serde::{Deserialize, Serialize};

/// Shape of a recommender: tables of embeddings, two perceptrons and pairwise interaction between them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recommender {
    /// Rows of each sparse table.
    pub tables: Vec<u64>,
    /// Ids looked up per sample in every table; their rows are summed.
    pub lookups: u64,
    /// Width of a table's row.
    pub embedding: u64,
    /// Real-valued inputs per sample.
    pub dense_features: u64,
    /// Widths of the perceptron over the dense inputs; the last is `embedding`.
    pub bottom: Vec<u64>,
    /// Widths of the perceptron over the interactions; the last is the number of outputs.
    pub top: Vec<u64>,
}

impl Recommender {
    /// Checks every field.
    ///
    /// # Errors
    /// Empty lists, sizes of zero or too large, a bottom that does not end in the embedding's width, overflow.
    pub fn validate(&self, model: &str) -> Result<(), ModelError> {
        for (field, list) in
            [("recommender.tables", &self.tables), ("recommender.bottom", &self.bottom), ("recommender.top", &self.top)]
        {
            size(model, &format!("{field} (length)"), list.len() as u64, 10_000)?;
        }
        for (i, &rows) in self.tables.iter().enumerate() {
            size(model, &format!("recommender.tables[{i}]"), rows, 1 << 40)?;
        }
        for (i, &width) in self.bottom.iter().chain(&self.top).enumerate() {
            size(model, &format!("recommender.bottom + top [{i}]"), width, MAX_SIZE)?;
        }
        size(model, "recommender.lookups", self.lookups, 1 << 20)?;
        size(model, "recommender.embedding", self.embedding, MAX_SIZE)?;
        size(model, "recommender.dense_features", self.dense_features, MAX_SIZE)?;
        let last = self.bottom.last().copied().unwrap_or(0);
        if last != self.embedding {
            return Err(ModelError::Range {
                model: model.into(),
                field: "recommender.bottom (last width)".into(),
                expected: format!("the embedding's width {}", self.embedding),
                got: last.to_string(),
            });
        }
        self.params(model).map(|_| ())
    }

    /// Pairwise products among the tables' sums and the bottom's output, beside that output itself.
    pub fn interaction_width(&self) -> u64 {
        let vectors = self.tables.len() as u64 + 1;
        vectors * (vectors - 1) / 2 + self.embedding
    }

    /// Parameters of the sparse tables.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn sparse_params(&self, model: &str) -> Result<u64, ModelError> {
        let rows = sum(model, "rows of the sparse tables", &self.tables)?;
        product(model, "parameters of the sparse tables", &[rows, self.embedding])
    }

    /// Parameters of the two perceptrons, biases included.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn dense_params(&self, model: &str) -> Result<u64, ModelError> {
        let mut total = 0u64;
        for (i, o) in self.dense_layers() {
            total = sum(model, "dense parameters", &[total, product(model, "dense parameters", &[i + 1, o])?])?;
        }
        Ok(total)
    }

    /// All parameters.
    ///
    /// # Errors
    /// `Overflow` beyond 64 bits.
    pub fn params(&self, model: &str) -> Result<u64, ModelError> {
        sum(model, "parameters", &[self.sparse_params(model)?, self.dense_params(model)?])
    }

    /// (inputs, outputs) of each dense layer, bottom first.
    pub fn dense_layers(&self) -> Vec<(u64, u64)> {
        let chain = |first: u64, widths: &[u64]| -> Vec<(u64, u64)> {
            let inputs = std::iter::once(first).chain(widths.iter().copied());
            inputs.zip(widths.iter().copied()).collect()
        };
        let mut layers = chain(self.dense_features, &self.bottom);
        layers.extend(chain(self.interaction_width(), &self.top));
        layers
    }

    /// Forward flops of the dense part for `batch` samples: perceptrons and pairwise products.
    pub fn dense_flops(&self, batch: f64) -> f64 {
        let perceptrons: f64 = self.dense_layers().iter().map(|&(i, o)| 2.0 * i as f64 * o as f64).sum();
        let vectors = self.tables.len() as f64 + 1.0;
        batch * (perceptrons + vectors * (vectors - 1.0) * self.embedding as f64)
    }

    /// Bytes read from the tables for `batch` samples at `item` bytes a number.
    pub fn lookup_bytes(&self, batch: f64, item: f64) -> f64 {
        batch * self.tables.len() as f64 * self.lookups as f64 * self.embedding as f64 * item
    }

    /// Bytes that pass from the sparse to the dense part for `batch` samples: one summed row per table and the dense
    /// inputs.
    pub fn boundary_bytes(&self, batch: f64, item: f64) -> f64 {
        batch * item * (self.tables.len() as f64 * self.embedding as f64 + self.dense_features as f64)
    }
}
