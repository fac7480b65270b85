//! The text files of the working tree.

use std::fs;
use std::path::Path;

/// Folders of the root that hold what commands made, not what people wrote (as in `.gitignore`).
const MADE: &[&str] = &["target", "runs", "data"];
/// Hidden names that belong to the project.
const KEPT: &[&str] = &[".ci", ".cargo", ".github", ".gitignore", ".gitattributes"];

/// One text file.
#[derive(Debug)]
pub struct File {
    /// From the root, with `/` between the parts.
    pub path: String,
    pub text: String,
}

/// All text files, in path order, and the paths of all files.
#[derive(Debug, Default)]
pub struct Tree {
    pub files: Vec<File>,
    pub paths: Vec<String>,
}

impl Tree {
    /// Reads everything below `root` but folders of made things and hidden names that are not the project's.
    pub fn read(root: &Path) -> Result<Self, String> {
        let mut tree = Self::default();
        tree.descend(root, "")?;
        Ok(tree)
    }

    fn descend(&mut self, folder: &Path, prefix: &str) -> Result<(), String> {
        let cannot = |why| format!("{}: {why}", folder.display());
        let mut entries = fs::read_dir(folder).map_err(cannot)?.collect::<Result<Vec<_>, _>>().map_err(cannot)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_left_out(&name, prefix) {
                continue;
            }
            let kind = entry.file_type().map_err(cannot)?;
            if kind.is_dir() {
                self.descend(&entry.path(), &format!("{prefix}{name}/"))?;
            } else if kind.is_file() {
                self.add(&entry.path(), format!("{prefix}{name}"))?;
            }
        }
        Ok(())
    }

    fn add(&mut self, file: &Path, path: String) -> Result<(), String> {
        let bytes = fs::read(file).map_err(|why| format!("{path}: {why}"))?;
        self.paths.push(path.clone());
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            self.files.push(File { path, text });
        }
        Ok(())
    }

    /// The text of the file at `path`.
    pub fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    /// The files whose names end in `ending` below `folder` (`""` for all).
    pub fn below<'a>(&'a self, folder: &'a str, ending: &'a str) -> impl Iterator<Item = &'a File> {
        self.files.iter().filter(move |file| file.path.starts_with(folder) && file.path.ends_with(ending))
    }

    /// Whether there is a file or a folder at `path`.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.paths.iter().any(|known| known == path || known.starts_with(&folder))
    }
}

fn is_left_out(name: &str, prefix: &str) -> bool {
    let made = MADE.contains(&name) && (prefix.is_empty() || name == "target");
    made || name.starts_with('.') && !KEPT.contains(&name)
}

#[cfg(test)]
impl Tree {
    /// A tree of the given paths and texts.
    pub fn of(files: &[(&str, &str)]) -> Self {
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        let files = files.iter().map(|(path, text)| File { path: (*path).into(), text: (*text).into() }).collect();
        Self { files, paths }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tree_holds_sources_and_leaves_out_what_commands_made() {
        let tree = Tree::read(&crate::cargo::root()).unwrap();
        assert!(tree.text("Cargo.toml").is_some());
        assert!(tree.text(".cargo/config.toml").is_some());
        assert!(tree.below("xtask/", ".rs").any(|file| file.path.ends_with("tidy/tree.rs")));
        assert!(!tree.paths.iter().any(|path| path.starts_with("target/") || path.starts_with(".git/")));
    }

    #[test]
    fn folders_count_as_present() {
        let tree = Tree::of(&[("docs/methods/a.md", "")]);
        assert!(tree.has("docs/methods") && tree.has("docs/methods/") && tree.has("docs/methods/a.md"));
        assert!(!tree.has("docs/method"));
    }
}
