//! Batches of labelled and unlabelled images.

use super::data::Corpus;
use candle_core::{Device, Tensor};
use chandlery::kernels::Key;
use chandlery::pseudo::data::Images;
use chandlery::pseudo::image::View;
use chandlery::pseudo::ssl::{Labelled, SslBatch, SslConfig, Unlabelled};
use chandlery::train::{BatchAt, Cursor, Error, Result, Sampler, Source};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// Labelled images in the loop's own order, beside them unlabelled ones in an order of theirs: so methods that differ in
/// what they do with the latter see the same labelled batches.
pub struct Photographs<'a> {
    pub corpus: &'a Corpus,
    pub ssl: &'a SslConfig,
    /// Of the order of unlabelled images.
    pub seed: u64,
    /// Unlabelled images a batch.
    pub n_unlabelled: usize,
    /// Batches a step.
    pub accumulate: usize,
    /// Held-out images a batch.
    pub held_out: usize,
    /// Images that failed during the run, and why.
    pub failed: Mutex<BTreeMap<String, String>>,
}

/// Views of some images; those that failed are left out.
struct Views {
    tensors: Vec<Tensor>,
    kept: Vec<usize>,
}

impl Photographs<'_> {
    fn images(&self) -> &Images {
        &self.corpus.images
    }

    /// `at` are places in the list `of` items.
    fn see(&self, of: &[usize], at: &[usize], views: &[View], key: Key) -> Result<Views> {
        let items: Vec<usize> = at.iter().map(|&i| of[i]).collect();
        let seen = self.corpus.look(&items, views, key).map_err(Error::task)?;
        for (position, why) in &seen.failed {
            let name = self.images().data().items()[items[*position]].name.clone();
            let mut failed = self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            failed.insert(name, why.to_string());
        }
        if seen.kept.is_empty() {
            let why = seen.failed.first().map_or_else(String::new, |(_, why)| why.to_string());
            return Err(Error::task(format!("no image of the batch can be used: {why}")));
        }
        let kept = seen.kept.iter().map(|&k| at[k]).collect();
        Ok(Views { tensors: seen.tensors(&Device::Cpu)?, kept })
    }

    /// Images that failed so far.
    pub fn failures(&self) -> BTreeMap<String, String> {
        self.failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    fn labelled(&self, of: &[usize], at: &[usize], view: View, key: Key) -> Result<Labelled> {
        let Views { tensors, kept } = self.see(of, at, &[view], key)?;
        let items: Vec<usize> = kept.iter().map(|&i| of[i]).collect();
        let labels = self.images().labels(&items).map_err(Error::task)?;
        let x = tensors.into_iter().next().ok_or_else(|| Error::task("no view"))?;
        Ok(Labelled { x, labels, indices: kept })
    }

    fn unlabelled(&self, at: BatchAt) -> Result<Unlabelled> {
        let all = &self.corpus.split.unlabelled;
        let before = ((at.step - 1) * self.accumulate as u64 + at.micro as u64) * self.n_unlabelled as u64;
        let (n, key) = (all.len() as u64, Key::new(self.seed).named("unlabelled order"));
        let cursor = Cursor { epoch: before / n, position: before % n };
        let places = Sampler::new(key, all.len(), true, cursor).take(self.n_unlabelled);
        let strong = self.ssl.needs_strong();
        let views = if strong { &[View::Weak, View::Strong][..] } else { &[View::Weak] };
        let Views { tensors, kept } = self.see(all, &places, views, at.key.named("unlabelled"))?;
        let mut tensors = tensors.into_iter();
        let weak = tensors.next().ok_or_else(|| Error::task("no view"))?;
        let truth = |&i: &usize| self.images().data().items()[all[i]].label.map(|l| l as u32);
        let hidden = kept.iter().map(truth).collect();
        Ok(Unlabelled { weak, strong: tensors.next(), indices: kept, hidden })
    }
}

impl Source for Photographs<'_> {
    type Batch = SslBatch;

    fn n_items(&self) -> usize {
        self.corpus.split.labelled.len()
    }

    fn batch(&self, items: &[usize], at: BatchAt) -> Result<SslBatch> {
        let labelled = self.labelled(&self.corpus.split.labelled, items, View::Weak, at.key.named("labelled"))?;
        let unlabelled = self.ssl.uses_unlabelled().then(|| self.unlabelled(at)).transpose()?;
        Ok(SslBatch { labelled, unlabelled })
    }

    fn n_eval(&self) -> usize {
        self.corpus.split.val.len().div_ceil(self.held_out)
    }

    fn eval_batch(&self, index: usize) -> Result<SslBatch> {
        let val = &self.corpus.split.val;
        let places: Vec<usize> = (0..val.len()).skip(index * self.held_out).take(self.held_out).collect();
        Ok(SslBatch { labelled: self.labelled(val, &places, View::Test, Key::new(0))?, unlabelled: None })
    }

    fn fingerprint(&self) -> String {
        self.corpus.fingerprint.clone()
    }
}

/// The logits `[n, c]` that `forward`, the trained part, gives for the test view of `items`, with the places in `items` of those that could be read.
pub fn logits(
    corpus: &Corpus,
    items: &[usize],
    batch: usize,
    forward: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> crate::Result<(Vec<f32>, Vec<usize>)> {
    let (mut all, mut kept) = (Vec::new(), Vec::new());
    for (chunk, items) in items.chunks(batch).enumerate() {
        let seen = corpus.look(items, &[View::Test], Key::new(0))?;
        if seen.kept.is_empty() {
            continue;
        }
        kept.extend(seen.kept.iter().map(|k| chunk * batch + k));
        for x in seen.tensors(&Device::Cpu)? {
            all.extend(forward(&x)?.flatten_all()?.to_vec1::<f32>()?);
        }
    }
    Ok((all, kept))
}
