//! What is asked for, and whether a text has it.

use super::data::{AUTHOR, Corpus, DYNASTY, FORM, Item, LINES, TUNE};
use super::judge::Judge;
use chandlery::kernels::{Key, Stream};
use chandlery::lm::control::Attributes;
use chandlery::lm::poetry::{self, Form};
use std::collections::{BTreeMap, BTreeSet};

/// One attribute that can be asked for and verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// The rule of `form_of`.
    Form,
    /// All lines of a regulated form have exactly its length, and there are as many as it has.
    LineLength,
    /// The keyword stands in the text.
    Keyword,
    /// Number of lines.
    Lines,
    /// Length in characters, exactly.
    Length,
    /// Line lengths are a pattern that this tune has in the training part.
    Tune,
    /// By the judge.
    Dynasty,
    /// By the judge.
    Author,
    /// Two to four of form, keyword, dynasty and author at once.
    Joint,
}

impl Kind {
    /// All of them, in the order of the report.
    pub const ALL: [Self; 9] = [
        Self::Form,
        Self::LineLength,
        Self::Keyword,
        Self::Lines,
        Self::Length,
        Self::Tune,
        Self::Dynasty,
        Self::Author,
        Self::Joint,
    ];

    /// Name in eval.json and in the report.
    pub fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::LineLength => "line_length",
            Self::Keyword => "keyword",
            Self::Lines => "lines",
            Self::Length => "length",
            Self::Tune => "tune",
            Self::Dynasty => "dynasty",
            Self::Author => "author",
            Self::Joint => "joint",
        }
    }
}

/// The values that requests are drawn from, and the rules that need data.
pub struct Verifier {
    forms: Vec<Form>,
    keywords: Vec<String>,
    lines: Vec<usize>,
    lengths: Vec<usize>,
    dynasties: Vec<String>,
    /// Author and dynasty.
    authors: Vec<(String, String)>,
    /// Patterns of line lengths of each tune.
    tunes: BTreeMap<String, BTreeSet<Vec<usize>>>,
    dynasty: Judge,
    author: Judge,
}

/// A value counts as usual from this share of the training part on.
const USUAL: f64 = 0.005;

fn usual(values: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    values.for_each(|v| *counts.entry(v).or_default() += 1);
    let total: usize = counts.values().sum();
    counts.into_iter().filter(|(_, n)| *n as f64 >= USUAL * total as f64).map(|(v, _)| v).collect()
}

fn judge<'a>(items: &'a [Item], name: &str) -> Judge {
    let labelled = |item: &'a Item| item.attrs.extra.get(name).map(|class| (class.as_str(), item.poem.text()));
    Judge::fit(items.iter().filter_map(labelled))
}

impl Verifier {
    /// From the training part alone.
    pub fn new(corpus: &Corpus) -> Self {
        let train = &corpus.train;
        let mut tunes: BTreeMap<String, BTreeSet<Vec<usize>>> = BTreeMap::new();
        let mut authors: BTreeMap<String, String> = BTreeMap::new();
        for item in train {
            let extra = &item.attrs.extra;
            if let Some(tune) = extra.get(TUNE) {
                tunes.entry(tune.clone()).or_default().insert(item.poem.line_lengths());
            }
            if let (Some(author), Some(dynasty)) = (extra.get(AUTHOR), extra.get(DYNASTY)) {
                authors.insert(author.clone(), dynasty.clone());
            }
        }
        let present = |form: &Form| train.iter().any(|item| item.poem.form == *form);
        Self {
            forms: Form::ALL.into_iter().filter(present).collect(),
            keywords: corpus.catalogue.keywords().into_iter().map(|(word, _)| word).collect(),
            lines: usual(train.iter().map(|item| item.poem.lines.len())),
            lengths: usual(train.iter().map(|item| item.poem.length())),
            dynasties: corpus.catalogue.dynasties().to_vec(),
            authors: authors.into_iter().collect(),
            tunes,
            dynasty: judge(train, DYNASTY),
            author: judge(train, AUTHOR),
        }
    }

