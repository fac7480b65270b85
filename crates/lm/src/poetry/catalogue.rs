use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};

use super::form::Form;
use super::keywords::Keywords;
use super::poem::Poem;

/// What a catalogue names; the rest counts as unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogueSize {
    /// Authors with the most poems.
    pub authors: usize,
    /// Tunes with the most poems.
    pub tunes: usize,
    /// Topic tags with the most poems.
    pub tags: usize,
    /// Keywords per poem.
    pub keywords: usize,
}

impl Default for CatalogueSize {
    fn default() -> Self {
        Self { authors: 50, tunes: 50, tags: 50, keywords: 3 }
    }
}

/// The values that attributes can take in a corpus, and the statistics behind the keywords.
#[derive(Debug, Clone)]
pub struct Catalogue {
    dynasties: Vec<String>,
    authors: Vec<String>,
    tunes: Vec<String>,
    tags: Vec<String>,
    keywords: Keywords,
    n_keywords: usize,
}

/// What is known of a poem, by rule or from the source. All of it can be asked of a controllable model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attributes {
    /// `唐` or `宋`, or what the user's poems say.
    pub dynasty: Option<String>,
    /// Form.
    pub form: Form,
    /// Author, where the catalogue names the author.
    pub author: Option<String>,
    /// Tune of a ci, where the catalogue names it.
    pub tune: Option<String>,
    /// Number of lines.
    pub n_lines: usize,
    /// Characters per line, where all lines are equally long.
    pub line_length: Option<usize>,
    /// Characters of the body, marks not counted.
    pub length: usize,
    /// Words of two characters that the body contains, the most salient first, none sharing a character with another.
    pub keywords: Vec<String>,
    /// Topic tags that the catalogue names.
    pub tags: Vec<String>,
}

impl Catalogue {
    /// Collects the values that occur in `poems`: fit it on the training part only. A word must stand in at least 5 of
    /// 10,000 poems, and in 2, to be a keyword.
    pub fn fit(poems: &[Poem], size: &CatalogueSize) -> Self {
        Self {
            dynasties: most_frequent(poems.iter().map(|poem| &poem.dynasty), usize::MAX),
            authors: most_frequent(poems.iter().map(|poem| &poem.author).filter(|a| is_person(a)), size.authors),
            tunes: most_frequent(poems.iter().filter_map(|poem| poem.tune.as_ref()), size.tunes),
            tags: most_frequent(poems.iter().flat_map(|poem| distinct(&poem.tags)), size.tags),
            keywords: Keywords::fit(poems),
            n_keywords: size.keywords,
        }
    }

    /// Dynasties, the most frequent first.
    pub fn dynasties(&self) -> &[String] {
        &self.dynasties
    }

    /// Named authors, the most frequent first.
    pub fn authors(&self) -> &[String] {
        &self.authors
    }

    /// Named tunes, the most frequent first.
    pub fn tunes(&self) -> &[String] {
        &self.tunes
    }

    /// Topic tags, the most frequent first.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }

    /// All words that can be keywords, each with the share of poems that hold it, the most frequent first.
    pub fn keywords(&self) -> Vec<(String, f64)> {
        self.keywords.vocabulary()
    }

    /// The attributes of a poem, of this corpus or another.
    pub fn attributes(&self, poem: &Poem) -> Attributes {
        let named = |value: &String, names: &[String]| names.contains(value).then(|| value.clone());
        let lengths = poem.line_lengths();
        Attributes {
            dynasty: named(&poem.dynasty, &self.dynasties),
            form: poem.form,
            author: named(&poem.author, &self.authors),
            tune: poem.tune.as_ref().and_then(|tune| named(tune, &self.tunes)),
            n_lines: lengths.len(),
            line_length: lengths.first().copied().filter(|first| lengths.iter().all(|n| n == first)),
            length: lengths.iter().sum(),
            keywords: self.keywords.of(poem, self.n_keywords),
            tags: distinct(&poem.tags).into_iter().filter_map(|tag| named(tag, &self.tags)).collect(),
        }
    }
}

/// Each tag once, in the source's order.
fn distinct(tags: &[String]) -> Vec<&String> {
    let mut seen = HashSet::new();
    tags.iter().filter(|tag| seen.insert(tag.as_str())).collect()
}

/// "Author unknown" and the title of a collection of hymns stand in the author's place, but are none.
fn is_person(author: &str) -> bool {
    !["不详", "佚名", "无名氏", "阙名", "无名", "郊庙朝会歌辞"].contains(&author)
}

/// The `most` most frequent values but the empty one; equally frequent ones in the order of their characters.
fn most_frequent<'a>(values: impl Iterator<Item = &'a String>, most: usize) -> Vec<String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    values.filter(|value| !value.is_empty()).for_each(|value| *counts.entry(value).or_default() += 1);
    let mut names: Vec<(&str, usize)> = counts.into_iter().collect();
    names.sort_by_key(|&(_, n)| Reverse(n));
    names.into_iter().take(most).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poem(author: &str, text: &str) -> Poem {
        Poem { author: author.into(), dynasty: "唐".into(), ..Poem::from_text("", text) }
    }

    #[test]
    fn attributes_follow_from_the_poem_and_the_catalogue() {
        let moon = poem("李白", "明月出天山，苍茫云海间。长风几万里，吹度玉门关。");
        let pines = poem("王维", "明月松间照，清泉石上流。竹喧归浣女，莲动下渔舟。");
        let poems = [moon.clone(), pines.clone(), moon.clone(), poem("佚名", "月。"), poem("佚名", "花。")];
        let catalogue = Catalogue::fit(&poems, &CatalogueSize { authors: 1, ..CatalogueSize::default() });
        assert_eq!((catalogue.authors(), catalogue.dynasties()), (&["李白".to_owned()][..], &["唐".to_owned()][..]));
        let known = catalogue.attributes(&moon);
        assert_eq!((known.author.as_deref(), known.dynasty.as_deref()), (Some("李白"), Some("唐")));
        assert_eq!((known.form, known.n_lines, known.line_length, known.length), (Form::WuJue, 4, Some(5), 20));
        assert!(known.keywords.len() == 3 && known.keywords.iter().all(|word| moon.text().contains(word.as_str())));
        assert_eq!(catalogue.attributes(&pines).author, None);
    }

    #[test]
    fn ci_has_a_tune_and_no_common_line_length() {
        let ci = Poem { form: Form::Ci, tune: Some("忆江南".into()), ..poem("", "江南好，风景旧曾谙。") };
        let tagged = Poem { tags: vec!["写景".into(), "写景".into()], ..ci };
        let catalogue = Catalogue::fit(std::slice::from_ref(&tagged), &CatalogueSize::default());
        let known = catalogue.attributes(&tagged);
        assert_eq!((known.tune.as_deref(), known.line_length, known.author), (Some("忆江南"), None, None));
        assert_eq!(known.tags, ["写景"]);
    }

    #[test]
    fn ties_are_broken_by_name() {
        let poems = ["乙", "甲", "丙", "甲"].map(|author| poem(author, "月。"));
        let catalogue = Catalogue::fit(&poems, &CatalogueSize { authors: 2, ..CatalogueSize::default() });
        assert_eq!(catalogue.authors(), ["甲", "丙"]);
    }
}
