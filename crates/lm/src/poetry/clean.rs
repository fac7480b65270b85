//! From the paragraphs of the package to a canonical body, or the reason why there is none.

use std::collections::BTreeMap;
use std::fmt;

use super::verse::{is_han, is_mark, line_lengths, normalise};

/// Longest body that is kept, in characters without marks.
pub const LONGEST: usize = 256;
/// Longest line of verse; what is longer is prose or lacks its marks.
const LONGEST_LINE: usize = 16;
const FEWEST_LINES: usize = 4;

/// Why a record of the package became no poem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// No text at all.
    Empty,
    /// Characters are lost: □ ○ ● … 、、、 or a glyph spelled out in braces.
    Placeholder,
    /// An editor's note in brackets. Variant readings `（一作…）` are taken out and the poem stays.
    Note,
    /// Something that is neither a Chinese character nor a mark of verse.
    Foreign,
    /// Fewer than four lines, or the last line does not end.
    Fragment,
    /// A line longer than any verse.
    Prose,
    /// More than [`LONGEST`] characters.
    TooLong,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Empty => "empty",
            Self::Placeholder => "lost characters",
            Self::Note => "editor's note",
            Self::Foreign => "foreign characters",
            Self::Fragment => "fragment",
            Self::Prose => "prose",
            Self::TooLong => "too long",
        })
    }
}

/// How many records were dropped, by reason.
pub type Dropped = BTreeMap<Reason, usize>;

/// The canonical body of a record.
pub(super) fn body(paragraphs: &[String]) -> Result<String, Reason> {
    let raw = without_supplied_brackets(&without_variant_readings(&paragraphs.concat()));
    check_raw(&raw)?;
    let text = normalise(&raw);
    check_canon(&text)?;
    Ok(text)
}

fn check_raw(raw: &str) -> Result<(), Reason> {
    if raw.trim().is_empty() {
        Err(Reason::Empty)
    } else if raw.contains(|c| "□○●◎…�{}⿰⿱⿲⿳⿴⿵⿶⿷⿸⿹⿺⿻囗".contains(c)) || has_doubled_mark(raw)
    {
        Err(Reason::Placeholder)
    } else if raw.contains(|c| "（）()[]〔〕〖〗【】".contains(c)) {
        Err(Reason::Note)
    } else {
        Ok(())
    }
}

fn check_canon(text: &str) -> Result<(), Reason> {
    let lengths = line_lengths(text);
    if text.contains(|c| !is_han(c) && !is_mark(c)) {
        Err(Reason::Foreign)
    } else if lengths.iter().sum::<usize>() > LONGEST {
        Err(Reason::TooLong)
    } else if lengths.iter().any(|&n| n > LONGEST_LINE) {
        Err(Reason::Prose)
    } else if lengths.len() < FEWEST_LINES || !text.ends_with(['。', '？', '！']) {
        Err(Reason::Fragment)
    } else {
        Ok(())
    }
}

/// The files write `、、、` or `，，` where text is lost.
fn has_doubled_mark(raw: &str) -> bool {
    raw.chars().zip(raw.chars().skip(1)).any(|(a, b)| is_mark(a) && (a == b || b == '、'))
}

/// Takes out `（一作…）`: the text beside it is complete without.
fn without_variant_readings(raw: &str) -> String {
    let mut parts = raw.split("（一作");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once('）') {
            Some((_, rest)) => text.push_str(rest),
            None => text.extend(["（", part]),
        }
    }
    text
}

/// Unwraps `[爽]`, one character that the editors supplied; `[一]` and longer ones point to notes and stay.
fn without_supplied_brackets(raw: &str) -> String {
    let chars: Vec<char> = raw.chars().collect();
    let is_supplied = |at: usize| match chars.get(at..at + 3) {
        Some(&['[', c, ']']) => is_han(c) && !"一二三四五六七八九十".contains(c),
        _ => false,
    };
    let is_bracket = |at: usize| is_supplied(at) || at >= 2 && is_supplied(at - 2);
    chars.iter().enumerate().filter(|&(at, _)| !is_bracket(at)).map(|(_, c)| c).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> Result<String, Reason> {
        body(&[text.to_owned()])
    }

    #[test]
    fn sound_text_becomes_canonical() {
        let paragraphs =
            ["[爽]節在重九（一作「七」），物華新雨餘。".to_owned(), "「清秋黃葉下，菊散金潭初。」".to_owned()];
        assert_eq!(body(&paragraphs).unwrap(), "爽节在重九，物华新雨余。清秋黄叶下，菊散金潭初。");
    }

    #[test]
    fn unsound_text_is_dropped_for_its_reason() {
        let verse = "春眠不觉晓，处处闻啼鸟。";
        let cases = [
            (" ".to_owned(), Reason::Empty),
            (verse.to_owned() + "夜来□雨声，花落知多少。", Reason::Placeholder),
            (verse.to_owned() + "、、、、，花落知多少。", Reason::Placeholder),
            (verse.to_owned() + "夜来{虫虫}雨声，花落知多少。", Reason::Placeholder),
            (verse.to_owned() + "夜来风雨声，花落知多少。（下缺）", Reason::Note),
            (verse.to_owned() + "夜来风雨声[一]，花落知多少。", Reason::Note),
            (verse.to_owned() + "夜来け雨声，花落知多少。", Reason::Foreign),
            (verse.to_owned() + "诗曰：夜来风雨声，花落知多少。", Reason::Foreign),
            (verse.to_owned(), Reason::Fragment),
            (verse.to_owned() + "夜来风雨声，花落知多少，", Reason::Fragment),
            (verse.to_owned() + "夜来风雨声花落知多少春眠不觉晓处处闻啼鸟，花落知多少。", Reason::Prose),
            (verse.repeat(26), Reason::TooLong),
        ];
        for (text, reason) in cases {
            assert_eq!(clean(&text), Err(reason), "{text}");
        }
    }

    #[test]
    fn unclosed_variant_reading_is_a_note() {
        assert_eq!(clean("春眠不觉晓，处处闻啼鸟。（一作夜来，花落知多少。"), Err(Reason::Note));
    }
}
