//! Published formats: small models written in them, whole and damaged.

use super::*;
use crate::decoder::{Pass, Positions};
use candle_core::Tensor;
use candle_core::quantized::gguf_file::{self, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use chandlery_kernels::Key;
use std::collections::BTreeMap;
use std::fs;

const VOCAB: usize = 24;
const D: usize = 16;

const GPT2: &str = r#"{"model_type": "gpt2", "vocab_size": 24, "n_embd": 16, "n_layer": 2, "n_head": 4,
    "n_positions": 12, "eos_token_id": 5, "something_else": [1]}"#;
const LLAMA: &str = r#"{"model_type": "llama", "vocab_size": 24, "hidden_size": 16, "intermediate_size": 20,
    "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 12,
    "rope_theta": 100.0, "rms_norm_eps": 1e-5, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": [2, 3]}"#;

/// Values that depend on the name alone.
fn tensor(name: &str, shape: &[usize]) -> Tensor {
    let key = Key::new(1).named(name);
    let n: usize = shape.iter().product();
    let values: Vec<f32> = (0..n).map(|i| 0.4 * key.normal(i as u64) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

type Tensors = BTreeMap<String, Tensor>;

fn named(shapes: &[(String, Vec<usize>)]) -> Tensors {
    shapes.iter().map(|(name, shape)| (name.clone(), tensor(name, shape))).collect()
}

fn gpt2_tensors() -> Tensors {
    let mut all = vec![("wte.weight".to_string(), vec![VOCAB, D]), ("wpe.weight".into(), vec![12, D])];
    for i in 0..2 {
        for (name, shape) in [
            ("ln_1.weight", vec![D]),
            ("ln_1.bias", vec![D]),
            ("attn.c_attn.weight", vec![D, 3 * D]),
            ("attn.c_attn.bias", vec![3 * D]),
            ("attn.c_proj.weight", vec![D, D]),
            ("attn.c_proj.bias", vec![D]),
            // A mask that older files hold.
            ("attn.bias", vec![1, 1, 12, 12]),
            ("ln_2.weight", vec![D]),
            ("ln_2.bias", vec![D]),
            ("mlp.c_fc.weight", vec![D, 4 * D]),
            ("mlp.c_fc.bias", vec![4 * D]),
            ("mlp.c_proj.weight", vec![4 * D, D]),
            ("mlp.c_proj.bias", vec![D]),
        ] {
            all.push((format!("h.{i}.{name}"), shape));
        }
    }
    all.extend([("ln_f.weight".into(), vec![D]), ("ln_f.bias".into(), vec![D])]);
    named(&all)
}

fn llama_tensors() -> Tensors {
    let mut all = vec![("model.embed_tokens.weight".to_string(), vec![VOCAB, D])];
    for i in 0..2 {
        for (name, shape) in [
            ("input_layernorm", vec![D]),
            ("self_attn.q_proj", vec![D, D]),
            ("self_attn.k_proj", vec![8, D]),
            ("self_attn.v_proj", vec![8, D]),
            ("self_attn.o_proj", vec![D, D]),
            ("post_attention_layernorm", vec![D]),
            ("mlp.gate_proj", vec![20, D]),
            ("mlp.up_proj", vec![20, D]),
            ("mlp.down_proj", vec![D, 20]),
        ] {
            all.push((format!("model.layers.{i}.{name}.weight"), shape));
        }
    }
    all.extend([("model.norm.weight".into(), vec![D]), ("lm_head.weight".into(), vec![VOCAB, D])]);
    named(&all)
}

fn folder(config: &str, tensors: Tensors) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), config).unwrap();
    chandlery_nn::save_tensors(&dir.path().join("model.safetensors"), tensors).unwrap();
    dir
}

