//! Files that may be images, in a folder and all folders in it, one by one.

use std::fs::ReadDir;
use std::io;
use std::path::{Path, PathBuf};

/// Endings of files that are meant as images; whether they are, their content says.
const ENDINGS: [&str; 13] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "heic", "avif", "ppm"];

/// Walks over a folder in the file system's own order and keeps no list of it, so that millions of files cost no memory.
/// Links to folders are not followed.
pub struct Walk {
    open: Vec<ReadDir>,
    /// Files passed over: their names do not say that they are images.
    pub others: usize,
}

impl Walk {
    /// Starts at `folder`.
    ///
    /// # Errors
    /// If it is no folder.
    pub fn new(folder: &Path) -> crate::Result<Self> {
        let open = std::fs::read_dir(folder).map_err(|e| format!("--images {}: {e}", folder.display()))?;
        Ok(Self { open: vec![open], others: 0 })
    }
}

impl Iterator for Walk {
    type Item = io::Result<PathBuf>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let entry = match self.open.last_mut()?.next() {
                None => {
                    self.open.pop();
                    continue;
                }
                Some(Ok(entry)) => entry,
                Some(Err(e)) => return Some(Err(e)),
            };
            let path = entry.path();
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => match std::fs::read_dir(&path) {
                    Ok(folder) => self.open.push(folder),
                    Err(e) => return Some(Err(io::Error::new(e.kind(), format!("{}: {e}", path.display())))),
                },
                Ok(_) if is_meant(&path) => return Some(Ok(path)),
                Ok(_) => self.others += 1,
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

fn is_meant(path: &Path) -> bool {
    let ending = path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    ending.is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_image_comes_once_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        for name in ["x.jpg", "a/y.PNG", "a/b/z.webp", "a/notes.txt", "README"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let mut walk = Walk::new(dir.path()).unwrap();
        let mut found: Vec<PathBuf> = walk.by_ref().map(Result::unwrap).collect();
        found.sort();
        let names: Vec<_> = found.iter().map(|p| p.strip_prefix(dir.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a/b/z.webp", "a/y.PNG", "x.jpg"]);
        assert_eq!(walk.others, 2);
        assert!(Walk::new(&dir.path().join("x.jpg")).is_err());
    }
}
