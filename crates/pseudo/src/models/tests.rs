//! All models: names, sizes, gradients, learning, cuts, frozen parts.

use super::*;
use candle_core::{DType, Device, Result, Tensor};
use chandlery_kernels::check::grad_reach;
use chandlery_kernels::optim::{Adam, Rule, Slot, Step, update_all};
use chandlery_kernels::{CrossEntropy, Key, cross_entropy};
use chandlery_nn::{BatchNormConfig, Mode, ParamStore, Statistics};

use crate::weights::load_pretrained;

fn store() -> ParamStore {
    ParamStore::new(1, DType::F32, &Device::Cpu)
}

fn resnet_config(depth: Depth) -> ResNetConfig {
    ResNetConfig { depth, width: 4, ..ResNetConfig::default() }
}

fn resnet(depth: Depth, stem: Stem) -> ModelConfig {
    ModelConfig::ResNet(ResNetConfig { stem, ..resnet_config(depth) })
}

/// Each kind of model, made narrow.
fn narrow() -> Vec<ModelConfig> {
    let lite = EfficientNetConfig { width: 0.25, dropout: 0.0, ..EfficientNetConfig::default() };
    let mut all: Vec<_> = [Depth::D18, Depth::D34, Depth::D50, Depth::D101].map(|d| resnet(d, Stem::Large)).into();
    all.extend([resnet(Depth::D18, Stem::Small), ModelConfig::EfficientNet(lite)]);
    all
}

/// [b, 3, side, side] of values around zero.
fn images(b: usize, side: usize) -> Tensor {
    let key = Key::new(5);
    let values: Vec<f32> = (0..(b * 3 * side * side) as u64).map(|i| key.normal(i) as f32).collect();
    Tensor::from_vec(values, (b, 3, side, side), &Device::Cpu).unwrap()
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn train() -> Mode {
    Mode::Train(Key::new(2))
}

#[test]
fn residual_networks_have_the_sizes_and_names_of_torchvision() {
    // Tensors of parameters and batch norms of torchvision's networks. The start values of the large ones take long to
    // draw, so their tensors are only counted.
    for (depth, n_tensors, n_norms) in [(Depth::D34, 110, 36), (Depth::D101, 314, 104)] {
        let store = store();
        resnet_config(depth).build(&store.root(), 5).unwrap();
        assert_eq!((store.names().len(), store.named_buffers().len()), (n_tensors, 2 * n_norms), "{depth:?}");
    }
    // Parameters with 1000 classes.
    for (depth, n_params, n_tensors, n_norms) in [(Depth::D18, 11_689_512, 62, 20), (Depth::D50, 25_557_032, 161, 53)] {
        let store = store();
        ResNetConfig { depth, ..ResNetConfig::default() }.build(&store.root(), 1000).unwrap();
        assert_eq!((store.n_params(), store.names().len()), (n_params, n_tensors), "{depth:?}");
        assert_eq!(store.named_buffers().len(), 2 * n_norms, "{depth:?}");
        let shape = |name: &str| store.get(name).map(|var| var.dims().to_vec());
        assert_eq!(shape("conv1.weight"), Some(vec![64, 3, 7, 7]));
        assert_eq!(shape("bn1.running_var"), Some(vec![64]));
        let basic = matches!(depth, Depth::D18 | Depth::D34);
        let (last, wide) = if basic { (vec![64, 64, 3, 3], 512) } else { (vec![64, 64, 1, 1], 2048) };
        assert_eq!(shape("layer1.0.conv1.weight"), Some(last));
        assert_eq!(shape("layer1.0.conv3.weight"), (!basic).then(|| vec![256, 64, 1, 1]));
        assert_eq!(shape("layer1.0.downsample.0.weight"), (!basic).then(|| vec![256, 64, 1, 1]));
        assert_eq!(shape("layer4.0.downsample.1.running_mean"), Some(vec![wide]));
        assert_eq!(shape("layer4.1.downsample.0.weight"), None);
        assert_eq!((shape("fc.weight"), shape("fc.bias")), (Some(vec![1000, wide]), Some(vec![1000])));
    }
}

#[test]
fn efficientnet_has_the_sizes_and_names_of_the_published_file() {
    let store = store();
    EfficientNetConfig::default().build(&store.root(), 1000).unwrap();
    assert_eq!((store.n_params(), store.names().len(), store.named_buffers().len()), (4_652_008, 149, 98));
    let shape = |name: &str| store.get(name).map(|var| var.dims().to_vec());
    assert_eq!(shape("_conv_stem.weight"), Some(vec![32, 3, 3, 3]));
    assert_eq!(shape("_blocks.0._expand_conv.weight"), None);
    assert_eq!(shape("_blocks.0._depthwise_conv.weight"), Some(vec![32, 1, 3, 3]));
    assert_eq!(shape("_blocks.15._bn2.running_var"), Some(vec![320]));
    assert_eq!(shape("_conv_head.weight"), Some(vec![1280, 320, 1, 1]));
    assert_eq!(shape("_fc.weight"), Some(vec![1000, 1280]));
}

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for config in narrow() {
        let store = store();
        let model = config.build(&store.root(), 5).unwrap();
        let y = Tensor::new(&[0u32, 3], &Device::Cpu).unwrap();
        let reach = grad_reach(&store.named_vars(), |_| {
            cross_entropy(&model.forward(&images(2, 40), train())?, &y, &CrossEntropy::default())
        });
        reach.unwrap().into_result().unwrap();
    }
}

