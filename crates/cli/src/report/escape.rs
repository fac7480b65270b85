//! Text into HTML and SVG.

use std::borrow::Cow;

/// `text` with the five characters that mean something in HTML replaced; control characters that XML forbids become U+FFFD.
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(must_change) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c if must_change(c) => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

fn must_change(c: char) -> bool {
    matches!(c, '&' | '<' | '>' | '"' | '\'') || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// An `id` made of `title`: letters and digits in lower case, joined by dashes.
pub fn slug(title: &str) -> String {
    let words = title.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped_and_plain_text_is_borrowed() {
        assert_eq!(escape("<a b=\"c\">&'"), "&lt;a b=&quot;c&quot;&gt;&amp;&#39;");
        assert!(matches!(escape("床前明月光"), Cow::Borrowed(_)));
    }

    #[test]
    fn control_characters_cannot_break_the_page() {
        assert_eq!(escape("a\u{0}b\u{1b}[1m\nc"), "a\u{fffd}b\u{fffd}[1m\nc");
    }

    #[test]
    fn slugs_are_words_joined_by_dashes() {
        assert_eq!(slug("  Control, with 95 % intervals! "), "control-with-95-intervals");
        assert_eq!(slug("詩 Poems"), "詩-poems");
        assert_eq!(slug("…"), "");
    }
}
