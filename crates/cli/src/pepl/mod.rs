//! The recipe `pepl`: a classifier of images from few labels, by PEPL or one of its rivals.

mod calibration;
mod cam;
mod config;
mod data;
mod evaluate;
mod experiment;
mod folder;
mod method;
mod network;
mod page;
mod pictures;
mod predict;
mod source;
#[cfg(test)]
mod tests;

pub use cam::cam;
pub use config::PeplConfig;
pub use experiment::experiment;
pub use predict::predict;

use crate::args::{Eval, Train};
use crate::{Result, say, settings};
use chandlery::nn::Scope;
use chandlery::nn::file::write_atomic;
use chandlery::pseudo::ssl::SemiSupervised;
use chandlery::train::{Interrupt, Outcome, Progress, Run, fit};
use data::Corpus;
use evaluate::Evaluation;
use source::Photographs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Trains, evaluates and reports.
pub fn train(args: &Train) -> Result<()> {
    let config: PeplConfig = settings::resolve(&args.preset, &args.set)?;
    let path = args.run.clone().unwrap_or_else(|| PathBuf::from("runs").join(&args.preset));
    let run = if args.resume { Run::resume(&path) } else { Run::create(&path) };
    let run = run.accept_changes(args.accept_changes).progress(Progress::auto()).interrupt(Interrupt::on_ctrl_c()?);
    match run_in(&path, &config, run)? {
        Some(evaluation) => {
            show(&path, &evaluation);
            Ok(())
        }
        None => {
            say(format!("interrupted and saved; go on with: cargo xtask train {} --resume", args.preset));
            Ok(())
        }
    }
}

/// Trains in the directory `path`, evaluates and reports; nothing where it was interrupted.
fn run_in(path: &Path, config: &PeplConfig, run: Run) -> Result<Option<Evaluation>> {
    let config = config.settled()?;
    config.validate()?;
    let mut corpus = Corpus::load(&config.data, &config.views)?;
    let classes = corpus.classes();
    let store = network::start(&config.model, classes.names.len(), config.fit.seed)?;
    corpus.keep_maps(&config.model, &store, path)?;
    let (ssl, mut fit_config) = (config.ssl()?, config.fit()?);
    if ssl.uses_unlabelled() && corpus.split.unlabelled.is_empty() {
        let why = "this method needs unlabelled images and there are none; set method.kind=supervised or data.labelled";
        return Err(format!("data: {why}").into());
    }
    if corpus.split.val.is_empty() {
        (fit_config.eval_every, fit_config.best, fit_config.patience) = (0, None, 0);
    }
    let build = |scope: &Scope| network::trained_part(&config.model, scope, classes.names.len());
    let mut task = SemiSupervised::new(ssl.clone(), &store, build, corpus.split.unlabelled.len())?;
    let trained: usize = store.named_vars().iter().map(|(_, var)| var.elem_count()).sum();
    say(format!(
        "{}\n{} by {trained} trained of {} parameters; run directory {}",
        corpus.summary(),
        config.kind(),
        store.n_params(),
        path.display()
    ));
    let source = Photographs {
        corpus: &corpus,
        ssl: &ssl,
        seed: config.fit.seed,
        n_unlabelled: config.data.ratio * config.fit.batch,
        accumulate: config.fit.accumulate,
        held_out: config.eval.batch,
        failed: Mutex::default(),
    };
    let run = run.config(&config)?;
    let outcome = fit(&mut task, &store, &source, &fit_config, run);
    for (name, why) in source.failures() {
        say(format!("left out: {name}: {why}"));
    }
    let outcome = outcome?;
    classes.save(path)?;
    corpus.split.save(corpus.images.data(), &path.join("split.json"))?;
    if matches!(outcome, Outcome::Interrupted(_)) {
        return Ok(None);
    }
    report(path, &config, &corpus, outcome.summary().seconds).map(Some)
}

/// Evaluates a run and writes model.safetensors, calibration.json, eval.json and report.html.
fn report(run: &Path, config: &PeplConfig, corpus: &Corpus, seconds: f64) -> Result<Evaluation> {
    let judged = evaluate::evaluate(run, config, corpus, seconds)?;
    judged.store.save(&run.join(network::MODEL))?;
    judged.evaluation.calibration.save(run)?;
    let page = page::page(run, config, corpus, &judged)?;
    write_atomic(&run.join("report.html"), |w| w.write_all(page.as_bytes()))?;
    // Last: who finds it finds everything.
    let json = serde_json::to_string_pretty(&judged.evaluation)?;
    write_atomic(&run.join("eval.json"), |w| w.write_all(json.as_bytes()))?;
    Ok(judged.evaluation)
}

/// Tells a person what a run reached.
fn show(run: &Path, e: &Evaluation) {
    let percent = |p: f64| format!("{:.1} %", 100.0 * p);
    for reached in e.last.iter().chain([&e.best]) {
        let which = if std::ptr::eq(reached, &e.best) { "best held-out" } else { "last" };
        let average = if reached.average { ", averaged" } else { "" };
        let (s, step) = (&reached.scores, reached.step);
        let which = format!("{which}{average} (step {step})");
        say(format!("{which:<34} {} top-1, {} top-5, {} ECE", percent(s.top1), percent(s.top5), percent(s.ece)));
    }
    if let Some(p) = &e.pseudo {
        let share = |p: Option<f64>| p.map_or("unknown".to_string(), percent);
        say(format!("pseudo-labels: {} kept, {} of them right", share(p.coverage), share(p.precision)));
    }
    let c = &e.calibration;
    let right = c.precision.map_or(String::new(), |p| format!(", {} of those right", percent(p)));
    let (from, kept) = (c.keep_above, percent(c.coverage));
    say(format!(
        "calibrated on {} held-out labels: {kept} of them are kept, from probability {from:.2} up{right}",
        c.n
    ));
    say(format!("judged on the {} images; report: {}", e.judged_on, run.join("report.html").display()));
}

/// The settings of a run.
fn config_of(run: &Path) -> Result<PeplConfig> {
    let path = run.join("config.toml");
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let text = std::fs::read_to_string(&path).map_err(|e| named(&e))?;
    let config: PeplConfig = toml::from_str(&text).map_err(|e| named(&e))?;
    config.validate().map_err(|e| named(&e))?;
    Ok(config)
}

/// Evaluates a run again.
pub fn eval(args: &Eval) -> Result<()> {
    if args.requests.is_some() || args.guidance.is_some() {
        return Err("--requests and --guidance belong to the recipe poet".into());
    }
    let config = config_of(&args.run)?;
    let mut corpus = Corpus::load(&config.data, &config.views)?;
    evaluate::keep_maps(&args.run, &config, &mut corpus)?;
    let evaluation = report(&args.run, &config, &corpus, 0.0)?;
    show(&args.run, &evaluation);
    Ok(())
}
