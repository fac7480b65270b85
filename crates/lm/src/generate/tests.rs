//! Generation on a model small enough to be run without a cache beside it.

use super::*;
use crate::decoder::{DecoderConfig, Positions, RotaryStyle};
use chandlery_nn::ParamStore;

fn configs() -> [DecoderConfig; 2] {
    let json = r#"{"vocab": 19, "d_model": 16, "n_layers": 2, "n_heads": 4, "positions": {"learned": {"max": 24}}}"#;
    let gpt: DecoderConfig = serde_json::from_str(json).unwrap();
    let positions = Positions::Rotary { max: 24, base: 100.0, style: RotaryStyle::Halves };
    [DecoderConfig { positions, n_kv_heads: Some(2), ..gpt.clone() }, gpt]
}

/// A model with lively logits.
fn model(cfg: &DecoderConfig) -> Decoder {
    let store = ParamStore::new(3, DType::F32, &Device::Cpu);
    Decoder::new(cfg, &store.root()).unwrap();
    for (name, var) in store.named_vars() {
        if !name.contains("norm") {
            var.set(&(var.as_detached_tensor() * 2.0).unwrap()).unwrap();
        }
    }
    Decoder::new(cfg, &store.frozen()).unwrap()
}

fn gpt() -> Decoder {
    model(&configs()[1])
}

fn next_logits(model: &Decoder, tokens: &[u32]) -> Vec<f32> {
    let ids = Tensor::from_slice(tokens, (1, tokens.len()), &Device::Cpu).unwrap();
    let hidden = model.hidden(&ids, Pass::eval()).unwrap();
    let logits = model.logits(&hidden.narrow(1, tokens.len() - 1, 1).unwrap()).unwrap();
    logits.flatten_all().unwrap().to_vec1().unwrap()
}

/// Sampling written down plainly, without cache or batch.
fn plain(model: &Decoder, prompt: &[u32], options: &Options, id: u64) -> Vec<u32> {
    let key = Key::new(options.seed).named("generate").at(id).at(0);
    let mut tokens = prompt.to_vec();
    for i in 0..options.max_tokens {
        let logits: Vec<f64> = next_logits(model, &tokens).into_iter().map(f64::from).collect();
        let weights: Vec<f64> = logits.iter().map(|l| (l / options.temperature).exp()).collect();
        let (mut sum, goal) = (0.0, key.uniform(i as u64) * weights.iter().sum::<f64>());
        let passed = |w: &f64| {
            sum += w;
            sum > goal
        };
        tokens.push(weights.iter().position(passed).unwrap() as u32);
    }
    tokens.split_off(prompt.len())
}

fn one(model: &Decoder, prompt: Prompt, options: &Options) -> Completion {
    generate(model, &[prompt], options, &mut ()).unwrap().remove(0).remove(0)
}

fn short() -> Options {
    Options { max_tokens: 12, seed: 11, ..Options::default() }
}

#[test]
fn no_guidance_and_one_sample_is_plain_sampling() {
    for cfg in configs() {
        let model = model(&cfg);
        let options = Options { temperature: 0.8, ..short() };
        let got = one(&model, Prompt::new([1, 2, 3]).with_id(5).with_unconditional([4]), &options);
        assert_eq!(got.tokens, plain(&model, &[1, 2, 3], &options, 5));
        assert_eq!(got.finish, Finish::Length);
    }
}

#[test]
fn greedy_takes_the_likeliest_token() {
    let model = gpt();
    let got = one(&model, Prompt::new([7]), &Options { temperature: 0.0, ..short() });
    let mut tokens = vec![7];
    for _ in 0..12 {
        tokens.push(draw::likeliest(&next_logits(&model, &tokens)).unwrap());
    }
    assert_eq!(got.tokens, tokens[1..]);
}

