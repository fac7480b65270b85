//! Traditional to simplified script, one character to one character.
//!
//! The table is OpenCC's (Apache-2.0) plus the variants that the Tang and Song files use; targets outside the basic
//! plane are left out, because hardly a font has them. Applying it twice changes nothing.

use std::sync::OnceLock;

const OPENCC: &str = include_str!("../../data/opencc-t2s.tsv");
const VARIANTS: &str = include_str!("../../data/variants.tsv");

/// Characters that keep their shape beside one of these neighbours: (character, before, after).
const KEPT: [(char, &str, &str); 2] = [('乾', "", "坤元象道纲綱卦清德陵符仪儀"), ('祇', "神地灵靈", "园園")];

/// Rewrites `text` in simplified script; the number of characters stays.
///
/// ```
/// assert_eq!(chandlery_lm::poetry::simplify("乾坤雲日隱層闕"), "乾坤云日隐层阙");
/// ```
pub fn simplify(text: &str) -> String {
    let mut before = None;
    let mut chars = text.chars().peekable();
    let mut simple = String::with_capacity(text.len());
    while let Some(c) = chars.next() {
        simple.push(if is_kept(before, c, chars.peek().copied()) { c } else { simplify_char(c) });
        before = Some(c);
    }
    simple
}

fn is_kept(before: Option<char>, c: char, after: Option<char>) -> bool {
    KEPT.iter().any(|&(kept, left, right)| {
        c == kept && (before.is_some_and(|b| left.contains(b)) || after.is_some_and(|a| right.contains(a)))
    })
}

fn simplify_char(c: char) -> char {
    table().get(c as usize).copied().filter(|&simple| simple != '\0').unwrap_or(c)
}

fn table() -> &'static [char] {
    static TABLE: OnceLock<Vec<char>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec!['\0'; 0x1_0000];
        for (simple, others) in [OPENCC, VARIANTS].into_iter().flat_map(entries) {
            others.chars().for_each(|other| table[other as usize] = simple);
        }
        table
    })
}

fn entries(tsv: &str) -> impl Iterator<Item = (char, &str)> {
    tsv.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (simple, others) = line.split_once('\t')?;
        Some((simple.chars().next()?, others))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn table_is_one_step_and_unambiguous() {
        let all: Vec<_> = [OPENCC, VARIANTS].into_iter().flat_map(entries).collect();
        let mut seen = HashSet::new();
        for (simple, others) in &all {
            assert_eq!(simplify_char(*simple), *simple, "{simple} is itself rewritten");
            assert!(others.chars().all(|c| (c as usize) < 0x1_0000 && seen.insert(c)), "{others}");
        }
        assert!(seen.len() > 3000);
    }

    #[test]
    fn context_decides_where_one_character_has_two_readings() {
        assert_eq!(simplify("乾坤日夜浮，淚痕乾"), "乾坤日夜浮，泪痕干");
        assert_eq!(simplify("祇應無處不銷魂，神祇"), "只应无处不销魂，神祇");
    }

    #[test]
    fn latin_and_rare_characters_pass_unchanged() {
        assert_eq!(simplify("a1 𩃱"), "a1 𩃱");
    }
}
