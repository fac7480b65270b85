//! One step of semi-supervised training, for every method.

use super::batch::{SslBatch, Unlabelled};
use super::config::{GuessMode, MixView, Pairs, SslConfig};
use super::mix::{MixConfig, PercentMap, Plan, Shares, class_maps, partners, shares};
use super::record::{Record, threshold_scalars};
use super::targets::Known;
use super::teacher::Teacher;
use super::weighting::{Observation, Verdict, Weighting};
use crate::models::Classifier;
use crate::trust::{self, Predictions};
use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{self as ck, CrossEntropy, Key};
use chandlery_nn::{Mode, ParamStore, Scope};
use chandlery_train::{Error, Extra, Loss, Meters, Result, StepCx, Task};
use serde_json::Value;

/// Name of the one parameter group that a step updates.
pub const GROUP: &str = "main";

/// Supervised, mixed and semi-supervised training of a [`Classifier`], as [`SslConfig`] says.
///
/// One step: a pass without gradient over the weak views gives pseudo-labels and activation maps at once; labels,
/// pseudo-labels and images are mixed; one pass with gradient over all images gives both losses. The host waits for the
/// device once, for probabilities and small maps.
pub struct SemiSupervised {
    config: SslConfig,
    n_classes: usize,
    train: Classifier,
    eval: Classifier,
    teacher: Option<Teacher>,
    weighting: Option<Box<dyn Weighting>>,
    record: Record,
}

/// What the pass without gradient saw.
struct Look {
    /// Rows of the labelled images, where they were looked at.
    labelled: Option<Vec<f32>>,
    /// Rows of the unlabelled images.
    unlabelled: Vec<f32>,
    /// Feature maps of all images looked at.
    features: Tensor,
}

/// Images with their labels, ready for the pass with gradient.
struct Mixed {
    x: Tensor,
    /// [n, c].
    targets: Vec<f32>,
}

/// The unlabelled part of a step.
struct Unsupervised<'a> {
    lambda: f64,
    images: &'a Unlabelled,
    mix: MixConfig,
}

impl SemiSupervised {
    /// Builds the network on the parameters of `store`: for training, for evaluation, and where configured as teacher.
    /// There are `n_unlabelled` unlabelled images.
    ///
    /// # Errors
    /// If a setting is out of range or the network cannot be built.
    pub fn new<F>(config: SslConfig, store: &ParamStore, build: F, n_unlabelled: usize) -> Result<Self>
    where
        F: Fn(&Scope) -> candle_core::Result<Classifier>,
    {
        config.validate()?;
        let (train, eval) = (build(&store.root())?, build(&store.frozen())?);
        let teacher = config.teacher.map(|t| Teacher::new(t, store, &build)).transpose()?;
        let n_classes = train.n_classes();
        let weighting = config.weighting.build(n_classes, n_unlabelled);
        Ok(Self { config, n_classes, train, eval, teacher, weighting, record: Record::new(n_classes, n_unlabelled) })
    }

    /// What was counted so far.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// The settings.
    pub fn config(&self) -> &SslConfig {
        &self.config
    }

    /// Thresholds of the classes, where the method has them.
    pub fn thresholds(&self) -> Option<Vec<f64>> {
        self.weighting.as_ref()?.thresholds()
    }

