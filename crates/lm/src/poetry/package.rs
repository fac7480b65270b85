//! The npm package `chinese-poetry`, file by file.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use serde::Deserialize;

use super::clean::{Dropped, body};
use super::error::PoetryError;
use super::form::Form;
use super::poem::{Poem, SONG, TANG};
use super::script::simplify;

/// One kind of file in the package.
#[derive(Debug, Clone, Copy)]
struct Series {
    folder: &'static str,
    prefix: &'static str,
    id: &'static str,
    dynasty: &'static str,
    is_ci: bool,
}

const SERIES: [Series; 3] = [
    Series { folder: "quantangshi", prefix: "poet.tang.", id: "tang", dynasty: TANG, is_ci: false },
    Series { folder: "quantangshi", prefix: "poet.song.", id: "song", dynasty: SONG, is_ci: false },
    Series { folder: "songci", prefix: "ci.song.", id: "ci", dynasty: SONG, is_ci: true },
];

/// The files' name for "the tune is not known".
const NO_TUNE: &str = "失调名";

#[derive(Deserialize)]
struct Record {
    author: String,
    paragraphs: Vec<String>,
    #[serde(default)]
    title: String,
    #[serde(default)]
    rhythmic: String,
    #[serde(default)]
    tags: Vec<String>,
}

/// The poems of the package in file order, one file in memory at a time; records that are no sound poem are counted and
/// passed over.
#[derive(Debug)]
pub struct Package {
    files: VecDeque<(Series, u32, PathBuf)>,
    ready: IntoIter<Poem>,
    dropped: Dropped,
    n_records: usize,
}

/// Opens the unpacked npm package (its root or its `dist` folder): about 330,000 Tang and Song shi and Song ci, all in
/// simplified script.
///
/// # Errors
/// A folder that is not the package. The iterator's items are errors that name file and record where one is damaged.
pub fn poems_from_package(dir: impl AsRef<Path>) -> Result<Package, PoetryError> {
    let dir = dir.as_ref();
    let root = ["package/dist", "dist", ""].iter().map(|sub| dir.join(sub)).find(|root| root.join("songci").is_dir());
    let missing = || PoetryError::NotPackage { path: dir.to_owned(), expected: "dist/quantangshi and dist/songci" };
    let root = root.ok_or_else(missing)?;
    let mut files = VecDeque::new();
    for series in SERIES {
        let found = series.files(&root)?;
        if found.is_empty() {
            return Err(missing());
        }
        files.extend(found);
    }
    Ok(Package { files, ready: Vec::new().into_iter(), dropped: Dropped::new(), n_records: 0 })
}

impl Package {
    /// What was passed over so far, and why.
    pub fn dropped(&self) -> &Dropped {
        &self.dropped
    }

    /// Records read so far, dropped ones included.
    pub fn n_records(&self) -> usize {
        self.n_records
    }

    fn read(&mut self, series: Series, number: u32, path: &Path) -> Result<(), PoetryError> {
        let records = read_records(path)?;
        self.n_records += records.len();
        let mut poems = Vec::with_capacity(records.len());
        for (at, record) in records.into_iter().enumerate() {
            match body(&record.paragraphs) {
                Ok(text) => poems.push(series.poem(format!("{}-{number}-{at}", series.id), &text, record)),
                Err(reason) => *self.dropped.entry(reason).or_default() += 1,
            }
        }
        self.ready = poems.into_iter();
        Ok(())
    }
}

impl Iterator for Package {
    type Item = Result<Poem, PoetryError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(poem) = self.ready.next() {
                return Some(Ok(poem));
            }
            let (series, number, path) = self.files.pop_front()?;
            if let Err(error) = self.read(series, number, &path) {
                return Some(Err(error));
            }
        }
    }
}

impl Series {
    /// The numbered files of the series in the order of their numbers.
    fn files(self, root: &Path) -> Result<Vec<(Self, u32, PathBuf)>, PoetryError> {
        let folder = root.join(self.folder);
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(PoetryError::io(&folder))? {
            let path = entry.map_err(PoetryError::io(&folder))?.path();
            files.extend(self.number(&path).map(|number| (self, number, path)));
        }
        files.sort_by_key(|&(_, number, _)| number);
        Ok(files)
    }

    /// The number in the file's name; a supplement is called `ci.song.2019y.json`.
    fn number(self, path: &Path) -> Option<u32> {
        let name = path.file_name()?.to_str()?;
        name.strip_prefix(self.prefix)?.strip_suffix(".json")?.trim_end_matches('y').parse().ok()
    }

    fn poem(self, id: String, text: &str, record: Record) -> Poem {
        let mut poem = Poem::from_text(id, text);
        poem.title = title(&record.title);
        poem.author = simplify(record.author.trim());
        poem.dynasty = self.dynasty.to_owned();
        poem.tags = record.tags.iter().map(|tag| simplify(tag.trim())).collect();
        if self.is_ci {
            poem.form = Form::Ci;
            poem.tune = tune(&record.rhythmic);
        }
        poem
    }
}

