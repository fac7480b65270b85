//! Gradient checkpointing: memory for time.

use candle_core::backend::BackendStorage;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, CustomOp2, DType, Layout, MetalStorage, Result, Shape, Storage, Tensor, Var,
    bail,
};
use std::sync::{Arc, Mutex, PoisonError};

/// `f(inputs)` without keeping what its backward needs: `f` runs once more during the backward pass (Chen et al.,
/// arXiv 1604.06174).
///
/// Gradients reach the inputs and every parameter that `f` uses, and are those of the plain call bit for bit. So `f` must
/// be a function of its inputs alone: dropout takes its draws from a fixed [`Key`](chandlery_kernels::Key). `f` may
/// capture parameters, but no tensor computed from parameters or inputs: pass it in `inputs`.
///
/// # Errors
/// Those of `f`.
pub fn checkpoint<F>(f: F, inputs: &[&Tensor]) -> Result<Tensor>
where
    F: Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static,
{
    let detached: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
    let y = f(&detached)?;
    let params: Vec<Tensor> = y.sorted_nodes().into_iter().filter(|t| t.is_variable()).cloned().collect();
    // From here on the segment's graph, and with it its memory, is gone.
    let value = y.detach().force_contiguous()?;
    drop(y);
    let wants: Vec<bool> = inputs.iter().map(|t| t.track_op()).collect();
    let tracked = inputs.iter().copied().filter(|t| t.track_op()).chain(&params);
    let zero = Tensor::zeros(1, DType::F32, value.device())?;
    let slots = Slots::default();
    let mut tie = zero.clone();
    for (at, t) in tracked.enumerate() {
        tie = t.apply_op2(&tie, Tie { at, zero: zero.clone(), slots: slots.clone() })?;
    }
    if !tie.track_op() {
        return Ok(value);
    }
    tie.apply_op1(Segment { f, inputs: detached, wants, params, value, slots })
}

/// Gradients on their way from the segment to the inputs and parameters.
type Slots = Arc<Mutex<Vec<Tensor>>>;

/// Hangs one tensor into the graph before the segment; backward hands the segment's gradient to it.
struct Tie {
    at: usize,
    zero: Tensor,
    slots: Slots,
}

/// The node that stands for the whole of `f`.
struct Segment<F> {
    f: F,
    inputs: Vec<Tensor>,
    wants: Vec<bool>,
    params: Vec<Tensor>,
    value: Tensor,
    slots: Slots,
}

impl<F: Fn(&[Tensor]) -> Result<Tensor>> Segment<F> {
    /// Gradients of the tracked inputs, then of the parameters.
    fn gradients(&self, gy: &Tensor) -> Result<Vec<Tensor>> {
        let leaf = |(t, wanted): (&Tensor, &bool)| {
            if *wanted { Ok(Var::from_tensor(t)?.into_inner()) } else { Ok(t.clone()) }
        };
        let leaves = self.inputs.iter().zip(&self.wants).map(leaf).collect::<Result<Vec<_>>>()?;
        let y = (self.f)(&leaves)?;
        if y.dims() != gy.dims() {
            bail!("checkpoint: the function gave {:?} first and {:?} now", gy.dims(), y.dims());
        }
        let grads = chandlery_kernels::backward_from(&y, gy)?;
        let wanted = leaves.iter().zip(&self.wants).filter(|(_, wanted)| **wanted).map(|(t, _)| t);
        wanted.chain(&self.params).map(|t| grads.get(t).cloned().map_or_else(|| t.detach().zeros_like(), Ok)).collect()
    }
}

/// A copy of a contiguous tensor's storage, picked by `pick` from the device's kind.
fn copy<S: BackendStorage>(t: &Tensor, pick: impl FnOnce(&Storage) -> Option<&S>) -> Result<(S, Shape)> {
    let (storage, layout) = t.storage_and_layout();
    match pick(&storage) {
        Some(storage) => Ok((storage.try_clone(layout)?, t.shape().clone())),
        None => bail!("checkpoint: tensors lie on different devices"),
    }
}

fn cpu(t: &Tensor) -> Result<(CpuStorage, Shape)> {
    copy(t, |s| if let Storage::Cpu(s) = s { Some(s) } else { None })
}

fn cuda(t: &Tensor) -> Result<(CudaStorage, Shape)> {
    copy(t, |s| if let Storage::Cuda(s) = s { Some(s) } else { None })
}

