//! What belongs to the model and is not trained: frozen parameters and buffers.

use crate::toy::*;
use candle_core::Tensor;
use chandlery_train::*;
use std::collections::BTreeMap;
use std::path::Path;

fn file(dir: &Path, name: &str) -> BTreeMap<String, Tensor> {
    chandlery_nn::load_tensors(&dir.join("ckpt/step-20").join(name)).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

/// A fresh toy with `up` frozen, trained or resumed.
fn train_frozen(dir: &Path) -> Toy {
    let mut toy = Toy::with_frozen(0, &["up"]);
    fit_toy(&mut toy, &source(None), &config(), Run::open(dir)).unwrap();
    toy
}

#[test]
fn frozen_parameters_need_no_group_and_stay() {
    let dir = tempfile::tempdir().unwrap();
    let toy = train_frozen(dir.path());
    let start = Toy::new(0);
    assert_eq!(toy.values("up.weight"), start.values("up.weight"));
    assert_ne!(toy.values("down.weight"), start.values("down.weight"));
    let params = file(dir.path(), "params.safetensors");
    let names: Vec<&str> = params.keys().map(String::as_str).collect();
    assert_eq!(names, ["down.bias", "down.weight", "mean", "up.bias", "up.weight"]);
    let optim = file(dir.path(), "optim.safetensors");
    assert!(optim.keys().all(|name| name.starts_with("down.")), "{:?}", optim.keys());
    // A second process takes frozen values from the checkpoint, not from its own start.
    let mut other = Toy::with_frozen(5, &["up"]);
    let config = FitConfig { steps: 21, ..config() };
    let run = Run::resume(dir.path()).accept_changes(true);
    fit_toy(&mut other, &source(None), &config, run).unwrap();
    assert_eq!(other.values("up.weight"), start.values("up.weight"));
}

#[test]
fn thawing_between_two_runs_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    train_frozen(dir.path());
    let error = fit_toy(&mut Toy::new(0), &source(None), &config(), Run::resume(dir.path())).unwrap_err().to_string();
    assert!(error.contains("parameter up.bias: the checkpoint lacks its optimiser state"), "{error}");
}

#[test]
fn buffers_are_copied_into_the_average_and_not_averaged() {
    let dir = tempfile::tempdir().unwrap();
    let (toy, _) = train(dir.path(), &config()).unwrap();
    let (params, ema) = (file(dir.path(), "params.safetensors"), file(dir.path(), "ema.safetensors"));
    assert!(toy.values("mean")[0] != 0.0);
    assert_eq!(flat(&ema["mean"]), toy.values("mean"));
    assert_eq!(flat(&params["mean"]), toy.values("mean"));
    assert_ne!(flat(&ema["up.weight"]), flat(&params["up.weight"]));
    assert_eq!(ema.keys().collect::<Vec<_>>(), params.keys().collect::<Vec<_>>());
}

#[test]
fn several_stores_name_their_buffers_and_frozen_parameters() {
    let (student, teacher) = (Toy::new(0).store, Toy::with_frozen(1, &["up.weight"]).store);
    let stores = [("student", student), ("teacher", teacher)];
    let names = |of: Vec<(String, candle_core::Var)>| of.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(stores[..].named_buffers()), ["student.mean", "teacher.mean"]);
    assert_eq!(names(stores[..].named_frozen()), ["teacher.up.weight"]);
    assert_eq!(stores[..].named_vars().len(), 7);
}
