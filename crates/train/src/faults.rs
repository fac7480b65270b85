//! What is left when writing fails at any point.

use crate::disk::{Disk, FileSystem};
use crate::*;
use candle_core::{DType, Device};
use chandlery_nn::{Init, ParamStore};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Lets a number of operations through, then fails as a full disk does: half a file is written.
struct FullDisk {
    left: AtomicUsize,
}

impl FullDisk {
    fn spend(&self) -> bool {
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)).is_ok()
    }
}

impl Disk for FullDisk {
    fn write(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        if self.spend() {
            return FileSystem.write(path, content);
        }
        fs::write(path, &content[..content.len() / 2])?;
        Err(io::ErrorKind::StorageFull.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.spend() { FileSystem.rename(from, to) } else { Err(io::ErrorKind::StorageFull.into()) }
    }
}

struct Descent(ParamStore);

impl Task for Descent {
    type Batch = ();

    fn step(&mut self, (): &(), cx: &mut StepCx<'_>) -> Result<()> {
        let w = self.0.root().param("w", 3, Init::ONES)?;
        cx.update("main", Loss::mean(w.sqr()?.sum_all()?))
    }
}

/// Four steps, saved after each; returns the parameters' file at the end.
fn train(run: Run) -> Result<()> {
    let store = ParamStore::new(0, DType::F32, &Device::Cpu);
    store.root().param("w", 3, Init::ONES)?;
    let groups = [("main".to_string(), GroupConfig::default())].into();
    let config = FitConfig { steps: 4, batch: 1, save_every: 1, log_every: 1, groups, ..FitConfig::default() };
    let source = from_fn(1, |_: &[usize], _: BatchAt| Ok(()));
    fit(&mut Descent(store.clone()), &store, &source, &config, run).map(drop)
}

fn params(dir: &Path) -> Vec<u8> {
    fs::read(dir.join("ckpt/step-4/params.safetensors")).unwrap()
}

#[test]
fn full_disk_at_any_write_loses_no_complete_checkpoint() {
    let whole = tempfile::tempdir().unwrap();
    train(Run::create(whole.path())).unwrap();
    let mut saved = 0;
    for left in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let Err(error) = train(Run::open(dir.path()).disk(FullDisk { left: left.into() })) else { break };
        assert!(matches!(&error, Error::Io { path, .. } if path.starts_with(dir.path())), "{error}");
        let folders: Vec<_> = fs::read_dir(dir.path().join("ckpt")).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert!(folders.iter().all(|name| name.to_string_lossy().starts_with("step-")), "{folders:?}");
        train(Run::open(dir.path())).unwrap();
        assert_eq!(params(whole.path()), params(dir.path()), "after {left} operations");
        saved = left;
    }
    // config and manifest, two operations each; four checkpoints of three files and a rename each.
    assert_eq!(saved + 1, 2 * 2 + 4 * 4);
}

#[test]
fn leftovers_of_a_killed_save_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    train(Run::create(dir.path())).unwrap();
    let left = dir.path().join("ckpt/.new-step-5");
    fs::create_dir(&left).unwrap();
    fs::write(left.join("params.safetensors"), "half").unwrap();
    train(Run::resume(dir.path())).unwrap();
    assert!(!left.exists());
}
