use super::mix::{BoxMix, Boxes, MixConfig, Share};
use super::*;
use crate::models::{Backbone, Classifier};
use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{Key, Stream};
use chandlery_nn::{BatchNorm2d, BatchNormConfig, Dropout, Linear, Mode, ParamStore, Scope, load_tensors};
use chandlery_train::*;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

const SIDE: usize = 8;
const CLASSES: usize = 3;
const CHANNELS: usize = 6;
const LABELLED: usize = 12;
const UNLABELLED: usize = 30;

/// Patches of 2 x 2 pixels through a linear layer, with or without batch norm: maps of 4 x 4.
struct Patches {
    stages: Vec<String>,
    up: Linear,
    norm: Option<BatchNorm2d>,
}

impl Backbone for Patches {
    fn stages(&self) -> &[String] {
        &self.stages
    }

    fn channels(&self) -> usize {
        CHANNELS
    }

    fn run(&self, x: &Tensor, stages: Range<usize>, mode: Mode) -> candle_core::Result<Tensor> {
        if stages.is_empty() {
            return Ok(x.clone());
        }
        let (b, cells) = (x.dim(0)?, SIDE / 2);
        let patches = x.reshape(&[b, 3, cells, 2, cells, 2][..])?.permute(vec![0, 2, 4, 1, 3, 5])?;
        let y = self.up.forward(&patches.reshape((b, cells * cells, 12))?)?; // [b, hw, k]
        let y = y.transpose(1, 2)?.contiguous()?.reshape((b, CHANNELS, cells, cells))?;
        match &self.norm {
            Some(norm) => norm.forward(&y, mode)?.relu(),
            None => y.relu(),
        }
    }
}

fn classifier(scope: &Scope, norm: bool, dropout: f64) -> candle_core::Result<Classifier> {
    let norm = norm.then(|| BatchNorm2d::new(&scope.pp("bn"), CHANNELS, BatchNormConfig::default())).transpose()?;
    let backbone = Patches { stages: vec!["up".into()], up: Linear::new(&scope.pp("up"), 12, CHANNELS, true)?, norm };
    Classifier::new(backbone, Linear::new(&scope.pp("fc"), CHANNELS, CLASSES, true)?, Dropout { p: dropout })
}

/// Noise with a bright patch whose colour is the class.
fn image(i: usize, class: usize, view: u64) -> Vec<f32> {
    let mut draws = Stream::new(Key::new(40 + view).at(i as u64));
    let mut x: Vec<f32> = (0..3 * SIDE * SIDE).map(|_| 0.3 * draws.normal() as f32).collect();
    let (row, col) = (draws.below(5), draws.below(5));
    for at in (0..9).map(|p| (row + p / 3) * SIDE + col + p % 3) {
        x[class * SIDE * SIDE + at] += 2.0;
    }
    x
}

fn images(items: &[usize], view: u64) -> Tensor {
    let pixels = items.iter().flat_map(|&i| image(i, i % CLASSES, view)).collect::<Vec<_>>();
    Tensor::from_vec(pixels, (items.len(), 3, SIDE, SIDE), &Device::Cpu).unwrap()
}

fn labels(items: &[usize]) -> Vec<u32> {
    items.iter().map(|&i| (i % CLASSES) as u32).collect()
}

fn batch(items: &[usize], step: u64, hidden: bool) -> SslBatch {
    let indices: Vec<usize> = (0..8).map(|j| ((step as usize - 1) * 8 + j) % UNLABELLED).collect();
    let them: Vec<usize> = indices.iter().map(|i| 1000 + i).collect();
    SslBatch {
        labelled: Labelled { x: images(items, 0), labels: labels(items), indices: items.to_vec() },
        unlabelled: Some(Unlabelled {
            weak: images(&them, 1),
            strong: Some(images(&them, 2)),
            hidden: hidden.then(|| labels(&them)),
            indices,
        }),
    }
}

fn source(hidden: bool) -> impl Source<Batch = SslBatch> {
    let eval = |_| {
        let items: Vec<usize> = (5000..5060).collect();
        let labelled = Labelled { x: images(&items, 0), labels: labels(&items), indices: items };
        Ok(SslBatch { labelled, unlabelled: None })
    };
    from_fn(LABELLED, move |items: &[usize], at: BatchAt| Ok(batch(items, at.step, hidden))).with_eval(1, eval)
}

