//! Text files of data sets: lines, words and comma-separated rows.

use std::fs;
use std::path::{Path, PathBuf};

use super::DataError;

/// Files beside images that are none; any other file is judged by its content.
const COMPANIONS: [&str; 13] =
    ["csv", "db", "gz", "html", "ini", "json", "jsonl", "mat", "md", "npy", "tsv", "txt", "xml"];

/// The whole text of a file; a byte-order mark is taken off.
pub(super) fn read(path: &Path) -> Result<String, DataError> {
    let bytes = fs::read(path).map_err(DataError::io(path))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let line = 1 + e.as_bytes()[..e.utf8_error().valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        DataError::line(path, line, "expected UTF-8")
    })?;
    Ok(text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text))
}

/// The lines of a file that are not blank, with their numbers, each split into its first word and the rest.
pub(super) fn pairs(path: &Path) -> Result<Vec<(usize, String, String)>, DataError> {
    let mut pairs = Vec::new();
    for (n, line) in read(path)?.lines().enumerate() {
        let line = line.trim();
        if !line.is_empty() {
            let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            pairs.push((n + 1, first.to_owned(), rest.trim().to_owned()));
        }
    }
    Ok(pairs)
}

/// `N` numbers from a text of words.
pub(super) fn numbers<const N: usize>(path: &Path, line: usize, text: &str) -> Result<[f32; N], DataError> {
    let parsed: Vec<f32> = text.split_whitespace().map_while(|word| word.parse().ok()).collect();
    parsed.try_into().map_err(|got: Vec<f32>| {
        DataError::line(path, line, format!("expected {N} numbers, got {} in `{text}`", got.len()))
    })
}

/// Comma-separated rows with the line each begins on (RFC 4180: quotes may hold commas, line ends and doubled quotes).
pub(super) fn rows(path: &Path) -> Result<Vec<(usize, Vec<String>)>, DataError> {
    let text = read(path)?;
    let (mut rows, mut row, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut line, mut begun, mut quoted) = (1, 1, false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        line += usize::from(c == '\n');
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted || field.is_empty() => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\r' if !quoted && chars.peek() == Some(&'\n') => {}
            '\n' if !quoted => {
                row.push(std::mem::take(&mut field));
                rows.push((begun, std::mem::take(&mut row)));
                begun = line;
            }
            other => field.push(other),
        }
    }
    if quoted {
        return Err(DataError::line(path, begun, "a quote is opened and never closed"));
    }
    if !row.is_empty() || !field.is_empty() {
        row.push(field);
        rows.push((begun, row));
    }
    rows.retain(|(_, row)| row.iter().any(|field| !field.trim().is_empty()));
    Ok(rows)
}

/// How deep folders may lie in folders; more is a link to a folder above.
const DEPTH: usize = 16;

/// Every file under `folder` that may be an image, sorted by path; hidden ones are left out.
pub(super) fn images(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = Vec::new();
    walk(folder, DEPTH, &mut found)?;
    found.sort();
    Ok(found)
}

/// As [`images`], of those directly in `folder`.
pub(super) fn images_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let mut found = images_of(folder)?.0;
    found.sort();
    Ok(found)
}

fn walk(folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), DataError> {
    if depth == 0 {
        return Err(DataError::layout(folder, "folders are nested too deeply, perhaps by a link to a folder above"));
    }
    let (files, folders) = images_of(folder)?;
    found.extend(files);
    folders.iter().try_for_each(|inner| walk(inner, depth - 1, found))
}

/// What may be an image directly in `folder`, and the folders in it.
fn images_of(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(DataError::io(folder))? {
        let entry = entry.map_err(DataError::io(folder))?;
        let path = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if path.is_dir() {
            folders.push(path);
        } else if !is_companion(&path) {
            files.push(path);
        }
    }
    Ok((files, folders))
}

fn is_companion(path: &Path) -> bool {
    let ending = path.extension().map(|e| e.to_string_lossy().to_lowercase());
    ending.is_some_and(|ending| COMPANIONS.contains(&ending.as_str()))
}

/// The folders directly in `folder` with their names, sorted; hidden ones are left out.
pub(super) fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>, DataError> {
    let name = |path: PathBuf| Some((path.file_name()?.to_string_lossy().into_owned(), path));
    let mut found: Vec<_> = images_of(folder)?.1.into_iter().filter_map(name).collect();
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas_and_line_ends() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.csv");
        fs::write(&path, "\u{feff}path,label\r\n\"a, b.jpg\",\"say \"\"hi\"\"\"\n\n\"two\nlines\",\nlast,1").unwrap();
        let rows = rows(&path).unwrap();
        let fields: Vec<Vec<&str>> = rows.iter().map(|(_, r)| r.iter().map(String::as_str).collect()).collect();
        assert_eq!(fields[1], ["a, b.jpg", "say \"hi\""]);
        assert_eq!(fields[2], ["two\nlines", ""]);
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 4, 6]);
        fs::write(&path, "a,\"b\nc").unwrap();
        assert!(super::rows(&path).unwrap_err().to_string().contains(":1: a quote"));
        fs::write(&path, [b'a', b'\n', 0xff]).unwrap();
        assert!(super::rows(&path).unwrap_err().to_string().contains(":2: expected UTF-8"));
    }
}