fn metal(t: &Tensor) -> Result<(MetalStorage, Shape)> {
    copy(t, |s| if let Storage::Metal(s) = s { Some(s) } else { None })
}

impl CustomOp2 for Tie {
    fn name(&self) -> &'static str {
        "checkpoint-tie"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu(&self.zero)
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda(&self.zero)
    }
    fn metal_fwd(&self, _: &MetalStorage, _: &Layout, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        metal(&self.zero)
    }
    fn bwd(&self, _: &Tensor, tie: &Tensor, _: &Tensor, g: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Ok((slots.get(self.at).cloned(), tie.track_op().then(|| g.clone())))
    }
}

impl<F: Fn(&[Tensor]) -> Result<Tensor>> CustomOp1 for Segment<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }
    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        cpu(&self.value)
    }
    fn cuda_fwd(&self, _: &CudaStorage, _: &Layout) -> Result<(CudaStorage, Shape)> {
        cuda(&self.value)
    }
    fn metal_fwd(&self, _: &MetalStorage, _: &Layout) -> Result<(MetalStorage, Shape)> {
        metal(&self.value)
    }
    fn bwd(&self, tie: &Tensor, _: &Tensor, gy: &Tensor) -> Result<Option<Tensor>> {
        let grads = self.gradients(gy)?;
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = grads;
        Ok(Some(tie.detach().zeros_like()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use chandlery_kernels::{Activation, Key, dropout};
    use chandlery_nn::{LayerNorm, Linear, Mlp, ParamStore};

    /// Gradients of input and parameters of two residual blocks.
    fn gradients(segments: bool) -> Vec<Vec<f32>> {
        let store = ParamStore::new(5, DType::F32, &Device::Cpu);
        let x: Vec<f32> = (0..24).map(|i| Key::new(1).normal(i) as f32).collect();
        let x = Var::from_slice(&x, (4, 6), &Device::Cpu).unwrap();
        let mut h = x.as_tensor().clone();
        for i in 0..2 {
            let scope = store.root().pp(i);
            let norm = LayerNorm::new(&scope.pp("norm"), 6, 1e-5).unwrap();
            let [up, down] =
                [("up", 6, 9), ("down", 9, 6)].map(|(n, i, o)| Linear::new(&scope.pp(n), i, o, true).unwrap());
            let mlp = Mlp { up, down, act: Activation::GeluTanh };
            let block = move |x: &[Tensor]| {
                let y = dropout(&mlp.forward(&norm.forward(&x[0])?)?, 0.3, Key::new(9).at(i))?;
                &y + x[1].narrow(1, 0, 6)?
            };
            let other = (&h * 2.0).unwrap();
            h = if segments { checkpoint(block, &[&h, &other]) } else { block(&[h.clone(), other]) }.unwrap();
        }
        let grads = h.sqr().unwrap().sum_all().unwrap().backward().unwrap();
        let all = std::iter::once(x).chain(store.named_vars().into_iter().map(|(_, var)| var));
        all.map(|var| grads.get(&var).unwrap().flatten_all().unwrap().to_vec1().unwrap()).collect()
    }

    #[test]
    fn recomputed_gradients_are_those_of_the_plain_call() {
        assert_eq!(gradients(true), gradients(false));
    }

    #[test]
    fn without_anything_to_train_there_is_no_graph() {
        let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu).unwrap();
        let y = checkpoint(|x| x[0].narrow(1, 1, 2), &[&x]).unwrap();
        assert_eq!((y.dims(), y.track_op()), (&[2, 2][..], false));
    }

    #[test]
    fn unused_input_gets_zeros() {
        let (a, b) = (Var::new(&[1f32, 2.], &Device::Cpu).unwrap(), Var::new(&[3f32], &Device::Cpu).unwrap());
        // A computed tensor: candle asks for a gradient of every node on the way.
        let unused = (b.as_tensor() * 2.0).unwrap();
        let y = checkpoint(|x| x[0].sqr(), &[&a, &unused]).unwrap();
        let grads = y.sum_all().unwrap().backward().unwrap();
        assert_eq!(grads.get(&a).unwrap().to_vec1::<f32>().unwrap(), [2.0, 4.0]);
        assert_eq!(grads.get(&b).unwrap().to_vec1::<f32>().unwrap(), [0.0]);
    }
}
