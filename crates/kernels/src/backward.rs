//! candle's backward pass, less two passes over memory for each parameter.
//!
//! candle adds the first gradient of a tensor to a buffer that it has just cleared. For results of operations there is no
//! way around that from outside candle: the sum is what makes candle visit the node. A variable is never visited, so the
//! kernels of this crate keep its gradients to themselves while [`backward`] runs, and they go into the store as they are.

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, TensorId, bail};
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};

/// One call of [`backward`].
struct Pass {
    root: TensorId,
    /// The gradient that replaces candle's ones at the root.
    seed: Option<Tensor>,
    /// Other passes may run within this one (recomputed segments); only nodes of this set belong to it.
    nodes: HashSet<TensorId>,
    /// Variables with the sums of their gradients.
    leaves: HashMap<TensorId, (Tensor, Tensor)>,
}

thread_local! {
    /// The passes of this thread, the innermost last. candle's backward never leaves the thread that calls it.
    static PASSES: RefCell<Vec<Pass>> = const { RefCell::new(Vec::new()) };
}

/// Ends the innermost pass, also where a kernel fails or panics.
struct Ended;

impl Drop for Ended {
    fn drop(&mut self) {
        PASSES.with_borrow_mut(Vec::pop);
    }
}

/// Runs `f` on the pass that the node with the result `y` belongs to; `None` if it is candle's own pass.
fn with_pass<R>(y: &Tensor, f: impl FnOnce(&mut Pass) -> Result<R>) -> Result<Option<R>> {
    PASSES.with_borrow_mut(|passes| passes.iter_mut().rfind(|p| p.nodes.contains(&y.id())).map(f).transpose())
}

/// The gradient that the kernel with the result `y` starts from: `gy`, which candle brings, except at the root.
pub(crate) fn arriving(y: &Tensor, gy: &Tensor) -> Result<Tensor> {
    let seed = with_pass(y, |pass| match pass.seed.take() {
        Some(seed) if pass.root == y.id() => Ok(Some(seed)),
        Some(seed) => {
            pass.seed = Some(seed);
            bail!("the root is not the result of a kernel")
        }
        None => Ok(None),
    })?;
    seed.flatten().map_or_else(|| gy.contiguous(), Ok)
}

/// Keeps the gradient of a variable for the end of the pass; returns what candle must still add.
pub(crate) fn leaving(y: &Tensor, input: &Tensor, grad: Tensor) -> Result<Option<Tensor>> {
    if !input.is_variable() {
        return Ok(Some(grad));
    }
    let kept = with_pass(y, |pass| {
        let sum = match pass.leaves.remove(&input.id()) {
            Some((_, sum)) => (sum + &grad)?,
            None => grad.clone(),
        };
        pass.leaves.insert(input.id(), (input.clone(), sum));
        Ok(())
    })?;
    Ok(if kept.is_some() { None } else { Some(grad) })
}

/// The gradients of `loss`, as `loss.backward()` gives them.
///
/// # Errors
/// Those of candle's backward pass.
pub fn backward(loss: &Tensor) -> Result<GradStore> {
    run(loss, None).0
}

/// The gradients of `sum(y * gy)`: a backward pass that starts at any tensor `y` with the gradient `gy` of its shape.
///
/// # Errors
/// If the shapes differ, and those of candle's backward pass.
pub fn backward_from(y: &Tensor, gy: &Tensor) -> Result<GradStore> {
    if y.dims() != gy.dims() {
        bail!("backward_from: the result is {:?}, its gradient {:?}", y.dims(), gy.dims());
    }
    match run(y, Some(gy.detach().contiguous()?)) {
        (grads, None) => grads,
        // No kernel took it, so the root is one of candle's own operations.
        (_, Some(gy)) => backward(&(y * gy)?.sum_all()?),
    }
}

/// Returns the gradients, and the seed where nothing took it.
fn run(root: &Tensor, seed: Option<Tensor>) -> (Result<GradStore>, Option<Tensor>) {
    let nodes = root.sorted_nodes().into_iter().map(Tensor::id).collect();
    PASSES.with_borrow_mut(|passes| passes.push(Pass { root: root.id(), seed, nodes, leaves: HashMap::new() }));
    let ended = Ended;
    let grads = root.backward();
    let (seed, leaves) = PASSES
        .with_borrow_mut(|passes| passes.last_mut().map(|p| (p.seed.take(), std::mem::take(&mut p.leaves))))
        .unwrap_or_default();
    drop(ended);
    (grads.and_then(|grads| merged(grads, leaves)), seed)
}

