use candle_core::{Device, Tensor};

use super::pack::plan_rows;
use super::sample::IGNORE;
use super::{ControlError, Sample};

/// Samples as tensors, b rows of t positions.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Ids, u32 `[b, t]`, padded on the right.
    pub ids: Tensor,
    /// Next tokens, u32 `[b, t]`, [`IGNORE`] where the loss does not count.
    pub targets: Tensor,
    /// u8 `[b, t]`, 1 where a sample stands and 0 at padding: `keys` of [`Mask`](chandlery_kernels::Mask).
    pub keys: Tensor,
    /// Which sample of its row a position belongs to, u32 `[b, t]` from 1, 0 at padding: both `segments` of
    /// [`Mask`](chandlery_kernels::Mask). Only of [`pack`].
    pub segments: Option<Tensor>,
    /// [`Sample::positions`], u32 `[b, t]`, 0 at padding. Only of [`pack`].
    pub positions: Option<Tensor>,
    /// u8 `[b, t]`, 1 where a sample stands before its text: `prompt` of [`Pass`](crate::decoder::Pass).
    pub prompt: Tensor,
    /// Targets that count.
    pub n_targets: usize,
}

/// Rows being filled, one after the other.
#[derive(Default)]
struct Rows {
    ids: Vec<u32>,
    targets: Vec<u32>,
    keys: Vec<u8>,
    segments: Vec<u32>,
    positions: Vec<u32>,
    prompt: Vec<u8>,
}

impl Rows {
    fn push(&mut self, sample: &Sample, segment: u32) {
        self.ids.extend_from_slice(&sample.ids);
        self.targets.extend_from_slice(&sample.targets);
        self.keys.resize(self.ids.len(), 1);
        self.segments.resize(self.ids.len(), segment);
        self.positions.extend_from_slice(&sample.positions);
        self.prompt.extend((0..sample.len()).map(|at| u8::from(at < sample.start)));
    }

    fn pad_to(&mut self, len: usize, pad: u32) {
        self.ids.resize(len, pad);
        self.targets.resize(len, IGNORE);
        self.keys.resize(len, 0);
        self.segments.resize(len, 0);
        self.positions.resize(len, 0);
        self.prompt.resize(len, 0);
    }

    fn into_batch(self, t: usize, packed: bool, device: &Device) -> Result<Batch, ControlError> {
        let shape = (self.ids.len() / t, t);
        let n_targets = self.targets.iter().filter(|&&target| target != IGNORE).count();
        let optional = |values| packed.then(|| Tensor::from_vec(values, shape, device)).transpose();
        Ok(Batch {
            ids: Tensor::from_vec(self.ids, shape, device)?,
            targets: Tensor::from_vec(self.targets, shape, device)?,
            keys: Tensor::from_vec(self.keys, shape, device)?,
            segments: optional(self.segments)?,
            positions: optional(self.positions)?,
            prompt: Tensor::from_vec(self.prompt, shape, device)?,
            n_targets,
        })
    }
}

/// One sample a row, padded with `pad` to the longest.
///
/// # Errors
/// If there is no sample, or an empty one.
pub fn collate(samples: &[Sample], pad: u32, device: &Device) -> Result<Batch, ControlError> {
    let t = samples.iter().map(Sample::len).max().unwrap_or(0);
    if samples.iter().any(Sample::is_empty) || t == 0 {
        return Err(ControlError::EmptyBatch);
    }
    let mut rows = Rows::default();
    for (row, sample) in (1..).zip(samples) {
        rows.push(sample, 1);
        rows.pad_to(row * t, pad);
    }
    rows.into_batch(t, false, device)
}

