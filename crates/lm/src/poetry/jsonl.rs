//! Poems as JSON lines: what users bring and what the embedded part is stored as.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::error::PoetryError;
use super::form::Form;
use super::poem::Poem;
use super::script::simplify;
use super::verse::is_han;

const FIELDS: [&str; 8] = ["id", "title", "author", "dynasty", "form", "tune", "tags", "text"];

/// Reads a user's own poems, one JSON object a line; only `text` is required (docs/howto/own-poems.md).
///
/// Everything comes back in simplified script. A byte-order mark and empty lines are passed over; a poem without an id is
/// called `line-N`.
///
/// # Errors
/// Unreadable file, bytes that are not UTF-8, a line that is no object, a field that is unknown, missing, empty or of the
/// wrong type, an id used twice, a file without poems; each names the file, the line and the field.
pub fn from_jsonl(path: impl AsRef<Path>) -> Result<Vec<Poem>, PoetryError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(PoetryError::io(path))?;
    parse(path, &bytes)
}

/// Reads JSON lines from memory; `path` is for the error messages.
pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Vec<Poem>, PoetryError> {
    let text = std::str::from_utf8(bytes).map_err(|e| not_utf8(path, bytes, e.valid_up_to()))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut poems = Vec::new();
    let mut first = HashMap::new();
    for (line, json) in (1..).zip(text.lines()).filter(|(_, json)| !json.trim().is_empty()) {
        let poem = Row::new(path, line, json)?.poem()?;
        if let Some(first) = first.insert(poem.id.clone(), line) {
            return Err(PoetryError::DuplicateId { path: path.to_owned(), line, id: poem.id, first });
        }
        poems.push(poem);
    }
    if poems.is_empty() {
        return Err(PoetryError::NoPoems { path: path.to_owned() });
    }
    Ok(poems)
}

/// One JSON line of `poem`, without its line feed; empty fields are left out.
pub(super) fn to_line(poem: &Poem) -> Result<String, serde_json::Error> {
    let is_untuned = poem.form == Form::Ci && poem.tune.is_none();
    serde_json::to_string(&Line {
        id: &poem.id,
        author: &poem.author,
        dynasty: &poem.dynasty,
        tune: poem.tune.as_deref().unwrap_or_default(),
        form: if is_untuned { Form::Ci.name() } else { "" },
        title: &poem.title,
        tags: &poem.tags,
        text: &poem.text(),
    })
}

/// The fields of a line in the order in which they are written.
#[derive(Serialize)]
struct Line<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    author: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dynasty: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    tune: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    form: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    title: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    text: &'a str,
}

fn not_utf8(path: &Path, bytes: &[u8], at: usize) -> PoetryError {
    let line = bytes[..at].iter().filter(|&&b| b == b'\n').count() + 1;
    let hint = match bytes {
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => ", it looks like UTF-16; save the file as UTF-8",
        _ => ", perhaps GBK or Big5; save the file as UTF-8",
    };
    PoetryError::NotUtf8 { path: path.to_owned(), line, hint }
}

/// One parsed line and where it stands.
struct Row<'a> {
    path: &'a Path,
    line: usize,
    fields: Map<String, Value>,
}

impl<'a> Row<'a> {
    fn new(path: &'a Path, line: usize, json: &str) -> Result<Self, PoetryError> {
        let problem = match serde_json::from_str(json) {
            Ok(Value::Object(fields)) => return Self { path, line, fields }.known_fields_only(),
            Ok(other) => type_of(&other).to_owned(),
            Err(error) => error.to_string(),
        };
        Err(PoetryError::Json { path: path.to_owned(), line, problem })
    }

    fn known_fields_only(self) -> Result<Self, PoetryError> {
        match self.fields.keys().find(|field| !FIELDS.contains(&field.as_str())) {
            Some(field) => Err(self.error(field, format!("unknown, expected one of {}", FIELDS.join(" ")))),
            None => Ok(self),
        }
    }

    fn poem(&self) -> Result<Poem, PoetryError> {
        let id = self.string("id")?.unwrap_or_else(|| format!("line-{}", self.line));
        let mut poem = Poem::from_text(id, &self.text()?);
        poem.title = self.string("title")?.unwrap_or_default();
        poem.author = self.string("author")?.unwrap_or_default();
        poem.dynasty = self.string("dynasty")?.unwrap_or_default();
        poem.tune = self.string("tune")?;
        poem.tags = self.tags()?;
        poem.form = self.form(&poem)?;
        Ok(poem)
    }

    fn text(&self) -> Result<String, PoetryError> {
        let text = self.string("text")?.ok_or_else(|| self.error("text", "missing or empty".to_owned()))?;
        match text.chars().any(is_han) {
            true => Ok(text),
            false => Err(self.error("text", "holds no Chinese character".to_owned())),
        }
    }

    /// The form that the row names, else the one that follows from tune and lines.
    fn form(&self, poem: &Poem) -> Result<Form, PoetryError> {
        let by_rule = if poem.tune.is_some() { Form::Ci } else { poem.form };
        let Some(name) = self.string("form")? else { return Ok(by_rule) };
        let named: Form = name.parse().map_err(|e: PoetryError| self.error("form", e.to_string()))?;
        match named.shape() {
            Some(_) if named != poem.form => {
                Err(self.error("form", format!("{named} does not fit lines of {:?} characters", poem.line_lengths())))
            }
            _ => Ok(named),
        }
    }

