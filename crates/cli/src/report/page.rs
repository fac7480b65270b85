//! The page around the sections.

use std::fmt::Write;

use super::Report;
use super::chart;
use super::escape::{escape, slug};
use super::section::paragraphs;

const STYLE: &str = include_str!("page.css");
/// Longer facts take two columns.
const LONG_FACT: usize = 28;
/// Reports with fewer sections are short enough to scroll.
const LIST_SECTIONS_FROM: usize = 3;

/// The whole page as HTML; the policy in its head forbids every request.
pub fn render(report: &Report) -> String {
    let title = escape(&report.title);
    let ids = ids(report);
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{}{STYLE}</style>\n</head>\n<body>\n<main>\n<header class=\"top\">\n<h1>{title}</h1>\n",
        chart::STYLE
    );
    if let Some(lede) = &report.lede {
        let _ = writeln!(html, "<div class=\"lede\">{}</div>", paragraphs(lede));
    }
    html.push_str(&facts(&report.facts));
    html.push_str("</header>\n");
    if !report.figures.is_empty() {
        let figures: String = report.figures.iter().map(super::Figure::html).collect();
        let _ = writeln!(html, "<ul class=\"figures\">\n{figures}</ul>");
    }
    html.push_str(&contents(report, &ids));
    for (section, id) in report.sections.iter().zip(&ids) {
        let _ =
            writeln!(html, "<section id=\"{id}\">\n<h2>{}</h2>\n{}</section>", escape(&section.title), section.body());
    }
    html + "</main>\n</body>\n</html>\n"
}

fn facts(facts: &[(String, String)]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let row = |(name, value): &(String, String)| {
        let class = if value.chars().count() > LONG_FACT { " class=\"long\"" } else { "" };
        format!("<div{class}><dt>{}</dt><dd>{}</dd></div>\n", escape(name), escape(value))
    };
    let rows: String = facts.iter().map(row).collect();
    format!("<dl class=\"facts\">\n{rows}</dl>\n")
}

fn contents(report: &Report, ids: &[String]) -> String {
    if report.sections.len() < LIST_SECTIONS_FROM {
        return String::new();
    }
    let links: String = report
        .sections
        .iter()
        .zip(ids)
        .map(|(section, id)| format!("<li><a href=\"#{id}\">{}</a></li>\n", escape(&section.title)))
        .collect();
    format!("<nav aria-label=\"Sections\"><ol>\n{links}</ol></nav>\n")
}

/// One `id` a section: its title's words, or its number where these are missing or taken.
fn ids(report: &Report) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    for (i, section) in report.sections.iter().enumerate() {
        let words = slug(&section.title);
        let taken = words.is_empty() || ids.contains(&words);
        ids.push(if taken { format!("section-{}-{words}", i + 1) } else { words });
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::super::Section;
    use super::*;

    #[test]
    fn ids_differ_even_when_titles_do_not() {
        let report =
            ["Poems", "Poems", "…"].iter().fold(Report::new(""), |report, title| report.section(Section::new(*title)));
        assert_eq!(ids(&report), ["poems", "section-2-poems", "section-3-"]);
    }
}