/// Several samples a row of exactly `t` positions, kept apart by segments.
///
/// # Errors
/// If there is no sample, an empty one, or one longer than `t`.
pub fn pack(samples: &[Sample], t: usize, pad: u32, device: &Device) -> Result<Batch, ControlError> {
    if samples.is_empty() || samples.iter().any(Sample::is_empty) {
        return Err(ControlError::EmptyBatch);
    }
    let lengths: Vec<usize> = samples.iter().map(Sample::len).collect();
    let mut rows = Rows::default();
    for (row, members) in (1..).zip(plan_rows(&lengths, t)?) {
        members.iter().zip(1..).for_each(|(&i, segment)| rows.push(&samples[i], segment));
        rows.pad_to(row * t, pad);
    }
    rows.into_batch(t, true, device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::{Decoder, Pass};
    use candle_core::DType;
    use chandlery_kernels::CrossEntropy;
    use chandlery_nn::ParamStore;

    fn sample(from: u32, len: u32) -> Sample {
        let mut targets: Vec<u32> = (from + 1..=from + len).collect();
        targets[0] = IGNORE;
        Sample { ids: (from..from + len).collect(), targets, positions: (0..len).collect(), start: 1 }
    }

    fn rows(tensor: &Tensor) -> Vec<Vec<u32>> {
        tensor.to_dtype(DType::U32).unwrap().to_vec2().unwrap()
    }

    #[test]
    fn collate_pads_on_the_right_and_masks_padding() {
        let batch = collate(&[sample(10, 3), sample(20, 2)], 0, &Device::Cpu).unwrap();
        assert_eq!(rows(&batch.ids), [[10, 11, 12], [20, 21, 0]]);
        assert_eq!(rows(&batch.targets), [[IGNORE, 12, 13], [IGNORE, 22, IGNORE]]);
        assert_eq!(batch.keys.to_vec2::<u8>().unwrap(), [[1, 1, 1], [1, 1, 0]]);
        assert_eq!(batch.n_targets, 3);
        assert!(batch.segments.is_none() && batch.positions.is_none());
    }

    #[test]
    fn pack_keeps_samples_apart() {
        let batch = pack(&[sample(10, 2), sample(20, 4), sample(30, 3)], 6, 0, &Device::Cpu).unwrap();
        assert_eq!(rows(&batch.ids), [[20, 21, 22, 23, 10, 11], [30, 31, 32, 0, 0, 0]]);
        assert_eq!(rows(batch.segments.as_ref().unwrap()), [[1, 1, 1, 1, 2, 2], [1, 1, 1, 0, 0, 0]]);
        assert_eq!(rows(batch.positions.as_ref().unwrap()), [[0, 1, 2, 3, 0, 1], [0, 1, 2, 0, 0, 0]]);
        assert_eq!(batch.keys.to_vec2::<u8>().unwrap(), [[1; 6], [1, 1, 1, 0, 0, 0]]);
        assert_eq!(batch.n_targets, 6);
    }

    #[test]
    fn packed_rows_cost_a_decoder_what_padded_ones_do() {
        let json =
            r#"{"vocab": 50, "d_model": 16, "n_layers": 2, "n_heads": 2, "positions": {"learned": {"max": 16}}}"#;
        let config = serde_json::from_str(json).unwrap();
        let store = ParamStore::new(3, DType::F32, &Device::Cpu);
        let model = Decoder::new(&config, &store.root()).unwrap();
        let loss = |batch: &Batch| {
            let mut pass = Pass::eval().with_keys(&batch.keys);
            pass.segments = batch.segments.as_ref();
            pass.positions = batch.positions.as_ref();
            let hidden = model.hidden(&batch.ids, pass).unwrap();
            model.loss(&hidden, &batch.targets, &CrossEntropy::sum()).unwrap().to_scalar::<f32>().unwrap()
        };
        let samples = [sample(10, 3), sample(20, 7), sample(30, 5), sample(1, 4)];
        let padded = loss(&collate(&samples, 0, &Device::Cpu).unwrap());
        let packed = pack(&samples, 12, 0, &Device::Cpu).unwrap();
        let apart = |batch: Batch| (loss(&batch) - padded).abs() / padded;
        assert!(apart(packed.clone()) < 1e-6);
        assert!(apart(Batch { segments: None, ..packed.clone() }) > 1e-5);
        assert!(apart(Batch { positions: None, ..packed }) > 1e-5);
    }

    #[test]
    fn batch_of_nothing_is_an_error() {
        let empty = Sample { ids: Vec::new(), targets: Vec::new(), positions: Vec::new(), start: 0 };
        for samples in [vec![], vec![empty.clone()], vec![sample(1, 2), empty]] {
            assert!(matches!(collate(&samples, 0, &Device::Cpu), Err(ControlError::EmptyBatch)));
            assert!(matches!(pack(&samples, 4, 0, &Device::Cpu), Err(ControlError::EmptyBatch)));
        }
    }

    #[test]
    fn sample_longer_than_a_row_is_named() {
        let error = pack(&[sample(1, 2), sample(1, 5)], 4, 0, &Device::Cpu).unwrap_err();
        assert_eq!(error.to_string(), "sample 1 has 5 tokens, expected at most 4");
    }
}
