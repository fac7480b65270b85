//! Methods beside each other: every method, share of labels and seed as a run of its own, then the table.

mod plan;
mod table;

use super::config::PeplConfig;
use super::data::Corpus;
use super::evaluate::Evaluation;
use super::{network, run_in, source};
use crate::args::Experiment;
use crate::{Result, say};
use chandlery::nn::file::write_atomic;
use chandlery::nn::{Mode, Scope};
use chandlery::pseudo::ssl::SemiSupervised;
use chandlery::train::{Interrupt, Progress, Run, fit};
use plan::{Job, Plan};
use source::Photographs;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

/// Steps by which the time of a step is measured.
const PROBED: u64 = 3;

/// Runs what is not there yet, and makes the table.
pub fn experiment(args: &Experiment) -> Result<()> {
    let plan = Plan::load(&args.plan)?;
    let jobs = plan.jobs(&args.set, &args.only)?;
    let stem = Path::new(&args.plan).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from("runs").join(format!("experiment-{stem}")));
    std::fs::create_dir_all(&out).map_err(|e| format!("{}: {e}", out.display()))?;
    let open: Vec<&Job> = jobs.iter().filter(|job| evaluation(&job.folder(&out)).is_none()).collect();
    say(format!("{} runs, {} of them to do, in {}", jobs.len(), open.len(), out.display()));
    if !args.table && !open.is_empty() {
        estimate(&open, &out)?;
    }
    if args.estimate {
        return Ok(());
    }
    if !args.table {
        // The signal takes one handler a process.
        let interrupt = Interrupt::on_ctrl_c()?;
        for (at, job) in open.iter().enumerate() {
            let started = Instant::now();
            say(format!("\n{} of {}: {}", at + 1, open.len(), job.name()));
            let folder = job.folder(&out);
            let config = job.config(&out)?;
            // Goes on where an interrupted experiment left a run.
            let run = Run::open(&folder).progress(Progress::auto()).interrupt(interrupt.clone());
            let Some(evaluation) = run_in(&folder, &config, run)? else {
                say("interrupted and saved; the same command goes on");
                return Ok(());
            };
            let (last, best) = (evaluation.last().top1, evaluation.best.scores.top1);
            let minutes = started.elapsed().as_secs_f64() / 60.0;
            say(format!("{}: last {:.1} %, best {:.1} %, {minutes:.1} min", job.name(), 100.0 * last, 100.0 * best));
            write_table(&plan, &jobs, &out)?;
        }
    }
    write_table(&plan, &jobs, &out)?;
    say(std::fs::read_to_string(out.join("results.md"))?);
    Ok(())
}

/// What a run reached, once it is done: until then the training loop keeps its own last meters under that name.
fn evaluation(folder: &Path) -> Option<Evaluation> {
    serde_json::from_str(&std::fs::read_to_string(folder.join("eval.json")).ok()?).ok()
}

fn write_table(plan: &Plan, jobs: &[Job], out: &Path) -> Result<()> {
    let done: Vec<(&Job, Evaluation)> =
        jobs.iter().filter_map(|job| Some((job, evaluation(&job.folder(out))?))).collect();
    let results = table::results(plan, &done)?;
    let files = [
        ("results.md", results.markdown(plan)),
        ("results.json", serde_json::to_string_pretty(&results)?),
        ("results.svg", results.chart().svg()),
    ];
    for (name, text) in files {
        write_atomic(&out.join(name), |w| w.write_all(text.as_bytes()))?;
    }
    Ok(())
}

/// Seconds of a step and of an evaluated image.
#[derive(Clone, Copy)]
struct Speed {
    step: f64,
    image: f64,
}

/// Makes a few steps as the method would, and looks at a few images.
fn probe(config: &PeplConfig, out: &Path) -> Result<(Speed, usize)> {
    let mut config = config.settled()?;
    // What a method does after its warm-up is what costs.
    for key in ["warmup", "unmixed"] {
        config.method.insert(key.into(), toml::Value::Integer(0));
    }
    let mut corpus = Corpus::load(&config.data, &config.views)?;
    let n_classes = corpus.images.data().n_classes();
    let store = network::start(&config.model, n_classes, config.fit.seed)?;
    corpus.keep_maps(&config.model, &store, out)?;
    let (ssl, mut fit_config) = (config.ssl()?, config.fit()?);
    let build = |scope: &Scope| network::trained_part(&config.model, scope, n_classes);
    let mut task = SemiSupervised::new(ssl.clone(), &store, build, corpus.split.unlabelled.len())?;
    let source = Photographs {
        corpus: &corpus,
        ssl: &ssl,
        seed: config.fit.seed,
        n_unlabelled: config.data.ratio * config.fit.batch,
        accumulate: config.fit.accumulate,
        held_out: config.eval.batch,
        failed: Mutex::default(),
    };
    (fit_config.steps, fit_config.eval_every, fit_config.save_every, fit_config.best) = (PROBED, 0, 0, None);
    fit_config.patience = 0;
    let folder = std::env::temp_dir().join(format!("chandlery-probe-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    let outcome = fit(&mut task, &store, &source, &fit_config, Run::create(&folder));
    let _ = std::fs::remove_dir_all(&folder);
    let step = outcome?.summary().seconds / PROBED as f64;
    let model = network::trained_part(&config.model, &store.frozen(), n_classes)?;
    let some: Vec<usize> = corpus.judged().iter().take(config.eval.batch).copied().collect();
    let started = Instant::now();
    source::logits(&corpus, &some, config.eval.batch, &|x| model.forward(x, Mode::Eval))?;
    let image = started.elapsed().as_secs_f64() / some.len().max(1) as f64;
    Ok((Speed { step, image }, corpus.split.val.len()))
}

/// Says how long `jobs` will take, from a few steps of each method.
fn estimate(jobs: &[&Job], out: &Path) -> Result<()> {
    let (mut speeds, mut total): (BTreeMap<String, (Speed, usize)>, f64) = (BTreeMap::new(), 0.0);
    for job in jobs {
        let config = job.config(out)?;
        let (speed, n_val) = match speeds.get(&job.arm) {
            Some(found) => *found,
            None => {
                let found = probe(&config, out)?;
                say(format!("{}: {:.2} s a step, {:.1} ms an image", job.arm, found.0.step, 1e3 * found.0.image));
                speeds.insert(job.arm.clone(), found);
                found
            }
        };
        let evaluations = config.fit.steps.checked_div(config.fit.eval_every).unwrap_or(0) as f64;
        // Last, its average and best on about as many images as Grocery's test part has beside held-out ones.
        let judged = 3.0 * 2500.0 + (evaluations + 1.0) * n_val as f64;
        total += config.fit.steps as f64 * speed.step + judged * speed.image;
    }
    say(format!("estimate: {:.1} hours for {} runs on this machine", total / 3600.0, jobs.len()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meters_of_an_interrupted_run_are_no_evaluation() {
        let dir = tempfile::tempdir().unwrap();
        assert!(evaluation(dir.path()).is_none());
        std::fs::write(dir.path().join("eval.json"), r#"{"meters": {"top1": 0.5}, "step": 160}"#).unwrap();
        assert!(evaluation(dir.path()).is_none());
    }
}
