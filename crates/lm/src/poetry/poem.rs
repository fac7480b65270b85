use super::form::Form;
use super::verse::{count, is_mark, split_lines};

/// The dynasty of the Tang files.
pub const TANG: &str = "唐";
/// The dynasty of the Song files.
pub const SONG: &str = "宋";

/// One poem in simplified script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Poem {
    /// Unique in its source: `tang-1000-17` is record 17 of `poet.tang.1000.json`.
    pub id: String,
    /// Title, possibly empty.
    pub title: String,
    /// Author, possibly empty.
    pub author: String,
    /// Dynasty (`唐`, `宋`, or what the user's file says), possibly empty.
    pub dynasty: String,
    /// Form, by rule unless the source says that it is a ci.
    pub form: Form,
    /// Tune of a ci under its standard name.
    pub tune: Option<String>,
    /// Topic tags of the source.
    pub tags: Vec<String>,
    /// Lines, each with the mark that ends it.
    pub lines: Vec<String>,
}

impl Poem {
    /// A poem of this text and nothing else known; the form follows from the lines.
    pub fn from_text(id: impl Into<String>, text: &str) -> Self {
        let lines = split_lines(text);
        Self {
            id: id.into(),
            title: String::new(),
            author: String::new(),
            dynasty: String::new(),
            form: Form::of_shi(&lengths(&lines)),
            tune: None,
            tags: Vec::new(),
            lines,
        }
    }

    /// The whole body, `床前明月光，疑是地上霜。举头望明月，低头思故乡。`.
    pub fn text(&self) -> String {
        self.lines.concat()
    }

    /// The body without marks.
    pub fn bare(&self) -> String {
        self.lines.iter().flat_map(|line| line.chars()).filter(|&c| !is_mark(c)).collect()
    }

    /// Characters of the body, marks not counted.
    pub fn length(&self) -> usize {
        self.line_lengths().iter().sum()
    }

    /// Characters of each line, marks not counted.
    pub fn line_lengths(&self) -> Vec<usize> {
        lengths(&self.lines)
    }
}

fn lengths(lines: &[String]) -> Vec<usize> {
    lines.iter().map(|line| count(line)).collect()
}
