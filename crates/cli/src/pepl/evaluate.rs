//! What a run reached: its last and its best parameters, each on labels that trained nothing.

use super::calibration::Calibration;
use super::config::PeplConfig;
use super::data::Corpus;
use super::{network, source};
use crate::Result;
use chandlery::nn::{Mode, ParamStore};
use chandlery::pseudo::models::Classifier;
use chandlery::pseudo::ssl::{EpochSummary, MixAudit, Record};
use chandlery::pseudo::trust::{Predictions, Temperature, top_confusions};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Measures on one set of images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Share of right predictions.
    pub top1: f64,
    /// Share of images whose class is among the five most probable.
    pub top5: f64,
    /// Mean accuracy of the classes.
    pub balanced: f64,
    /// Mean negative log-probability of the class.
    pub nll: f64,
    /// Mean squared distance of probabilities and truth.
    pub brier: f64,
    /// Expected calibration error in 15 bins.
    pub ece: f64,
    /// Area under the risk-coverage curve.
    pub aurc: f64,
    /// Right (1) or wrong (0) for each image in the order of the data, for comparisons image by image.
    pub hits: String,
}

/// Parameters of a run and what they reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reached {
    /// The step they are of.
    pub step: u64,
    /// Whether they are the running average.
    pub average: bool,
    /// On the judged images.
    pub scores: Scores,
}

/// One class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassRow {
    /// Its name.
    pub name: String,
    /// Its labels in training.
    pub labels: usize,
    /// Its judged images.
    pub n: usize,
    /// Share of them that is recognised.
    pub accuracy: Option<f64>,
    /// Weight of the pseudo-labels of this class over their number, in the last pass.
    pub coverage: Option<f64>,
    /// Right share of these, by hidden labels.
    pub precision: Option<f64>,
}

/// Images of one class taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfusionRow {
    /// Their class.
    pub truth: String,
    /// What they are taken for.
    pub predicted: String,
    /// Their number.
    pub n: usize,
    /// Their share of the class.
    pub share: f64,
}

/// Everything in eval.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The method's name.
    pub method: String,
    /// Seed of the loop.
    pub seed: u64,
    /// Steps of the run.
    pub steps: u64,
    /// Seconds that training took; 0 in a later evaluation.
    pub seconds: f64,
    /// Images with labels, without, held out, to test.
    pub images: [usize; 4],
    /// What was judged on: `test`, or `held-out` where the data have no test part.
    pub judged_on: String,
    /// The parameters of the last step, as they are and averaged.
    pub last: Vec<Reached>,
    /// Those that were best on held-out labels; they are the run's model.
    pub best: Reached,
    /// The best ones with their probabilities calibrated.
    pub calibrated: Scores,
    /// How they were calibrated.
    pub calibration: Calibration,
    /// The last whole pass over the unlabelled images.
    pub pseudo: Option<EpochSummary>,
    /// All classes.
    pub classes: Vec<ClassRow>,
    /// The most frequent confusions.
    pub confusions: Vec<ConfusionRow>,
}

impl Evaluation {
    /// The result of the last step: averaged where there is an average.
    pub fn last(&self) -> &Scores {
        self.last.last().map_or(&self.best.scores, |reached| &reached.scores)
    }
}

/// An evaluation with what the report shows beside it.
pub struct Judged {
    pub evaluation: Evaluation,
    /// The run's model.
    pub model: Classifier,
    /// Its parameters.
    pub store: ParamStore,
    /// Calibrated predictions on the judged images.
    pub predictions: Predictions,
    /// Plain ones.
    pub plain: Predictions,
    /// Places in [`Corpus::judged`] of the images that could be read.
    pub kept: Vec<usize>,
    /// What training counted.
    pub record: Option<Record>,
}

