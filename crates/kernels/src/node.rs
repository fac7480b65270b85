//! The bridge between f32 slice kernels and candle's autograd.
//!
//! candle's custom operations take at most three inputs. A [`Kernel`] may take any number: the first two go in directly
//! and the rest through [`Bundle`]s, one-element nodes that stand for up to three tensors in the graph. The kernel's
//! backward leaves their gradients in the bundle, and the bundle's own backward, which candle always visits later,
//! hands them on. So every input stays an ordinary node and every gradient ends in candle's `GradStore`.

use crate::backward::{arriving, leaving};
use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, DType, Device, Layout, Result, Shape, Tensor, bail};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// One input of a kernel: contiguous values with their shape.
#[derive(Clone, Copy)]
pub(crate) struct Arg<'a> {
    pub data: &'a [f32],
    pub dims: &'a [usize],
}

impl Arg<'_> {
    /// Length of the last dimension (1 for a scalar).
    pub fn width(&self) -> usize {
        self.dims.last().copied().unwrap_or(1)
    }
}

/// Gradients of the inputs, in their order; `None` where none was wanted.
pub(crate) type Grads = Vec<Option<Vec<f32>>>;

/// A differentiable operation on contiguous f32 slices.
pub(crate) trait Kernel: Send + Sync + 'static {
    /// What forward keeps for backward.
    type Saved: Send + Sync;
    const NAME: &'static str;

    /// Returns values, shape, and what backward needs. `wants[i]` says whether input `i` needs a gradient; where none
    /// does, nothing need be kept.
    fn forward(&self, x: &[Arg<'_>], wants: &[bool]) -> Result<(Vec<f32>, Vec<usize>, Self::Saved)>;

    /// Returns the gradient of each wanted input from the gradient `gy` of the result `y`.
    fn backward(&self, x: &[Arg<'_>], saved: &Self::Saved, y: &[f32], gy: &[f32], wants: &[bool]) -> Result<Grads>;
}

/// Whether the f32 CPU kernels may serve all of `tensors`.
pub(crate) fn fast(tensors: &[&Tensor]) -> bool {
    tensors.iter().all(|t| t.dtype() == DType::F32 && matches!(t.device(), Device::Cpu))
}

/// Runs `kernel` on `inputs` as one node of candle's graph.
pub(crate) fn apply<K: Kernel>(kernel: K, inputs: &[&Tensor]) -> Result<Tensor> {
    let inputs = inputs.iter().map(|t| t.contiguous()).collect::<Result<Vec<_>>>()?;
    let wants: Vec<bool> = inputs.iter().map(Tensor::track_op).collect();
    let slots: Slots = Arc::new(Mutex::new(vec![None; inputs.len()]));
    let direct = if inputs.len() <= 3 { inputs.len() } else { 2 };
    let extras = inputs[direct..].to_vec();
    let node = Node { kernel, wants, saved: OnceLock::new(), extras, slots: slots.clone() };
    if let [a] = &inputs[..] {
        return a.apply_op1(node);
    }
    if let [a, b] = &inputs[..] {
        return a.apply_op2(b, node);
    }
    if let [a, b, c] = &inputs[..] {
        return a.apply_op3(b, c, node);
    }
    let Some(bundle) = Bundle::tie(&inputs[direct..], direct, &slots)? else { bail!("{}: no inputs", K::NAME) };
    inputs[0].apply_op3(&inputs[1], &bundle, node)
}

type Slots = Arc<Mutex<Vec<Option<Tensor>>>>;

/// Stands for up to three tensors (or for bundles of them) in the graph.
struct Bundle {
    first: usize,
    slots: Slots,
}

impl Bundle {
    /// Ties `tensors`, whose slots start at `first`, into one single-element tensor.
    fn tie(tensors: &[Tensor], first: usize, slots: &Slots) -> Result<Option<Tensor>> {
        let mut tied: Option<Tensor> = None;
        for (i, group) in tensors.chunks(2).enumerate() {
            let op = Bundle { first: first + 2 * i, slots: slots.clone() };
            // The third place chains the bundles: its own gradient is a zero that only makes candle visit it.
            let chain = match tied {
                Some(chain) => chain,
                None => Tensor::zeros(1, DType::F32, &Device::Cpu)?,
            };
            let second = group.get(1).unwrap_or(&chain);
            tied = Some(group[0].apply_op3(second, &chain, op)?);
        }
        Ok(tied)
    }

    fn take(&self, at: usize) -> Option<Tensor> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at).and_then(Option::take)
    }
}

fn one() -> (CpuStorage, Shape) {
    (CpuStorage::F32(vec![0.0]), Shape::from(1))
}

impl CustomOp3 for Bundle {
    fn name(&self) -> &'static str {
        "bundle"
    }
    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        Ok(one())
    }
    fn bwd(&self, _: &Tensor, b: &Tensor, c: &Tensor, _: &Tensor, g: &Tensor) -> Result<Three> {
        let second = if b.id() == c.id() { None } else { self.take(self.first + 1) };
        Ok((self.take(self.first), second, c.track_op().then(|| g.clone())))
    }
}

