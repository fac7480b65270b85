//! Damaged files, wrong settings, wrong places: each has an error that names what is wrong.

use crate::toy::*;
use chandlery_train::*;
use std::fs;
use std::path::Path;

/// A finished run with checkpoints at steps 15 and 20.
fn finished() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let config = FitConfig { best: None, ..config() };
    train(dir.path(), &config).unwrap();
    dir
}

fn again(dir: &Path) -> Result<(Toy, Outcome)> {
    train(dir, &FitConfig { best: None, ..config() })
}

fn flip_a_bit(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let at = bytes.len() * 2 / 3;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

fn cut(path: &Path) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

#[test]
fn damaged_checkpoint_is_named_and_the_one_before_is_used() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 6] = [
        ("params.safetensors", flip_a_bit),
        ("optim.safetensors", cut),
        ("extra.safetensors", |p| fs::remove_file(p).unwrap()),
        ("ema.safetensors", |p| fs::write(p, "not a tensor").unwrap()),
        ("state.json", flip_a_bit),
        ("state.json", cut),
    ];
    let whole = finished();
    for (file, damage) in damages {
        let dir = finished();
        damage(&dir.path().join("ckpt/step-20").join(file));
        again(dir.path()).unwrap();
        let told = events(dir.path());
        let damaged = told.iter().find(|e| e["event"] == "damaged").unwrap();
        let what = damaged["what"].as_str().unwrap();
        assert!(
            what.contains(&format!("step-20/{file} is damaged")) && what.ends_with("going on from step 15"),
            "{what}"
        );
        for name in ["params.safetensors", "optim.safetensors"] {
            let name = format!("ckpt/step-20/{name}");
            assert_eq!(fs::read(whole.path().join(&name)).unwrap(), fs::read(dir.path().join(&name)).unwrap());
        }
    }
}

#[test]
fn nothing_but_damaged_checkpoints_is_an_error() {
    let dir = finished();
    for step in [15, 20] {
        flip_a_bit(&dir.path().join(format!("ckpt/step-{step}/params.safetensors")));
    }
    let error = again(dir.path()).err().unwrap();
    assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with("step-20/params.safetensors")), "{error}");
}

#[test]
fn checkpoint_of_another_model_is_refused_by_name() {
    let dir = finished();
    let mut toy = Toy::new(0);
    toy.store.root().param("new", 3, chandlery_nn::Init::ZEROS).unwrap();
    let config = FitConfig { best: None, ..config() };
    let error = fit_toy(&mut toy, &source(None), &config, Run::resume(dir.path())).unwrap_err();
    assert_eq!(error.to_string(), "parameter new: the checkpoint lacks it");
}

#[test]
fn damaged_events_and_manifest_are_named() {
    for (file, damage) in [("events.jsonl", flip_a_bit as fn(&Path)), ("events.jsonl", cut), ("manifest.json", cut)] {
        let dir = finished();
        damage(&dir.path().join(file));
        let error = again(dir.path()).err().unwrap();
        assert!(matches!(&error, Error::Damaged { path, .. } if path.ends_with(file)), "{error}");
        if file == "events.jsonl" {
            let (mut toy, config) = (Toy::new(0), FitConfig { best: None, ..config() });
            fit_toy(&mut toy, &source(None), &config, Run::resume(dir.path()).accept_changes(true)).unwrap();
            assert!(dir.path().join("events.damaged.jsonl").exists());
        }
    }
}

#[test]
fn damaged_checkpoint_does_not_push_out_whole_ones() {
    let dir = finished();
    flip_a_bit(&dir.path().join("ckpt/step-20/params.safetensors"));
    let config = FitConfig { best: None, keep_last: 1, save_every: 1, ..config() };
    let (interrupt, mut toy) = (Interrupt::default(), Toy::new(0));
    interrupt.raise();
    let run = Run::resume(dir.path()).accept_changes(true).interrupt(interrupt);
    let outcome = fit_toy(&mut toy, &source(None), &config, run).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted(ref s) if s.step == 16), "{outcome:?}");
    assert!(dir.path().join("ckpt/step-16/state.json").exists());
    assert!(dir.path().join("ckpt/damaged-step-20").exists());
}