    /// Logits [n, c] of images [n, 3, h, w] by the network on its present parameters.
    ///
    /// # Errors
    /// If the images do not fit the network.
    pub fn logits(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.eval.forward(x, Mode::Eval)?)
    }

    /// Predictions on the labelled images of batches, for [`crate::trust`].
    ///
    /// # Errors
    /// If a batch cannot be made or does not fit the network.
    pub fn predictions(&self, batches: impl Iterator<Item = Result<SslBatch>>) -> Result<Predictions> {
        let mut all = Predictions::new(self.n_classes);
        for batch in batches {
            let batch = batch?;
            let probs = rows(&self.logits(&batch.labelled.x)?)?;
            all.push(&probs, &batch.labelled.labels).map_err(Error::task)?;
        }
        Ok(all)
    }

    /// The network that guesses labels.
    fn guesser(&self) -> &Classifier {
        self.teacher.as_ref().map_or(&self.eval, |t| &t.model)
    }

    /// Feature maps without gradient.
    fn features(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match (self.config.guess_mode, &self.teacher) {
            // Frozen layers keep their running statistics, so the training network is run.
            (GuessMode::Train, None) => Ok(self.train.features(x, mode.named("guess"))?.detach()),
            _ => Ok(self.guesser().features(x, Mode::Eval)?.detach()),
        }
    }

    /// Looks at the images whose probabilities or maps this step needs.
    fn look(&self, batch: &SslBatch, unsupervised: Option<&Unsupervised<'_>>, mode: Mode) -> Result<Option<Look>> {
        let wants_labelled = self.weighting.as_ref().is_some_and(|w| w.wants_labelled());
        let look_at_labelled = self.config.labelled_mix.needs_maps() || (wants_labelled && unsupervised.is_some());
        let mut images = Vec::new();
        images.extend(look_at_labelled.then_some(&batch.labelled.x));
        images.extend(unsupervised.map(|u| &u.images.weak));
        if images.is_empty() {
            return Ok(None);
        }
        let features = self.features(&Tensor::cat(&images, 0)?, mode)?;
        let mut labelled = rows(&self.guesser().head(&features)?.detach())?;
        let n_labelled = if look_at_labelled { batch.labelled.labels.len() } else { 0 };
        let unlabelled = labelled.split_off(n_labelled * self.n_classes);
        Ok(Some(Look { labelled: look_at_labelled.then_some(labelled), unlabelled, features }))
    }

    /// Percent maps of all images of the step, in the order of `known`; `None` where no share needs them.
    fn maps(
        &self,
        look: Option<&Look>,
        known: &Known,
        n_labelled: usize,
        unsupervised: Option<&Unsupervised<'_>>,
        (size, mode): ((usize, usize), Mode),
    ) -> Result<Vec<Option<PercentMap>>> {
        let n = known.labels.len();
        let Some(look) = look else { return Ok(vec![None; n]) };
        let (labelled_mix, mix) = (self.config.labelled_mix, unsupervised.map_or(MixConfig::None, |u| u.mix));
        if !labelled_mix.needs_maps() && !mix.needs_maps() {
            return Ok(vec![None; n]);
        }
        let first = if look.labelled.is_some() { 0 } else { n_labelled };
        let mut features = look.features.clone();
        if let Some(u) = unsupervised.filter(|u| u.mix.needs_maps() && self.config.view == MixView::Strong) {
            let strong = self.features(strong_view(u.images)?, mode)?;
            // Without labelled images among those looked at, nothing stands before them.
            features = match n_labelled - first {
                0 => strong,
                seen => Tensor::cat(&[features.narrow(0, 0, seen)?, strong], 0)?,
            };
        }
        let (maps, from) = class_maps(self.guesser().head_weight(), &features, &known.labels[first..])?;
        let percent = |(i, map): (usize, Vec<f32>)| {
            let minimum = if i < n_labelled { labelled_mix.minimum() } else { mix.minimum() };
            Some(PercentMap::new(&map, from, size, minimum))
        };
        let seen = (first..n).zip(maps).map(percent);
        Ok(std::iter::repeat_n(None, first).chain(seen).collect())
    }

    /// What becomes of each image: labelled ones first, then unlabelled.
    fn plan(&self, n_labelled: usize, n_unlabelled: usize, mix: MixConfig, size: (usize, usize), key: Key) -> Plan {
        let mut blends = self.config.labelled_mix.draw(n_labelled, size, key.named("labelled"));
        blends.extend(mix.draw(n_unlabelled, size, key.named("unlabelled")));
        let across = self.config.pairs == Pairs::Across && mix != MixConfig::None;
        let partners = if across {
            partners(n_labelled + n_unlabelled, key.named("partners"))
        } else {
            let own = partners(n_labelled, key.named("labelled partners"));
            let others = partners(n_unlabelled, key.named("unlabelled partners"));
            own.into_iter().chain(others.into_iter().map(|p| n_labelled + p)).collect()
        };
        Plan { partners, blends }
    }

    /// Mixes the images and labels of the step.
    fn mix(
        &mut self,
        batch: &SslBatch,
        look: Option<&Look>,
        known: &Known,
        unsupervised: Option<&Unsupervised<'_>>,
        cx: &mut StepCx<'_>,
    ) -> Result<Mixed> {
        let (n_labelled, _, h, w) = batch.labelled.x.dims4()?;
        let (n_unlabelled, mix) = unsupervised.map_or((0, MixConfig::None), |u| (u.images.indices.len(), u.mix));
        let plan = self.plan(n_labelled, n_unlabelled, mix, (h, w), cx.key().named("mix"));
        let maps = self.maps(look, known, n_labelled, unsupervised, ((h, w), cx.mode()))?;
        let share = |i: usize| {
            let partner = plan.partners[i];
            let mix = if i < n_labelled { self.config.labelled_mix } else { mix };
            let pair = maps[i].as_ref().zip(maps[partner].as_ref()).filter(|_| mix.needs_maps());
            shares(&plan.blends[i], pair, known.labels[i] == known.labels[partner], (h, w), mix.rule())
        };
        let shares: Vec<Shares> = (0..n_labelled + n_unlabelled).map(share).collect();
        if let Some([own, partner, gap]) = self.record.mixes.add(&plan.blends, &shares, (h, w)) {
            cx.scalar("rho_a", own);
            cx.scalar("rho_b", partner);
            cx.scalar("rho_gap", gap);
        }
        let x = match unsupervised {
            Some(u) => Tensor::cat(&[&batch.labelled.x, self.trained_view(u)?], 0)?,
            None => batch.labelled.x.clone(),
        };
        let targets = known.targets(&plan, &shares, self.config.pair_mask, self.n_classes);
        Ok(Mixed { x: plan.apply(&x)?, targets })
    }

    /// The view of unlabelled images that is mixed, or else carries the gradient.
    fn trained_view<'a>(&self, u: &Unsupervised<'a>) -> Result<&'a Tensor> {
        let weak = match u.mix {
            MixConfig::None => self.config.weighting.trains_weak_view(),
            _ => self.config.view == MixView::Weak,
        };
        if weak { Ok(&u.images.weak) } else { strong_view(u.images) }
    }

    /// The pass with gradient.
    fn learn(
        &self,
        mixed: &Mixed,
        n_labelled: usize,
        unsupervised: Option<(f64, &Verdict)>,
        cx: &mut StepCx<'_>,
    ) -> Result<()> {
        let c = self.n_classes;
        let n = mixed.targets.len() / c;
        let used = |i: &usize| *i < n_labelled || mixed.targets[i * c..][..c].iter().any(|&t| t != 0.0);
        let rows: Vec<usize> = (0..n).filter(|i| !self.config.skip_unused || used(i)).collect();
        let x = if rows.len() == n {
            mixed.x.clone()
        } else {
            let at: Vec<u32> = rows.iter().map(|&i| i as u32).collect();
            mixed.x.index_select(&Tensor::new(at, mixed.x.device())?, 0)?
        };
        let logits = self.train.forward(&x, cx.mode())?;
        let mean_loss = |from: usize, len: usize, by: usize| -> Result<Tensor> {
            let targets: Vec<f32> =
                rows[from..from + len].iter().flat_map(|i| &mixed.targets[i * c..][..c]).copied().collect();
            let targets = Tensor::from_vec(targets, (len, c), &Device::Cpu)?.to_device(logits.device())?;
            let sum = ck::cross_entropy_soft(&logits.narrow(0, from, len)?, &targets, &CrossEntropy::sum())?;
            Ok((sum / by.max(1) as f64)?)
        };
        let supervised = mean_loss(0, n_labelled, n_labelled)?;
        cx.scalar("loss_sup", &supervised);
        let mut total = (supervised * self.config.gamma)?;
        let n_left = rows.len() - n_labelled;
        if let Some((lambda, verdict)) = unsupervised.filter(|_| n_left > 0) {
            let loss = mean_loss(n_labelled, n_left, n - n_labelled)?;
            cx.scalar("loss_unsup", &loss);
            total = (total + (loss * lambda)?)?;
            let verdict = select(verdict, rows[n_labelled..].iter().map(|i| i - n_labelled));
            let logits = logits.narrow(0, n_labelled, n_left)?;
            let auxiliary = self.weighting.as_ref().map(|w| w.auxiliary(&logits, &verdict)).transpose()?.flatten();
            if let Some(auxiliary) = auxiliary {
                cx.scalar("loss_aux", &auxiliary);
                total = (total + auxiliary)?;
            }
        }
        cx.update(GROUP, Loss::mean(total))
    }

    /// Weighs the pseudo-labels and records what is to be said of them.
    fn judge(&mut self, look: &Look, u: &Unlabelled, cx: &mut StepCx<'_>) -> Result<Verdict> {
        let Some(weighting) = &mut self.weighting else { return Ok(Verdict::default()) };
        let verdict = weighting.observe(&Observation {
            probs: &look.unlabelled,
            n_classes: self.n_classes,
            indices: &u.indices,
            labelled: look.labelled.as_deref(),
        });
        let thresholds = weighting.thresholds().map(|t| threshold_scalars(&t));
        for (name, value) in weighting.series().into_iter().chain(thresholds.into_iter().flatten()) {
            cx.scalar(name, value);
        }
        let scalars = self.record.add(&verdict, &u.indices, u.hidden.as_deref(), self.config.collapse);
        for (name, value) in scalars.map_err(Error::task)? {
            cx.scalar(name, value);
        }
        Ok(verdict)
    }
}

