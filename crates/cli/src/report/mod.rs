//! A report that is one file: HTML with its style and its charts inside, readable without a network and without scripts.
//!
//! Plain data goes in, a `String` comes out; whoever calls writes it to disk. All text is escaped on the way.
//!
//! ```text
//! Report ─┬─ facts, key figures
//!         └─ Section ── text, Chart, Table, Poem cards, Pictures, preformatted text
//! ```
#![allow(dead_code, reason = "one vocabulary for all recipes; each takes what it needs")]

pub mod chart;
mod escape;
pub mod number;
mod page;
mod picture;
mod poem;
mod section;
mod table;

#[cfg(test)]
mod demo;

pub use picture::Picture;
#[allow(unused_imports, reason = "one vocabulary for all recipes")]
pub use poem::{Chip, Layout, Poem};
pub use section::{Figure, Section};
pub use table::{Cell, Table};

/// A report under construction.
#[derive(Debug, Clone, Default)]
pub struct Report {
    title: String,
    lede: Option<String>,
    facts: Vec<(String, String)>,
    figures: Vec<Figure>,
    sections: Vec<Section>,
}

impl Report {
    /// An empty report; `title` is its heading and the name of the browser's tab.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// One or two sentences below the title: what was run and what came out.
    #[must_use]
    pub fn lede(mut self, text: impl Into<String>) -> Self {
        self.lede = Some(text.into());
        self
    }

    /// One fact of the run, such as seed, parameters or hardware, for the list below the title.
    #[must_use]
    pub fn fact(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.facts.push((name.into(), value.into()));
        self
    }

    /// One of the few numbers that a reader should take away.
    #[must_use]
    pub fn figure(mut self, figure: Figure) -> Self {
        self.figures.push(figure);
        self
    }

    /// Appends a section.
    #[must_use]
    pub fn section(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The whole page.
    pub fn render(&self) -> String {
        page::render(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks that every opened element is closed in order, and returns how many there are.
    fn balanced(html: &str) -> usize {
        const VOID: &[&str] = &["meta", "br", "!doctype"];
        let (mut open, mut elements) = (Vec::new(), 0);
        for part in html.split('<').skip(1) {
            let tag = part.split('>').next().unwrap();
            let name = tag.split([' ', '\n', '/']).find(|word| !word.is_empty()).unwrap();
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "closed out of order near <{}", &part[..part.len().min(80)]);
            } else if !tag.ends_with('/') && !VOID.contains(&name) {
                open.push(name);
                elements += 1;
            }
        }
        assert!(open.is_empty(), "left open: {open:?}");
        elements
    }

    #[test]
    fn page_is_well_formed_and_reaches_for_nothing_outside() {
        let html = demo::report().render();
        assert!(balanced(&html) > 300);
        let outside = html.replace("http://www.w3.org/2000/svg", "").replace("http-equiv", "");
        for word in ["http", "<script", "src=\"", "@import", "url("] {
            assert!(!outside.contains(word), "{word}");
        }
        assert!(html.contains("default-src 'none'"));
    }

    #[test]
    fn no_number_is_printed_that_is_not_one() {
        let html = demo::report().render();
        for word in ["NaN", "inf\"", ">inf", "-0.0\""] {
            assert!(!html.contains(word), "{word}");
        }
    }

    #[test]
    fn hostile_text_stays_text_wherever_it_is_put() {
        let evil = "<script>alert(\"1\")</script>&'";
        let chart = chart::lines(
            evil,
            chart::Axis::new(evil),
            chart::Axis::new(evil),
            vec![chart::Series::new(evil, vec![(0.0, 1.0)])],
        );
        let poem = Poem::new([evil]).title(evil).author(evil).chip(Chip::met(evil)).note(evil);
        let section = Section::new(evil)
            .text(evil)
            .chart(chart.note(evil))
            .table(Table::new([evil]).row([evil]).note(evil))
            .poems([poem])
            .preformatted(evil)
            .details(evil, Section::new(evil));
        let html = Report::new(evil)
            .lede(evil)
            .fact(evil, evil)
            .figure(Figure::new(evil, evil).note(evil))
            .section(section)
            .render();
        assert!(!html.contains("<script") && !html.contains("alert(\"1\")"));
        assert!(balanced(&html) > 20);
    }

    #[test]
    fn empty_report_is_a_page() {
        let html = Report::new("").render();
        assert!(balanced(&html) > 3);
        assert!(html.starts_with("<!doctype html>"));
    }

    #[test]
    fn sections_are_listed_and_linked_when_there_are_several() {
        let report =
            |n: usize| (0..n).fold(Report::new("r"), |report, i| report.section(Section::new(format!("Part {i}"))));
        assert!(!report(2).render().contains("<nav"));
        let html = report(3).render();
        assert!(html.contains("<a href=\"#part-2\">Part 2</a>") && html.contains("<section id=\"part-2\">"));
    }

    /// `CHANDLERY_REPORT_DEMO=FILE cargo test -p chandlery-cli demo` writes the page for the eye to judge.
    #[test]
    fn demo_page_is_written_where_asked() {
        if let Some(path) = std::env::var_os("CHANDLERY_REPORT_DEMO") {
            std::fs::write(path, demo::report().render()).unwrap();
        }
    }
}