fn scores(predictions: &Predictions) -> Scores {
    let judged = predictions.judged();
    Scores {
        top1: predictions.accuracy(),
        top5: predictions.top_k(5),
        balanced: predictions.balanced_accuracy(),
        nll: predictions.log_loss(f64::from(f32::MIN_POSITIVE)),
        brier: predictions.brier(),
        ece: predictions.reliability(15).ece(),
        aurc: predictions.risk_coverage().aurc(),
        hits: judged.iter().map(|j| if j.correct { '1' } else { '0' }).collect(),
    }
}

/// Probabilities at a temperature with the labels.
fn predictions(logits: &[f32], labels: &[u32], n_classes: usize, t: &Temperature) -> Result<Predictions> {
    let mut all = Predictions::new(n_classes);
    all.push(&t.apply(logits, n_classes), labels)?;
    Ok(all)
}

const PLAIN: Temperature = Temperature { t: 1.0, before: f64::NAN, after: f64::NAN };

/// Parameters in a checkpoint.
struct Saved {
    step: u64,
    average: bool,
    file: PathBuf,
}

impl Saved {
    fn of(run: &Path, step: u64, average: bool) -> Self {
        let name = if average { "ema.safetensors" } else { "params.safetensors" };
        Self { step, average, file: run.join("ckpt").join(format!("step-{step}")).join(name) }
    }
}

/// The state that a checkpoint keeps beside tensors.
fn state(run: &Path, step: u64) -> Option<serde_json::Value> {
    let path = run.join("ckpt").join(format!("step-{step}")).join("state.json");
    let mut whole: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    Some(whole["state"].take())
}

/// The steps that have a checkpoint, ascending.
fn steps(run: &Path) -> Vec<u64> {
    let entries = std::fs::read_dir(run.join("ckpt")).into_iter().flatten().flatten();
    let step = |entry: std::fs::DirEntry| entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok();
    let mut steps: Vec<u64> = entries.filter_map(step).collect();
    steps.sort_unstable();
    steps
}

/// Looks at the judged images.
struct Judge<'a> {
    corpus: &'a Corpus,
    config: &'a PeplConfig,
    n_classes: usize,
}

/// Logits, labels, and the places that could be read.
type Seen = (Vec<f32>, Vec<u32>, Vec<usize>);

impl Judge<'_> {
    fn see(&self, model: &Classifier, items: &[usize]) -> Result<Seen> {
        let forward = |x: &candle_core::Tensor| {
            if self.config.model.keeps_maps() {
                model.head(&model.features_from(x, &self.config.model.freeze, Mode::Eval)?)
            } else {
                model.forward(x, Mode::Eval)
            }
        };
        let (logits, kept) = source::logits(self.corpus, items, self.config.eval.batch, &forward)?;
        let kept_items: Vec<usize> = kept.iter().map(|&k| items[k]).collect();
        Ok((logits, self.corpus.images.labels(&kept_items)?, kept))
    }

    fn open(&self, saved: &Saved) -> Result<(Classifier, ParamStore)> {
        network::open(&self.config.model, self.n_classes, &saved.file)
    }

    fn reached(&self, saved: &Saved) -> Result<Reached> {
        let (model, _) = self.open(saved)?;
        let (logits, labels, _) = self.see(&model, self.corpus.judged())?;
        let scores = scores(&predictions(&logits, &labels, self.n_classes, &PLAIN)?);
        Ok(Reached { step: saved.step, average: saved.average, scores })
    }
}

/// Keeps the maps that the run was trained on, where it kept some.
pub fn keep_maps(run: &Path, config: &PeplConfig, corpus: &mut Corpus) -> Result<()> {
    if !config.model.keeps_maps() {
        return Ok(());
    }
    let saved = Saved::of(run, last_step(run)?, false);
    let (_, store) = network::open(&config.model, corpus.images.data().n_classes(), &saved.file)?;
    corpus.keep_maps(&config.model, &store, run)
}

/// The newest step that has a checkpoint.
fn last_step(run: &Path) -> Result<u64> {
    let missing = || format!("{}: no checkpoint here; train with `cargo xtask train`", run.display()).into();
    steps(run).pop().ok_or_else(missing)
}

