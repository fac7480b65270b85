//! A training loop for candle that resumes exactly.
//!
//! A method implements [`Task`]: what one step does and what is measured. [`fit`] does the rest: batches from a thread,
//! gradient accumulation that is exact per token, clipping, schedules, optimisers by parameter group, a watch over NaN
//! and loss spikes, events, evaluation, checkpoints, and resuming bit for bit.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use chandlery_kernels::{CrossEntropy, cross_entropy};
//! use chandlery_nn::{Linear, Mode, ParamStore, Scope};
//! use chandlery_train::*;
//!
//! struct Classifier {
//!     train: Linear,
//!     eval: Linear,
//! }
//!
//! impl Task for Classifier {
//!     type Batch = (Tensor, Tensor); // [b, 2] and [b]
//!
//!     fn step(&mut self, (x, y): &Self::Batch, cx: &mut StepCx<'_>) -> Result<()> {
//!         let loss = cross_entropy(&self.train.forward(x)?, y, &CrossEntropy::default())?;
//!         cx.tokens(y.dim(0)?);
//!         cx.update("main", Loss::mean(loss))
//!     }
//!
//!     fn eval(&self, (x, y): &Self::Batch, meters: &mut Meters) -> Result<()> {
//!         let loss = cross_entropy(&self.eval.forward(x)?, y, &CrossEntropy::default())?;
//!         meters.add("nll", loss.to_scalar::<f32>()? as f64, 1);
//!         Ok(())
//!     }
//! }
//!
//! # fn main() -> Result<()> {
//! let store = ParamStore::new(7, DType::F32, &Device::Cpu);
//! let model = |scope: Scope| Linear::new(&scope.pp("head"), 2, 2, true);
//! let mut task = Classifier { train: model(store.root())?, eval: model(store.frozen())? };
//!
//! let batch = |items: &[usize]| {
//!     let x: Vec<f32> = items.iter().flat_map(|&i| [i as f32 / 50.0 - 1.0, 1.0]).collect();
//!     let y: Vec<u32> = items.iter().map(|&i| u32::from(i >= 50)).collect();
//!     Ok((Tensor::from_vec(x, (items.len(), 2), &Device::Cpu)?, Tensor::new(y, &Device::Cpu)?))
//! };
//! let source = from_fn(100, move |items, _at| batch(items)).with_eval(1, move |_| batch(&[10, 90]));
//!
//! let config = FitConfig::from_toml(
//!     r#"
//!     steps = 60
//!     batch = 16
//!     eval_every = 20
//!     best = { meter = "nll" }
//!     [groups.main]
//!     lr = 0.05
//!     schedule = { shape = "cosine", warmup = 5 }
//!     rule = { kind = "adamw", beta2 = 0.95 }
//!     "#,
//! )?;
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path();
//! let outcome = fit(&mut task, &store, &source, &config, Run::create(path))?;
//! assert!(outcome.summary().eval.mean("nll").unwrap() < 0.5);
//! # Ok(()) }
//! ```

mod checkpoint;
mod config;
mod disk;
mod ema;
mod error;
mod events;
#[cfg(test)]
mod faults;
mod fit;
mod group;
mod guard;
mod interrupt;
mod loader;
mod meters;
mod optimiser;
mod progress;
mod recompute;
mod reduce;
mod run;
mod run_dir;
mod sampler;
mod scalars;
mod schedule;
mod session;
mod source;
mod state;
mod step;
mod task;

pub use config::{BestConfig, EmaConfig, FitConfig, GuardConfig, Policy, ReachConfig};
pub use error::{Error, Result};
pub use fit::{Outcome, Summary, fit};
pub use group::{GroupConfig, LrScale, RuleConfig};
pub use interrupt::Interrupt;
pub use meters::Meters;
pub use progress::Progress;
pub use recompute::checkpoint;
pub use reduce::{Alone, Reducer};
pub use run::Run;
pub use sampler::{Cursor, Sampler};
pub use scalars::Scalar;
pub use schedule::{Growth, Schedule, Shape};
pub use source::{BatchAt, FnSource, Source, from_fn};
pub use state::Best;
pub use step::StepCx;
pub use task::{Extra, Loss, Params, Task};