/// The standard name of a tune: the files write `其他名・正名`.
fn tune(rhythmic: &str) -> Option<String> {
    let name = simplify(rhythmic.rsplit('・').next().unwrap_or(rhythmic).trim());
    (!name.is_empty() && name != NO_TUNE).then_some(name)
}

/// The title without editors' notes in brackets.
fn title(raw: &str) -> String {
    simplify(raw.split(['（', '(', '〔', '[', '{']).next().unwrap_or(raw).trim())
}

fn read_records(path: &Path) -> Result<Vec<Record>, PoetryError> {
    let bytes = std::fs::read(path).map_err(PoetryError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|whole| damage(path, &bytes, &whole))
}

/// Finds the damaged record, which the error of the whole array does not name.
fn damage(path: &Path, bytes: &[u8], whole: &serde_json::Error) -> PoetryError {
    let values: Vec<serde_json::Value> = serde_json::from_slice(bytes).unwrap_or_default();
    let broken = |(at, value): (usize, &serde_json::Value)| {
        Record::deserialize(value).err().map(|e| (format!("{at}"), e.to_string()))
    };
    let (record, problem) =
        values.iter().enumerate().find_map(broken).unwrap_or_else(|| ("none".to_owned(), whole.to_string()));
    PoetryError::Record { path: path.to_owned(), record, problem }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poetry::Reason;
    use std::fs;

    const SHI: &str = r#"[{"author":"李白","title":"靜夜思（一作夜思）","id":"x","paragraphs":["牀前看月光，疑是地上霜。","舉頭望山月，低頭思故鄉。"]},
        {"author":"佚名","title":"句","paragraphs":["□"]}]"#;
    const CI: &str = r#"[{"author":"白居易","rhythmic":"望江南・忆江南","tags":["写景"],
        "paragraphs":["江南好，风景旧曾谙。","日出江花红胜火，春来江水绿如蓝。","能不忆江南。"]}]"#;

    fn package(shi: &str) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("dist/quantangshi")).unwrap();
        fs::create_dir_all(dir.path().join("dist/songci")).unwrap();
        fs::write(dir.path().join("dist/quantangshi/poet.tang.10000.json"), SHI).unwrap();
        fs::write(dir.path().join("dist/quantangshi/poet.tang.2000.json"), SHI).unwrap();
        fs::write(dir.path().join("dist/quantangshi/poet.song.0.json"), shi).unwrap();
        fs::write(dir.path().join("dist/quantangshi/唐诗三百首.json"), "ignored").unwrap();
        fs::write(dir.path().join("dist/songci/ci.song.0.json"), CI).unwrap();
        dir
    }

    #[test]
    fn poems_come_in_the_order_of_the_file_numbers() {
        let dir = package(SHI);
        let mut package = poems_from_package(dir.path()).unwrap();
        let poems: Vec<Poem> = package.by_ref().collect::<Result<_, _>>().unwrap();
        let ids: Vec<_> = poems.iter().map(|poem| poem.id.as_str()).collect();
        assert_eq!(ids, ["tang-2000-0", "tang-10000-0", "song-0-0", "ci-0-0"]);
        assert_eq!((package.n_records(), package.dropped()[&Reason::Placeholder]), (7, 3));
        assert_eq!((poems[0].title.as_str(), poems[0].form, poems[0].dynasty.as_str()), ("静夜思", Form::WuJue, TANG));
        assert_eq!(poems[0].text(), "床前看月光，疑是地上霜。举头望山月，低头思故乡。");
        assert_eq!((poems[3].tune.as_deref(), poems[3].form), (Some("忆江南"), Form::Ci));
    }

    #[test]
    fn damaged_file_is_named_with_its_record() {
        let cases = [
            (r#"[{"author":"a","paragraphs":[]},{"author":"b"}]"#, "record 1: missing field `paragraphs`"),
            (r#"[{"author":"a","paragraphs":[]},{"author":3,"paragraphs":[]}]"#, "record 1: invalid type: integer `3`"),
            (r#"[{"author":"a","para"#, "record none: EOF while parsing"),
        ];
        for (shi, message) in cases {
            let dir = package(shi);
            let error = poems_from_package(dir.path()).unwrap().find_map(Result::err).unwrap().to_string();
            assert!(error.contains("poet.song.0.json") && error.contains(message), "{error}");
        }
    }

    #[test]
    fn foreign_folder_is_refused_with_a_hint() {
        let dir = tempfile::tempdir().unwrap();
        let error = poems_from_package(dir.path()).unwrap_err().to_string();
        assert!(error.contains("not the chinese-poetry package") && error.contains("xtask fetch"), "{error}");
    }
}
