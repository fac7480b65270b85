//! Rules, groups, schedules, early stop: that training trains.

use crate::toy::*;
use candle_core::{DType, Device, Tensor};
use chandlery_nn::{Init, ParamStore};
use chandlery_train::*;

fn with_rule(rule: RuleConfig, lr: f64, steps: u64) -> FitConfig {
    let mut config = plain(steps, 8);
    config.groups.insert("main".into(), GroupConfig { rule, lr, ..GroupConfig::default() });
    config
}

#[test]
fn every_rule_learns_and_resumes() {
    let rules = [
        (RuleConfig::default(), 0.02),
        (RuleConfig::Adam { beta1: 0.9, beta2: 0.999, eps: 1e-8 }, 0.02),
        (RuleConfig::NAdam { beta1: 0.9, beta2: 0.999, eps: 1e-8, momentum_decay: 0.004 }, 0.02),
        (RuleConfig::Sgd { momentum: 0.9, nesterov: true }, 0.02),
        (RuleConfig::RmsProp { alpha: 0.99, eps: 1e-8, momentum: 0.5, centered: true }, 0.002),
        (RuleConfig::Adafactor { beta2_decay: -0.8, eps2: 1e-3, clip: 1.0 }, 0.1),
    ];
    for (rule, lr) in rules {
        let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let config = with_rule(rule.clone(), lr, 40);
        let (toy, outcome) = train(whole.path(), &config).unwrap();
        let first = events(whole.path())[0]["loss"].as_f64().unwrap();
        assert!(outcome.summary().scalars["loss"] < first, "{rule:?}");
        let (interrupt, mut half) = (Interrupt::default(), Toy::new(0));
        let raised = interrupt.clone();
        half.hook = Box::new(move |cx| {
            if cx.step() == 20 {
                raised.raise()
            }
        });
        let run = Run::create(parts.path()).interrupt(interrupt);
        fit_toy(&mut half, &source(None), &config, run).unwrap();
        let (resumed, _) = train(parts.path(), &config).unwrap();
        assert_eq!(toy.values("up.weight"), resumed.values("up.weight"), "{rule:?}");
    }
}

#[test]
fn one_batch_is_learned_by_heart() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new(0);
    let source =
        from_fn(4, |items: &[usize], _: BatchAt| batch(items, None)).with_eval(1, |_| batch(&[0, 1, 2, 3], None));
    let config = FitConfig { eval_every: 400, log_every: 100, ..plain(400, 4) };
    let outcome = fit_toy(&mut toy, &source, &config, Run::create(dir.path())).unwrap();
    let error = outcome.summary().eval.mean("error").unwrap();
    assert!(error < 0.05, "{error}");
}

/// Two players on one scalar each: the loss of one pushes the other away.
struct Game {
    store: ParamStore,
}

impl Task for Game {
    type Batch = ();

    fn step(&mut self, (): &(), cx: &mut StepCx<'_>) -> Result<()> {
        let [a, b] = ["a", "b"].map(|name| self.store.root().pp(name).param("w", 1, Init::ONES));
        let (a, b) = (a?, b?);
        cx.update("a", Loss::mean(a.detach().sub(&b.detach())?.mul(&a)?.sum_all()?))?;
        if cx.step() % 2 == 0 {
            cx.update("b", Loss::mean(b.sqr()?.sum_all()?))?;
        }
        Ok(())
    }
}

fn game() -> (Game, FitConfig) {
    let store = ParamStore::new(0, DType::F32, &Device::Cpu);
    for name in ["a", "b"] {
        store.root().pp(name).param("w", 1, Init::ONES).unwrap();
    }
    let sgd = RuleConfig::Sgd { momentum: 0.0, nesterov: false };
    let group = |p: &str| {
        let params = vec![p.to_string()];
        (
            p[..1].to_string(),
            GroupConfig { params, lr: 0.1, rule: sgd.clone(), clip_norm: 0.0, ..GroupConfig::default() },
        )
    };
    let config = FitConfig { groups: [group("a.*"), group("b.*")].into(), ..plain(4, 1) };
    (Game { store }, config)
}

fn values(store: &ParamStore, name: &str) -> f64 {
    f64::from(store.get(name).unwrap().to_vec1::<f32>().unwrap()[0])
}

#[test]
fn groups_are_updated_on_their_own() {
    let (mut game, mut config) = game();
    config.groups.get_mut("b").unwrap().lr_scale = vec![LrScale { params: "b.?".into(), factor: 0.5 }];
    let dir = tempfile::tempdir().unwrap();
    let source = from_fn(1, |_: &[usize], _: BatchAt| Ok(()));
    let store = game.store.clone();
    let outcome = fit(&mut game, &store, &source, &config, Run::create(dir.path())).unwrap();
    // b falls by 0.1 * 0.5 * 2b in steps 2 and 4; a follows a - b.
    assert!((values(&store, "b.w") - 0.81).abs() < 1e-6);
    let a = [1.0, 1.0, 0.9, 0.9].iter().fold(1.0, |a, b| a - 0.1 * (a - b));
    assert!((values(&store, "a.w") - a).abs() < 1e-6);
    let names: Vec<&String> = outcome.summary().scalars.keys().collect();
    assert_eq!(names, ["grad_norm.a", "grad_norm.b", "loss.a", "loss.b", "lr.a", "lr.b"]);
}

