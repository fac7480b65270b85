//! Which crate may depend on which: the picture in `docs/ARCHITECTURE.md`, as a table.

use serde_json::Value;

use super::Finding;

/// A crate of the workspace and what it may depend on.
struct Allowed {
    name: &'static str,
    on: &'static [&'static str],
    /// Allowed only behind a feature.
    optional: &'static [&'static str],
}

const METHOD: &[&str] = &["chandlery-kernels", "chandlery-nn", "chandlery-train"];
const ALL: &[&str] = &[
    "chandlery-kernels",
    "chandlery-nn",
    "chandlery-train",
    "chandlery-pseudo",
    "chandlery-lm",
    "chandlery-memory",
    "chandlery-reading",
    "chandlery-parallel",
];

const EDGES: &[Allowed] = &[
    allow("chandlery-kernels", &[]),
    allow("chandlery-nn", &["chandlery-kernels"]),
    allow("chandlery-train", &["chandlery-kernels", "chandlery-nn"]),
    allow("chandlery-pseudo", METHOD),
    Allowed { name: "chandlery-lm", on: METHOD, optional: &["chandlery-parallel"] },
    allow("chandlery-memory", &["chandlery-kernels", "chandlery-nn", "chandlery-train", "chandlery-lm"]),
    allow("chandlery-reading", METHOD),
    allow("chandlery-parallel", &[]),
    allow("chandlery", ALL),
    allow("chandlery-cli", &["chandlery"]),
    allow("chandlery-benches", &["chandlery"]),
    allow("xtask", &[]),
];

const fn allow(name: &'static str, on: &'static [&'static str]) -> Allowed {
    Allowed { name, on, optional: &[] }
}

/// Compares the workspace's own dependencies, of every kind, with the table.
pub fn check(metadata: &Value) -> Result<Vec<Finding>, String> {
    let packages = members(metadata)?;
    let names: Vec<&str> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let mut found = Vec::new();
    for package in &packages {
        let name = package["name"].as_str().unwrap_or_default();
        let Some(allowed) = EDGES.iter().find(|edge| edge.name == name) else {
            found.push(Finding::error(name, "is not in the table of crate edges (xtask/src/tidy/edges.rs)"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let on = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&on) {
                found.extend(judge(allowed, on, dependency["optional"].as_bool() == Some(true)));
            }
        }
    }
    Ok(found)
}

fn judge(allowed: &Allowed, on: &str, optional: bool) -> Option<Finding> {
    if allowed.on.contains(&on) {
        return None;
    }
    match (allowed.optional.contains(&on), optional) {
        (true, true) => None,
        (true, false) => Some(Finding::error(allowed.name, format!("may depend on {on} only behind a feature"))),
        (false, _) => Some(Finding::error(allowed.name, format!("must not depend on {on}"))),
    }
}

/// The packages of the workspace itself.
fn members(metadata: &Value) -> Result<Vec<&Value>, String> {
    let ids = metadata["workspace_members"].as_array().ok_or("cargo metadata names no workspace members")?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata lists no packages")?;
    Ok(packages.iter().filter(|package| ids.contains(&package["id"])).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Findings for a workspace in which `name` depends on `on`.
    fn edge(name: &str, on: &str, optional: bool) -> Vec<Finding> {
        let metadata = json!({
            "workspace_members": ["a", "b"],
            "packages": [
                {"id": "a", "name": name, "dependencies": [{"name": on, "optional": optional}, {"name": "serde", "optional": false}]},
                {"id": "b", "name": on, "dependencies": []},
                {"id": "c", "name": "serde", "dependencies": []},
            ],
        });
        check(&metadata).unwrap()
    }

    #[test]
    fn edges_of_the_table_pass() {
        assert_eq!(edge("chandlery-nn", "chandlery-kernels", false), []);
        assert_eq!(edge("chandlery-memory", "chandlery-lm", false), []);
        assert_eq!(edge("chandlery-cli", "chandlery", false), []);
    }

    #[test]
    fn edge_against_the_stream_is_named() {
        let found = edge("chandlery-kernels", "chandlery-nn", false);
        assert_eq!(found, [Finding::error("chandlery-kernels", "must not depend on chandlery-nn")]);
        assert_eq!(edge("chandlery-reading", "chandlery-lm", true).len(), 1);
        assert_eq!(edge("xtask", "chandlery-lm", false).len(), 1);
    }

    #[test]
    fn optional_edge_must_be_optional() {
        assert_eq!(edge("chandlery-lm", "chandlery-parallel", true), []);
        assert!(edge("chandlery-lm", "chandlery-parallel", false)[0].what.contains("feature"));
    }

    #[test]
    fn crate_outside_the_table_is_found() {
        assert!(edge("chandlery-extra", "chandlery-nn", false)[0].what.contains("not in the table"));
    }
}