    /// The `index`-th request of a kind, uniform over its values; `None` where the data offer none.
    pub fn request(&self, kind: Kind, index: u64) -> Option<Attributes> {
        let mut draw = Stream::new(Key::new(7).named("requests").named(kind.name()).at(index));
        let none = Attributes::default();
        Some(match kind {
            Kind::Form => none.with(FORM, pick(&self.forms, &mut draw)?.name()),
            Kind::LineLength => {
                let regulated: Vec<Form> = self.forms.iter().copied().filter(|f| f.shape().is_some()).collect();
                none.with(FORM, pick(&regulated, &mut draw)?.name())
            }
            Kind::Keyword => Attributes { keywords: vec![pick(&self.keywords, &mut draw)?.clone()], ..none },
            Kind::Lines => none.with(LINES, pick(&self.lines, &mut draw)?.to_string()),
            Kind::Length => Attributes { length: Some(*pick(&self.lengths, &mut draw)?), ..none },
            Kind::Tune => {
                let tunes: Vec<&String> = self.tunes.keys().collect();
                let genre = Some("词".to_string());
                Attributes { genre, ..none }.with(TUNE, pick(&tunes, &mut draw)?.as_str()).with(FORM, Form::Ci.name())
            }
            Kind::Dynasty => none.with(DYNASTY, pick(&self.dynasties, &mut draw)?.as_str()),
            Kind::Author => none.with(AUTHOR, pick(&self.authors, &mut draw)?.0.as_str()),
            Kind::Joint => self.joint(&mut draw)?,
        })
    }

    /// Two to four attributes that real poems can have together: no ci of the Tang, an author in his own dynasty.
    fn joint(&self, draw: &mut Stream) -> Option<Attributes> {
        let mut parts = [Kind::Form, Kind::Keyword, Kind::Dynasty, Kind::Author];
        draw.shuffle(&mut parts);
        let parts = &parts[..2 + draw.below(3)];
        let (author, home) = pick(&self.authors, draw)?;
        let dynasty = if parts.contains(&Kind::Author) { home } else { pick(&self.dynasties, draw)? };
        let regulated: Vec<Form> = self.forms.iter().copied().filter(|f| f.shape().is_some()).collect();
        let mut attrs = Attributes::default();
        for part in parts {
            attrs = match part {
                Kind::Form => attrs.with(FORM, pick(&regulated, draw)?.name()),
                Kind::Keyword => Attributes { keywords: vec![pick(&self.keywords, draw)?.clone()], ..attrs },
                Kind::Dynasty => attrs.with(DYNASTY, dynasty.as_str()),
                _ => attrs.with(AUTHOR, author.as_str()),
            };
        }
        Some(attrs)
    }

    /// Whether `text` has everything that `asked` asks for, as far as `kind` looks at it.
    pub fn holds(&self, kind: Kind, asked: &Attributes, text: &str) -> bool {
        let extra = |name: &str| asked.extra.get(name).map(String::as_str);
        let form = extra(FORM).and_then(|name| name.parse::<Form>().ok());
        let lengths = || poetry::line_lengths(text);
        let keyword = || asked.keywords.iter().all(|word| poetry::contains_keyword(text, word));
        let has_form = || form.is_none_or(|form| poetry::form_of(text) == Some(form));
        let judged = |judge: &Judge, name| extra(name).is_none_or(|class| judge.class_of(text) == Some(class));
        match kind {
            Kind::Form => has_form(),
            Kind::LineLength => form.and_then(|form| poetry::lines_exact(text, form)).unwrap_or(false),
            Kind::Keyword => keyword(),
            Kind::Lines => extra(LINES).is_some_and(|n| n.parse() == Ok(lengths().len())),
            Kind::Length => asked.length == Some(poetry::length(text)),
            Kind::Tune => extra(TUNE).and_then(|t| self.tunes.get(t)).is_some_and(|known| known.contains(&lengths())),
            Kind::Dynasty => judged(&self.dynasty, DYNASTY),
            Kind::Author => judged(&self.author, AUTHOR),
            Kind::Joint => has_form() && keyword() && judged(&self.dynasty, DYNASTY) && judged(&self.author, AUTHOR),
        }
    }

    /// Whether a real poem has what its own attributes say: what a perfect writer would reach. `None` where the poem
    /// has no such attribute.
    pub fn real(&self, kind: Kind, item: &Item) -> Option<bool> {
        let attrs = &item.attrs;
        let applies = match kind {
            Kind::Form | Kind::Lines | Kind::Length => true,
            Kind::LineLength => item.poem.form.shape().is_some(),
            Kind::Keyword => !attrs.keywords.is_empty(),
            Kind::Tune => attrs.extra.contains_key(TUNE),
            Kind::Dynasty => attrs.extra.contains_key(DYNASTY),
            Kind::Author | Kind::Joint => attrs.extra.contains_key(AUTHOR),
        };
        applies.then(|| self.holds(kind, attrs, &item.poem.text()))
    }
}

fn pick<'a, T>(values: &'a [T], draw: &mut Stream) -> Option<&'a T> {
    values.get(draw.below(values.len()))
}
