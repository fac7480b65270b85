//! Does every parameter receive a gradient, and is it the right one?
//!
//! [`grad_reach`] runs a model once and reports parameters that the loss does not reach or whose gradient is not finite.
//! Operations wrapped in [`Probe::op`] are checked one by one, so the report names the one that cut the graph.
//! [`gradcheck`] compares gradients with finite differences.

use candle_core::{DType, Result, Tensor, Var};
use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;

/// Watches the operations of a forward pass.
#[derive(Debug, Default)]
pub struct Probe {
    seen: RefCell<Vec<(String, Tensor)>>,
    cuts: RefCell<Vec<String>>,
}

impl Probe {
    /// Runs `f` and notes `name` if an input could carry a gradient but the result cannot.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn op(&self, name: &str, inputs: &[&Tensor], f: impl FnOnce() -> Result<Tensor>) -> Result<Tensor> {
        let y = f()?;
        if inputs.iter().any(|t| t.track_op()) && !y.track_op() {
            self.cuts.borrow_mut().push(name.to_string());
        }
        self.mark(name, &y);
        Ok(y)
    }

    /// Notes an intermediate result, so that a cut can be placed between two marks.
    pub fn mark(&self, name: &str, t: &Tensor) {
        self.seen.borrow_mut().push((name.to_string(), t.clone()));
    }
}

/// What [`grad_reach`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reach {
    /// Parameters with a finite gradient.
    pub reached: Vec<String>,
    /// Parameters without any gradient.
    pub missing: Vec<String>,
    /// Parameters whose gradient holds NaN or infinity.
    pub not_finite: Vec<String>,
    /// Wrapped operations whose result carries no gradient although an input did.
    pub cuts: Vec<String>,
    /// Last mark before and first mark after the point where the loss loses sight of the parameters.
    pub between: Option<(String, String)>,
}

impl Reach {
    /// Whether every parameter has a finite gradient.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.not_finite.is_empty()
    }

    /// An error that names the parameters and the operation, unless complete.
    ///
    /// # Errors
    /// If a parameter has no finite gradient.
    pub fn into_result(self) -> Result<()> {
        if self.is_complete() { Ok(()) } else { Err(candle_core::Error::Msg(self.to_string())) }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_complete() {
            return write!(f, "all {} parameters receive a finite gradient", self.reached.len());
        }
        if !self.missing.is_empty() {
            write!(f, "no gradient reaches {}", self.missing.join(", "))?;
            if !self.cuts.is_empty() {
                write!(f, "; the graph is cut by {}", self.cuts.join(", "))?;
            } else if let Some((before, after)) = &self.between {
                write!(f, "; the graph is cut between `{before}` and `{after}`")?;
            } else {
                write!(f, "; wrap operations in Probe::op to have the cutting one named")?;
            }
        }
        if !self.not_finite.is_empty() {
            let sep = if self.missing.is_empty() { "" } else { "; " };
            write!(f, "{sep}gradient not finite: {}", self.not_finite.join(", "))?;
        }
        Ok(())
    }
}

/// Runs `loss` once and says which of `params` its gradient reaches.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use chandlery_kernels::check::grad_reach;
/// # fn main() -> candle_core::Result<()> {
/// let w = Var::new(&[[1f32, 2.], [3., 4.]], &Device::Cpu)?;
/// let params = [("w".to_string(), w.clone())];
/// let cut = grad_reach(&params, |probe| {
///     probe.op("my_detach", &[&w], || Ok(w.as_detached_tensor()))?.sum_all()
/// })?;
/// assert_eq!(cut.to_string(), "no gradient reaches w; the graph is cut by my_detach");
/// # Ok(()) }
/// ```
///
/// # Errors
/// Those of `loss` and of the backward pass.
pub fn grad_reach(params: &[(String, Var)], loss: impl FnOnce(&Probe) -> Result<Tensor>) -> Result<Reach> {
    let probe = Probe::default();
    let loss = loss(&probe)?;
    let visible: HashSet<_> = loss.sorted_nodes().into_iter().map(Tensor::id).collect();
    let grads = if loss.track_op() { Some(loss.backward()?) } else { None };
    let mut reach = Reach { cuts: probe.cuts.take(), ..Reach::default() };
    for (name, var) in params {
        match grads.as_ref().and_then(|g| g.get(var)) {
            None => reach.missing.push(name.clone()),
            Some(g) if is_finite(g)? => reach.reached.push(name.clone()),
            Some(_) => reach.not_finite.push(name.clone()),
        }
    }
    let seen = probe.seen.take();
    let lost = seen.iter().rposition(|(_, t)| t.track_op() && !visible.contains(&t.id()));
    if let Some(at) = lost {
        let after = seen.get(at + 1).map_or("loss", |(name, _)| name);
        reach.between = Some((seen[at].0.clone(), after.to_string()));
    }
    Ok(reach)
}

fn is_finite(t: &Tensor) -> Result<bool> {
    let largest = t.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
    Ok(largest.is_finite())
}

/// Steps and tolerances of [`gradcheck`].
#[derive(Clone, Copy, Debug)]
pub struct GradCheck {
    /// Half the distance between the two points of a central difference.
    pub step: f64,
    /// Largest allowed `|analytic - numeric| / (1 + |numeric|)`.
    pub tolerance: f64,
    /// At most this many values of each parameter, evenly spread.
    pub samples: usize,
}

impl Default for GradCheck {
    fn default() -> Self {
        Self { step: 1e-4, tolerance: 1e-6, samples: 64 }
    }
}

/// Compares the gradient of `loss` with central differences, in f64 for use with the default tolerances; returns the
/// largest relative error.
///
/// # Errors
/// If a gradient is missing or differs; the message names parameter, position and both values.
pub fn gradcheck(params: &[(String, Var)], options: GradCheck, loss: impl Fn() -> Result<Tensor>) -> Result<f64> {
    let grads = loss()?.backward()?;
    let mut worst = 0.0_f64;
    for (name, var) in params {
        let Some(grad) = grads.get(var) else { candle_core::bail!("gradcheck: no gradient reaches {name}") };
        let grad = grad.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let start = var.as_detached_tensor().copy()?;
        let values = start.flatten_all()?.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let stride = values.len().div_ceil(options.samples.max(1)).max(1);
        for at in (0..values.len()).step_by(stride) {
            let at_offset = |offset: f64| -> Result<f64> {
                let mut moved = values.clone();
                moved[at] += offset;
                let moved = Tensor::from_vec(moved, start.shape(), start.device())?.to_dtype(start.dtype())?;
                var.set(&moved)?;
                loss()?.to_dtype(DType::F64)?.to_scalar::<f64>()
            };
            let numeric = (at_offset(options.step)? - at_offset(-options.step)?) / (2.0 * options.step);
            var.set(&start)?;
            let error = (grad[at] - numeric).abs() / (1.0 + numeric.abs());
            if error.is_nan() || error > options.tolerance {
                candle_core::bail!("gradcheck: {name}[{at}]: gradient {}, finite difference {numeric}", grad[at]);
            }
            worst = worst.max(error);
        }
    }
    Ok(worst)
}
