//! `cargo xtask tidy`: what no compiler checks. It reads the working tree only, so it needs no commit and builds nothing.

mod bans;
mod edges;
mod length;
mod names;
mod pages;
mod tree;
mod words;

use std::fmt;

use crate::cargo;
use tree::Tree;

/// Something a check found.
#[derive(Debug, PartialEq)]
struct Finding {
    /// A file, with a line where there is one, or the name of a crate.
    place: String,
    what: String,
    /// A warning is shown and forgiven.
    fatal: bool,
}

impl Finding {
    fn error(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { place: place.into(), what: what.into(), fatal: true }
    }

    fn warning(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self { fatal: false, ..Self::error(place, what) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.fatal { "error" } else { "warning" };
        write!(f, "{kind}: {}: {}", self.place, self.what)
    }
}

/// Runs every check and prints what it finds.
///
/// # Errors
/// When a check finds more than warnings, or the tree cannot be read.
pub fn run(args: &[String]) -> Result<(), String> {
    if let Some(extra) = args.first() {
        return Err(format!("tidy takes no arguments, got `{extra}`"));
    }
    let findings = findings()?;
    for finding in &findings {
        println!("{finding}");
    }
    match findings.iter().filter(|finding| finding.fatal).count() {
        0 => Ok(()),
        n => Err(format!("{n} findings")),
    }
}

fn findings() -> Result<Vec<Finding>, String> {
    let tree = Tree::read(&cargo::root())?;
    let metadata = cargo::metadata(true)?;
    let mut found = edges::check(&metadata)?;
    found.extend(length::check(&tree));
    found.extend(words::check(&tree));
    found.extend(names::check(&tree));
    found.extend(pages::results_name_their_command(&tree));
    found.extend(pages::methods_are_linked(&tree));
    found.extend(pages::links_lead_somewhere(&tree));
    found.extend(bans::check(&tree, &metadata)?);
    Ok(found)
}
