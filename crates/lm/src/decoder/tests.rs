//! What must hold for every shape of decoder.

use super::*;
use candle_core::{Var, backprop::GradStore};
use chandlery_kernels::{Key, check::grad_reach};
use chandlery_nn::{Mode, NormKind, ParamStore};

fn tiny() -> DecoderConfig {
    let json = r#"{"vocab": 23, "d_model": 16, "n_layers": 2, "n_heads": 4, "positions": {"learned": {"max": 16}}}"#;
    serde_json::from_str(json).unwrap()
}

/// Shapes that between them take every branch.
fn variants() -> Vec<(&'static str, DecoderConfig)> {
    let rotary = |style| Positions::Rotary { max: 16, base: 100.0, style };
    let llama = DecoderConfig {
        n_kv_heads: Some(2),
        ffn: Some(24),
        positions: rotary(RotaryStyle::Halves),
        norm: NormKind::Rms,
        activation: FeedForward::SwiGlu,
        tied: true,
        attention_bias: false,
        mlp_bias: false,
        ..tiny()
    };
    vec![
        ("gpt", tiny()),
        (
            "gpt, erf, tied, biased head",
            DecoderConfig { activation: FeedForward::GeluErf, tied: true, head_bias: true, ..tiny() },
        ),
        ("gpt, one key head, soft rows", DecoderConfig { n_kv_heads: Some(1), soft_rows: 3, ..tiny() }),
        (
            "llama, interleaved, untied",
            DecoderConfig { positions: rotary(RotaryStyle::Interleaved), tied: false, ..llama.clone() },
        ),
        ("llama", llama),
    ]
}

fn build(cfg: &DecoderConfig) -> (ParamStore, Decoder) {
    let store = ParamStore::new(5, DType::F32, &Device::Cpu);
    let model = Decoder::new(cfg, &store.root()).unwrap();
    // Start values of 0.02 would leave attention almost uniform and hide mistakes.
    for (name, var) in store.named_vars() {
        if name.ends_with("weight") && !name.contains("norm") {
            var.set(&(var.as_detached_tensor() * 2.0).unwrap()).unwrap();
        }
    }
    (store, model)
}

/// Random ids below `below`, [b, t].
fn ids(b: usize, t: usize, below: usize) -> Tensor {
    let key = Key::new(9);
    let all: Vec<u32> = (0..b * t).map(|i| (key.u64(i as u64) % below as u64) as u32).collect();
    Tensor::from_vec(all, (b, t), &Device::Cpu).unwrap()
}

fn logits(model: &Decoder, ids: &Tensor, pass: Pass<'_>) -> Tensor {
    model.logits(&model.hidden(ids, pass).unwrap()).unwrap()
}

/// Largest difference relative to the largest size.
fn difference(a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims());
    let largest = |t: Tensor| t.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    largest((a - b).unwrap()) / largest(b.clone())
}

fn with_token(ids: &Tensor, row: usize, at: usize, token: u32) -> Tensor {
    let mut rows = ids.to_vec2::<u32>().unwrap();
    rows[row][at] = token;
    Tensor::new(rows, &Device::Cpu).unwrap()
}

#[test]
fn every_parameter_receives_a_gradient() {
    for (name, cfg) in variants() {
        let cfg = DecoderConfig { dropout: 0.1, ..cfg };
        let (store, model) = build(&cfg);
        let (x, y) = (ids(2, 8, cfg.vocab + cfg.soft_rows), ids(2, 8, cfg.vocab));
        let reach = grad_reach(&store.named_vars(), |_| {
            let h = model.hidden(&x, Pass::train(Key::new(1)))?;
            model.loss(&h, &y, &CrossEntropy::default())
        });
        let reach = reach.unwrap();
        assert!(reach.is_complete(), "{name}: {reach}");
    }
}

#[test]
fn soft_prompts_have_a_gradient_of_zero_where_no_row_uses_them() {
    let cfg = DecoderConfig { soft_rows: 3, ..tiny() };
    let (store, model) = build(&cfg);
    let x = ids(2, 8, cfg.vocab);
    let loss = model.loss(&model.hidden(&x, Pass::eval()).unwrap(), &x, &CrossEntropy::default()).unwrap();
    let soft = store.get("soft_prompts.weight").unwrap();
    let grads = loss.backward().unwrap();
    let grad = grads.get(&soft).unwrap();
    assert_eq!(grad.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap(), 0.0);
}

