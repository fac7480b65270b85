//! Cards that show generated text: Chinese verse in columns from right to left, everything else in lines.

use std::fmt::Write;

use super::escape::escape;

/// Verse with more or longer lines than this is set in horizontal lines.
const MOST_COLUMNS: usize = 16;
const LONGEST_COLUMN: usize = 16;

/// As many columns have room in a card beside others; a longer text gets the whole width.
const CARD_COLUMNS: usize = 8;

/// How the lines of a card run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// In columns, the first one on the right.
    Vertical,
    /// In centred lines, from the top.
    Horizontal,
}

/// An attribute that was asked for, and whether the text has it.
#[derive(Debug, Clone)]
pub struct Chip {
    label: String,
    met: Option<bool>,
}

impl Chip {
    /// An attribute without a verdict.
    pub fn plain(label: impl Into<String>) -> Self {
        Self { label: label.into(), met: None }
    }

    /// An attribute that the text has.
    pub fn met(label: impl Into<String>) -> Self {
        Self { label: label.into(), met: Some(true) }
    }

    /// An attribute that was asked for and that the text lacks.
    pub fn missed(label: impl Into<String>) -> Self {
        Self { label: label.into(), met: Some(false) }
    }

    fn html(&self) -> String {
        let (class, mark) = match self.met {
            None => ("", ""),
            Some(true) => (" class=\"met\"", "✓\u{202f}"),
            Some(false) => (" class=\"missed\"", "✗\u{202f}"),
        };
        format!("<li{class}>{mark}{}</li>", escape(&self.label))
    }
}

/// A text with its title, author and attributes.
#[derive(Debug, Clone, Default)]
pub struct Poem {
    title: Option<String>,
    author: Option<String>,
    lines: Vec<String>,
    chips: Vec<Chip>,
    note: Option<String>,
    layout: Option<Layout>,
}

impl Poem {
    /// A card with these lines.
    pub fn new<S: Into<String>>(lines: impl IntoIterator<Item = S>) -> Self {
        Self { lines: lines.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// The text's title.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// Who wrote it, or in whose manner.
    #[must_use]
    pub fn author(mut self, author: impl Into<String>) -> Self {
        self.author = Some(author.into());
        self
    }

    /// One attribute below the text.
    #[must_use]
    pub fn chip(mut self, chip: Chip) -> Self {
        self.chips.push(chip);
        self
    }

    /// Small print at the end, such as seed, guidance or log-probability.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Sets the lines in this way, whatever they hold.
    #[must_use]
    pub fn layout(mut self, layout: Layout) -> Self {
        self.layout = Some(layout);
        self
    }

    /// Whether the lines hold no Latin letters or digits.
    fn is_chinese(&self) -> bool {
        self.lines.iter().flat_map(|line| line.chars()).all(|c| !c.is_ascii_alphanumeric())
    }

    /// How many characters the longest column holds; title and author share one.
    fn tallest(&self) -> usize {
        let count = |text: &String| text.chars().count();
        let heading = self.title.as_ref().map_or(0, count) + self.author.as_ref().map_or(0, |author| count(author) + 1);
        self.lines.iter().map(count).fold(heading, usize::max)
    }

    /// The layout asked for, or columns for Chinese verse that fits a card.
    fn chosen_layout(&self) -> Layout {
        let verse =
            self.lines.len() <= MOST_COLUMNS && self.lines.iter().all(|line| line.chars().count() <= LONGEST_COLUMN);
        let fits = if verse && self.is_chinese() { Layout::Vertical } else { Layout::Horizontal };
        self.layout.unwrap_or(fits)
    }

    fn html(&self) -> String {
        let mut html = match self.chosen_layout() {
            Layout::Vertical if self.lines.len() > CARD_COLUMNS => open("poem v long", self.tallest(), true),
            Layout::Vertical => open("poem v", self.tallest(), true),
            Layout::Horizontal => open("poem", 0, self.is_chinese()),
        };
        if self.title.is_some() || self.author.is_some() {
            html.push_str("<header>");
            for (element, text) in [("h3", &self.title), ("cite", &self.author)] {
                if let Some(text) = text {
                    let _ = write!(html, "<{element}>{}</{element}>", escape(text));
                }
            }
            html.push_str("</header>");
        }
        for line in &self.lines {
            let _ = write!(html, "<p>{}</p>", escape(line));
        }
        html.push_str("</div>\n");
        if !self.chips.is_empty() {
            let chips: String = self.chips.iter().map(Chip::html).collect();
            let _ = writeln!(html, "<ul class=\"chips\">{chips}</ul>");
        }
        if let Some(note) = &self.note {
            let _ = writeln!(html, "<p class=\"note\" lang=\"en\">{}</p>", escape(note));
        }
        html + "</article>\n"
    }
}

/// The beginning of a card and of its text; columns need to know how tall they are.
fn open(class: &str, tallest: usize, is_chinese: bool) -> String {
    let (language, verse) = if is_chinese { (" lang=\"zh\"", "verse zh") } else { ("", "verse") };
    format!("<article class=\"{class}\"{language}>\n<div class=\"{verse}\" style=\"--tall:{tallest}\">")
}

/// Cards side by side where there is room.
pub(super) fn grid(poems: &[Poem]) -> String {
    let cards: String = poems.iter().map(Poem::html).collect();
    format!("<div class=\"poems\">\n{cards}</div>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regular_verse_stands_in_columns_and_prose_in_lines() {
        assert_eq!(Poem::new(["床前明月光，", "疑是地上霜。"]).chosen_layout(), Layout::Vertical);
        assert_eq!(Poem::new(["Gravity is"]).chosen_layout(), Layout::Horizontal);
        assert_eq!(Poem::new(["一".repeat(17)]).chosen_layout(), Layout::Horizontal);
        assert_eq!(Poem::new(vec!["一"; 17]).chosen_layout(), Layout::Horizontal);
        assert_eq!(Poem::new(["Gravity is"]).layout(Layout::Vertical).chosen_layout(), Layout::Vertical);
    }

    #[test]
    fn verdict_is_a_sign_and_not_a_colour_alone() {
        assert!(Chip::met("五言").html().contains('✓'));
        assert!(Chip::missed("五言").html().contains('✗'));
        assert_eq!(Chip::plain("唐").html(), "<li>唐</li>");
    }

    #[test]
    fn card_without_lines_is_still_a_card() {
        assert_eq!(Poem::default().html().matches("</article>").count(), 1);
    }
}
