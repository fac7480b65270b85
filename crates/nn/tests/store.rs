//! The parameter store: names, seeds, frozen views, strict loading, damaged files.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use candle_core::{DType, Device, Tensor};
use chandlery_nn::{Dropout, Embedding, Init, LayerNorm, Linear, Mode, ParamStore, Strictness, summary};

fn store(seed: u64) -> ParamStore {
    let store = ParamStore::new(seed, DType::F32, &Device::Cpu);
    let root = store.root();
    Linear::new(&root.pp("b"), 3, 2, true).unwrap();
    LayerNorm::new(&root.pp("a").pp("norm"), 3, 1e-5).unwrap();
    store
}

fn values(store: &ParamStore, name: &str) -> Vec<f32> {
    store.get(name).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn parameters_come_in_name_order_and_depend_on_seed_and_name_alone() {
    let first = store(1);
    assert_eq!(first.names(), ["a.norm.bias", "a.norm.weight", "b.bias", "b.weight"]);
    assert_eq!(values(&first, "b.weight"), values(&store(1), "b.weight"));
    assert_ne!(values(&first, "b.weight"), values(&store(2), "b.weight"));
    let larger = ParamStore::new(1, DType::F32, &Device::Cpu);
    Embedding::new(&larger.root().pp("0"), 9, 3, Init::Normal { std: 1.0 }).unwrap();
    Linear::new(&larger.root().pp("b"), 3, 2, true).unwrap();
    assert_eq!(values(&first, "b.weight"), values(&larger, "b.weight"));
}

#[test]
fn frozen_view_shares_values_and_carries_no_graph() {
    let store = store(1);
    let frozen = Linear::new(&store.frozen().pp("b"), 3, 2, true).unwrap();
    let x = Tensor::ones((1, 3), DType::F32, &Device::Cpu).unwrap();
    assert!(!frozen.forward(&x).unwrap().track_op());
    let zeros = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    store.get("b.weight").unwrap().set(&zeros).unwrap();
    assert_eq!(frozen.forward(&x).unwrap().to_vec2::<f32>().unwrap()[0], values(&store, "b.bias")[..]);
    let missing = Linear::new(&store.frozen().pp("c"), 3, 2, true).unwrap_err().to_string();
    assert!(missing.contains("c.weight"), "{missing}");
}

#[test]
fn same_name_with_another_shape_is_an_error() {
    let error = Linear::new(&store(1).root().pp("b"), 4, 2, true).unwrap_err().to_string();
    assert!(error.contains("b.weight") && error.contains("[2, 3]") && error.contains("[2, 4]"), "{error}");
}

#[test]
fn saved_file_loads_exactly_and_misfits_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let first = store(1);
    first.save(&path).unwrap();
    let second = store(2);
    let report = second.load(&path, Strictness::Exact).unwrap();
    assert_eq!(report.loaded, first.names());
    assert_eq!(values(&first, "b.weight"), values(&second, "b.weight"));

    let other = ParamStore::new(3, DType::F32, &Device::Cpu);
    Linear::new(&other.root().pp("b"), 5, 2, true).unwrap();
    Linear::new(&other.root().pp("c"), 5, 2, false).unwrap();
    let before = values(&other, "b.bias");
    let error = other.load(&path, Strictness::Exact).unwrap_err().to_string();
    for part in ["model.safetensors", "c.weight", "a.norm.bias", "b.weight: expected [2, 5], found [2, 3]"] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(values(&other, "b.bias"), before, "a refused file must change nothing");
    let report = other.load(&path, Strictness::Partial).unwrap();
    assert_eq!((report.loaded, report.missing), (vec!["b.bias".to_string()], vec!["c.weight".to_string()]));
}

#[test]
fn damaged_files_are_named_and_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    store(1).save(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for length in [0, 4, 8, 40, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let error = store(1).load(&path, Strictness::Exact).unwrap_err().to_string();
        assert!(error.contains("model.safetensors"), "{error}");
    }
    for at in 0..200.min(whole.len()) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x55;
        std::fs::write(&path, &flipped).unwrap();
        if let Err(error) = store(1).load(&path, Strictness::Exact) {
            assert!(error.to_string().contains("model.safetensors"), "{error}");
        }
    }
    std::fs::write(&path, b"PK\x03\x04 not a model at all, but long enough for a header").unwrap();
    assert!(store(1).load(&path, Strictness::Partial).is_err());
    assert!(store(1).load(&dir.path().join("none"), Strictness::Exact).unwrap_err().to_string().contains("none"));
}

#[test]
fn deep_copy_has_values_of_its_own() {
    let first = store(1);
    let copy = first.deep_copy().unwrap();
    let zeros = Tensor::zeros((2, 3), DType::F32, &Device::Cpu).unwrap();
    first.get("b.weight").unwrap().set(&zeros).unwrap();
    assert_ne!(values(&copy, "b.weight"), values(&first, "b.weight"));
}

