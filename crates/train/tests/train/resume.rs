//! 20 = 10 + stop + 10, however the stop came.

use crate::toy::*;
use chandlery_train::*;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Runs until the task has begun `step`, then ends by request.
fn interrupted_at(dir: &Path, step: u64) -> Outcome {
    let (interrupt, mut toy) = (Interrupt::default(), Toy::new(0));
    let raised = interrupt.clone();
    toy.hook = Box::new(move |cx| {
        if cx.step() == step {
            raised.raise();
        }
    });
    fit_toy(&mut toy, &source(None), &config(), Run::open(dir).interrupt(interrupt)).unwrap()
}

#[test]
fn interrupted_run_resumes_bit_for_bit() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), &config()).unwrap();
    // Between two checkpoints, at one, and right after one.
    for step in [3, 10, 11] {
        let outcome = interrupted_at(parts.path(), step);
        assert!(matches!(&outcome, Outcome::Interrupted(s) if s.step == step), "{outcome:?}");
    }
    let (_, outcome) = train(parts.path(), &config()).unwrap();
    assert!(matches!(outcome, Outcome::Finished(ref s) if s.step == 20), "{outcome:?}");
    assert_same_result(whole.path(), parts.path(), 20);
}

#[test]
fn run_directory_can_be_moved() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), &config()).unwrap();
    let (here, there) = (parts.path().join("here"), parts.path().join("there"));
    interrupted_at(&here, 10);
    for name in ["manifest.json", "config.toml", "events.jsonl", "ckpt/step-10/state.json"] {
        let text = std::fs::read_to_string(here.join(name)).unwrap();
        assert!(!text.contains(&parts.path().display().to_string()), "{name} holds an absolute path");
    }
    std::fs::rename(&here, &there).unwrap();
    train(&there, &config()).unwrap();
    assert_same_result(whole.path(), &there, 20);
}

#[test]
fn finished_run_resumes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    train(dir.path(), &config()).unwrap();
    let before = result_files(dir.path(), 20);
    let (_, outcome) = train(dir.path(), &config()).unwrap();
    assert!(matches!(outcome, Outcome::Finished(ref s) if s.step == 20));
    assert_eq!(before, result_files(dir.path(), 20));
}

/// Not a test of its own: waits in step 14 until it is told to end.
#[test]
#[ignore = "started by another test"]
fn waiting_child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let (interrupt, mut toy) = (Interrupt::on_ctrl_c().unwrap(), Toy::new(0));
    let raised = interrupt.clone();
    toy.hook = Box::new(move |cx| {
        if cx.step() == 14 {
            println!("in step 14  "); // the signal may only come from here on
        }
        while cx.step() == 14 && !raised.is_raised() {
            std::thread::yield_now();
        }
    });
    let run = Run::open(dir).progress(Progress::plain(std::io::stdout())).interrupt(interrupt);
    let outcome = fit_toy(&mut toy, &source(None), &config(), run).unwrap();
    assert!(matches!(outcome, Outcome::Interrupted(s) if s.step == 14));
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_termination_save_and_end_cleanly() {
    let whole = tempfile::tempdir().unwrap();
    train(whole.path(), &config()).unwrap();
    for signal in ["-INT", "-TERM"] {
        let parts = tempfile::tempdir().unwrap();
        let mut child = start_child("waiting_child", parts.path());
        wait_for_step(&mut child, 14);
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        assert!(child.wait().unwrap().success(), "{signal}");
        train(parts.path(), &config()).unwrap();
        assert_same_result(whole.path(), parts.path(), 20);
    }
}

const CHILD: &str = "CHANDLERY_TEST_RUN_DIR";

/// Not a test of its own: the process that the next tests kill. It saves at every step.
#[test]
#[ignore = "started by other tests"]
fn child() {
    let Ok(dir) = std::env::var(CHILD) else { return };
    let mut toy = Toy::new(0);
    let run = Run::open(dir).progress(Progress::plain(std::io::stdout()));
    fit_toy(&mut toy, &source(None), &eager(), run).unwrap();
}

fn eager() -> FitConfig {
    FitConfig { save_every: 1, ..config() }
}

fn start_child(test: &str, dir: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", &format!("resume::{test}"), "--ignored", "--nocapture"]).env(CHILD, dir);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

/// Reads what the child shows until it has made `step`; the pipe stays open, so the child can go on writing.
fn wait_for_step(child: &mut Child, step: u64) {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let reached = lines.map_while(std::result::Result::ok).any(|line| line.contains(&format!("step {step}  ")));
    assert!(reached, "the child ended before step {step}");
}

#[test]
fn killed_process_resumes_bit_for_bit() {
    let (whole, parts) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    train(whole.path(), &eager()).unwrap();
    // A step's line is shown before the step is saved, so the kill falls somewhere around the save.
    for step in [2, 5, 9, 10, 16] {
        let mut child = start_child("child", parts.path());
        wait_for_step(&mut child, step);
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    let (_, outcome) = train(parts.path(), &eager()).unwrap();
    assert_eq!(outcome.summary().step, 20);
    assert_same_result(whole.path(), parts.path(), 20);
}
