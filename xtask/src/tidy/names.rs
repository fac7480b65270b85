//! Names that say nothing about what a module holds.

use super::{Finding, tree::Tree};

const EMPTY: &[&str] = &["utils", "util", "common", "helpers", "helper", "base", "manager"];

/// Rust modules, as files, folders or inline, that bear such a name.
pub fn check(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in tree.below("", ".rs") {
        if let Some(name) = file.path.trim_end_matches(".rs").split('/').find(|part| EMPTY.contains(part)) {
            found.push(Finding::error(&file.path, format!("`{name}` names no thing: say what is in it")));
        }
        for (number, line) in (1..).zip(file.text.lines()) {
            if let Some(name) = inline_module(line).filter(|name| EMPTY.contains(name)) {
                found
                    .push(Finding::error(format!("{}:{number}", file.path), format!("module `{name}` names no thing")));
            }
        }
    }
    found
}

/// The name in a line such as `pub(crate) mod name {`; a declaration `mod name;` is found as its file.
fn inline_module(line: &str) -> Option<&str> {
    let (before, name) = line.trim().strip_suffix('{')?.trim_end().rsplit_once(' ')?;
    before.split(' ').next_back().filter(|word| *word == "mod").map(|_| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_names_are_found_as_file_folder_and_inline() {
        let tree = Tree::of(&[
            ("crates/a/src/utils.rs", ""),
            ("crates/a/tests/common/mod.rs", ""),
            ("crates/a/src/lib.rs", "mod attention;\npub(crate) mod helpers {\n}\n"),
        ]);
        let found: Vec<_> = check(&tree).into_iter().map(|f| f.place).collect();
        assert_eq!(found, ["crates/a/src/utils.rs", "crates/a/tests/common/mod.rs", "crates/a/src/lib.rs:2"]);
    }

    #[test]
    fn nouns_pass_even_when_they_contain_one() {
        let tree = Tree::of(&[("crates/a/src/base64.rs", "mod database {\n}\nmod tests {\n}\n")]);
        assert_eq!(check(&tree), []);
    }
}
