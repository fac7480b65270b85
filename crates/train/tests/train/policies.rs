//! NaN and spikes in the data, and failures of the loader.

use crate::toy::*;
use chandlery_train::*;

/// Runs 12 steps of 5 unshuffled items; item 22, in step 5, has the given target.
fn run(bad: f32, guard: GuardConfig) -> (tempfile::TempDir, Toy, Result<Outcome>) {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new(0);
    let config = FitConfig { guard, save_every: 3, ..plain(12, 5) };
    let outcome = fit_toy(&mut toy, &source(Some((22, bad))), &config, Run::create(dir.path()));
    (dir, toy, outcome)
}

fn on_nan(not_finite: Policy) -> GuardConfig {
    GuardConfig { not_finite, ..GuardConfig::default() }
}

fn is_sound(toy: &Toy) -> bool {
    [toy.values("up.weight"), toy.values("mean")].concat().iter().all(|x| x.is_finite())
}

#[test]
fn nan_stops_the_run_with_step_and_group() {
    let (dir, toy, outcome) = run(f32::NAN, on_nan(Policy::Stop));
    let error = outcome.unwrap_err();
    assert!(matches!(error, Error::NotFinite { step: 5, .. }), "{error}");
    assert!(error.to_string().starts_with("step 5, group main: loss (first of parameter down.bias) is NaN"), "{error}");
    assert!(is_sound(&toy));
    assert!(dir.path().join("ckpt/step-3/state.json").exists());
}

#[test]
fn nan_is_skipped_and_told() {
    let (dir, toy, outcome) = run(f32::NAN, on_nan(Policy::Skip));
    assert_eq!(outcome.unwrap().summary().step, 12);
    assert!(is_sound(&toy));
    let skips: Vec<_> = events(dir.path()).into_iter().filter(|e| e["event"] == "skip").collect();
    assert_eq!((skips.len(), &skips[0]["step"]), (1, &5.into()));
    assert_eq!(events(dir.path())[5]["loss"], "NaN");
}

#[test]
fn rewind_goes_back_and_passes_the_bad_data() {
    let (dir, toy, outcome) = run(f32::NAN, on_nan(Policy::Rewind));
    // Ten batches an epoch; the bad one comes back fifteen steps of data later.
    assert_eq!(outcome.unwrap().summary().step, 12);
    assert!(is_sound(&toy));
    let told = events(dir.path());
    let rewinds: Vec<_> = told.iter().filter(|e| e["event"] == "rewind").collect();
    assert_eq!((rewinds.len(), &rewinds[0]["step"]), (1, &5.into()));
    assert!(rewinds[0]["what"].as_str().unwrap().starts_with("to step 3: step 5, group main: loss"));
    let steps: Vec<u64> = told.iter().filter(|e| e["event"] == "train").map(|e| e["step"].as_u64().unwrap()).collect();
    assert_eq!(steps[..6], [1, 2, 3, 4, 4, 5]);
}

#[test]
fn endless_rewinding_ends_with_the_cause() {
    let dir = tempfile::tempdir().unwrap();
    let mut toy = Toy::new(0);
    let source = from_fn(50, |items: &[usize], _: BatchAt| batch(items, items.first().map(|&i| (i, f32::NAN))));
    let config = FitConfig { guard: on_nan(Policy::Rewind), save_every: 3, ..plain(12, 5) };
    let error = fit_toy(&mut toy, &source, &config, Run::create(dir.path())).unwrap_err();
    assert!(matches!(error, Error::TooManyRewinds { step: 1, rewinds: 3, .. }), "{error}");
    assert!(error.to_string().contains("went back to a checkpoint 3 times and failed again: step 1"), "{error}");
}

#[test]
fn spike_is_skipped_or_stops() {
    let guard = |spike| GuardConfig { spike, spike_z: 5.0, window: 4, ..GuardConfig::default() };
    let (dir, _, outcome) = run(1e4, guard(Policy::Skip));
    assert_eq!(outcome.unwrap().summary().step, 12);
    let skips: Vec<_> = events(dir.path()).into_iter().filter(|e| e["event"] == "skip").collect();
    assert_eq!((skips.len(), &skips[0]["step"]), (1, &5.into()));
    let (_, _, outcome) = run(1e4, guard(Policy::Stop));
    assert!(matches!(outcome.unwrap_err(), Error::Spike { step: 5, .. }));
}

#[test]
fn failing_and_panicking_sources_are_errors_of_their_step() {
    let say = |fail: fn() -> Result<Batch>| {
        let (dir, mut toy) = (tempfile::tempdir().unwrap(), Toy::new(0));
        let make = move |items: &[usize], at: BatchAt| if at.step == 3 { fail() } else { batch(items, None) };
        let config = plain(6, 4);
        let error = fit_toy(&mut toy, &from_fn(50, make), &config, Run::create(dir.path()));
        error.unwrap_err().to_string()
    };
    let failed = say(|| Err(Error::task("poems.txt, line 7: not UTF-8")));
    assert_eq!(failed, "step 3, micro-batch 0: making the batch failed: poems.txt, line 7: not UTF-8");
    let panicked = say(|| panic!("index {}", 9));
    assert_eq!(panicked, "step 3, micro-batch 0: making the batch failed: panic: index 9");
}