type Three = (Option<Tensor>, Option<Tensor>, Option<Tensor>);

struct Node<K: Kernel> {
    kernel: K,
    wants: Vec<bool>,
    saved: OnceLock<K::Saved>,
    extras: Vec<Tensor>,
    slots: Slots,
}

/// Calls `f` with the contiguous f32 values of every tensor.
pub(crate) fn with_args<R>(tensors: &[&Tensor], f: impl FnOnce(&[Arg<'_>]) -> Result<R>) -> Result<R> {
    let guards: Vec<_> = tensors.iter().map(|t| t.storage_and_layout()).collect();
    let mut args = Vec::with_capacity(tensors.len());
    for (storage, layout) in &guards {
        let candle_core::Storage::Cpu(cpu) = &**storage else { bail!("expected a tensor on the CPU") };
        args.push(Arg { data: values(cpu, layout)?, dims: layout.dims() });
    }
    f(&args)
}

fn values<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<f32>()?[start..end]),
        None => bail!("expected contiguous values, got strides {:?}", layout.stride()),
    }
}

impl<K: Kernel> Node<K> {
    fn forward(&self, direct: &[(&CpuStorage, &Layout)]) -> Result<(CpuStorage, Shape)> {
        let extras: Vec<&Tensor> = self.extras.iter().collect();
        with_args(&extras, |rest| {
            let mut args = Vec::with_capacity(self.wants.len());
            for (storage, layout) in direct {
                args.push(Arg { data: values(storage, layout)?, dims: layout.dims() });
            }
            args.extend_from_slice(rest);
            let (y, dims, saved) = self.kernel.forward(&args, &self.wants).map_err(|e| e.context(K::NAME))?;
            if self.wants.contains(&true) {
                self.saved.get_or_init(|| saved);
            }
            Ok((CpuStorage::F32(y), Shape::from(dims)))
        })
    }

    /// Gradients of all inputs as tensors, less those that the pass keeps for itself.
    fn backward(&self, direct: &[&Tensor], y: &Tensor, gy: &Tensor) -> Result<Vec<Option<Tensor>>> {
        let gy = arriving(y, gy)?;
        let mut tensors = direct.to_vec();
        tensors.extend(&self.extras);
        let dims: Vec<Vec<usize>> = tensors.iter().map(|t| t.dims().to_vec()).collect();
        tensors.extend([y, &gy]);
        let Some(saved) = self.saved.get() else { bail!("{}: backward before forward", K::NAME) };
        let grads = with_args(&tensors, |args| {
            let n = dims.len();
            self.kernel.backward(&args[..n], saved, args[n].data, args[n + 1].data, &self.wants)
        })?;
        let tensor = |((grad, dims), input): ((Option<Vec<f32>>, Vec<usize>), &&Tensor)| {
            grad.map_or(Ok(None), |g| leaving(y, input, Tensor::from_vec(g, dims, &Device::Cpu)?))
        };
        grads.into_iter().zip(dims).zip(&tensors).map(tensor).collect()
    }
}

impl<K: Kernel> CustomOp1 for Node<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s, l)])
    }
    fn bwd(&self, x: &Tensor, y: &Tensor, gy: &Tensor) -> Result<Option<Tensor>> {
        Ok(self.backward(&[x], y, gy)?.remove(0))
    }
}

impl<K: Kernel> CustomOp2 for Node<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn cpu_fwd(&self, s1: &CpuStorage, l1: &Layout, s2: &CpuStorage, l2: &Layout) -> Result<(CpuStorage, Shape)> {
        self.forward(&[(s1, l1), (s2, l2)])
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, y: &Tensor, gy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let mut grads = self.backward(&[a, b], y, gy)?.into_iter();
        Ok((grads.next().flatten(), grads.next().flatten()))
    }
}

impl<K: Kernel> CustomOp3 for Node<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }
    fn cpu_fwd(
        &self,
        s1: &CpuStorage,
        l1: &Layout,
        s2: &CpuStorage,
        l2: &Layout,
        s3: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        if self.extras.is_empty() {
            self.forward(&[(s1, l1), (s2, l2), (s3, l3)])
        } else {
            self.forward(&[(s1, l1), (s2, l2)])
        }
    }
    fn bwd(&self, a: &Tensor, b: &Tensor, c: &Tensor, y: &Tensor, gy: &Tensor) -> Result<Three> {
        if self.extras.is_empty() {
            let mut grads = self.backward(&[a, b, c], y, gy)?.into_iter();
            return Ok((grads.next().flatten(), grads.next().flatten(), grads.next().flatten()));
        }
        let mut grads = self.backward(&[a, b], y, gy)?;
        let direct = (grads[0].take(), grads[1].take());
        *self.slots.lock().unwrap_or_else(PoisonError::into_inner) = grads;
        let visit = c.track_op().then(|| c.zeros_like()).transpose()?;
        Ok((direct.0, direct.1, visit))
    }
}
