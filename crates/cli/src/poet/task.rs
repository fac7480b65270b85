//! One training step of the poet.

use super::config::PoetConfig;
use super::data::{Corpus, Item, batch, showing};
use chandlery::kernels::{CrossEntropy, Key};
use chandlery::lm::control::Batch;
use chandlery::lm::decoder::{Decoder, Pass};
use chandlery::train::{BatchAt, Error, Loss, Meters, Result, Source, StepCx, Task};

/// The model twice: with a graph, and on the same values without.
pub struct Poet {
    pub train: Decoder,
    pub eval: Decoder,
}

/// A packed batch and the meter that its loss belongs to.
pub struct PoetBatch {
    batch: Batch,
    meter: &'static str,
}

impl Poet {
    fn loss<'a>(model: &Decoder, batch: &'a Batch, mut pass: Pass<'a>) -> Result<candle_core::Tensor> {
        (pass.segments, pass.positions) = (batch.segments.as_ref(), batch.positions.as_ref());
        pass.prompt = Some(&batch.prompt);
        let hidden = model.hidden(&batch.ids, pass)?;
        Ok(model.loss(&hidden, &batch.targets, &CrossEntropy::sum())?)
    }
}

impl Task for Poet {
    type Batch = PoetBatch;

    fn step(&mut self, PoetBatch { batch, .. }: &PoetBatch, cx: &mut StepCx<'_>) -> Result<()> {
        let loss = Self::loss(&self.train, batch, Pass::train(cx.key()))?;
        cx.tokens(batch.ids.elem_count());
        let groups = cx.groups();
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        cx.update_groups(&groups, Loss::sum(loss, batch.n_targets))
    }

    fn eval(&self, PoetBatch { batch, meter }: &PoetBatch, meters: &mut Meters) -> Result<()> {
        let loss = Self::loss(&self.eval, batch, Pass::eval())?.to_scalar::<f32>()?;
        meters.add(meter, f64::from(loss), batch.n_targets);
        Ok(())
    }
}

/// Batches of poems; the held-out ones once without any prompt (`nll`) and once with all attributes (`nll_prompted`).
pub struct Poems<'a> {
    pub corpus: &'a Corpus,
    pub config: &'a PoetConfig,
    pub held_out: &'a [Item],
}

/// Held-out poems a batch.
const HELD_OUT: usize = 64;

impl Poems<'_> {
    fn chunks(&self) -> usize {
        self.held_out.len().div_ceil(HELD_OUT)
    }
}

impl Source for Poems<'_> {
    type Batch = PoetBatch;

    fn n_items(&self) -> usize {
        self.corpus.train.len()
    }

    fn batch(&self, items: &[usize], at: BatchAt) -> Result<PoetBatch> {
        let items = items.iter().map(|&i| &self.corpus.train[i]);
        let batch = batch(items, &self.corpus.tokenizer, self.config, at.key).map_err(Error::task)?;
        Ok(PoetBatch { batch, meter: "train" })
    }

    fn n_eval(&self) -> usize {
        2 * self.chunks()
    }

    fn eval_batch(&self, index: usize) -> Result<PoetBatch> {
        let (chunk, prompted) = (index / 2, index % 2 == 1);
        let items = self.held_out.chunks(HELD_OUT).nth(chunk).unwrap_or_default();
        let config = showing(self.config, prompted);
        let batch = batch(items.iter(), &self.corpus.tokenizer, &config, Key::new(0)).map_err(Error::task)?;
        Ok(PoetBatch { batch, meter: if prompted { "nll_prompted" } else { "nll" } })
    }

    fn fingerprint(&self) -> String {
        self.corpus.fingerprint.clone()
    }
}
