//! The text of a poem as the rules see it: canonical marks, lines between marks, characters without marks.

use super::script::simplify;

/// Marks that end a line.
const ENDS: [char; 5] = ['，', '。', '？', '！', '；'];
/// The pause inside a line of ci: a mark, yet no end.
const PAUSE: char = '、';

pub(super) fn is_mark(c: char) -> bool {
    c == PAUSE || ENDS.contains(&c)
}

/// Whether `c` is a Chinese character (unified ideographs and their extensions).
pub fn is_han(c: char) -> bool {
    matches!(c as u32, 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0x2_0000..=0x3_FFFF)
}

/// Brings text to the canon `床前明月光，疑是地上霜。`: simplified script, full-width marks, no white space, no quotation marks,
/// no mark at the start, no two marks in a row. Anything else stays where it is, so that junk still counts against a poem.
///
/// ```
/// assert_eq!(chandlery_lm::poetry::normalise(" 牀前明月光,\n疑是地上霜.. "), "床前明月光，疑是地上霜。");
/// ```
pub fn normalise(text: &str) -> String {
    let mut canon = String::with_capacity(text.len());
    for c in simplify(text).chars().filter_map(canonical) {
        if is_mark(c) && canon.chars().next_back().is_none_or(is_mark) {
            continue;
        }
        canon.push(c);
    }
    canon
}

fn canonical(c: char) -> Option<char> {
    Some(match c {
        ',' | '﹐' => '，',
        '.' | '｡' | '．' | '﹒' => '。',
        '?' => '？',
        '!' => '！',
        ';' => '；',
        '､' => PAUSE,
        '「' | '」' | '『' | '』' | '“' | '”' | '‘' | '’' | '"' | '《' | '》' | '〈' | '〉' | '\u{feff}' =>
        {
            return None;
        }
        c if c.is_whitespace() || c.is_control() => return None,
        c => c,
    })
}

/// Splits text into lines, each with the mark that ends it; the pause `、` ends no line.
pub fn split_lines(text: &str) -> Vec<String> {
    normalise(text).split_inclusive(ENDS).map(str::to_owned).collect()
}

/// Characters of each line, marks not counted.
pub fn line_lengths(text: &str) -> Vec<usize> {
    split_lines(text).iter().map(|line| count(line)).filter(|&n| n > 0).collect()
}

/// Characters of the text, marks and white space not counted.
pub fn length(text: &str) -> usize {
    count(&normalise(text))
}

/// Characters of canonical text that are no marks.
pub(super) fn count(canon: &str) -> usize {
    canon.chars().filter(|&c| !is_mark(c)).count()
}

/// Whether one line of the text contains `keyword`. A keyword never spans two lines; an empty one is contained in nothing.
pub fn contains_keyword(text: &str, keyword: &str) -> bool {
    let keyword = bare(keyword);
    !keyword.is_empty() && split_lines(text).iter().any(|line| bare(line).contains(&keyword))
}

/// The canonical text without marks.
pub fn bare(text: &str) -> String {
    normalise(text).chars().filter(|&c| !is_mark(c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUIET_NIGHT: &str = "床前明月光，疑是地上霜。举头望明月，低头思故乡。";

    #[test]
    fn lines_keep_their_marks_and_lengths_ignore_them() {
        assert_eq!(split_lines(QUIET_NIGHT)[1], "疑是地上霜。");
        assert_eq!(line_lengths(QUIET_NIGHT), [5, 5, 5, 5]);
        assert_eq!(length(QUIET_NIGHT), 20);
    }

    #[test]
    fn pause_inside_a_line_of_ci_ends_no_line() {
        assert_eq!(line_lengths("有谁念我、如今霜鬓，远赴边堠。"), [8, 4]);
    }

    #[test]
    fn keyword_must_lie_within_one_line() {
        assert!(contains_keyword(QUIET_NIGHT, "明月"));
        assert!(contains_keyword(QUIET_NIGHT, "舉頭"), "a traditional keyword finds its simplified form");
        assert!(!contains_keyword(QUIET_NIGHT, "光疑"));
        assert!(!contains_keyword(QUIET_NIGHT, ""));
        assert!(!contains_keyword("", "月"));
    }

    #[test]
    fn junk_is_counted_and_never_hidden() {
        assert_eq!(line_lengths("床前x明月光，�。"), [6, 1]);
        assert_eq!(line_lengths("，。。"), [] as [usize; 0]);
    }

    proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in r"[床前明雲，。、a,.\s「」!\PC]{0,40}") {
            let once = normalise(&text);
            prop_assert_eq!(normalise(&once), once);
        }

        #[test]
        fn line_lengths_sum_to_the_length(text in r"[床前明月，。、；x,]{0,60}") {
            prop_assert_eq!(line_lengths(&text).iter().sum::<usize>(), length(&text));
        }
    }
}