#[test]
fn row_does_not_depend_on_the_others() {
    for cfg in configs() {
        let model = model(&cfg);
        let prompts: Vec<Prompt> = [&[1, 2, 3][..], &[4], &[5, 6], &[7, 8, 9, 10, 11]]
            .into_iter()
            .zip(0..)
            .map(|(tokens, id)| Prompt::new(tokens).with_id(id).with_unconditional([0]))
            .collect();
        for guidance in [0.0, 0.7] {
            let options = Options { samples: 3, guidance, stop_tokens: vec![3, 5], top_p: 0.95, ..short() };
            let all = generate(&model, &prompts, &options, &mut ()).unwrap();
            for (prompt, together) in prompts.iter().zip(&all) {
                let alone = generate(&model, std::slice::from_ref(prompt), &options, &mut ()).unwrap().remove(0);
                let tokens = |texts: &[Completion]| texts.iter().map(|t| t.tokens.clone()).collect::<Vec<_>>();
                assert_eq!(tokens(together), tokens(&alone));
            }
        }
    }
}

#[test]
fn log_probs_equal_rescored_ones_best_first() {
    for cfg in configs() {
        let model = model(&cfg);
        // Controls change what is drawn, not what is reported.
        let options = Options { samples: 5, guidance: 0.5, temperature: 1.3, repetition_penalty: 1.2, ..short() };
        let prompt = Prompt::new([1, 2]).with_unconditional([9]);
        let texts = generate(&model, &[prompt], &options, &mut ()).unwrap().remove(0);
        assert!(texts.is_sorted_by(|a, b| a.mean_log_prob() >= b.mean_log_prob()));
        for text in &texts {
            let again = log_probs(&model, &[1, 2], &text.tokens).unwrap();
            assert_eq!(again.len(), text.log_probs.len());
            for (a, b) in again.iter().zip(&text.log_probs) {
                assert!((a - b).abs() < 1e-4, "{a} {b}");
            }
        }
        let distinct: std::collections::BTreeSet<_> = texts.iter().map(|t| &t.tokens).collect();
        assert_eq!(distinct.len(), 5);
    }
}

#[test]
fn guidance_extrapolates_from_unconditional_to_conditional() {
    let mut logits = vec![1.0, 2.0, 3.0, 2.0];
    guide(&mut logits, 2, 0.5);
    assert_eq!(logits, [0.0, 2.0]);
    let model = gpt();
    let (prompt, free) = ([1, 2, 3], [4]);
    let options = Options { temperature: 0.0, max_tokens: 6, guidance: 1.5, ..short() };
    let got = one(&model, Prompt::new(prompt).with_unconditional(free), &options);
    let mut text = Vec::new();
    for _ in 0..6 {
        let of = |start: &[u32], text: &[u32]| next_logits(&model, &[start, text].concat());
        let (c, u) = (of(&prompt, &text), of(&free, &text));
        let mixed: Vec<f32> = c.iter().zip(&u).map(|(c, u)| 2.5 * c - 1.5 * u).collect();
        text.push(draw::likeliest(&mixed).unwrap());
    }
    assert_eq!(got.tokens, text);
}

#[test]
fn guidance_by_the_condition_itself_changes_nothing() {
    let model = gpt();
    let options = Options { guidance: 2.0, ..short() };
    let with = one(&model, Prompt::new([1, 2]).with_unconditional([1, 2]), &options);
    assert_eq!(with.tokens, one(&model, Prompt::new([1, 2]), &short()).tokens);
}

/// Every second token is 4 or 8, the others never are.
struct Alternate(Vec<usize>);