#[test]
fn soft_prompt_is_embedded_from_its_own_table_and_never_predicted() {
    let cfg = DecoderConfig { soft_rows: 3, ..tiny() };
    let (store, model) = build(&cfg);
    let x = with_token(&ids(1, 4, cfg.vocab), 0, 1, 24);
    let before = logits(&model, &x, Pass::eval());
    assert_eq!(before.dims(), [1, 4, cfg.vocab]);
    let soft = store.get("soft_prompts.weight").unwrap();
    let mut rows = soft.to_vec2::<f32>().unwrap();
    rows[0].fill(1.0);
    soft.set(&Tensor::new(rows.clone(), &Device::Cpu).unwrap()).unwrap();
    assert_eq!(difference(&logits(&model, &x, Pass::eval()), &before), 0.0, "row 0 is not used");
    rows[1].fill(1.0);
    soft.set(&Tensor::new(rows, &Device::Cpu).unwrap()).unwrap();
    assert!(difference(&logits(&model, &x, Pass::eval()), &before) > 1e-3);
    let beyond = with_token(&x, 0, 2, 26);
    assert!(model.hidden(&beyond, Pass::eval()).is_err());
}

fn descend(store: &ParamStore, grads: &GradStore, rate: f64) {
    for (_, var) in store.named_vars() {
        let step = (grads.get(&var).unwrap() * rate).unwrap();
        var.set(&(var.as_detached_tensor() - step).unwrap()).unwrap();
    }
}

#[test]
fn one_batch_is_learned_by_heart() {
    for (name, cfg) in variants() {
        let store = ParamStore::new(5, DType::F32, &Device::Cpu);
        let model = Decoder::new(&cfg, &store.root()).unwrap();
        let (x, y) = (ids(2, 8, cfg.vocab), ids(3, 8, cfg.vocab).narrow(0, 1, 2).unwrap());
        let loss = || model.loss(&model.hidden(&x, Pass::eval()).unwrap(), &y, &CrossEntropy::default()).unwrap();
        let first = loss().to_scalar::<f32>().unwrap();
        for _ in 0..150 {
            let l = loss();
            descend(&store, &l.backward().unwrap(), 0.3);
        }
        let last = loss().to_scalar::<f32>().unwrap();
        assert!(first > 2.0 && last < 0.1, "{name}: {first} -> {last}");
    }
}

#[test]
fn later_token_changes_no_earlier_prediction() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let x = ids(2, 8, cfg.vocab);
        let before = logits(&model, &x, Pass::eval());
        for at in [1, 5, 7] {
            let old = x.to_vec2::<u32>().unwrap()[1][at];
            let after = logits(&model, &with_token(&x, 1, at, (old + 1) % cfg.vocab as u32), Pass::eval());
            let seen = |t: &Tensor| t.narrow(1, 0, at).unwrap();
            assert_eq!(difference(&seen(&after), &seen(&before)), 0.0, "{name}, token {at}");
            let from = |t: &Tensor| t.narrow(1, at, 8 - at).unwrap();
            assert!(difference(&from(&after), &from(&before)) > 1e-4, "{name}, token {at}");
        }
    }
}

#[test]
fn padding_after_the_text_changes_nothing() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let x = ids(1, 6, cfg.vocab);
        let padded = x.pad_with_zeros(1, 0, 3).unwrap();
        let keys = Tensor::new(&[[1u8, 1, 1, 1, 1, 1, 0, 0, 0]], &Device::Cpu).unwrap();
        let got = logits(&model, &padded, Pass::eval().with_keys(&keys)).narrow(1, 0, 6).unwrap();
        assert!(difference(&got, &logits(&model, &x, Pass::eval())) < 1e-5, "{name}");
    }
}

#[test]
fn segments_in_one_row_equal_rows_of_their_own() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let x = ids(1, 8, cfg.vocab);
        let segments = Tensor::new(&[[0u32, 0, 0, 1, 1, 1, 1, 1]], &Device::Cpu).unwrap();
        let positions = Tensor::new(&[[0u32, 1, 2, 0, 1, 2, 3, 4]], &Device::Cpu).unwrap();
        let mut pass = Pass::eval().with_segments(&segments);
        pass.positions = matches!(cfg.positions, Positions::Learned { .. }).then_some(&positions);
        let got = logits(&model, &x, pass).narrow(1, 3, 5).unwrap();
        let alone = logits(&model, &x.narrow(1, 3, 5).unwrap(), Pass::eval());
        assert!(difference(&got, &alone) < 1e-4, "{name}");
    }
}

fn agree(name: &str, got: &Tensor, want: &Tensor) {
    assert!(difference(got, want) < 1e-4, "{name}: {}", difference(got, want));
    let best = |t: &Tensor| t.argmax(2).unwrap().to_vec2::<u32>().unwrap();
    assert_eq!(best(got), best(want), "{name}");
}