    fn tags(&self) -> Result<Vec<String>, PoetryError> {
        let wrong = |value: &Value| self.error("tags", format!("expected an array of strings, got {}", type_of(value)));
        match self.fields.get("tags") {
            None | Some(Value::Null) => Ok(Vec::new()),
            Some(Value::Array(tags)) => {
                tags.iter().map(|tag| tag.as_str().map(simplify).ok_or_else(|| wrong(tag))).collect()
            }
            Some(other) => Err(wrong(other)),
        }
    }

    /// A string field in simplified script; `None` where it is absent, null or blank.
    fn string(&self, field: &str) -> Result<Option<String>, PoetryError> {
        match self.fields.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(simplify(text.trim())).filter(|text| !text.is_empty())),
            Some(other) => Err(self.error(field, format!("expected a string, got {}", type_of(other)))),
        }
    }

    fn error(&self, field: &str, problem: String) -> PoetryError {
        PoetryError::Field { path: self.path.to_owned(), line: self.line, field: field.to_owned(), problem }
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "床前明月光，疑是地上霜。举头望明月，低头思故乡。";

    fn read(bytes: &[u8]) -> Result<Vec<Poem>, String> {
        parse(Path::new("own.jsonl"), bytes).map_err(|e| e.to_string())
    }

    fn refused(bytes: &[u8]) -> String {
        read(bytes).unwrap_err()
    }

    #[test]
    fn text_alone_makes_a_poem_in_simplified_script() {
        let poems = read("{\"text\": \"牀前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。\"}\r\n\n".as_bytes()).unwrap();
        assert_eq!(poems, [Poem::from_text("line-1", TEXT)]);
        assert_eq!(poems[0].form, Form::WuJue);
    }

    #[test]
    fn byte_order_mark_is_passed_over() {
        assert_eq!(read(format!("\u{feff}{{\"text\":\"{TEXT}\"}}").as_bytes()).unwrap().len(), 1);
    }

    #[test]
    fn lines_read_back_as_written() {
        let ci = Poem {
            title: "春景".into(),
            author: "苏轼".into(),
            dynasty: "宋".into(),
            form: Form::Ci,
            tune: Some("蝶恋花".into()),
            tags: vec!["春天".into()],
            ..Poem::from_text("ci-1", "花褪残红青杏小。燕子飞时，绿水人家绕。")
        };
        let untuned = Poem { form: Form::Ci, ..Poem::from_text("ci-2", TEXT) };
        let poems = [ci, untuned, Poem::from_text("shi", TEXT)];
        let jsonl: String = poems.iter().map(|poem| to_line(poem).unwrap() + "\n").collect();
        assert_eq!(read(jsonl.as_bytes()).unwrap(), poems);
    }

    #[test]
    fn damaged_lines_are_named_with_file_line_and_field() {
        let good = format!("{{\"text\":\"{TEXT}\"}}\n");
        let cases = [
            ("{\"text\": ", "own.jsonl:2: expected one JSON object a line, got EOF"),
            ("[1]", "own.jsonl:2: expected one JSON object a line, got an array"),
            ("{\"title\":\"x\"}", "own.jsonl:2: field `text`: missing or empty"),
            ("{\"text\":\"  \"}", "own.jsonl:2: field `text`: missing or empty"),
            ("{\"text\":\"hello\"}", "own.jsonl:2: field `text`: holds no Chinese character"),
            ("{\"text\":7}", "own.jsonl:2: field `text`: expected a string, got a number"),
            ("{\"text\":\"月\",\"poet\":\"x\"}", "own.jsonl:2: field `poet`: unknown, expected one of id title"),
            (
                "{\"text\":\"月\",\"tags\":\"x\"}",
                "own.jsonl:2: field `tags`: expected an array of strings, got a string",
            ),
            ("{\"text\":\"月\",\"tags\":[null]}", "own.jsonl:2: field `tags`: expected an array of strings, got null"),
            ("{\"text\":\"月\",\"form\":\"律\"}", "own.jsonl:2: field `form`: `律` is no form"),
            ("{\"text\":\"月。\",\"form\":\"五绝\"}", "own.jsonl:2: field `form`: 五绝 does not fit lines of [1]"),
            ("{\"text\":\"月\",\"id\":\"line-1\"}", "own.jsonl:2: field `id`: `line-1` was already used on line 1"),
        ];
        for (line, message) in cases {
            let error = refused((good.clone() + line).as_bytes());
            assert!(error.starts_with(message), "{error}\nexpected {message}");
        }
    }

    #[test]
    fn other_encodings_and_empty_files_are_refused() {
        assert!(refused(b"{\"text\":\"\n\xC4\xE3\"}").starts_with("own.jsonl:2: not UTF-8, perhaps GBK"));
        assert!(refused(b"\xFF\xFE{\0").starts_with("own.jsonl:1: not UTF-8, it looks like UTF-16"));
        assert_eq!(refused(b""), "own.jsonl: holds no poems");
        assert_eq!(refused(b"\n \n"), "own.jsonl: holds no poems");
    }

    #[test]
    fn missing_file_is_named() {
        assert!(from_jsonl("no/such.jsonl").unwrap_err().to_string().starts_with("no/such.jsonl: "));
    }
}