fn logits(path: &Path) -> Vec<f32> {
    let checkpoint = Checkpoint::open(path).unwrap();
    let store = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
    let model = Decoder::new(checkpoint.config(), &store.frozen()).unwrap();
    let ids = Tensor::new(&[[1u32, 5, 3, 7, 2]], &Device::Cpu).unwrap();
    let logits = model.logits(&model.hidden(&ids, Pass::eval()).unwrap()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

fn close(a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len());
    let size = b.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
    let worst = a.iter().zip(b).fold(0.0_f32, |m, (x, y)| m.max((x - y).abs()));
    assert!(worst < 1e-4 * size, "{worst} of {size}");
}

/// The error of opening and loading.
fn error(path: &Path) -> String {
    Checkpoint::open(path).and_then(|c| c.load(DType::F32, &Device::Cpu).map(drop)).unwrap_err().to_string()
}

#[test]
fn gpt2_is_loaded_under_our_names_with_its_layers_turned() {
    let dir = folder(GPT2, gpt2_tensors());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!((checkpoint.stop_tokens(), checkpoint.start_token()), (&[5][..], None));
    let store = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
    let up = store.get("blocks.1.mlp.up.weight").unwrap().to_vec2::<f32>().unwrap();
    let theirs = tensor("h.1.mlp.c_fc.weight", &[D, 4 * D]).to_vec2::<f32>().unwrap();
    assert_eq!((up.len(), up[7][3]), (4 * D, theirs[3][7]));
}

#[test]
fn prefix_of_newer_gpt2_files_changes_nothing() {
    let plain = folder(GPT2, gpt2_tensors());
    let mut prefixed: Tensors =
        gpt2_tensors().into_iter().map(|(name, t)| (format!("transformer.{name}"), t)).collect();
    prefixed.insert("lm_head.weight".into(), tensor("wte.weight", &[VOCAB, D]));
    close(&logits(folder(GPT2, prefixed).path()), &logits(plain.path()));
}

#[test]
fn llama_is_loaded_with_queries_keys_and_values_stacked() {
    let dir = folder(LLAMA, llama_tensors());
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!((checkpoint.stop_tokens(), checkpoint.start_token()), (&[2, 3][..], Some(1)));
    assert!(matches!(checkpoint.config().positions, Positions::Rotary { base: 100.0, max: 12, .. }));
    let store = checkpoint.load(DType::F32, &Device::Cpu).unwrap();
    let qkv = store.get("blocks.0.attn.qkv.weight").unwrap().to_vec2::<f32>().unwrap();
    let v = tensor("model.layers.0.self_attn.v_proj.weight", &[8, D]).to_vec2::<f32>().unwrap();
    assert_eq!((qkv.len(), &qkv[D + 8 + 2]), (D + 16, &v[2]));
}

#[test]
fn several_files_with_an_index_equal_one() {
    let whole = folder(LLAMA, llama_tensors());
    let parts = folder(LLAMA, Tensors::new());
    fs::remove_file(parts.path().join("model.safetensors")).unwrap();
    let (mut map, mut files) = (BTreeMap::new(), [Tensors::new(), Tensors::new()]);
    for (i, (name, t)) in llama_tensors().into_iter().enumerate() {
        map.insert(name.clone(), format!("part-{}.safetensors", i % 2));
        files[i % 2].insert(name, t);
    }
    for (i, tensors) in files.into_iter().enumerate() {
        chandlery_nn::save_tensors(&parts.path().join(format!("part-{i}.safetensors")), tensors).unwrap();
    }
    let index = parts.path().join("model.safetensors.index.json");
    fs::write(&index, serde_json::json!({ "weight_map": map }).to_string()).unwrap();
    close(&logits(parts.path()), &logits(whole.path()));
    fs::write(&index, r#"{"weight_map": {"a": "../../secret"}}"#).unwrap();
    assert!(error(parts.path()).contains("weight_map"));
}

#[test]
fn stored_type_is_converted() {
    let half = llama_tensors().into_iter().map(|(name, t)| (name, t.to_dtype(DType::BF16).unwrap())).collect();
    let back = llama_tensors()
        .into_iter()
        .map(|(name, t)| (name, t.to_dtype(DType::BF16).unwrap().to_dtype(DType::F32).unwrap()))
        .collect();
    close(&logits(folder(LLAMA, half).path()), &logits(folder(LLAMA, back).path()));
}

/// Llama in GGUF: rows of queries and keys reordered so that rotated pairs are neighbours.
fn gguf_tensors() -> Tensors {
    let theirs = |name: String| {
        let name = name.replace("model.layers.", "blk.").replace("model.embed_tokens", "token_embd");
        let pairs = [
            ("input_layernorm", "attn_norm"),
            ("post_attention_layernorm", "ffn_norm"),
            ("self_attn.q_proj", "attn_q"),
            ("self_attn.k_proj", "attn_k"),
            ("self_attn.v_proj", "attn_v"),
            ("self_attn.o_proj", "attn_output"),
            ("mlp.gate_proj", "ffn_gate"),
            ("mlp.up_proj", "ffn_up"),
            ("mlp.down_proj", "ffn_down"),
            ("model.norm", "output_norm"),
            ("lm_head", "output"),
        ];
        pairs.iter().fold(name, |name, (from, to)| name.replace(from, to))
    };
    let turned = |name: &str, t: Tensor| {
        let (rows, d_head) = (t.dims()[0], 4);
        if !name.contains("attn_q") && !name.contains("attn_k") {
            return t;
        }
        // [heads, 2, d_head / 2, d] -> [heads, d_head / 2, 2, d]
        let halves = t.reshape((rows / d_head, 2, d_head / 2, D)).unwrap();
        halves.transpose(1, 2).unwrap().contiguous().unwrap().reshape((rows, D)).unwrap()
    };
    llama_tensors()
        .into_iter()
        .map(|(name, t)| (theirs(name.clone()), t))
        .map(|(n, t)| (n.clone(), turned(&n, t)))
        .collect()
}

fn letters() -> Vec<String> {
    let mut tokens = vec!["<|end|>".to_string()];
    tokens.extend(('a'..='t').map(String::from));
    tokens.extend(["Ġ", "he", "Ġt"].map(String::from));
    tokens
}

fn metadata() -> Vec<(&'static str, Value)> {
    let strings = |all: Vec<String>| Value::Array(all.into_iter().map(Value::String).collect());
    let types = (0..VOCAB).map(|i| Value::I32(if i == 0 { 3 } else { 1 })).collect();
    vec![
        ("general.architecture", Value::String("llama".into())),
        ("general.alignment", Value::U32(32)),
        ("llama.block_count", Value::U32(2)),
        ("llama.context_length", Value::U32(12)),
        ("llama.embedding_length", Value::U32(D as u32)),
        ("llama.feed_forward_length", Value::U32(20)),
        ("llama.attention.head_count", Value::U32(4)),
        ("llama.attention.head_count_kv", Value::U32(2)),
        ("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5)),
        ("llama.rope.freq_base", Value::F32(100.0)),
        ("llama.rope.dimension_count", Value::U32(4)),
        ("tokenizer.ggml.model", Value::String("gpt2".into())),
        ("tokenizer.ggml.pre", Value::String("smollm".into())),
        ("tokenizer.ggml.tokens", strings(letters())),
        ("tokenizer.ggml.token_type", Value::Array(types)),
        ("tokenizer.ggml.merges", strings(vec!["h e".into(), "Ġ t".into()])),
        ("tokenizer.ggml.eos_token_id", Value::U32(0)),
    ]
}

fn write_gguf(path: &Path, metadata: &[(&str, Value)], tensors: &Tensors) {
    let packed: Vec<(String, QTensor)> =
        tensors.iter().map(|(name, t)| (name.clone(), QTensor::quantize(t, GgmlDType::F32).unwrap())).collect();
    let tensors: Vec<(&str, &QTensor)> = packed.iter().map(|(name, t)| (name.as_str(), t)).collect();
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    gguf_file::write(&mut fs::File::create(path).unwrap(), &metadata, &tensors).unwrap();
}

fn gguf() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.gguf");
    write_gguf(&path, &metadata(), &gguf_tensors());
    (dir, path)
}

#[test]
fn llama_in_gguf_equals_the_same_in_safetensors() {
    let (_dir, path) = gguf();
    close(&logits(&path), &logits(folder(LLAMA, llama_tensors()).path()));
}

#[test]
fn tokenizer_of_gguf_merges_keeps_digits_apart_and_knows_specials() {
    let (_dir, path) = gguf();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.stop_tokens(), [0]);
    let tokenizer = checkpoint.tokenizer().unwrap();
    let encoding = tokenizer.encode("the the<|end|>", false).unwrap();
    assert_eq!(encoding.get_tokens(), ["t", "he", "Ġt", "he", "<|end|>"]);
    assert_eq!(tokenizer.decode(encoding.get_ids(), true).unwrap(), "the the");
}

#[test]
fn gguf_fields_that_are_missing_or_not_supported_are_named() {
    let (dir, _) = gguf();
    let path = dir.path().join("changed.gguf");
    let changed = |key: &'static str, value: Option<Value>| {
        let mut entries = metadata();
        entries.retain(|(k, _)| *k != key);
        entries.extend(value.map(|value| (key, value)));
        write_gguf(&path, &entries, &gguf_tensors());
        let error = Checkpoint::open(&path).and_then(|c| c.tokenizer()).map(drop).unwrap_err().to_string();
        assert!(error.contains("changed.gguf") && error.contains(key), "{error}");
    };
    for (key, _) in metadata().into_iter().filter(|(key, _)| {
        !["general.alignment", "tokenizer.ggml.pre", "tokenizer.ggml.token_type", "tokenizer.ggml.eos_token_id"]
            .contains(key)
            && !key.contains("rope")
            && !key.contains("head_count_kv")
    }) {
        changed(key, None);
        changed(key, Some(Value::F64(0.5)));
    }
    changed("general.alignment", Some(Value::U32(0)));
    changed("general.architecture", Some(Value::String("mamba".into())));
    changed("tokenizer.ggml.pre", Some(Value::String("mystery".into())));
    changed("tokenizer.ggml.model", Some(Value::String("llama".into())));
    changed("llama.rope.dimension_count", Some(Value::U32(2)));
    changed("llama.rope.scaling.type", Some(Value::String("yarn".into())));
}

