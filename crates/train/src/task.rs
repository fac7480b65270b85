//! What a method implements.

use crate::{Error, Meters, Result, StepCx};
use candle_core::{DType, Tensor, Var};
use chandlery_nn::ParamStore;
use std::collections::BTreeMap;

/// All that a method implements; the loop knows nothing else about it.
///
/// The model's parameters live in a [`ParamStore`] (or several, see [`Params`]); the task holds the model built on
/// them, and a second one built on [`ParamStore::frozen`] for evaluation.
pub trait Task {
    /// What the source makes on its own thread and [`step`](Self::step) takes.
    type Batch: Send;

    /// One micro-batch: forward, named losses, and at least one [`StepCx::update`].
    ///
    /// # Errors
    /// Whatever stops the run.
    fn step(&mut self, batch: &Self::Batch, cx: &mut StepCx<'_>) -> Result<()>;

    /// Measures one held-out batch on frozen parameters.
    ///
    /// # Errors
    /// Whatever stops the run.
    fn eval(&self, batch: &Self::Batch, meters: &mut Meters) -> Result<()> {
        let _ = (batch, meters);
        Ok(())
    }

    /// State beside the parameters: thresholds, prototypes, queues. It is part of every checkpoint.
    fn save_extra(&self) -> Extra {
        Extra::default()
    }

    /// Takes back what [`save_extra`](Self::save_extra) gave.
    ///
    /// # Errors
    /// If the state is not this task's.
    fn load_extra(&mut self, extra: &Extra) -> Result<()> {
        if extra.is_empty() {
            Ok(())
        } else {
            Err(Error::task("the checkpoint holds state that this task does not take"))
        }
    }
}

/// A task's own state in a checkpoint.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// Numbers, text, lists.
    pub values: BTreeMap<String, serde_json::Value>,
    /// Tensors.
    pub tensors: BTreeMap<String, Tensor>,
}

impl Extra {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty() && self.tensors.is_empty()
    }
}

/// The parameters of a run: one store, or several under names of their own (`"student"`, `"critic"`), which become the
/// first part of each parameter's name.
pub trait Params {
    /// Every parameter that is trained once, in order of name.
    fn named_vars(&self) -> Vec<(String, Var)>;

    /// Every parameter that the store froze, in order of name. They are in every checkpoint and belong to no group.
    fn named_frozen(&self) -> Vec<(String, Var)> {
        vec![]
    }

    /// Every buffer, such as the running statistics of batch norm, in order of name. They are in every checkpoint; a step
    /// that is skipped leaves no trace in them.
    fn named_buffers(&self) -> Vec<(String, Var)> {
        vec![]
    }
}

impl Params for ParamStore {
    fn named_vars(&self) -> Vec<(String, Var)> {
        ParamStore::named_vars(self)
    }

    fn named_frozen(&self) -> Vec<(String, Var)> {
        ParamStore::named_frozen(self)
    }

    fn named_buffers(&self) -> Vec<(String, Var)> {
        ParamStore::named_buffers(self)
    }
}

impl Params for [(&str, ParamStore)] {
    fn named_vars(&self) -> Vec<(String, Var)> {
        joined(self, ParamStore::named_vars)
    }

    fn named_frozen(&self) -> Vec<(String, Var)> {
        joined(self, ParamStore::named_frozen)
    }

    fn named_buffers(&self) -> Vec<(String, Var)> {
        joined(self, ParamStore::named_buffers)
    }
}

/// What `of` gives for each store, with the store's name before each name, in order.
fn joined(stores: &[(&str, ParamStore)], of: impl Fn(&ParamStore) -> Vec<(String, Var)>) -> Vec<(String, Var)> {
    let prefixed = |(prefix, store): &(&str, ParamStore)| {
        of(store).into_iter().map(|(name, var)| (format!("{prefix}.{name}"), var)).collect::<Vec<_>>()
    };
    let mut all: Vec<_> = stores.iter().flat_map(prefixed).collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// A loss to minimise, with the number of things that were summed in it.
///
/// Over a window of micro-batches the loop divides the summed gradients by the total of these numbers, so that windows
/// with unequal padding equal one large batch.
#[derive(Clone, Debug)]
pub struct Loss {
    pub(crate) sum: Tensor,
    pub(crate) count: f64,
}

impl Loss {
    /// A loss summed over `count` tokens, pixels or examples.
    pub fn sum(sum: Tensor, count: usize) -> Self {
        Self { sum, count: count as f64 }
    }

    /// A mean: every micro-batch weighs the same.
    pub fn mean(mean: Tensor) -> Self {
        Self { sum: mean, count: 1.0 }
    }

    /// The summed value, on the host.
    pub(crate) fn host(sum: &Tensor) -> candle_core::Result<f64> {
        sum.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>().map(|v| v.iter().sum())
    }
}