/// The strong view, or an error that says who needs it.
fn strong_view(u: &Unlabelled) -> Result<&Tensor> {
    u.strong.as_ref().ok_or_else(|| Error::task("this method trains on strong views, but the batch has none"))
}

/// Probabilities of logits [n, c], on the host.
fn rows(logits: &Tensor) -> Result<Vec<f32>> {
    Ok(ck::softmax(logits, 1)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// The verdict on some of the images.
fn select(verdict: &Verdict, rows: impl Iterator<Item = usize>) -> Verdict {
    let mut selected = Verdict::default();
    for i in rows {
        selected.labels.push(verdict.labels[i]);
        selected.confidences.push(verdict.confidences[i]);
        selected.weights.push(verdict.weights[i]);
    }
    selected
}

impl Task for SemiSupervised {
    type Batch = SslBatch;

    fn step(&mut self, batch: &SslBatch, cx: &mut StepCx<'_>) -> Result<()> {
        batch.check(self.n_classes)?;
        if let Some(teacher) = self.teacher.as_mut().filter(|_| cx.micro() == 0) {
            teacher.follow(cx.step())?;
        }
        let unsupervised = match (self.config.lambda_at(cx.step()), &batch.unlabelled) {
            (None, _) => None,
            (Some(_), None) => return Err(Error::task("this method needs unlabelled images, but the batch has none")),
            (Some(lambda), Some(images)) => {
                Some(Unsupervised { lambda, images, mix: self.config.unlabelled_mix_at(cx.step()) })
            }
        };
        let look = self.look(batch, unsupervised.as_ref(), cx.mode())?;
        let mut known = Known::of_labels(&batch.labelled.labels);
        let mut verdict = Verdict::default();
        if let (Some(u), Some(look)) = (&unsupervised, &look) {
            verdict = self.judge(look, u.images, cx)?;
            let (c, pseudo) = (self.n_classes, self.config.pseudo);
            known.extend(&verdict.labels, &verdict.weights, &look.unlabelled, c, pseudo);
            cx.scalar("lambda", u.lambda);
        }
        let mixed = self.mix(batch, look.as_ref(), &known, unsupervised.as_ref(), cx)?;
        drop(look);
        self.learn(&mixed, batch.labelled.labels.len(), unsupervised.map(|u| (u.lambda, &verdict)), cx)
    }

    /// Meters `top1`, `top5`, `nll`, `brier`, `confidence`, and where configured `class.N` for each class N.
    fn eval(&self, batch: &SslBatch, meters: &mut Meters) -> Result<()> {
        batch.check(self.n_classes)?;
        let probs = rows(&self.logits(&batch.labelled.x)?)?;
        for (row, &label) in probs.chunks_exact(self.n_classes).zip(&batch.labelled.labels) {
            let row: Vec<f64> = row.iter().map(|&p| f64::from(p)).collect();
            let rank = trust::rank(&row, label);
            let hit = |k: usize| f64::from(u8::from(rank < k));
            meters.add("top1", hit(1), 1);
            meters.add("top5", hit(5), 1);
            meters.add("nll", -row[label as usize].max(f64::from(f32::MIN_POSITIVE)).ln(), 1);
            meters.add("brier", trust::brier_row(&row, label), 1);
            meters.add("confidence", trust::largest(&row).1, 1);
            if self.config.class_meters {
                meters.add(&format!("class.{label}"), hit(1), 1);
            }
        }
        Ok(())
    }

    fn save_extra(&self) -> Extra {
        let mut extra = Extra::default();
        // Both are finite numbers and lists, which JSON always takes; should one fail, loading says what is missing.
        let weighting = self.weighting.as_ref().map(|w| w.save());
        for (name, value) in [("weighting", weighting), ("record", Some(serde_json::to_value(&self.record)))] {
            extra.values.extend(value.and_then(serde_json::Result::ok).map(|v| (name.to_string(), v)));
        }
        extra.tensors = self.teacher.as_ref().map(Teacher::save).unwrap_or_default();
        extra
    }

    fn load_extra(&mut self, extra: &Extra) -> Result<()> {
        let part = |name: &str| -> Result<Value> {
            let missing = || Error::task(format!("the checkpoint holds no {name} of semi-supervised training"));
            extra.values.get(name).cloned().ok_or_else(missing)
        };
        let record: Record = serde_json::from_value(part("record")?).map_err(Error::task)?;
        if !record.fits(&self.record) {
            return Err(Error::task("the checkpoint is of another number of classes or unlabelled images"));
        }
        if let Some(weighting) = &mut self.weighting {
            weighting.load(part("weighting")?).map_err(Error::task)?;
        }
        if let Some(teacher) = &mut self.teacher {
            teacher.load(&extra.tensors)?;
        }
        self.record = record;
        Ok(())
    }
}