#[test]
fn another_models_tokenizer_is_refused() {
    let dir = folder(LLAMA, llama_tensors());
    let vocab: BTreeMap<String, usize> = (0..25).map(|i| (format!("w{i}"), i)).collect();
    let json = serde_json::json!({
        "version": "1.0", "added_tokens": [], "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "w0"}
    });
    let path = dir.path().join("tokenizer.json");
    fs::write(&path, json.to_string()).unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().tokenizer().unwrap_err().to_string();
    assert!(error.contains("25 tokens") && error.contains("the model 24"), "{error}");
    fs::write(&path, "{").unwrap();
    let error = Checkpoint::open(dir.path()).unwrap().tokenizer().unwrap_err().to_string();
    assert!(error.contains("tokenizer.json"), "{error}");
}

#[test]
fn wrong_tensors_are_named() {
    let case = |change: &dyn Fn(&mut Tensors), named: &str| {
        let mut tensors = llama_tensors();
        change(&mut tensors);
        let error = error(folder(LLAMA, tensors).path());
        assert!(error.contains(named), "{error}");
    };
    let q = "model.layers.1.self_attn.q_proj.weight";
    case(&|t| drop(t.remove(q)), q);
    case(&|t| drop(t.insert("model.extra".into(), tensor("x", &[2]))), "model.extra");
    case(&|t| drop(t.insert(q.into(), tensor("x", &[D + 1, D]))), "blocks.1.attn.qkv.weight");
    case(&|t| drop(t.insert(q.into(), tensor("x", &[D, D + 1]))), q);
    case(&|t| drop(t.insert(q.into(), (tensor("x", &[D, D]) / 0.0).unwrap())), "NaN or infinity");
}

