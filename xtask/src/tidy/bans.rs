//! The bans in `clippy.toml` name things that exist.
//!
//! Clippy passes over a path whose crate the checked one does not depend on, so a ban could rot without a word when candle
//! renames a function. This check looks every banned path up in the sources of the candle that the workspace resolves to.
//! That clippy refuses each of them was shown on a crate that uses them all once; this keeps it true.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Finding, tree::Tree};

const CONFIG: &str = "clippy.toml";

/// One entry of a `disallowed-...` list.
#[derive(Debug, PartialEq)]
struct Ban {
    line: usize,
    path: String,
    /// From `disallowed-types`, not `disallowed-methods`.
    is_type: bool,
}

/// Looks up every ban in the sources of the crate it names.
pub fn check(tree: &Tree, metadata: &Value) -> Result<Vec<Finding>, String> {
    let bans = bans(tree.text(CONFIG).ok_or("clippy.toml is missing")?);
    if bans.is_empty() {
        return Ok(vec![Finding::error(CONFIG, "bans nothing")]);
    }
    let mut found = Vec::new();
    let mut sources: Vec<(String, Option<Sources>)> = Vec::new();
    for ban in &bans {
        let name = ban.path.split("::").next().unwrap_or_default();
        if !sources.iter().any(|(known, _)| known == name) {
            let read = source_folder(metadata, name).map(|folder| Sources::read(&folder)).transpose()?;
            if read.is_none() {
                found.push(Finding::warning(
                    CONFIG,
                    format!("bans on {name} are not checked: no crate here depends on it"),
                ));
            }
            sources.push((name.to_owned(), read));
        }
        let source = sources.iter().find(|(known, _)| known == name).and_then(|(_, source)| source.as_ref());
        if source.is_some_and(|source| !source.defines(ban)) {
            found.push(Finding::error(
                format!("{CONFIG}:{}", ban.line),
                format!("{} does not exist (any more)", ban.path),
            ));
        }
    }
    Ok(found)
}

/// The entries of `disallowed-methods` and `disallowed-types`, one a line as `clippy.toml` writes them.
fn bans(config: &str) -> Vec<Ban> {
    let mut is_type = false;
    let mut bans = Vec::new();
    for (line, text) in (1..).zip(config.lines()) {
        if text.starts_with("disallowed-") {
            is_type = text.starts_with("disallowed-types");
        }
        if let Some(path) = text.split_once("path = \"").and_then(|(_, rest)| rest.split('"').next()) {
            bans.push(Ban { line, path: path.to_owned(), is_type });
        }
    }
    bans
}

/// The `src` folder of the resolved package whose library is called `name`.
fn source_folder(metadata: &Value, name: &str) -> Option<PathBuf> {
    let packages = metadata["packages"].as_array()?;
    let package = packages
        .iter()
        .find(|package| package["name"].as_str().is_some_and(|known| known.replace('-', "_") == name))?;
    Path::new(package["manifest_path"].as_str()?).parent().map(|folder| folder.join("src"))
}

/// The Rust files of one crate: module name and text.
struct Sources(Vec<(String, String)>);

impl Sources {
    fn read(folder: &Path) -> Result<Self, String> {
        let tree = Tree::read(folder)?;
        Ok(Self(tree.files.into_iter().map(|file| (file.path, file.text)).collect()))
    }

    /// Whether the last part of the ban's path is defined, in the module or by the type that stands before it.
    fn defines(&self, ban: &Ban) -> bool {
        let parts: Vec<&str> = ban.path.split("::").skip(1).collect();
        let Some((item, owners)) = parts.split_last() else { return false };
        self.0
            .iter()
            .any(|(path, text)| owners.iter().all(|owner| owns(path, text, owner)) && declares(text, item, ban.is_type))
    }
}

/// Whether a file is the module `owner` or implements the type `owner`.
fn owns(path: &str, text: &str, owner: &str) -> bool {
    if owner.starts_with(char::is_uppercase) {
        return text.contains(&format!("impl {owner} {{"));
    }
    path == format!("{owner}.rs") || path.starts_with(&format!("{owner}/"))
}

/// Whether `text` declares a public function, or a public type, called `item`.
fn declares(text: &str, item: &str, is_type: bool) -> bool {
    let kinds: &[&str] = if is_type { &["pub struct ", "pub enum "] } else { &["pub fn "] };
    text.lines().any(|line| {
        let rest = kinds.iter().find_map(|kind| line.trim_start().strip_prefix(kind)?.strip_prefix(item));
        rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo;

    fn sources() -> Sources {
        Sources(vec![
            ("ops.rs".into(), "pub fn softmax_last_dim(x: &Tensor) {}\nfn hidden() {}".into()),
            ("norm.rs".into(), "pub struct LayerNorm {\n}\nimpl LayerNorm {\n    pub fn new<T>() {}\n}".into()),
        ])
    }

    fn ban(path: &str, is_type: bool) -> Ban {
        Ban { line: 1, path: path.into(), is_type }
    }

    #[test]
    fn every_ban_of_this_project_exists_in_the_candle_it_builds_with() {
        let tree = Tree::read(&cargo::root()).unwrap();
        let found = check(&tree, &cargo::metadata(true).unwrap()).unwrap();
        let gone: Vec<String> = found.iter().filter(|finding| finding.fatal).map(ToString::to_string).collect();
        assert!(gone.is_empty(), "{gone:?}");
    }

    #[test]
    fn fused_operations_and_unseeded_draws_stay_banned() {
        let tree = Tree::read(&cargo::root()).unwrap();
        let banned: Vec<String> = bans(tree.text(CONFIG).unwrap()).into_iter().map(|ban| ban.path).collect();
        for path in [
            "candle_core::Tensor::randn",
            "candle_core::Tensor::apply_op1_no_bwd",
            "candle_nn::ops::softmax_last_dim",
            "candle_nn::ops::layer_norm",
            "candle_nn::ops::rms_norm",
            "candle_nn::ops::sdpa",
            "candle_nn::rotary_emb::rope",
            "candle_nn::rotary_emb::rope_i",
            "candle_nn::rotary_emb::rope_thd",
            "candle_nn::LayerNorm",
            "candle_nn::RmsNorm",
        ] {
            assert!(banned.iter().any(|known| known == path), "{path} is no longer banned");
        }
    }

    #[test]
    fn items_are_found_by_module_and_by_type() {
        assert!(sources().defines(&ban("candle_nn::ops::softmax_last_dim", false)));
        assert!(sources().defines(&ban("candle_nn::LayerNorm", true)));
        assert!(sources().defines(&ban("candle_nn::LayerNorm::new", false)));
    }

    #[test]
    fn renamed_moved_and_private_items_are_missed() {
        for path in ["candle_nn::ops::softmax_last", "candle_nn::norm::softmax_last_dim", "candle_nn::ops::hidden"] {
            assert!(!sources().defines(&ban(path, false)), "{path}");
        }
        assert!(!sources().defines(&ban("candle_nn::LayerNorm", false)));
    }

    #[test]
    fn entries_know_their_list_and_line() {
        let config = "disallowed-methods = [\n  { path = \"a::f\", reason = \"r\" },\n]\ndisallowed-types = [\n  { path = \"a::T\" },\n]";
        let expected =
            [Ban { line: 2, path: "a::f".into(), is_type: false }, Ban { line: 5, path: "a::T".into(), is_type: true }];
        assert_eq!(bans(config), expected);
    }
}
