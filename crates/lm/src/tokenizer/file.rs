//! The file of a character tokenizer, and what all tokenizer files go through.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::special::SPECIALS;
use super::{CharTokenizer, Fingerprint, TokenizerError};

const FORMAT: &str = "chandlery-char-tokenizer";
const VERSION: u64 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CharFile {
    format: String,
    version: u64,
    specials: Vec<String>,
    characters: Vec<String>,
    fingerprint: Fingerprint,
}

/// Reads a whole text file.
pub(super) fn read(path: &Path) -> Result<String, TokenizerError> {
    let bytes = fs::read(path).map_err(|source| TokenizerError::Io { path: path.to_owned(), source })?;
    String::from_utf8(bytes)
        .map_err(|e| TokenizerError::NotUtf8 { path: path.to_owned(), offset: e.utf8_error().valid_up_to() })
}

/// Writes a text file whole or not at all.
pub(super) fn write(path: &Path, text: &str) -> Result<(), TokenizerError> {
    Ok(chandlery_nn::file::write_atomic(path, |out| out.write_all(text.as_bytes()))?)
}

/// Whether the JSON text says that it is a character tokenizer.
pub(super) fn is_char_file(path: &Path, text: &str) -> Result<bool, TokenizerError> {
    #[derive(Deserialize)]
    struct Head {
        #[serde(default)]
        format: Value,
    }
    let head: Head = serde_json::from_str(text).map_err(json_error(path))?;
    Ok(head.format == FORMAT)
}

fn json_error(path: &Path) -> impl Fn(serde_json::Error) -> TokenizerError {
    move |e| TokenizerError::Json { path: path.to_owned(), problem: e.to_string() }
}

impl CharTokenizer {
    /// Loads what [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If the file cannot be read, is cut off, of another version, or damaged; the message names the file and the field.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, TokenizerError> {
        let path = path.as_ref();
        Self::parse(path, &read(path)?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, TokenizerError> {
        let value: Value = serde_json::from_str(text).map_err(json_error(path))?;
        check_value(path, &value, "format", &FORMAT.into())?;
        check_value(path, &value, "version", &VERSION.into())?;
        let file: CharFile = serde_json::from_value(value).map_err(json_error(path))?;
        check_specials(path, &file.specials)?;
        let tokenizer = Self::from_chars(distinct_chars(path, &file.characters)?);
        if *tokenizer.fingerprint() != file.fingerprint {
            let problem = format!("expected {}, the entries give {}", file.fingerprint, tokenizer.fingerprint());
            return Err(TokenizerError::field(path, "fingerprint", problem));
        }
        Ok(tokenizer)
    }

    /// Writes a versioned JSON file, whole or not at all.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), TokenizerError> {
        let file = CharFile {
            format: FORMAT.to_owned(),
            version: VERSION,
            specials: SPECIALS.map(str::to_owned).to_vec(),
            characters: self.characters().iter().map(char::to_string).collect(),
            fingerprint: self.fingerprint().clone(),
        };
        let text = serde_json::to_string(&file).map_err(json_error(path.as_ref()))?;
        write(path.as_ref(), &text)
    }
}

fn check_value(path: &Path, file: &Value, field: &str, expected: &Value) -> Result<(), TokenizerError> {
    match file.get(field) {
        Some(got) if got == expected => Ok(()),
        Some(got) => Err(TokenizerError::field(path, field, format!("expected {expected}, got {got}"))),
        None => Err(TokenizerError::field(path, field, format!("expected {expected}, got nothing"))),
    }
}

fn check_specials(path: &Path, got: &[String]) -> Result<(), TokenizerError> {
    for (i, &name) in SPECIALS.iter().enumerate() {
        if got.get(i).map(String::as_str) != Some(name) {
            let problem = format!("expected {name}, got {}", got.get(i).map_or("nothing", |s| s));
            return Err(TokenizerError::field(path, format!("specials[{i}]"), problem));
        }
    }
    match got.get(SPECIALS.len()) {
        None => Ok(()),
        Some(more) => {
            let field = format!("specials[{}]", SPECIALS.len());
            Err(TokenizerError::field(path, field, format!("expected no more, got {more}")))
        }
    }
}