#[test]
fn configurations_that_are_wrong_or_not_supported_are_named() {
    let case = |config: String, named: &str| {
        let error = error(folder(&config, llama_tensors()).path());
        assert!(error.contains("config.json") && error.contains(named), "{error}");
    };
    case(LLAMA.replace("\"llama\"", "\"mamba\""), "model_type");
    case(LLAMA.replace("\"hidden_size\"", "\"hidden\""), "hidden_size");
    case(LLAMA.replace("\"silu\"", "\"relu\""), "hidden_act");
    case(LLAMA.replace("\"vocab_size\": 24", "\"vocab_size\": -1"), "-1");
    case(LLAMA.replace("\"num_attention_heads\": 4", "\"num_attention_heads\": 0"), "n_heads");
    case(LLAMA.replace("\"num_key_value_heads\"", "\"rope_scaling\": {\"factor\": 8}, \"n\""), "rope_scaling");
    case(LLAMA.replace("\"num_key_value_heads\"", "\"head_dim\": 8, \"n\""), "head_dim");
    case(LLAMA.replace("12", "900000000"), "positions.max");
    case(LLAMA[..80].to_string(), "EOF");
    case("\u{fffd}".into(), "config.json");
    let dir = folder(LLAMA, llama_tensors());
    let huge = LLAMA.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 2000000000");
    fs::write(dir.path().join("config.json"), huge).unwrap();
    assert!(error(dir.path()).contains("model.layers.2."));
}

/// Every prefix of the header and every flipped bit of it: an error or the same model, never a panic.
fn damage(path: &Path, header: usize, whole: &[u8]) {
    let (mut silent, name) = (0, path.file_name().unwrap().to_str().unwrap().to_owned());
    let mut attempt = |bytes: &[u8]| {
        fs::write(path, bytes).unwrap();
        let target = if name.ends_with("gguf") { path } else { path.parent().unwrap() };
        match Checkpoint::open(target).and_then(|c| c.load(DType::F32, &Device::Cpu).map(drop)) {
            Ok(()) => silent += 1,
            Err(e) => assert!(e.to_string().contains(&name), "{e}"),
        }
    };
    for cut in (0..header).step_by(7).chain([header, header + 9, whole.len() - 1]) {
        attempt(&whole[..cut]);
    }
    for at in (0..header).step_by(5) {
        let mut flipped = whole.to_vec();
        flipped[at] ^= 1 << (at % 8);
        attempt(&flipped);
    }
    attempt(&[0x7f; 64]);
    attempt(&[]);
    // Names in metadata that nobody reads, and padding, may change.
    assert!(silent < header / 5 / 2, "{silent}");
}

#[test]
fn damaged_safetensors_is_an_error_that_names_the_file() {
    let dir = folder(LLAMA, llama_tensors());
    let path = dir.path().join("model.safetensors");
    let whole = fs::read(&path).unwrap();
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    damage(&path, header, &whole);
}

#[test]
fn damaged_gguf_is_an_error_that_names_the_file() {
    let (_dir, path) = gguf();
    let whole = fs::read(&path).unwrap();
    // Tensors take 4 bytes a value and follow the header.
    let data: usize = gguf_tensors().values().map(|t| 4 * t.elem_count()).sum();
    damage(&path, whole.len() - data - 600, &whole);
}