fn fit_config(steps: u64, save_every: u64) -> FitConfig {
    let text = format!(
        r#"
        steps = {steps}
        batch = 6
        log_every = 1
        save_every = {save_every}
        eval_every = {steps}
        reach = {{ within = 3 }}
        [groups.main]
        lr = 0.02
        "#
    );
    FitConfig::from_toml(&text).unwrap()
}

/// The task under test, which asks for the end of the run at a step.
struct Stopped {
    inner: SemiSupervised,
    stop: Option<(u64, Interrupt)>,
}

impl Task for Stopped {
    type Batch = SslBatch;

    fn step(&mut self, batch: &SslBatch, cx: &mut StepCx<'_>) -> Result<()> {
        if let Some((_, interrupt)) = self.stop.as_ref().filter(|(step, _)| *step == cx.step()) {
            interrupt.raise();
        }
        self.inner.step(batch, cx)
    }

    fn eval(&self, batch: &SslBatch, meters: &mut Meters) -> Result<()> {
        self.inner.eval(batch, meters)
    }

    fn save_extra(&self) -> Extra {
        self.inner.save_extra()
    }

    fn load_extra(&mut self, extra: &Extra) -> Result<()> {
        self.inner.load_extra(extra)
    }
}

/// What a run is made of.
#[derive(Clone)]
struct Trial {
    config: SslConfig,
    norm: bool,
    dropout: f64,
    hidden: bool,
    save_every: u64,
    steps: u64,
    stop: Option<u64>,
}

impl Trial {
    fn new(config: SslConfig) -> Self {
        Self { config, norm: true, dropout: 0.1, hidden: false, save_every: 0, steps: 6, stop: None }
    }

    fn run(&self, dir: &Path) -> Result<(SemiSupervised, Outcome)> {
        let store = ParamStore::new(3, DType::F32, &Device::Cpu);
        let build = |scope: &Scope| classifier(scope, self.norm, self.dropout);
        let inner = SemiSupervised::new(self.config.clone(), &store, build, UNLABELLED)?;
        let interrupt = Interrupt::default();
        let stop = self.stop.map(|step| (step, interrupt.clone()));
        let mut task = Stopped { inner, stop };
        let run = Run::open(dir).interrupt(interrupt);
        let outcome = fit(&mut task, &store, &source(self.hidden), &fit_config(self.steps, self.save_every), run)?;
        Ok((task.inner, outcome))
    }

    /// Parameters after the run.
    fn params(&self) -> BTreeMap<String, Vec<f32>> {
        let dir = tempfile::tempdir().unwrap();
        self.run(dir.path()).unwrap();
        tensors(&dir.path().join(format!("ckpt/step-{}/params.safetensors", self.steps)))
    }
}

fn tensors(path: &Path) -> BTreeMap<String, Vec<f32>> {
    let flat = |(name, t): (String, Tensor)| (name, t.flatten_all().unwrap().to_vec1().unwrap());
    load_tensors(path).unwrap().into_iter().map(flat).collect()
}

fn named(name: &str) -> SslConfig {
    SslConfig::named(name).unwrap()
}

/// Thresholds at the mean confidence.
fn halving() -> WeightingConfig {
    WeightingConfig::Pepl(AdaptiveConfig { corrected: true, ..AdaptiveConfig::default() })
}