fn distinct_chars(path: &Path, entries: &[String]) -> Result<Vec<char>, TokenizerError> {
    let mut seen = HashSet::new();
    let parse = |(i, entry): (usize, &String)| {
        let wrong = |problem: String| TokenizerError::field(path, format!("characters[{i}]"), problem);
        let mut chars = entry.chars();
        match (chars.next(), chars.next()) {
            (Some(c), None) if seen.insert(c) => Ok(c),
            (Some(c), None) => Err(wrong(format!("`{c}` stands there twice"))),
            _ => Err(wrong(format!("expected one character, got `{entry}`"))),
        }
    };
    entries.iter().enumerate().map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> (tempfile::TempDir, std::path::PathBuf, Value) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokenizer.json");
        CharTokenizer::train(["山水山水月"], 1, "").unwrap().save(&path).unwrap();
        let value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        (dir, path, value)
    }

    /// The error after the saved file was changed by `change`, without its path.
    fn error(change: impl FnOnce(&mut Value)) -> String {
        let (_dir, path, mut value) = saved();
        change(&mut value);
        fs::write(&path, value.to_string()).unwrap();
        let message = CharTokenizer::load(&path).unwrap_err().to_string();
        message.strip_prefix(&format!("{}: ", path.display())).unwrap().to_owned()
    }

    #[test]
    fn load_gives_back_what_was_saved() {
        let (_dir, path, _) = saved();
        let tokenizer = CharTokenizer::load(&path).unwrap();
        assert_eq!(tokenizer.characters(), ['山', '水', '月']);
        assert_eq!(tokenizer.encode("月"), [275]);
    }

    #[test]
    fn wrong_fields_are_named() {
        assert_eq!(error(|v| v["version"] = 2.into()), "field `version`: expected 1, got 2");
        assert_eq!(
            error(|v| v["format"] = "x".into()),
            r#"field `format`: expected "chandlery-char-tokenizer", got "x""#
        );
        assert_eq!(error(|v| v["characters"][2] = "山".into()), "field `characters[2]`: `山` stands there twice");
        assert_eq!(error(|v| v["characters"][1] = "".into()), "field `characters[1]`: expected one character, got ``");
        assert_eq!(error(|v| v["specials"][3] = "</s>".into()), "field `specials[3]`: expected [EOS], got </s>");
        let short = |v: &mut Value| v["specials"].as_array_mut().unwrap().truncate(16);
        assert_eq!(error(short), "field `specials[16]`: expected [/a], got nothing");
        assert!(error(|v| v["characters"][1] = "火".into()).starts_with("field `fingerprint`: expected "));
        assert!(error(|v| v["more"] = 1.into()).contains("unknown field `more`"));
        assert!(
            error(|v| drop(v.as_object_mut().unwrap().remove("characters"))).contains("missing field `characters`")
        );
    }

    #[test]
    fn truncated_file_is_named() {
        let (_dir, path, _) = saved();
        let bytes = fs::read(&path).unwrap();
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).unwrap();
            let message = CharTokenizer::load(&path).unwrap_err().to_string();
            assert!(message.contains("tokenizer.json"), "{message}");
        }
    }

    #[test]
    fn flipped_bits_never_pass_in_silence() {
        let (_dir, path, _) = saved();
        let whole = CharTokenizer::load(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            fs::write(&path, &damaged).unwrap();
            if let Ok(read) = CharTokenizer::load(&path) {
                assert_eq!(read.characters(), whole.characters());
            }
        }
    }

    #[test]
    fn foreign_bytes_are_named_with_their_place() {
        let (_dir, path, _) = saved();
        fs::write(&path, b"{\"a\": \"\xd6\xd0\"}").unwrap();
        assert!(CharTokenizer::load(&path).unwrap_err().to_string().ends_with("tokenizer.json: not UTF-8 at byte 7"));
    }
}