#[test]
fn dropout_is_silent_in_evaluation_and_repeats_under_its_key() {
    let x = Tensor::ones(64, DType::F32, &Device::Cpu).unwrap();
    let dropout = Dropout { p: 0.5 };
    let run = |mode: Mode| dropout.forward(&x, mode).unwrap().to_vec1::<f32>().unwrap();
    assert_eq!(run(Mode::Eval), vec![1.0; 64]);
    let key = chandlery_kernels::Key::new(1);
    assert_eq!(run(Mode::Train(key).named("a")), run(Mode::Train(key).named("a")));
    assert_ne!(run(Mode::Train(key).named("a")), run(Mode::Train(key).named("b")));
    assert_ne!(run(Mode::Train(key).at(0)), run(Mode::Train(key).at(1)));
}

#[test]
fn summary_counts_every_value() {
    let text = summary(&store(1));
    assert!(text.contains("b.weight") && text.contains("2 x 3") && text.trim_end().ends_with("14"), "{text}");
}

#[test]
fn buffers_are_saved_and_loaded_but_are_no_parameters() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    let [first, second] = [1, 2].map(store);
    let mean = first.root().pp("bn").buffer("running_mean", 3, Init::ZEROS).unwrap();
    let other = second.root().pp("bn").buffer("running_mean", 3, Init::ZEROS).unwrap();
    assert_eq!(first.names(), second.names());
    assert!(!first.names().contains(&"bn.running_mean".to_string()));
    assert_eq!((first.n_params(), first.named_vars().len(), first.named_buffers().len()), (14, 4, 1));
    mean.set(&Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap()).unwrap();
    assert!(!mean.get().track_op());
    let copy = first.deep_copy().unwrap();
    first.save(&path).unwrap();
    let report = second.load(&path, Strictness::Exact).unwrap();
    assert!(report.loaded.contains(&"bn.running_mean".to_string()));
    assert_eq!(other.get().to_vec1::<f32>().unwrap(), [1.0, 2.0, 3.0]);
    mean.set(&Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_eq!(values(&copy, "bn.running_mean"), [1.0, 2.0, 3.0]);
    assert!(summary(&first).contains("buffers"));
}

#[test]
fn buffer_and_parameter_cannot_share_a_name() {
    let store = store(1);
    let root = store.root();
    root.buffer("x", 1, Init::ZEROS).unwrap();
    assert!(root.param("x", 1, Init::ZEROS).unwrap_err().to_string().contains("x is a buffer"));
    let param = root.pp("b").buffer("weight", (2, 3), Init::ZEROS).unwrap_err().to_string();
    assert!(param.contains("b.weight is a parameter"), "{param}");
    let shape = root.buffer("x", 2, Init::ZEROS).unwrap_err().to_string();
    assert!(shape.contains("buffer x is [1], asked for as [2]"), "{shape}");
    let view = store.frozen().buffer("x", 1, Init::ZEROS).unwrap();
    assert!(view.set(&Tensor::ones(1, DType::F32, &Device::Cpu).unwrap()).is_err());
    assert!(store.frozen().buffer("y", 1, Init::ZEROS).unwrap_err().to_string().contains("y does not exist"));
}

#[test]
fn frozen_paths_end_at_whole_names() {
    let store = ParamStore::new(1, DType::F32, &Device::Cpu);
    store.freeze("layer1");
    store.freeze("fc.bias");
    let root = store.root();
    let layers = ["layer1", "layer10", "fc"].map(|name| Linear::new(&root.pp(name), 2, 2, true).unwrap());
    let tracked = layers.map(|l| (l.weight.track_op(), l.bias.unwrap().track_op()));
    assert_eq!(tracked, [(false, false), (true, true), (true, false)]);
    let names = |vars: Vec<(String, candle_core::Var)>| vars.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(store.named_vars()), ["fc.weight", "layer10.bias", "layer10.weight"]);
    assert_eq!(names(store.named_frozen()), ["fc.bias", "layer1.bias", "layer1.weight"]);
    assert_eq!((store.n_params(), store.names().len()), (18, 6));
    assert!(store.deep_copy().unwrap().is_frozen("layer1.weight"));
}

#[test]
fn counters_of_pytorch_are_no_misfit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("torch.safetensors");
    let store = store(1);
    let mut tensors: std::collections::BTreeMap<_, _> =
        store.named_vars().into_iter().map(|(name, var)| (name, var.as_detached_tensor())).collect();
    tensors.insert("a.norm.num_batches_tracked".into(), Tensor::new(7i64, &Device::Cpu).unwrap());
    chandlery_nn::save_tensors(&path, tensors).unwrap();
    let report = store.load(&path, Strictness::Exact).unwrap();
    assert!(report.is_exact());
    assert_eq!(report.ignored, ["a.norm.num_batches_tracked"]);
}