fn events(dir: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(dir.join("events.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The last value recorded under a name, wherever the event keeps it.
fn last(dir: &Path, name: &str) -> Option<f64> {
    fn find(v: &serde_json::Value, name: &str) -> Option<f64> {
        let object = v.as_object()?;
        object.get(name).and_then(serde_json::Value::as_f64).or_else(|| object.values().find_map(|v| find(v, name)))
    }
    events(dir).iter().rev().find_map(|e| find(e, name))
}

/// Every file of the last checkpoint, and the events.
fn results(dir: &Path, step: u64) -> BTreeMap<String, Vec<u8>> {
    let checkpoint = dir.join(format!("ckpt/step-{step}"));
    let files = std::fs::read_dir(checkpoint).unwrap().map(|e| e.unwrap().path());
    let all = files.chain([dir.join("events.jsonl")]);
    all.map(|p| (p.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(&p).unwrap())).collect()
}

/// The methods, and PEPL with everything in it that has state.
fn all_configs() -> Vec<(String, SslConfig)> {
    let mut all: Vec<_> = METHODS.iter().map(|name| (name.to_string(), named(name))).collect();
    let soft = SoftMatchConfig { align: Align::Model, per_class: true, ..Default::default() };
    all.push((
        "softmatch, model".into(),
        SslConfig { weighting: WeightingConfig::Softmatch(soft), ..named("fixmatch") },
    ));
    let teacher = Some(TeacherConfig { decay: 0.9, warmup: true });
    all.push(("pepl, teacher".into(), SslConfig { teacher, warmup: 1, ramp: 3, unmixed: 1, ..named("pepl") }));
    all
}

/// Also the test that gradients reach every parameter: `fit` fails after three steps otherwise.
#[test]
fn every_method_resumes_bit_for_bit() {
    for (name, config) in all_configs() {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let trial = Trial { hidden: true, ..Trial::new(config) };
        trial.run(whole.path()).unwrap();
        let (_, stopped) = Trial { stop: Some(3), ..trial.clone() }.run(parts.path()).unwrap();
        assert!(matches!(stopped, Outcome::Interrupted(ref s) if s.step == 3), "{name}: {stopped:?}");
        trial.run(parts.path()).unwrap();
        let (a, b) = (results(whole.path(), 6), results(parts.path(), 6));
        assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{name}");
        a.iter().for_each(|(file, bytes)| assert!(*bytes == b[file], "{name}: {file} differs"));
    }
}

#[test]
fn pepl_learns_from_unlabelled_images() {
    let dir = tempfile::tempdir().unwrap();
    let config = SslConfig { weighting: halving(), warmup: 40, ..named("pepl") };
    let trial = Trial { hidden: true, steps: 120, ..Trial::new(config) };
    let (task, outcome) = trial.run(dir.path()).unwrap();
    let top1 = outcome.summary().eval.mean("top1").unwrap();
    assert!(top1 > 0.9, "{:?}", outcome.summary());
    for name in
        ["coverage", "precision", "flip_rate", "rho_a", "rho_b", "rho_gap", "tau", "threshold.max", "loss_unsup"]
    {
        assert!(last(dir.path(), name).is_some_and(f64::is_finite), "{name}");
    }
    // Four steps of 8 images are a pass over 30.
    assert_eq!(task.record().epochs.len(), 20);
    let epoch = task.record().epochs.last().unwrap();
    assert!(epoch.coverage.unwrap() > 0.3 && epoch.precision.unwrap() > 0.9 && !epoch.collapsed, "{epoch:?}");
    assert!(task.record().last_mixes.as_ref().unwrap().own.n() > 0);
    let all = task.predictions((0..1).map(|i| source(false).eval_batch(i))).unwrap();
    assert_eq!(all.accuracy(), top1);
}

#[test]
fn hidden_labels_never_reach_training() {
    for name in ["pepl", "freematch"] {
        let trial = Trial::new(named(name));
        assert_eq!(trial.params(), Trial { hidden: true, ..trial.clone() }.params(), "{name}");
    }
}

#[test]
fn every_switch_makes_a_difference() {
    let snapmix = |mix: BoxMix| MixConfig::Snapmix(mix);
    let both = |mix: BoxMix| SslConfig { labelled_mix: snapmix(mix), unlabelled_mix: snapmix(mix), ..named("pepl") };
    // About half of the pseudo-labels pass from the first step on.
    let strict = halving();
    let base = SslConfig { weighting: strict.clone(), ..named("pepl") };
    let (mut double, mut normal) = (BoxMix::default(), BoxMix::default());
    (double.rule.same_class_double, normal.rule.normalise) = (true, true);
    let on = |mix: BoxMix| SslConfig { weighting: strict.clone(), ..both(mix) };
    let switches = [
        ("A view", SslConfig { view: MixView::Strong, ..base.clone() }),
        (
            "A view, labelled unmixed",
            SslConfig { view: MixView::Strong, labelled_mix: MixConfig::None, ..base.clone() },
        ),
        ("B pairs", SslConfig { pairs: Pairs::Across, ..base.clone() }),
        ("C both", SslConfig { pair_mask: PairMask::Both, ..base.clone() }),
        ("C either", SslConfig { pair_mask: PairMask::Either, ..base.clone() }),
        ("D boxes", on(BoxMix { boxes: Boxes::PerBatch, ..BoxMix::default() })),
        ("E same class", on(double)),
        ("F normalise", on(normal)),
        ("area", on(BoxMix { share: Share::Area, ..BoxMix::default() })),
        ("minimum", on(BoxMix { minimum: mix::SampleMin::Cells, ..BoxMix::default() })),
        ("G soft", SslConfig { pseudo: PseudoLabels::Soft { temperature: 0.5 }, ..base.clone() }),
        ("H warm-up", SslConfig { warmup: 2, ..base.clone() }),
        ("H ramp", SslConfig { ramp: 4, ..base.clone() }),
        ("H stages", SslConfig { unmixed: 3, ..base.clone() }),
        ("I train mode", SslConfig { guess_mode: GuessMode::Train, ..base.clone() }),
        ("teacher", SslConfig { teacher: Some(TeacherConfig::default()), ..base.clone() }),
        ("lambda", SslConfig { lambda: 0.5, ..base.clone() }),
        ("gamma", SslConfig { gamma: 0.5, ..base.clone() }),
    ];
    let start = Trial::new(base).params();
    for (name, config) in switches {
        let params = Trial::new(config).params();
        assert!(params.values().flatten().all(|p| p.is_finite()), "{name}");
        assert_ne!(params, start, "{name} changes nothing");
    }
}

#[test]
fn unused_images_can_be_left_out() {
    let (part, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    for (skip_unused, dir) in [(true, &part), (false, &whole)] {
        let config = SslConfig { weighting: halving(), skip_unused, ..named("fixmatch") };
        Trial { norm: false, dropout: 0.0, steps: 1, ..Trial::new(config) }.run(dir.path()).unwrap();
    }
    let coverage = last(part.path(), "coverage").unwrap();
    assert!(coverage > 0.0 && coverage < 1.0, "{coverage}");
    for name in ["loss_sup", "loss_unsup", "grad_norm"] {
        let (a, b) = (last(part.path(), name).unwrap(), last(whole.path(), name).unwrap());
        assert!((a - b).abs() < 1e-5 * b && b > 0.0, "{name}: {a}, {b}");
    }
}

#[test]
fn teacher_without_memory_is_the_student_one_step_before() {
    let dir = tempfile::tempdir().unwrap();
    let teacher = Some(TeacherConfig { decay: 0.0, warmup: false });
    let config = SslConfig { teacher, ..named("pepl") };
    Trial { save_every: 1, ..Trial::new(config) }.run(dir.path()).unwrap();
    let student = tensors(&dir.path().join("ckpt/step-5/params.safetensors"));
    let teacher = tensors(&dir.path().join("ckpt/step-6/extra.safetensors"));
    for (name, values) in &teacher {
        assert_eq!(values, &student[name.strip_prefix("teacher.").unwrap()], "{name}");
    }
    assert_eq!(teacher.len(), 6);
}

#[test]
fn what_a_batch_lacks_is_named() {
    let store = ParamStore::new(3, DType::F32, &Device::Cpu);
    let build = |scope: &Scope| classifier(scope, true, 0.1);
    let dir = tempfile::tempdir().unwrap();
    let say = |name: &str, change: fn(&mut SslBatch)| {
        let mut task = SemiSupervised::new(named(name), &store, build, UNLABELLED).unwrap();
        let make = move |items: &[usize], at: BatchAt| {
            let mut b = batch(items, at.step, true);
            change(&mut b);
            Ok(b)
        };
        let run = Run::open(dir.path().join(format!("{name}-{}", change as usize)));
        fit(&mut task, &store, &from_fn(LABELLED, make), &fit_config(2, 0), run).unwrap_err().to_string()
    };
    assert!(say("pepl", |b| b.unlabelled = None).contains("needs unlabelled images"));
    assert!(say("fixmatch", |b| b.unlabelled.as_mut().unwrap().strong = None).contains("strong views"));
    assert!(say("snapmix", |b| b.labelled.labels[0] = 9).contains("label 9 is not one of 3 classes"));
    assert!(say("pepl", |b| b.unlabelled.as_mut().unwrap().hidden = Some(vec![])).contains("0 hidden labels"));
    let other = SemiSupervised::new(named("pepl"), &store, build, UNLABELLED + 1).unwrap();
    let mut task = SemiSupervised::new(named("pepl"), &store, build, UNLABELLED).unwrap();
    assert!(task.load_extra(&other.save_extra()).unwrap_err().to_string().contains("another number"));
    assert!(task.load_extra(&Extra::default()).unwrap_err().to_string().contains("no record"));
}