#[test]
fn value_clipping_bounds_the_step() {
    let (mut game, mut config) = game();
    config.groups.get_mut("b").unwrap().clip_value = 0.01;
    let dir = tempfile::tempdir().unwrap();
    let (store, source) = (game.store.clone(), from_fn(1, |_: &[usize], _: BatchAt| Ok(())));
    fit(&mut game, &store, &source, &config, Run::create(dir.path())).unwrap();
    assert!((values(&store, "b.w") - (1.0 - 2.0 * 0.1 * 0.01)).abs() < 1e-6);
}

#[test]
fn parameter_without_gradient_is_named_unless_allowed() {
    let (game, mut config) = game();
    game.store.root().pp("a").param("unused", 2, Init::ONES).unwrap();
    config.reach.within = 3;
    let source = from_fn(1, |_: &[usize], _: BatchAt| Ok(()));
    let run = |config: &FitConfig| {
        let dir = tempfile::tempdir().unwrap();
        let mut task = Game { store: game.store.clone() };
        fit(&mut task, &game.store, &source, config, Run::create(dir.path()))
    };
    let error = run(&config).unwrap_err();
    assert!(matches!(&error, Error::Unreached { names, steps: 3 } if names == &["a.unused"]), "{error}");
    config.reach.allow = vec!["a.un*".into()];
    run(&config).unwrap();
    config.reach = ReachConfig { within: 0, allow: vec![] };
    run(&config).unwrap();
}

#[test]
fn misuse_of_the_loop_is_explained() {
    struct Wrong(&'static str, ParamStore);
    impl Task for Wrong {
        type Batch = ();
        fn step(&mut self, (): &(), cx: &mut StepCx<'_>) -> Result<()> {
            let w = self.1.root().param("w", 1, Init::ONES)?;
            match self.0 {
                "group" => cx.update("gen", Loss::mean(w.sum_all()?)),
                "graph" => cx.update("main", Loss::mean(w.detach().sum_all()?)),
                "twice" => (0..2).try_for_each(|_| cx.update("main", Loss::mean(w.sum_all()?))),
                _ => Ok(()),
            }
        }
    }
    let say = |how, config: &FitConfig| {
        let (dir, store) = (tempfile::tempdir().unwrap(), ParamStore::new(0, DType::F32, &Device::Cpu));
        store.root().param("w", 1, Init::ONES).unwrap();
        let source = from_fn(1, |_: &[usize], _: BatchAt| Ok(()));
        fit(&mut Wrong(how, store.clone()), &store, &source, config, Run::create(dir.path())).unwrap_err().to_string()
    };
    assert_eq!(say("group", &plain(1, 1)), "step 1: no parameter group gen; there are: main");
    assert_eq!(say("graph", &plain(1, 1)), "step 1: the loss of group main depends on no parameter");
    assert_eq!(say("nothing", &plain(1, 1)), "step 1: the task called update for no group");
    let twice = say("twice", &FitConfig { accumulate: 2, ..plain(1, 1) });
    assert!(twice.contains("updated twice in a micro-batch"), "{twice}");
}

#[test]
fn early_stop_keeps_the_best_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = FitConfig { eval_every: 1, save_every: 1, patience: 3, keep_last: 2, ..plain(50, 8) };
    config.best = Some(BestConfig { meter: "error".into(), larger: false });
    // A step so large that the first evaluation is the best.
    config.groups.insert("main".into(), GroupConfig { lr: 3.0, ..GroupConfig::default() });
    let (_, outcome) = train(dir.path(), &config).unwrap();
    let Outcome::EarlyStopped(summary) = outcome else { panic!("{outcome:?}") };
    let best = summary.best.unwrap().step;
    assert_eq!(summary.step, best + 3);
    let mut kept: Vec<String> = std::fs::read_dir(dir.path().join("ckpt"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    kept.sort();
    let mut expected = [best, best + 2, best + 3].map(|s| format!("step-{s}"));
    expected.sort();
    assert_eq!(kept, expected);
    let (_, outcome) = train(dir.path(), &config).unwrap();
    assert_eq!(outcome.summary().step, best + 3, "a run that was stopped stays so");
}

/// Text that a test can read while another owner writes it.
#[derive(Clone, Default)]
struct Page(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Page {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn plain_progress_shows_steps_and_evaluations_as_lines() {
    let (dir, page, mut toy) = (tempfile::tempdir().unwrap(), Page::default(), Toy::new(0));
    let config = FitConfig { eval_every: 2, ..plain(2, 4) };
    let run = Run::create(dir.path()).progress(Progress::plain(page.clone()));
    fit_toy(&mut toy, &source(None), &config, run).unwrap();
    let text = String::from_utf8(page.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3);
    assert!(lines[0].starts_with("step 1  first ") && lines[0].contains("  loss ") && lines[0].ends_with(" items/s"));
    assert!(lines[2].starts_with("step 2: eval: error "), "{}", lines[2]);
}

#[test]
fn several_stores_train_under_their_names() {
    let stores = [("critic", Toy::new(1).store), ("student", Toy::new(2).store)];
    let names: Vec<String> = stores[..].named_vars().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[0], "critic.down.bias");
    assert_eq!(names.len(), 8);
    let shape = stores[..].named_vars()[1].1.dims().to_vec();
    assert_eq!(Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap().elem_count(), 16);
}
