//! Documentation: numbers stand beside their command, method pages can be found, links lead somewhere.

use super::Finding;
use super::tree::{File, Tree};

/// Pages below `docs/results` that hold a number must name the command that made it.
pub fn results_name_their_command(tree: &Tree) -> Vec<Finding> {
    tree.below("docs/results/", ".md")
        .filter(|page| page.text.contains(|c: char| c.is_ascii_digit()) && !names_a_command(&page.text))
        .map(|page| {
            Finding::error(
                &page.path,
                "holds numbers but names no `cargo xtask` or `cargo run -p chandlery-..` command that makes them",
            )
        })
        .collect()
}

/// Pages below `docs/methods` must be linked from the README or from the architecture page.
pub fn methods_are_linked(tree: &Tree) -> Vec<Finding> {
    let entrances = ["README.md", "docs/ARCHITECTURE.md"];
    let reached: Vec<String> = tree
        .files
        .iter()
        .filter(|file| entrances.contains(&file.path.as_str()))
        .flat_map(local_links)
        .map(|(_, to)| to)
        .collect();
    tree.below("docs/methods/", ".md")
        .filter(|page| !reached.contains(&page.path))
        .map(|page| Finding::error(&page.path, "is linked from neither README.md nor docs/ARCHITECTURE.md"))
        .collect()
}

/// Links from one page to a file of the tree must lead to a file that is there.
pub fn links_lead_somewhere(tree: &Tree) -> Vec<Finding> {
    let mut found = Vec::new();
    for page in tree.below("", ".md") {
        for (line, target) in local_links(page) {
            if !tree.has(&target) {
                found.push(Finding::error(
                    format!("{}:{line}", page.path),
                    format!("links to {target}, which is not there"),
                ));
            }
        }
    }
    found
}

/// Line and target, as a path from the root, of each Markdown link of `page` to a file of the tree.
fn local_links(page: &File) -> Vec<(usize, String)> {
    let folder = page.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut links = Vec::new();
    for (number, line) in (1..).zip(page.text.lines()) {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push((number, resolve(folder, target)));
            }
        }
    }
    links
}

/// `target` as seen from `folder`, without `.` and `..`.
fn resolve(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// Whether a page says how its numbers are made again.
fn names_a_command(text: &str) -> bool {
    text.contains("cargo xtask ") || text.contains("cargo run -p chandlery-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_page_without_a_command_is_found() {
        let tree = Tree::of(&[
            ("docs/results/speed.md", "1.31 s, made by `cargo xtask bench steps`"),
            ("docs/results/bare.md", "1.31 s"),
            ("docs/results/README.md", "What a page here must hold."),
        ]);
        let found: Vec<_> = results_name_their_command(&tree).into_iter().map(|f| f.place).collect();
        assert_eq!(found, ["docs/results/bare.md"]);
    }

    #[test]
    fn method_page_must_be_reachable() {
        let tree = Tree::of(&[
            ("README.md", "see [LM](docs/methods/lm.md#loss)"),
            ("docs/ARCHITECTURE.md", "see [PEPL](methods/pepl.md)"),
            ("docs/methods/lm.md", ""),
            ("docs/methods/pepl.md", ""),
            ("docs/methods/lost.md", "[LM](lm.md)"),
        ]);
        let found: Vec<_> = methods_are_linked(&tree).into_iter().map(|f| f.place).collect();
        assert_eq!(found, ["docs/methods/lost.md"]);
    }

    #[test]
    fn dead_link_is_found_with_its_line() {
        let tree = Tree::of(&[
            ("README.md", "[a](docs/a.md) [web](https://example.org/x) [here](#top)\n[b](docs/b.md \"title\")"),
            ("docs/a.md", "[up](../README.md) [folder](../docs/)"),
        ]);
        let found: Vec<_> = links_lead_somewhere(&tree).into_iter().map(|f| (f.place, f.what)).collect();
        assert_eq!(found, [("README.md:2".to_owned(), "links to docs/b.md, which is not there".to_owned())]);
    }

    #[test]
    fn relative_targets_resolve_from_their_page() {
        assert_eq!(resolve("docs/methods", "../results/./speed.md"), "docs/results/speed.md");
        assert_eq!(resolve("", "docs/"), "docs");
    }
}
