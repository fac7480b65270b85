//! Sections and what stands in them.

use std::fmt::Write;

use super::chart::Chart;
use super::escape::escape;
use super::picture::{self, Picture};
use super::poem::{self, Poem};
use super::table::Table;

/// A heading with blocks below it, in the order they were added.
#[derive(Debug, Clone, Default)]
pub struct Section {
    pub(super) title: String,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
enum Block {
    Text(String),
    Chart(Box<Chart>),
    Table(Table),
    Poems(Vec<Poem>),
    Pictures(Vec<Picture>),
    Preformatted(String),
    Details(String, Section),
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), blocks: Vec::new() }
    }

    /// Running text; an empty line begins a new paragraph.
    #[must_use]
    pub fn text(self, text: impl Into<String>) -> Self {
        self.with(Block::Text(text.into()))
    }

    /// A chart.
    #[must_use]
    pub fn chart(self, chart: Chart) -> Self {
        self.with(Block::Chart(Box::new(chart)))
    }

    /// A table.
    #[must_use]
    pub fn table(self, table: Table) -> Self {
        self.with(Block::Table(table))
    }

    /// Cards of verse or prose, side by side where there is room.
    #[must_use]
    pub fn poems(self, poems: impl IntoIterator<Item = Poem>) -> Self {
        self.with(Block::Poems(poems.into_iter().collect()))
    }

    /// Pictures, side by side where there is room.
    #[must_use]
    pub fn pictures(self, pictures: impl IntoIterator<Item = Picture>) -> Self {
        self.with(Block::Pictures(pictures.into_iter().collect()))
    }

    /// Text that keeps its lines, such as a configuration or a command.
    #[must_use]
    pub fn preformatted(self, text: impl Into<String>) -> Self {
        self.with(Block::Preformatted(text.into()))
    }

    /// Blocks that are folded away behind `summary` until the reader asks (`inner`'s own title is not shown).
    #[must_use]
    pub fn details(self, summary: impl Into<String>, inner: Section) -> Self {
        self.with(Block::Details(summary.into(), inner))
    }

    fn with(mut self, block: Block) -> Self {
        self.blocks.push(block);
        self
    }

    /// The blocks as HTML.
    pub(super) fn body(&self) -> String {
        self.blocks.iter().map(Block::html).collect()
    }
}

impl Block {
    fn html(&self) -> String {
        match self {
            Self::Text(text) => paragraphs(text),
            Self::Chart(chart) => chart.html(),
            Self::Table(table) => table.html(),
            Self::Poems(poems) => poem::grid(poems),
            Self::Pictures(pictures) => picture::grid(pictures),
            Self::Preformatted(text) => format!("<pre tabindex=\"0\">{}</pre>\n", escape(text.trim_end())),
            Self::Details(summary, inner) => {
                format!("<details><summary>{}</summary>\n{}</details>\n", escape(summary), inner.body())
            }
        }
    }
}

/// `text` as paragraphs, divided at empty lines.
pub(super) fn paragraphs(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
        let _ = writeln!(html, "<p>{}</p>", escape(paragraph));
    }
    html
}

/// A number to take away: large, with what it is below and what it must be read against.
#[derive(Debug, Clone)]
pub struct Figure {
    label: String,
    value: String,
    note: Option<String>,
}

impl Figure {
    /// `value` as it is to be printed (see [`super::number`]), and what it is.
    pub fn new(label: impl Into<String>, value: impl Into<String>) -> Self {
        Self { label: label.into(), value: value.into(), note: None }
    }

    /// Interval, base rate, unit or sample size, in small print.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(super) fn html(&self) -> String {
        let note = self.note.as_deref().map(|note| format!("<small>{}</small>", escape(note))).unwrap_or_default();
        format!("<li><span>{}</span><b>{}</b>{note}</li>\n", escape(&self.label), escape(&self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_divide_paragraphs() {
        assert_eq!(paragraphs("one\ntwo\n\n\n\nthree\n"), "<p>one\ntwo</p>\n<p>three</p>\n");
        assert_eq!(paragraphs(" \n"), "");
    }

    #[test]
    fn details_hold_the_inner_blocks() {
        let html = Section::new("a").details("more", Section::new("hidden title").text("inside")).body();
        assert!(html.contains("<summary>more</summary>") && html.contains("<p>inside</p>"));
        assert!(!html.contains("hidden title"));
    }
}