fn merged(mut grads: GradStore, leaves: HashMap<TensorId, (Tensor, Tensor)>) -> Result<GradStore> {
    for (var, grad) in leaves.into_values() {
        let sum = match grads.remove(&var) {
            Some(other) => (other + grad)?,
            None => grad,
        };
        grads.insert(&var, sum);
    }
    Ok(grads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{CpuStorage, CustomOp1, Device, Layout, Shape, Var};

    fn var(shape: &[usize], step: f32) -> Var {
        let n: usize = shape.iter().product();
        let values: Vec<f32> = (0..n).map(|i| (i as f32 * step).sin()).collect();
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }

    fn bits(grads: &GradStore, var: &Var) -> Vec<u32> {
        let grad = grads.get(var).unwrap().flatten_all().unwrap();
        grad.to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
    }

    /// A weight used by two kernels and by candle itself, a bias behind a bundle, and an input used twice.
    #[test]
    fn shared_variables_get_the_sums_that_candle_gives_them() {
        let (x, w, b) = (var(&[3, 4], 0.7), var(&[4, 4], 0.3), var(&[4], 1.1));
        let h = crate::linear(&x, &w, Some(&b)).unwrap();
        let h = crate::mlp(&h, &w, Some(&b), &w, Some(&b), crate::Activation::Silu).unwrap();
        let loss = (h.matmul(&w).unwrap() * x.as_tensor()).unwrap().sum_all().unwrap();
        let (ours, candles) = (backward(&loss).unwrap(), loss.backward().unwrap());
        for v in [&x, &w, &b] {
            let pairs = bits(&ours, v).into_iter().zip(bits(&candles, v));
            // The order of the terms may differ where candle's own operations take part.
            pairs.for_each(|(a, b)| assert!((f32::from_bits(a) - f32::from_bits(b)).abs() < 1e-5));
        }
        assert_eq!(bits(&ours, &b), bits(&candles, &b));
        assert!(PASSES.with_borrow(Vec::is_empty));
    }

    #[test]
    fn seed_reaches_kernels_and_operations_of_candle() {
        let (x, w) = (var(&[3, 4], 0.7), var(&[4], 0.3));
        let kernel = crate::rms_norm(&x, &w, 1e-5).unwrap();
        for y in [kernel.clone(), (&kernel + x.as_tensor()).unwrap()] {
            let gy = var(&[3, 4], 1.3);
            let (ours, product) = (backward_from(&y, &gy).unwrap(), (&y * gy.as_tensor()).unwrap().sum_all().unwrap());
            let candles = product.backward().unwrap();
            assert_eq!((bits(&ours, &x), bits(&ours, &w)), (bits(&candles, &x), bits(&candles, &w)));
        }
        assert!(backward_from(&kernel, &var(&[3], 1.0)).unwrap_err().to_string().contains("[3, 4]"));
    }

    /// Runs a pass of candle's on a graph of its own inside the outer backward.
    struct Inner(Var);

    impl CustomOp1 for Inner {
        fn name(&self) -> &'static str {
            "inner"
        }
        fn cpu_fwd(&self, s: &CpuStorage, l: &Layout) -> Result<(CpuStorage, Shape)> {
            Ok((s.clone(), l.shape().clone()))
        }
        fn bwd(&self, x: &Tensor, _: &Tensor, g: &Tensor) -> Result<Option<Tensor>> {
            let x = Var::from_tensor(&x.detach())?;
            let y = crate::rms_norm(&x, &self.0, 1e-5)?;
            let grads = (y * g)?.sum_all()?.backward()?;
            Ok(grads.get(&self.0).and(grads.get(&x)).cloned())
        }
    }

    #[test]
    fn a_pass_within_the_pass_keeps_its_gradients() {
        let (x, w) = (var(&[3, 4], 0.7), var(&[4], 0.3));
        let y = crate::silu(&x).unwrap().apply_op1(Inner(w.clone())).unwrap();
        let grads = backward(&y.sum_all().unwrap()).unwrap();
        assert!(grads.get(&x).is_some() && grads.get(&w).is_none());
    }
}