/// Evaluates a run from its checkpoints.
pub fn evaluate(run: &Path, config: &PeplConfig, corpus: &Corpus, seconds: f64) -> Result<Judged> {
    let names = &corpus.images.data().classes;
    let judge = Judge { corpus, config, n_classes: names.len() };
    let last_step = last_step(run)?;
    let last_state = state(run, last_step);
    let best_step = last_state.as_ref().and_then(|s| s["best"]["step"].as_u64()).unwrap_or(last_step);
    // The best step was found with the average in the place of the parameters where the loop evaluates it.
    let evaluates_average = config.fit.ema.as_ref().is_some_and(|ema| ema.evaluate);
    let best = Saved::of(run, best_step, evaluates_average);
    let (model, store) = judge.open(&best)?;
    let (val_logits, val_labels, _) = judge.see(&model, &corpus.split.val)?;
    let calibration = Calibration::fit(&val_logits, &val_labels, names.len(), config.eval.precision)?;
    let (logits, labels, kept) = judge.see(&model, corpus.judged())?;
    let plain = predictions(&logits, &labels, names.len(), &PLAIN)?;
    let t = Temperature { t: calibration.temperature, ..PLAIN };
    let calibrated = predictions(&logits, &labels, names.len(), &t)?;
    let best = Reached { step: best.step, average: best.average, scores: scores(&plain) };
    let averages = if config.fit.ema.is_some() { vec![false, true] } else { vec![false] };
    let last = averages.into_iter().map(|average| {
        let is_best = last_step == best_step && average == best.average;
        if is_best { Ok(best.clone()) } else { judge.reached(&Saved::of(run, last_step, average)) }
    });
    let last = last.collect::<Result<Vec<_>>>()?;
    let record = last_state.and_then(|mut s| serde_json::from_value::<Record>(s["extra"]["record"].take()).ok());
    let name = |class: u32| names[class as usize].clone();
    let confusion = |c: chandlery::pseudo::trust::Confusion| ConfusionRow {
        truth: name(c.truth),
        predicted: name(c.predicted),
        n: c.n,
        share: c.share,
    };
    let split = &corpus.split;
    let evaluation = Evaluation {
        method: config.kind().to_string(),
        seed: config.fit.seed,
        steps: last_step,
        seconds,
        images: [split.labelled.len(), split.unlabelled.len(), split.val.len(), split.test.len()],
        judged_on: corpus.judged_name().to_string(),
        last,
        best,
        calibrated: scores(&calibrated),
        calibration,
        pseudo: record.as_ref().and_then(|r| r.epochs.last().cloned()),
        classes: classes(corpus, &plain, record.as_ref()),
        confusions: top_confusions(&plain, config.eval.confusions).into_iter().map(confusion).collect(),
    };
    Ok(Judged { evaluation, model, store, predictions: calibrated, plain, kept, record })
}

fn classes(corpus: &Corpus, predictions: &Predictions, record: Option<&Record>) -> Vec<ClassRow> {
    let data = corpus.images.data();
    let labels = data.counts(&corpus.split.labelled);
    let mut n = vec![0; data.n_classes()];
    predictions.labels().iter().for_each(|&l| n[l as usize] += 1);
    let accuracies = predictions.class_accuracies();
    let tally = record.and_then(|r| r.last_tally.as_ref());
    let (coverage, precision) = (tally.map(|t| t.class_coverage()), tally.map(|t| t.class_precision()));
    let row = |(class, name): (usize, &String)| ClassRow {
        name: name.clone(),
        labels: labels[class],
        n: n[class],
        accuracy: Some(accuracies[class]).filter(|a| a.is_finite()),
        coverage: coverage.as_ref().and_then(|c| c[class]),
        precision: precision.as_ref().and_then(|p| p[class]),
    };
    data.classes.iter().enumerate().map(row).collect()
}

/// Shares of mixed images in the last whole epoch, or else in the one that runs.
pub fn mixes(record: &Record) -> &MixAudit {
    record.last_mixes.as_ref().filter(|m| m.own.n() > 0).unwrap_or(&record.mixes)
}
