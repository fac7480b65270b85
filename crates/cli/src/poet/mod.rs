//! The recipe `poet`: a language model of Tang and Song verse that writes what it is asked for.

mod config;
mod data;
mod evaluate;
mod judge;
mod page;
mod requests;
mod task;
mod writer;

pub use config::PoetConfig;

use crate::args::{Eval, Generate, Train};
use crate::{Result, say, settings};
use candle_core::{DType, Device};
use chandlery::lm::control::Attributes;
use chandlery::lm::decoder::Decoder;
use chandlery::lm::poetry;
use chandlery::nn::ParamStore;
use chandlery::nn::file::write_atomic;
use chandlery::train::{Interrupt, Meters, Outcome, Progress, Run, Source, Task, fit};
use data::{AUTHOR, Corpus, DYNASTY, FORM, LINES, TUNE};
use std::path::{Path, PathBuf};
use task::{Poems, Poet};
use writer::{How, Writer};

/// Poems of the validation part that are looked at during training.
const WATCHED: usize = 256;

/// Trains, evaluates and reports.
pub fn train(args: &Train) -> Result<()> {
    let config: PoetConfig = settings::resolve(&args.preset, &args.set)?;
    config.validate()?;
    let run = args.run.clone().unwrap_or_else(|| PathBuf::from("runs").join(&args.preset));
    let corpus = Corpus::load(&config, None)?;
    let store = ParamStore::new(config.fit.seed, DType::F32, &Device::Cpu);
    let shape = config.decoder(corpus.tokenizer.vocab_size());
    let train = Decoder::new(&shape, &store.root())?;
    let mut task = Poet { train, eval: Decoder::new(&shape, &store.frozen())? };
    say(format!(
        "{} poems to train on, {} to watch, {} to test; {} characters; {} parameters; run directory {}",
        corpus.train.len(),
        corpus.val.len(),
        corpus.test.len(),
        corpus.tokenizer.vocab_size(),
        store.n_params(),
        run.display(),
    ));
    let watched = &corpus.val[..WATCHED.min(corpus.val.len())];
    let source = Poems { corpus: &corpus, config: &config, held_out: watched };
    let place = if args.resume { Run::resume(&run) } else { Run::create(&run) };
    let place = place.progress(Progress::auto()).interrupt(Interrupt::on_ctrl_c()?);
    let place = place.accept_changes(args.accept_changes).config(&config)?;
    let outcome = fit(&mut task, &store, &source, &config.fit, place);
    if run.is_dir() {
        corpus.tokenizer.save(run.join("tokenizer.json"))?;
    }
    let outcome = outcome?;
    if matches!(outcome, Outcome::Interrupted(_)) {
        say(format!("interrupted and saved; go on with: cargo xtask train {} --resume", args.preset));
        return Ok(());
    }
    store.save(&run.join("model.safetensors"))?;
    let first = PoetConfig { eval: config.eval.first(), ..config.clone() };
    report(&run, &first, &corpus, &task.eval, store.n_params())?;
    show(&run, &first, &corpus, &task.eval)?;
    if first.eval != config.eval {
        say(format!("{} requests per attribute: cargo xtask eval {}", config.eval.requests, run.display()));
    }
    Ok(())
}

/// Mean loss on the test part: without prompt, with all attributes.
fn test_losses(config: &PoetConfig, corpus: &Corpus, model: &Decoder) -> Result<[f64; 2]> {
    let source = Poems { corpus, config, held_out: &corpus.test };
    let poet = Poet { train: model.clone(), eval: model.clone() };
    let mut meters = Meters::default();
    for i in 0..source.n_eval() {
        poet.eval(&source.eval_batch(i)?, &mut meters)?;
    }
    let mean = |name| meters.mean(name).unwrap_or(f64::NAN);
    Ok([mean("nll"), mean("nll_prompted")])
}

/// Writes eval.json and report.html.
fn report(run: &Path, config: &PoetConfig, corpus: &Corpus, model: &Decoder, n_params: usize) -> Result<()> {
    say("test part: loss");
    let losses = test_losses(config, corpus, model)?;
    let writer = Writer { model, tokenizer: &corpus.tokenizer, config };
    let evaluation = evaluate::evaluate(&writer, corpus, losses, &|text| say(text))?;
    let json = serde_json::to_string_pretty(&evaluation)?;
    write_atomic(&run.join("eval.json"), |w| w.write_all(json.as_bytes()))?;
    let command = format!("cargo xtask eval {}", run.display());
    let page = page::page(run, config, &evaluation, n_params, &command);
    write_atomic(&run.join("report.html"), |w| w.write_all(page.as_bytes()))?;
    say(format!("\n{:<12} {:>8} {:>8} {:>8} {:>8} {:>8}", "attribute", "base", "asked", "guided", "led", "real"));
    for (name, c) in &evaluation.control {
        let p = |v: f64| format!("{:.1} %", 100.0 * v);
        let shares = [Some(c.base), Some(c.asked), Some(c.guided), c.led, Some(c.ceiling)];
        let values = shares.map(|s| format!("{:>8}", s.map_or_else(String::new, |s| p(s.value)))).join(" ");
        say(format!("{name:<12} {values}"));
    }
    let (nll, prompted) = (evaluation.test_nll, evaluation.test_nll_prompted);
    say(format!("test loss {nll:.3} nats per character, {prompted:.3} with all attributes"));
    say(format!("report: {}", run.join("report.html").display()));
    Ok(())
}