#[test]
fn prompt_heads_see_the_prompt_only_cached_or_not() {
    let cfg = DecoderConfig { prompt_heads: tiny().n_heads, n_layers: 1, ..tiny() };
    let (_, model) = build(&cfg);
    let x = ids(2, 9, cfg.vocab);
    let prompt = Tensor::new(&[[1u8, 1, 1, 0, 0, 0, 0, 0, 0]; 2], &Device::Cpu).unwrap();
    let pass = || Pass { prompt: Some(&prompt), ..Pass::eval() };
    let want = logits(&model, &x, pass());
    // The text's fourth token is seen by its own position only, the prompt's first by all.
    let changed = |at: usize| {
        let mut all: Vec<Vec<u32>> = x.to_vec2().unwrap();
        all[0][at] = (all[0][at] + 1) % cfg.vocab as u32;
        let got = logits(&model, &Tensor::new(all, &Device::Cpu).unwrap(), pass());
        (0..9)
            .filter(|&i| difference(&got.narrow(1, i, 1).unwrap(), &want.narrow(1, i, 1).unwrap()) > 1e-5)
            .collect::<Vec<_>>()
    };
    assert_eq!(changed(4), [4]);
    assert_eq!(changed(0), (0..9).collect::<Vec<_>>());
    let mut cache = KvCache::new(&cfg, 2, 4, DType::F32, &Device::Cpu).unwrap();
    let part = |from: usize, n: usize, cache: &mut KvCache| {
        logits(&model, &x.narrow(1, from, n).unwrap(), Pass::eval().with_cache(cache))
    };
    let parts = [part(0, 3, &mut cache), part(3, 1, &mut cache), part(4, 5, &mut cache)];
    agree("prompt heads", &Tensor::cat(&parts, 1).unwrap(), &want);
    let error = model.hidden(&x, Pass::eval()).unwrap_err().to_string();
    assert!(error.contains("must say where it is"), "{error}");
}

#[test]
fn cached_logits_equal_full_logits() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let x = ids(2, 12, cfg.vocab);
        let want = logits(&model, &x, Pass::eval());
        // Room for all, and room that must grow.
        for capacity in [12, 1] {
            let mut cache = KvCache::new(&cfg, 2, capacity, DType::F32, &Device::Cpu).unwrap();
            let mut parts = Vec::new();
            for (at, t) in [(0, 5), (5, 1), (6, 3), (9, 1), (10, 1), (11, 1)] {
                let part = x.narrow(1, at, t).unwrap();
                parts.push(logits(&model, &part, Pass::eval().with_cache(&mut cache)));
            }
            assert_eq!(cache.len(), 12);
            agree(name, &Tensor::cat(&parts, 1).unwrap(), &want);
        }
    }
}

#[test]
fn rows_with_padding_before_them_equal_rows_alone() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let x = ids(1, 9, cfg.vocab);
        let want = logits(&model, &x, Pass::eval()).narrow(1, 4, 5).unwrap();
        let other = ids(1, 12, cfg.vocab);
        let both = Tensor::cat(&[x.pad_with_zeros(1, 3, 0).unwrap(), other], 0).unwrap();
        let mut cache = KvCache::with_padding(&cfg, &[3, 0], 8, DType::F32, &Device::Cpu).unwrap();
        model.hidden(&both.narrow(1, 0, 7).unwrap(), Pass::eval().with_cache(&mut cache)).unwrap();
        // The same row twice, and the other one dropped.
        let mut cache = cache.select(&[0, 0]).unwrap();
        let mut parts = Vec::new();
        for at in 4..9 {
            let token = x.narrow(1, at, 1).unwrap().repeat((2, 1)).unwrap();
            parts.push(logits(&model, &token, Pass::eval().with_cache(&mut cache)));
        }
        let got = Tensor::cat(&parts, 1).unwrap();
        agree(name, &got.narrow(0, 0, 1).unwrap(), &want);
        agree(name, &got.narrow(0, 1, 1).unwrap(), &want);
    }
}

#[test]
fn dropout_is_drawn_from_the_key_of_the_pass() {
    let cfg = DecoderConfig { dropout: 0.3, ..tiny() };
    let (_, model) = build(&cfg);
    let x = ids(2, 8, cfg.vocab);
    let run = |mode| logits(&model, &x, Pass::new(mode));
    let first = run(Mode::Train(Key::new(1)));
    assert_eq!(difference(&first, &run(Mode::Train(Key::new(1)))), 0.0);
    assert!(difference(&first, &run(Mode::Train(Key::new(2)))) > 1e-3);
    let without = Pass { dropout: Some(0.0), ..Pass::train(Key::new(1)) };
    assert_eq!(difference(&logits(&model, &x, without), &run(Mode::Eval)), 0.0);
}