/// Loss of `n` Adam steps on one batch, in training mode.
fn learn(model: &Classifier, store: &ParamStore, n: u64) -> Result<f32> {
    let (x, y) = (images(6, 32), Tensor::new(&[0u32, 1, 2, 3, 4, 0], &Device::Cpu)?);
    let rule = Adam { beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.0, decoupled: true };
    let vars = store.named_vars();
    let state = |var: &candle_core::Var| {
        let zeros =
            rule.state(var.dims()).into_iter().map(|(_, dims)| candle_core::Var::zeros(dims, DType::F32, &Device::Cpu));
        zeros.collect::<Result<Vec<_>>>()
    };
    let states = vars.iter().map(|(_, var)| state(var)).collect::<Result<Vec<_>>>()?;
    let mut last = f32::NAN;
    for t in 1..=n {
        let loss = cross_entropy(&model.forward(&x, train())?, &y, &CrossEntropy::default())?;
        last = loss.to_scalar()?;
        let grads = loss.backward()?;
        let slots = vars
            .iter()
            .zip(&states)
            .filter_map(|((_, param), state)| Some(Slot { param, grad: grads.get(param)?, state }));
        update_all(&rule, Step { t, lr: 0.01, grad_scale: 1.0 }, &slots.collect::<Vec<_>>())?;
    }
    Ok(last)
}

#[test]
fn models_learn_one_batch_by_heart() {
    let lite = EfficientNetConfig { width: 0.25, dropout: 0.0, ..EfficientNetConfig::default() };
    for config in [resnet(Depth::D18, Stem::Small), resnet(Depth::D50, Stem::Large), ModelConfig::EfficientNet(lite)] {
        let store = store();
        let model = config.build(&store.root(), 5).unwrap();
        let loss = learn(&model, &store, 25).unwrap();
        assert!(loss < 0.1, "{config:?}: {loss}");
    }
}

#[test]
fn maps_have_a_thirty_second_of_the_side() {
    for config in narrow() {
        let model = config.build(&store().root(), 5).unwrap();
        let small = matches!(&config, ModelConfig::ResNet(c) if c.stem == Stem::Small);
        let (logits, maps) = model.forward_with_maps(&images(1, 65), Mode::Eval).unwrap();
        let side = if small { 9 } else { 3 };
        assert_eq!(maps.dims(), [1, model.channels(), side, side], "{config:?}");
        assert_eq!(logits.dims(), [1, 5]);
        let least = flat(&maps).into_iter().fold(f32::INFINITY, f32::min);
        assert!(least >= 0.0, "maps come after the nonlinearity");
    }
}

