//! A crate outside the workspace that depends on `chandlery-kernels` and `chandlery-nn` alone builds and trains.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

#[test]
fn outside_crate_trains_with_two_crates() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let manifest = std::fs::read_to_string(root.join("fixtures/outside/Cargo.toml")).unwrap();
    let manifest = manifest.replace("../../crates", root.join("crates").to_str().unwrap());
    std::fs::create_dir(dir.path().join("src")).unwrap();
    std::fs::write(dir.path().join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("fixtures/outside/src/main.rs"), dir.path().join("src/main.rs")).unwrap();
    // The versions that the workspace was tested with.
    std::fs::copy(root.join("Cargo.lock"), dir.path().join("Cargo.lock")).unwrap();
    let out = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--manifest-path"])
        .arg(dir.path().join("Cargo.toml"))
        .env("CARGO_TARGET_DIR", root.join("target/outside"))
        .output()
        .unwrap();
    let (said, complained) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.starts_with("loss 0.0"), "{said}{complained}");
}