#[test]
fn sequence_longer_than_the_context_is_an_error_that_says_both() {
    for (name, cfg) in variants() {
        let (_, model) = build(&cfg);
        let error = model.hidden(&ids(1, 17, cfg.vocab), Pass::eval()).unwrap_err().to_string();
        assert!(error.contains("17 tokens") && error.contains("context of 16"), "{name}: {error}");
        let mut cache = KvCache::new(&cfg, 1, 16, DType::F32, &Device::Cpu).unwrap();
        model.hidden(&ids(1, 16, cfg.vocab), Pass::eval().with_cache(&mut cache)).unwrap();
        let error = model.hidden(&ids(1, 1, cfg.vocab), Pass::eval().with_cache(&mut cache)).unwrap_err().to_string();
        assert!(error.contains("17 tokens") && error.contains("context of 16"), "{name}: {error}");
        assert!(KvCache::new(&cfg, 1, 17, DType::F32, &Device::Cpu).is_err());
    }
}

#[test]
fn frozen_model_shares_values_and_builds_no_graph() {
    let (store, model) = build(&tiny());
    let frozen = Decoder::new(&tiny(), &store.frozen()).unwrap();
    let x = ids(1, 5, 23);
    let got = logits(&frozen, &x, Pass::eval());
    assert!(!got.track_op());
    assert_eq!(difference(&got, &logits(&model, &x, Pass::eval())), 0.0);
}

#[test]
fn other_float_types_agree_with_f32() {
    for (name, cfg) in variants() {
        let (store, model) = build(&cfg);
        let wide = ParamStore::new(5, DType::F64, &Device::Cpu);
        let copy = Decoder::new(&cfg, &wide.root()).unwrap();
        for (name, var) in wide.named_vars() {
            let from: Var = store.get(&name).unwrap();
            var.set(&from.to_dtype(DType::F64).unwrap()).unwrap();
        }
        let x = ids(2, 7, cfg.vocab);
        let mut cache = KvCache::new(&cfg, 2, 16, DType::F64, &Device::Cpu).unwrap();
        let want = logits(&model, &x, Pass::eval());
        for pass in [Pass::eval(), Pass::eval().with_cache(&mut cache)] {
            let got = logits(&copy, &x, pass).to_dtype(DType::F32).unwrap();
            assert!(difference(&got, &want) < 1e-4, "{name}");
        }
    }
}

#[test]
fn settings_out_of_range_are_named() {
    let cases = [
        (DecoderConfig { vocab: 0, ..tiny() }, "vocab"),
        (DecoderConfig { n_heads: 3, ..tiny() }, "n_heads"),
        (DecoderConfig { n_kv_heads: Some(3), ..tiny() }, "n_kv_heads"),
        (DecoderConfig { n_kv_heads: Some(0), ..tiny() }, "n_kv_heads"),
        (DecoderConfig { dropout: 1.0, ..tiny() }, "dropout"),
        (DecoderConfig { norm_eps: 0.0, ..tiny() }, "norm_eps"),
        (DecoderConfig { ffn: Some(usize::MAX), ..tiny() }, "ffn"),
        (DecoderConfig { soft_rows: usize::MAX, ..tiny() }, "soft_rows"),
        (DecoderConfig { positions: Positions::Learned { max: 0 }, ..tiny() }, "positions.max"),
    ];
    for (cfg, field) in cases {
        let error = cfg.validate().unwrap_err().to_string();
        assert!(error.starts_with(field), "{error}");
    }
    let typo = r#"{"vocab": 9, "d_model": 8, "n_layer": 2, "n_heads": 1, "positions": {"learned": {"max": 4}}}"#;
    let error = serde_json::from_str::<DecoderConfig>(typo).unwrap_err().to_string();
    assert!(error.contains("n_layer"), "{error}");
    let typo = r#"{"learned": {"max": 4, "base": 3}}"#;
    assert!(serde_json::from_str::<Positions>(typo).unwrap_err().to_string().contains("base"));
}

#[test]
fn benchmark_shape_is_expressible() {
    let json =
        r#"{"vocab": 8000, "d_model": 384, "n_layers": 6, "n_heads": 6, "positions": {"learned": {"max": 256}}}"#;
    let cfg: DecoderConfig = serde_json::from_str(json).unwrap();
    let again: DecoderConfig = serde_json::from_str(&serde_json::to_string(&cfg).unwrap()).unwrap();
    assert_eq!(cfg, again);
    assert!(!cfg.tied && !cfg.head_bias && cfg.attention_bias && cfg.mlp_bias);
    // Embeddings, positions, blocks, norm, head.
    let block = 2 * 2 * 384 + (3 * 384 * 384 + 3 * 384) + (384 * 384 + 384) + (8 * 384 * 384 + 5 * 384);
    let small = DecoderConfig { n_layers: 1, ..cfg };
    let store = ParamStore::new(1, DType::F32, &Device::Cpu);
    Decoder::new(&small, &store.root()).unwrap();
    assert_eq!(store.n_params(), 2 * 8000 * 384 + 256 * 384 + block + 2 * 384);
}