/// Prints a few poems.
fn show(run: &Path, config: &PoetConfig, corpus: &Corpus, model: &Decoder) -> Result<()> {
    let asked = |form: &str, dynasty: &str, word: &str| {
        let attrs = Attributes { keywords: vec![word.to_string()], ..Attributes::default() };
        attrs.with(FORM, form).with(DYNASTY, dynasty)
    };
    let requests = [asked("五绝", "唐", "明月"), asked("七绝", "宋", "春风"), asked("七律", "唐", "故人")];
    let writer = Writer { model, tokenizer: &corpus.tokenizer, config };
    let texts = writer.write(&requests, How { guidance: config.eval.guidance, lead: true }, 11)?;
    requests.iter().zip(&texts).for_each(|(asked, text)| print_poem(asked, text));
    say(format!("\nmore: cargo xtask generate {} --form 七绝 --keyword 明月", run.display()));
    Ok(())
}

fn print_poem(asked: &Attributes, text: &str) {
    let mut what: Vec<String> = asked.extra.values().cloned().collect();
    what.extend(asked.keywords.iter().map(|word| format!("「{word}」")));
    what.extend(asked.length.map(|n| format!("{n}字")));
    say(format!("\n  {}", if what.is_empty() { "（无题）".to_string() } else { what.join(" · ") }));
    // Two lines a row, as verse is set.
    let lines = poetry::split_lines(text);
    lines.chunks(2).for_each(|pair| say(format!("    {}", pair.concat())));
}

fn config_of(run: &Path) -> Result<PoetConfig> {
    let path = run.join("config.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let config: PoetConfig = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    config.validate().map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(config)
}

/// Evaluates a run again.
pub fn eval(args: &Eval) -> Result<()> {
    let mut config = config_of(&args.run)?;
    config.eval.requests = args.requests.unwrap_or(config.eval.requests);
    config.eval.guidance = args.guidance.unwrap_or(config.eval.guidance);
    config.validate()?;
    let tokenizer = data::tokenizer_of(&args.run)?;
    let (model, n_params) = writer::load_model(&args.run, &config, &tokenizer)?;
    let corpus = Corpus::load(&config, Some(tokenizer))?;
    report(&args.run, &config, &corpus, &model, n_params)
}

/// The attributes that the command line asks for.
fn asked(args: &Generate) -> Result<Attributes> {
    let simple = |text: &String| poetry::simplify(text);
    let mut attrs = Attributes {
        topic: args.topic.as_ref().map(simple),
        keywords: args.keywords.iter().map(simple).collect(),
        length: args.length,
        ..Attributes::default()
    };
    if let Some(form) = &args.form {
        let form: poetry::Form = simple(form).parse().map_err(|e| format!("--form {form}: {e}"))?;
        attrs = attrs.with(FORM, form.name());
    }
    let named = [(DYNASTY, &args.dynasty), (AUTHOR, &args.author), (TUNE, &args.tune)];
    for (name, value) in named {
        if let Some(value) = value {
            attrs = attrs.with(name, simple(value));
        }
    }
    if let Some(lines) = args.lines {
        attrs = attrs.with(LINES, lines.to_string());
    }
    Ok(attrs)
}

/// Writes poems on request.
pub fn generate(args: &Generate) -> Result<()> {
    let mut config = config_of(&args.run)?;
    config.sample.temperature = args.temperature.unwrap_or(config.sample.temperature);
    config.validate()?;
    let tokenizer = data::tokenizer_of(&args.run)?;
    let (model, _) = writer::load_model(&args.run, &config, &tokenizer)?;
    let asked = asked(args)?;
    let writer = Writer { model: &model, tokenizer: &tokenizer, config: &config };
    let guidance = if asked.is_empty() { 0.0 } else { args.guidance.unwrap_or(config.eval.guidance) };
    let texts = writer.write(&vec![asked.clone(); args.n], How { guidance, lead: true }, args.seed)?;
    texts.iter().for_each(|text| print_poem(&asked, text));
    Ok(())
}
