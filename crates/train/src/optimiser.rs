//! The optimiser of one parameter group: gradients in, changed parameters out.

use crate::guard::Guard;
use crate::{Error, GroupConfig, Loss, Result};
use candle_core::backprop::GradStore;
use candle_core::{Tensor, Var};
use chandlery_kernels::optim::{Norm, Rule, Slot, Step, clip_factor, clip_values, global_norm, update_all};
use std::collections::BTreeMap;

/// A parameter with its optimiser state and the gradients of the window.
pub(crate) struct Member {
    pub name: String,
    pub var: Var,
    state: Vec<(&'static str, Var)>,
    decays: bool,
    lr_scale: f64,
    grad: Option<Tensor>,
    pub reached: bool,
}

/// A parameter group at work.
pub(crate) struct Optimiser {
    pub name: String,
    pub config: GroupConfig,
    pub members: Vec<Member>,
    pub guard: Guard,
    /// Updates made.
    pub t: u64,
    decaying: Box<dyn Rule>,
    plain: Box<dyn Rule>,
    losses: Vec<Tensor>,
    count: f64,
}

/// The sums of a window, ready to be judged and applied.
pub(crate) struct Window {
    grads: Vec<(usize, Tensor)>,
    scale: f64,
    /// Mean loss.
    pub loss: f64,
    /// Global norm of the mean gradient, before clipping.
    pub norm: f64,
}

impl Optimiser {
    pub fn new(name: &str, config: &GroupConfig, vars: Vec<(String, Var)>) -> Result<Self> {
        let (decaying, plain) = (config.rule.build(config.weight_decay), config.rule.build(0.0));
        let member = |(name, var): (String, Var)| -> Result<Member> {
            let zeros =
                |(key, dims): (&'static str, Vec<usize>)| Ok((key, Var::zeros(dims, var.dtype(), var.device())?));
            let state = plain.state(var.dims()).into_iter().map(zeros).collect::<Result<Vec<_>>>()?;
            let (decays, lr_scale) = (config.decays(&name), config.scale_of(&name));
            Ok(Member { name, var, state, decays, lr_scale, grad: None, reached: false })
        };
        let members = vars.into_iter().map(member).collect::<Result<Vec<_>>>()?;
        let guard = Guard::default();
        let (name, config) = (name.to_string(), config.clone());
        Ok(Self { name, config, members, guard, t: 0, decaying, plain, losses: vec![], count: 0.0 })
    }

    /// Adds the gradients of one loss, which carries no graph any more, to the window.
    pub fn accumulate(&mut self, loss: Loss, grads: &GradStore) -> Result<()> {
        for member in &mut self.members {
            let Some(grad) = grads.get(&member.var) else { continue };
            member.reached = true;
            member.grad = Some(match member.grad.take() {
                None => grad.clone(),
                Some(sum) => (sum + grad)?,
            });
        }
        self.losses.push(loss.sum);
        self.count += loss.count;
        Ok(())
    }

    /// Whether gradients wait to be applied.
    pub fn is_pending(&self) -> bool {
        !self.losses.is_empty()
    }

    /// Forgets the window.
    pub fn clear(&mut self) {
        self.losses.clear();
        self.count = 0.0;
        self.members.iter_mut().for_each(|m| m.grad = None);
    }

    /// Takes the window's sums, over all ranks; `None` where nothing was summed in any loss.
    pub fn close(&mut self, reducer: &mut dyn crate::Reducer) -> Result<Option<Window>> {
        let loss = self.losses.iter().map(Loss::host).sum::<candle_core::Result<f64>>()?;
        let mut totals = [loss, self.count];
        if reducer.ranks() > 1 {
            self.reduce(reducer, &mut totals)?;
        }
        let grads = self.members.iter_mut().enumerate().filter_map(|(at, m)| Some((at, m.grad.take()?)));
        let mut grads: Vec<(usize, Tensor)> = grads.collect();
        self.clear();
        let [loss, count] = totals;
        if count <= 0.0 {
            return Ok(None);
        }
        let mut scale = 1.0 / count;
        let limit = self.config.clip_value;
        if limit > 0.0 {
            for (_, grad) in &mut grads {
                *grad = clip_values(&(&*grad * scale)?, limit)?;
            }
            scale = 1.0;
        }
        let all: Vec<&Tensor> = grads.iter().map(|(_, g)| g).collect();
        let norm = global_norm(&all, Norm::L2)? * scale;
        Ok(Some(Window { grads, scale, loss: loss / count, norm }))
    }

    /// Every rank must hand over the same tensors, so a missing gradient becomes zeros.
    fn reduce(&mut self, reducer: &mut dyn crate::Reducer, totals: &mut [f64]) -> Result<()> {
        let whole = |m: &Member| m.grad.clone().map_or_else(|| m.var.as_detached_tensor().zeros_like(), Ok);
        let mut grads = self.members.iter().map(whole).collect::<candle_core::Result<Vec<_>>>()?;
        reducer.sum(&self.name, &mut grads, totals)?;
        self.members.iter_mut().zip(grads).for_each(|(m, g)| m.grad = Some(g));
        Ok(())
    }

    /// The first parameter of a window whose gradient is NaN or infinite.
    pub fn culprit(&self, window: &Window) -> Option<&str> {
        let bad = |grad: &Tensor| global_norm(&[grad], Norm::Max).is_ok_and(|n| !n.is_finite());
        window.grads.iter().find(|(_, grad)| bad(grad)).map(|(at, _)| self.members[*at].name.as_str())
    }

    /// Makes one update with this learning rate.
    pub fn apply(&mut self, window: &Window, lr: f64) -> Result<()> {
        self.t += 1;
        let clip = if self.config.clip_norm > 0.0 { clip_factor(window.norm, self.config.clip_norm) } else { 1.0 };
        let states: Vec<Vec<Var>> =
            self.members.iter().map(|m| m.state.iter().map(|(_, var)| var.clone()).collect()).collect();
        // Parameters that share rule and rate are stepped together.
        let mut lots: BTreeMap<(bool, u64), Vec<Slot<'_>>> = BTreeMap::new();
        for (at, grad) in &window.grads {
            let member = &self.members[*at];
            let slot = Slot { param: &member.var, grad, state: &states[*at] };
            lots.entry((member.decays, member.lr_scale.to_bits())).or_default().push(slot);
        }
        for ((decays, lr_scale), slots) in lots {
            let rule = if decays { &self.decaying } else { &self.plain };
            let step = Step { t: self.t, lr: lr * f64::from_bits(lr_scale), grad_scale: window.scale * clip };
            update_all(&**rule, step, &slots)?;
        }
        Ok(())
    }

    /// Optimiser state by `parameter/state`.
    pub fn save(&self) -> impl Iterator<Item = (String, Tensor)> + '_ {
        let of = |m: &'_ Member| {
            let name = m.name.clone();
            let tensor = move |(key, var): &(&str, Var)| (format!("{name}/{key}"), var.as_detached_tensor());
            m.state.iter().map(tensor).collect::<Vec<_>>()
        };
        self.members.iter().flat_map(of)
    }

    /// Takes back what [`save`](Self::save) gave.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for member in &self.members {
            for (key, var) in &member.state {
                let wrong = |what: String| Error::Parameter { name: member.name.clone(), what };
                let saved = tensors.get(&format!("{}/{key}", member.name));
                let saved = saved.ok_or_else(|| wrong(format!("the checkpoint lacks its optimiser state {key}")))?;
                if saved.dims() != var.dims() {
                    let (have, found) = (var.dims(), saved.dims());
                    return Err(wrong(format!("optimiser state {key}: expected {have:?}, found {found:?}")));
                }
                var.set(&saved.to_device(var.device())?.to_dtype(var.dtype())?)?;
            }
        }
        Ok(())
    }
}
