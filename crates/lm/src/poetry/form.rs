use std::fmt;
use std::str::FromStr;

use super::error::PoetryError;
use super::verse::{bare, is_han, line_lengths};

/// The form of a poem, told by the number and the length of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Form {
    /// 五绝, four lines of five characters.
    WuJue,
    /// 七绝, four lines of seven characters.
    QiJue,
    /// 五律, eight lines of five characters.
    WuLv,
    /// 七律, eight lines of seven characters.
    QiLv,
    /// 词, lines of the lengths that its tune asks for.
    Ci,
    /// 古风, here every other shi: old style, long regulated verse, ballads.
    GuFeng,
}

impl Form {
    /// All forms, in a fixed order.
    pub const ALL: [Self; 6] = [Self::WuJue, Self::QiJue, Self::WuLv, Self::QiLv, Self::Ci, Self::GuFeng];
    /// The forms that fix the number and the length of the lines.
    pub const REGULATED: [Self; 4] = [Self::WuJue, Self::QiJue, Self::WuLv, Self::QiLv];

    /// The Chinese name.
    pub fn name(self) -> &'static str {
        match self {
            Self::WuJue => "五绝",
            Self::QiJue => "七绝",
            Self::WuLv => "五律",
            Self::QiLv => "七律",
            Self::Ci => "词",
            Self::GuFeng => "古风",
        }
    }

    /// (lines, characters per line) where the form fixes them.
    pub fn shape(self) -> Option<(usize, usize)> {
        match self {
            Self::WuJue => Some((4, 5)),
            Self::QiJue => Some((4, 7)),
            Self::WuLv => Some((8, 5)),
            Self::QiLv => Some((8, 7)),
            Self::Ci | Self::GuFeng => None,
        }
    }

    /// The form of a shi whose lines have these lengths.
    pub fn of_shi(line_lengths: &[usize]) -> Self {
        let fits = |form: &Self| form.shape().is_some_and(|(lines, chars)| *line_lengths == vec![chars; lines]);
        Self::REGULATED.into_iter().find(fits).unwrap_or(Self::GuFeng)
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Form {
    type Err = PoetryError;

    /// Reads the Chinese name.
    fn from_str(name: &str) -> Result<Self, PoetryError> {
        let known = Self::ALL.into_iter().find(|form| form.name() == name.trim());
        known.ok_or_else(|| PoetryError::UnknownForm(name.to_owned()))
    }
}

/// The form that the lines of `text` show, `None` where it is empty or holds anything but Chinese characters and marks.
///
/// Four or eight lines of five or seven characters are the regulated forms; other lines of one length, in pairs, are
/// taken for 古风, and lines of unequal length for 词. Real ci in equal lines (玉楼春 looks like 七律) and real ballads in
/// unequal ones are told wrong: measure the ceiling on real text.
pub fn form_of(text: &str) -> Option<Form> {
    let lengths = line_lengths(text);
    if lengths.is_empty() || !bare(text).chars().all(is_han) {
        return None;
    }
    let equal = lengths.iter().all(|&n| n == lengths[0]) && lengths.len().is_multiple_of(2);
    Some(if equal { Form::of_shi(&lengths) } else { Form::Ci })
}

/// Whether every line is as long as `form` asks and the number of lines is right; `None` where the form fixes neither.
pub fn lines_exact(text: &str, form: Form) -> Option<bool> {
    form.shape().map(|_| form_of(text) == Some(form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn poem(lines: usize, chars: usize) -> String {
        (0..lines).map(|i| "山".repeat(chars) + if i % 2 == 0 { "，" } else { "。" }).collect()
    }

    #[test]
    fn known_poems_have_their_form() {
        let cases = [
            ("白日依山尽，黄河入海流。欲穷千里目，更上一层楼。", Form::WuJue),
            ("朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。", Form::QiJue),
            (
                "国破山河在，城春草木深。感时花溅泪，恨别鸟惊心。烽火连三月，家书抵万金。白头搔更短，浑欲不胜簪。",
                Form::WuLv,
            ),
            (
                "昔人已乘黄鹤去，此地空余黄鹤楼。黄鹤一去不复返，白云千载空悠悠。\
                 晴川历历汉阳树，芳草萋萋鹦鹉洲。日暮乡关何处是，烟波江上使人愁。",
                Form::QiLv,
            ),
            ("谁言寸草心，报得三春晖。慈母手中线，游子身上衣。临行密密缝，意恐迟迟归。", Form::GuFeng),
            ("昨夜雨疏风骤。浓睡不消残酒。试问卷帘人，却道海棠依旧。知否。知否。应是绿肥红瘦。", Form::Ci),
        ];
        for (text, form) in cases {
            assert_eq!(form_of(text), Some(form), "{text}");
        }
    }

    #[test]
    fn junk_and_nothing_have_no_form() {
        for text in ["", "，。", "床前明月x，疑是地上霜。", "□□□□□，□□□□□。", "hello, world"]
        {
            assert_eq!(form_of(text), None, "{text}");
        }
    }

    #[test]
    fn exactness_is_asked_only_of_forms_that_fix_their_lines() {
        assert_eq!(lines_exact(&poem(4, 5), Form::WuJue), Some(true));
        assert_eq!(lines_exact(&poem(4, 5), Form::QiJue), Some(false));
        assert_eq!(lines_exact(&poem(3, 5), Form::WuJue), Some(false));
        assert_eq!(lines_exact(&poem(4, 5), Form::Ci), None);
    }

    #[test]
    fn names_read_back() {
        for form in Form::ALL {
            assert_eq!(form.name().parse::<Form>().unwrap(), form);
        }
        assert!("排律".parse::<Form>().unwrap_err().to_string().contains("`排律`"));
    }

    proptest! {
        #[test]
        fn shape_and_form_agree(lines in 1usize..12, chars in 1usize..10) {
            let form = form_of(&poem(lines, chars)).unwrap();
            prop_assert_eq!(form.shape().is_some(), [4, 8].contains(&lines) && [5, 7].contains(&chars));
            if let Some(shape) = form.shape() {
                prop_assert_eq!(shape, (lines, chars));
            }
        }
    }
}