#[test]
fn models_can_be_cut_behind_every_stage() {
    for config in [resnet(Depth::D18, Stem::Large), narrow().pop().unwrap()] {
        let store = store();
        let model = config.build(&store.root(), 5).unwrap();
        let x = images(2, 33);
        let whole = flat(&model.features(&x, Mode::Eval).unwrap());
        for Stage { name, paths } in config.stages() {
            let lower = model.features_at(&x, &name, Mode::Eval).unwrap();
            assert_eq!(flat(&model.features_from(&lower, &name, Mode::Eval).unwrap()), whole, "{name}");
            for path in paths {
                assert!(store.names().iter().any(|n| n.starts_with(&format!("{path}."))), "{path}");
            }
        }
    }
    let model = resnet(Depth::D18, Stem::Large).build(&store().root(), 5).unwrap();
    let [whole, last] =
        ["layer2", "layer2.1"].map(|s| flat(&model.features_at(&images(1, 33), s, Mode::Eval).unwrap()));
    assert_eq!(whole, last);
}

#[test]
fn frozen_lower_part_gets_no_gradient_and_stays() {
    let store = store();
    let config = resnet(Depth::D18, Stem::Small);
    config.freeze_through(&store, "layer2").unwrap();
    let model = config.build(&store.root(), 5).unwrap();
    let frozen: Vec<String> = store.named_frozen().into_iter().map(|(name, _)| name).collect();
    assert!(frozen.contains(&"conv1.weight".to_string()) && frozen.contains(&"layer2.1.bn2.bias".to_string()));
    assert!(!frozen.iter().any(|name| name.starts_with("layer3") || name.starts_with("fc")));
    let x = images(2, 32);
    let before = flat(&model.features_at(&x, "layer2", train()).unwrap());
    let reach = grad_reach(&store.named_vars(), |_| model.forward(&x, train())?.sqr()?.sum_all());
    reach.unwrap().into_result().unwrap();
    learn(&model, &store, 2).unwrap();
    assert_eq!(flat(&model.features_at(&x, "layer2", train()).unwrap()), before);
    assert!(
        config.freeze_through(&store, "layer9").unwrap_err().to_string().contains("no stage `layer9`; there are stem")
    );
}

#[test]
fn running_statistics_move_in_training_alone_and_repeat() {
    let moved = |statistics, modes: &[Mode]| {
        let norm = BatchNormConfig { statistics, ..BatchNormConfig::default() };
        let store = store();
        let model = ResNetConfig { width: 4, norm, ..ResNetConfig::default() }.build(&store.root(), 5).unwrap();
        let eval = ResNetConfig { width: 4, norm, ..ResNetConfig::default() }.build(&store.frozen(), 5).unwrap();
        for &mode in modes {
            model.forward(&images(2, 32), mode).unwrap();
            eval.forward(&images(2, 32), mode).unwrap();
        }
        store.named_buffers().iter().flat_map(|(_, var)| flat(var.as_tensor())).collect::<Vec<f32>>()
    };
    let start = moved(Statistics::Batch, &[]);
    assert_eq!(moved(Statistics::Batch, &[Mode::Eval]), start);
    assert_eq!(moved(Statistics::Running, &[train()]), start);
    let once = moved(Statistics::Batch, &[train()]);
    assert_ne!(once, start);
    assert_eq!(moved(Statistics::Batch, &[Mode::Eval, train(), Mode::Eval]), once);
    assert_ne!(moved(Statistics::Batch, &[train(), train()]), once);
}

