//! Tables: columns of numbers stand right-aligned, text left.

use std::fmt::Write;

use super::escape::escape;
use super::number;

/// One cell, formatted, and whether it is a number.
#[derive(Debug, Clone)]
pub struct Cell {
    text: String,
    /// Small print behind the text, such as an interval.
    aside: Option<String>,
    is_number: bool,
    strong: bool,
}

impl Cell {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), aside: None, is_number: false, strong: false }
    }

    /// A number with `digits` digits behind the point.
    pub fn number(value: f64, digits: usize) -> Self {
        Self { is_number: true, ..Self::text(number::fixed(value, digits)) }
    }

    /// A share as a percentage.
    pub fn percent(share: f64) -> Self {
        Self { is_number: true, ..Self::text(number::percent(share)) }
    }

    /// A share as a percentage with its interval in small print.
    pub fn percent_within(share: f64, low: f64, high: f64) -> Self {
        let range = format!("{}–{}", number::fixed(low * 100.0, 1), number::fixed(high * 100.0, 1));
        let aside = (low.is_finite() && high.is_finite()).then_some(range);
        Self { aside, ..Self::percent(share) }
    }

    /// The same cell in bold.
    #[must_use]
    pub fn strong(mut self) -> Self {
        self.strong = true;
        self
    }

    fn html(&self, element: &str) -> String {
        let class = if self.is_number { " class=\"n\"" } else { "" };
        let text = escape(&self.text);
        let text = if self.strong { format!("<strong>{text}</strong>") } else { text.into_owned() };
        let aside = self.aside.as_deref().map(|aside| format!(" <small>{}</small>", escape(aside))).unwrap_or_default();
        format!("<{element}{class}>{text}{aside}</{element}>")
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self { is_number: true, ..Self::text(number::short(value)) }
    }
}

impl From<u64> for Cell {
    fn from(value: u64) -> Self {
        Self { is_number: true, ..Self::text(number::count(value)) }
    }
}

/// A table with one header row; the first column names the rows.
#[derive(Debug, Clone, Default)]
pub struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
    title: Option<String>,
    note: Option<String>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self { columns: columns.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Appends a row; cells that are missing stay empty, further ones are left out.
    #[must_use]
    pub fn row<C: Into<Cell>>(mut self, cells: impl IntoIterator<Item = C>) -> Self {
        let mut row: Vec<Cell> = cells.into_iter().map(Into::into).collect();
        row.resize(self.columns.len(), Cell::text(""));
        self.rows.push(row);
        self
    }

    /// What the table shows, above it.
    #[must_use]
    pub fn title(mut self, title: impl Into<String>) -> Self {
        self.title = Some(title.into());
        self
    }

    /// How to read it, below it.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(super) fn html(&self) -> String {
        let mut html = String::from("<figure class=\"table\">");
        if let Some(title) = &self.title {
            let _ = write!(html, "<figcaption>{}</figcaption>", escape(title));
        }
        html.push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
        for (i, column) in self.columns.iter().enumerate() {
            let class = if self.is_numeric(i) { " class=\"n\"" } else { "" };
            let _ = write!(html, "<th scope=\"col\"{class}>{}</th>", escape(column));
        }
        html.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            html.push_str("<tr>");
            for (i, cell) in row.iter().enumerate() {
                html.push_str(&cell.html(if i == 0 { "th" } else { "td" }));
            }
            html.push_str("</tr>\n");
        }
        if self.rows.is_empty() {
            let _ = writeln!(html, "<tr><td colspan=\"{}\">no rows</td></tr>", self.columns.len().max(1));
        }
        html.push_str("</tbody></table></div>");
        if let Some(note) = &self.note {
            let _ = write!(html, "<p class=\"note\">{}</p>", escape(note));
        }
        html + "</figure>\n"
    }

    /// Whether column `i` holds numbers only.
    fn is_numeric(&self, i: usize) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|row| row[i].is_number || row[i].text.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_of_numbers_are_marked_as_such() {
        let table =
            Table::new(["name", "value"]).row([Cell::from("a"), 1.5.into()]).row([Cell::from("b"), 20_000u64.into()]);
        let html = table.html();
        assert!(html.contains("<th scope=\"col\">name</th><th scope=\"col\" class=\"n\">value</th>"));
        assert!(html.contains("<th>b</th><td class=\"n\">20,000</td>"));
    }

    #[test]
    fn short_and_long_rows_fit_the_header() {
        let html = Table::new(["a", "b"]).row(["1"]).row(["1", "2", "3"]).html();
        assert!(html.contains("<th>1</th><td></td>") && !html.contains('3'));
    }

    #[test]
    fn table_without_rows_says_so() {
        assert!(Table::new(["a", "b"]).html().contains("<td colspan=\"2\">no rows</td>"));
        assert!(Table::default().html().contains("no rows"));
    }

    #[test]
    fn interval_is_small_print_and_absent_when_it_is_no_number() {
        assert!(Cell::percent_within(0.9, 0.88, 0.92).html("td").contains("90.0\u{202f}% <small>88.0–92.0</small>"));
        assert!(!Cell::percent_within(0.9, f64::NAN, 0.92).html("td").contains("small"));
    }
}
