//! Words that must not be in the tree: paths of one machine, hosts of package registries.

use super::{Finding, tree::Tree};

/// Paths that exist on one machine only (written in halves, so that this file passes its own check).
const PATHS: &[&str] =
    &[concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/far", "m/"), concat!("/tmp/bash", "_jobs/")];
/// Hosts that an ordinary client knows by itself.
const HOSTS: &[&str] = &[
    concat!("index.crates", ".io"),
    concat!("static.crates", ".io"),
    concat!("files.python", "hosted"),
    concat!("pypi", ".org"),
    concat!("registry.npm", "js"),
    concat!("deb.debian", ".org"),
    concat!("proxy.go", "lang"),
];

/// Every line of every text file that holds such a word.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in &tree.files {
        for (number, line) in (1..).zip(file.text.lines()) {
            if let Some(word) = forbidden(line) {
                found.push(Finding::error(format!("{}:{number}", file.path), format!("holds `{word}`")));
            }
        }
    }
    found
}

fn forbidden(line: &str) -> Option<&'static str> {
    let path = PATHS.iter().find(|path| line.match_indices(**path).any(|(at, _)| starts_a_path(line, at)));
    path.or_else(|| HOSTS.iter().find(|host| line.contains(**host))).copied()
}

/// Whether the slash at `at` is the first of an absolute path, not one in the middle of a longer one.
fn starts_a_path(line: &str, at: usize) -> bool {
    !line[..at].ends_with(|before: char| before.is_alphanumeric() || "._-}".contains(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machine_paths_and_registry_hosts_are_found_with_their_line() {
        let text = format!("fine\nlet dir = \"{}x\";\nhttps://{}/simple\n", PATHS[0], HOSTS[3]);
        let found: Vec<_> = check(&Tree::of(&[("a.rs", &text)])).into_iter().map(|f| f.place).collect();
        assert_eq!(found, ["a.rs:2", "a.rs:3"]);
    }

    #[test]
    fn same_letters_inside_a_relative_path_are_fine() {
        assert_eq!(forbidden(&format!("docs{}notes.md", PATHS[0])), None);
        assert_eq!(forbidden("a workspace, a root, a registry"), None);
    }
}