#[test]
fn weights_of_another_architecture_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let save = |config: &ModelConfig, classes: usize| {
        let (store, path) = (store(), dir.path().join(format!("{}.safetensors", config.head())));
        config.build(&store.root(), classes).unwrap();
        store.save(&path).unwrap();
        path
    };
    let (own, other) = (resnet(Depth::D18, Stem::Large), narrow().pop().unwrap());
    let [own_file, other_file] = [&own, &other].map(|config| save(config, 7));
    let store = ParamStore::new(9, DType::F32, &Device::Cpu);
    own.build(&store.root(), 5).unwrap();
    let why = load_pretrained(&store, &other_file, own.head()).unwrap_err().to_string();
    assert!(why.contains("does not fit the model: 0 loaded, 102 missing"), "{why}");
    let report = load_pretrained(&store, &own_file, own.head()).unwrap();
    assert_eq!((report.loaded.len(), report.mismatched.len()), (100, 2));
    let deeper = ParamStore::new(9, DType::F32, &Device::Cpu);
    resnet(Depth::D34, Stem::Large).build(&deeper.root(), 7).unwrap();
    let why = load_pretrained(&deeper, &own_file, "fc").unwrap_err().to_string();
    assert!(why.contains("missing (layer1.2.bn1.bias"), "{why}");
}

#[test]
fn rates_reach_head_upper_and_lower_parts() {
    let config = resnet(Depth::D18, Stem::Large);
    let rates = Rates { head: 10.0, upper: 1.0, lower: 0.5, split: Some("layer2".into()) };
    let scales = config.lr_scale(&rates).unwrap();
    let of = |scales: &[chandlery_train::LrScale], name: &str| {
        let found = scales.iter().find(|s| s.params == "*" || name.starts_with(s.params.trim_end_matches('*')));
        found.map(|s| s.factor)
    };
    for (name, factor) in
        [("fc.bias", 10.0), ("layer3.0.conv1.weight", 1.0), ("layer2.1.bn2.bias", 0.5), ("bn1.bias", 0.5)]
    {
        assert_eq!(of(&scales, name), Some(factor), "{name}");
    }
    let decay = config.lr_decay(0.5);
    assert_eq!((of(&decay, "fc.bias"), of(&decay, "layer4.1.bn1.bias")), (Some(1.0), Some(0.5)));
    assert_eq!(of(&decay, "conv1.weight"), Some(0.5f64.powi(9)));
    let all = config.lr_scale(&Rates::default()).unwrap();
    assert_eq!((all.len(), of(&all, "conv1.weight")), (2, Some(0.1)));
}

#[test]
fn settings_are_read_strictly() {
    let read = |text: &str| serde_json::from_str::<ModelConfig>(text).map_err(|e| e.to_string());
    let config =
        read(r#"{"kind": "resnet", "depth": "50", "stem": "small", "norm": {"statistics": "running"}}"#).unwrap();
    let ModelConfig::ResNet(resnet) = &config else { panic!("{config:?}") };
    assert_eq!((resnet.depth, resnet.stem, resnet.width), (Depth::D50, Stem::Small, 64));
    assert_eq!((resnet.norm.statistics, resnet.norm.eps), (Statistics::Running, 1e-5));
    let ModelConfig::EfficientNet(lite) = read(r#"{"kind": "efficientnet"}"#).unwrap() else { panic!() };
    assert_eq!((lite.norm.eps, lite.norm.momentum, lite.size), (1e-3, 0.01, 224));
    assert!(read(r#"{"kind": "resnet", "deep": 5}"#).unwrap_err().contains("deep"));
    assert!(read(r#"{"kind": "vgg"}"#).unwrap_err().contains("vgg"));
}

#[test]
fn published_weights_fit_exactly() {
    let path = std::env::var_os("CHANDLERY_DATA").map(std::path::PathBuf::from);
    let path = path.map(|data| data.join("efficientnet-lite0/model.safetensors")).filter(|path| path.exists());
    let Some(path) = path else {
        println!(
            "skipped: CHANDLERY_DATA names no folder with efficientnet-lite0 (cargo xtask fetch efficientnet-lite0)"
        );
        return;
    };
    let store = store();
    let config = ModelConfig::EfficientNet(EfficientNetConfig::default());
    let model = config.build(&store.root(), 1000).unwrap();
    let report = load_pretrained(&store, &path, config.head()).unwrap();
    assert!(report.is_exact(), "{report}");
    assert_eq!((report.loaded.len(), report.ignored.len()), (149 + 98, 49));
    assert_eq!(model.forward(&images(1, 64), Mode::Eval).unwrap().dims(), [1, 1000]);
}