impl Hooks for Alternate {
    fn allowed(&mut self, text: Growing<'_>) -> Allowed<'_> {
        if text.tokens.len() % 2 == 1 { Allowed::Only(&[4, 8]) } else { Allowed::Except(&[4, 8]) }
    }
    fn chosen(&mut self, text: Growing<'_>, _: f32) -> Flow {
        self.0.push(text.sample);
        if text.sample == 1 && text.tokens.len() == 3 { Flow::Stop } else { Flow::Continue }
    }
}

#[test]
fn hooks_constrain_watch_and_stop_each_row() {
    let mut hooks = Alternate(Vec::new());
    let options = Options { samples: 3, ..short() };
    let texts = generate(&gpt(), &[Prompt::new([1])], &options, &mut hooks).unwrap().remove(0);
    for text in &texts {
        assert!(text.tokens.iter().enumerate().all(|(i, t)| (i % 2 == 1) == [4, 8].contains(t)), "{text:?}");
        let end = if text.sample == 1 { (Finish::Hook, 3) } else { (Finish::Length, 12) };
        assert_eq!((text.finish, text.tokens.len()), end);
    }
    assert_eq!(hooks.0.len(), 3 + 12 + 12);
}

#[test]
fn stop_string_and_stop_token_end_a_text() {
    let letters = |ids: &[u32]| ids.iter().map(|&i| char::from(b'a' + i as u8)).collect::<String>();
    let model = gpt();
    let free = one(&model, Prompt::new([1]), &short());
    let text = letters(&free.tokens);
    let stopped = generate(&model, &[Prompt::new([1])], &short(), &mut StopStrings::new([&text[4..6]], letters));
    let stopped = stopped.unwrap().remove(0).remove(0);
    let end = text.find(&text[4..6]).unwrap() + 2;
    assert_eq!((stopped.tokens.len(), stopped.finish), (end, Finish::Hook));
    let stop = free.tokens[7];
    let at = free.tokens.iter().position(|&t| t == stop).unwrap();
    let ended = one(&model, Prompt::new([1]), &Options { stop_tokens: vec![stop], ..short() });
    assert_eq!((ended.tokens.len(), ended.finish), (at + 1, Finish::StopToken));
    assert_eq!(ended.text_tokens(), &free.tokens[..at]);
}

#[test]
fn repeated_runs_do_not_occur() {
    let options = Options { no_repeat_ngram: 2, max_tokens: 20, ..short() };
    let prompt = [1, 2];
    let text = one(&gpt(), Prompt::new(prompt), &options).tokens;
    let all = [&prompt[..], &text].concat();
    let pairs: std::collections::BTreeSet<_> = all.windows(2).collect();
    assert_eq!(pairs.len(), all.len() - 1);
}

#[test]
fn full_context_ends_a_text() {
    let text = one(&gpt(), Prompt::new(vec![1; 20]), &Options { max_tokens: 100, ..short() });
    assert_eq!((text.finish, text.tokens.len()), (Finish::Context, 5));
}

#[test]
fn bad_requests_say_what_is_wrong() {
    let model = gpt();
    let error = |prompts: &[Prompt], options: &Options, hooks: &mut dyn Hooks| {
        generate(&model, prompts, options, hooks).unwrap_err().to_string()
    };
    let good = Prompt::new([1]);
    assert!(error(&[good.clone(), Prompt::new([])], &short(), &mut ()).contains("prompt 1: expected 1 to 24"));
    assert!(error(&[Prompt::new([1; 25])], &short(), &mut ()).contains("got 25"));
    assert!(error(&[Prompt::new([19])], &short(), &mut ()).contains("19"));
    let guided = Options { guidance: 1.0, ..short() };
    assert!(error(std::slice::from_ref(&good), &guided, &mut ()).contains("unconditional"));
    for (field, options) in [
        ("temperature", Options { temperature: -1.0, ..short() }),
        ("temperature", Options { temperature: f64::NAN, ..short() }),
        ("top_p", Options { top_p: 0.0, ..short() }),
        ("min_p", Options { min_p: 1.5, ..short() }),
        ("repetition_penalty", Options { repetition_penalty: 0.0, ..short() }),
        ("max_tokens", Options { max_tokens: 0, ..short() }),
        ("samples", Options { samples: 0, ..short() }),
    ] {
        assert!(error(std::slice::from_ref(&good), &options, &mut ()).starts_with(field));
    }
    struct Nothing;
    impl Hooks for Nothing {
        fn allowed(&mut self, _: Growing<'_>) -> Allowed<'_> {
            Allowed::Only(&[])
        }
    }
    for temperature in [0.0, 1.0] {
        assert!(
            error(std::slice::from_ref(&good), &Options { temperature, ..short() }, &mut Nothing)
                .contains("none is allowed")
        );
    }
    assert!(serde_json::from_str::<Options>(r#"{"top": 3}"#).unwrap_err().to_string().contains("top"));
}