#[test]
fn config_errors_name_key_and_value() {
    let say = |text: &str| FitConfig::from_toml(text).unwrap_err().to_string();
    let unknown = say("steps = 3\nstep_size = 1\n[groups.main]\n");
    assert!(unknown.contains("line 2") && unknown.contains("step_size"), "{unknown}");
    assert!(say("[groups.main]\nrule = { kind = \"lion\" }").contains("lion"));
    assert!(say("[groups.main]\nrule = { kind = \"sgd\", momentum = 0.1, nesterov = true, x = 1 }").contains('x'));
    for (text, expected) in [
        ("steps = 0\n[groups.main]", "config: steps: 0 is below 1"),
        ("[groups.main]\nlr = -1.0", "config: groups.main.lr: -1 is outside 0..="),
        ("[groups.main]\nlr = nan", "config: groups.main.lr: NaN is outside"),
        ("steps = 1", "config: groups: at least one parameter group is needed"),
        ("patience = 2\n[groups.main]", "config: patience: needs `best` and `eval_every`"),
        ("ema = { decay = 1.5 }\n[groups.main]", "config: ema.decay: 1.5 is outside 0..=1"),
        ("guard = { spike = \"rewind\" }\n[groups.main]", "config: guard: policy `rewind` needs `save_every`"),
        ("[groups.main]\nrule = { kind = \"adamw\", beta1 = 1.0 }", "config: groups.main.rule.beta1: 1 is outside"),
    ] {
        let said = say(text);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn resuming_with_other_settings_or_data_says_what_differs() {
    let dir = finished();
    let mut other = FitConfig { best: None, steps: 22, ..config() };
    other.groups.get_mut("main").unwrap().lr = 0.5;
    let mut toy = Toy::new(0);
    let source = source(None);
    let start = |toy: &mut Toy, run: Run| fit_toy(toy, &source, &other, run);
    let error = start(&mut toy, Run::resume(dir.path())).unwrap_err();
    let Error::Changed { what } = &error else { panic!("{error}") };
    assert_eq!(what, &["groups.main.lr was 0.02, is 0.5", "steps was 20, is 22"]);
    let outcome = start(&mut toy, Run::resume(dir.path()).accept_changes(true)).unwrap();
    assert_eq!(outcome.summary().step, 22);
    assert!(fs::read_to_string(dir.path().join("config.toml")).unwrap().contains("lr = 0.5"));
    // What was accepted is the run's configuration from now on.
    start(&mut Toy::new(0), Run::resume(dir.path())).unwrap();

    let poems = from_fn(50, |items: &[usize], _: BatchAt| batch(items, None)).with_fingerprint("poems");
    let error = fit_toy(&mut toy, &poems, &other, Run::resume(dir.path())).unwrap_err();
    let Error::Changed { what } = &error else { panic!("{error}") };
    let said = "data was toy: 50 items, 2 held-out batches, is poems: 50 items, 0 held-out batches";
    assert_eq!(what, &[said]);
}

#[test]
fn run_directory_must_be_free_writable_and_of_the_right_kind() {
    let dir = tempfile::tempdir().unwrap();
    let start = |run: Run| {
        let mut toy = Toy::new(0);
        fit_toy(&mut toy, &source(None), &plain(2, 2), run)
    };
    let error = start(Run::resume(dir.path().join("nothing"))).unwrap_err();
    assert!(matches!(error, Error::NoRun { .. }), "{error}");
    assert!(!dir.path().join("nothing").exists(), "a failed resume leaves nothing behind");
    fs::write(dir.path().join("file"), "").unwrap();
    let error = start(Run::create(dir.path().join("file/run"))).unwrap_err();
    assert!(matches!(&error, Error::Io { path, .. } if path.ends_with("file/run")), "{error}");
    start(Run::create(dir.path().join("run"))).unwrap();
    let error = start(Run::create(dir.path().join("run"))).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
}

#[test]
fn second_run_in_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_path_buf();
    let mut toy = Toy::new(0);
    let refused = std::sync::Arc::new(std::sync::Mutex::new(None));
    let (result, inside) = (refused.clone(), path.clone());
    toy.hook = Box::new(move |_| *result.lock().unwrap() = train(&inside, &plain(1, 2)).err());
    fit_toy(&mut toy, &source(None), &plain(1, 2), Run::create(&path)).unwrap();
    let error = refused.lock().unwrap().take().unwrap();
    assert!(matches!(&error, Error::Locked { path: p } if p == &path), "{error}");
}

#[test]
fn source_without_items_is_refused() {
    let (dir, mut toy) = (tempfile::tempdir().unwrap(), Toy::new(0));
    let empty = from_fn(0, |items: &[usize], _: BatchAt| batch(items, None));
    let error = fit_toy(&mut toy, &empty, &plain(1, 2), Run::create(dir.path())).unwrap_err();
    assert_eq!(error.to_string(), "config: (data): the source has no items");
}
