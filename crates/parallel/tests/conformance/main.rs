//! Conformance with golden data: every file of a known form in the folder named by `CHANDLERY_VECTORS` (at its top or in
//! `plan/`), else in `fixtures/golden/plan` and the published tables of the crate.

mod completion;
mod howto;
mod machine;
mod memory;
mod partition;
mod planner;
mod reshard;
mod schedules;
mod tables;

use serde_json::Value;
use std::path::{Path, PathBuf};

/// Every JSON file that belongs to the plan data: path and content, by name.
fn documents() -> Vec<(PathBuf, Value)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths: Vec<PathBuf> = Vec::new();
    let folders = match std::env::var_os("CHANDLERY_VECTORS") {
        Some(root) => vec![PathBuf::from(&root), Path::new(&root).join("plan")],
        None => {
            paths.push(here.join("tables/published.json"));
            vec![here.join("../../fixtures/golden/plan")]
        }
    };
    for folder in folders {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        paths.extend(entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "json")));
    }
    paths.sort();
    let read = |p: PathBuf| {
        let text = std::fs::read_to_string(&p).expect("readable vector file");
        let value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", p.display()));
        (p, value)
    };
    paths.into_iter().map(read).collect()
}

/// The entries of `list` in all files whose first entry satisfies `form`: (file, entry).
///
/// # Panics
/// When there are none: a conformance test that reads nothing proves nothing.
fn entries(list: &str, form: impl Fn(&Value) -> bool) -> Vec<(PathBuf, Value)> {
    let mut found = Vec::new();
    for (path, document) in documents() {
        let Some(items) = document.get(list).and_then(Value::as_array) else { continue };
        if items.first().is_some_and(&form) {
            found.extend(items.iter().map(|item| (path.clone(), item.clone())));
        }
    }
    assert!(!found.is_empty(), "no file with `{list}` of this form; is CHANDLERY_VECTORS right?");
    found
}
