//! File lengths: past 500 lines a reader loses the way, past 800 the build does.

use super::{Finding, tree::Tree};

const LONG: usize = 500;
const TOO_LONG: usize = 800;

/// Rust files with more lines than a reader should have to hold.
pub fn check(tree: &Tree) -> Vec<Finding> {
    tree.below("", ".rs")
        .filter_map(|file| match file.text.lines().count() {
            n if n > TOO_LONG => Some(Finding::error(&file.path, format!("{n} lines, at most {TOO_LONG}: divide it"))),
            n if n > LONG => Some(Finding::warning(&file.path, format!("{n} lines, more than {LONG}"))),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_files_warn_and_very_long_ones_fail() {
        let (fine, long, too_long) = ("x\n".repeat(500), "x\n".repeat(501), "x\n".repeat(801));
        let tree = Tree::of(&[("a.rs", &fine), ("b.rs", &long), ("c.rs", &too_long), ("d.md", &too_long)]);
        let found: Vec<_> = check(&tree).into_iter().map(|f| (f.place, f.fatal)).collect();
        assert_eq!(found, [("b.rs".to_owned(), false), ("c.rs".to_owned(), true)]);
    }
}
