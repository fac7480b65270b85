//! Salient two-character words of a poem, by statistics alone.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::poem::Poem;
use super::verse::is_mark;

/// Two characters that stand together.
type Pair = [char; 2];

/// Function words: a pair with one of them is seldom what a poem is about.
const STOP: &str = "不无有未莫勿毋岂何谁那此其之于以与而为如若似亦又还更最已曾欲可能须当应得自相被使令从因所者也矣焉哉乎兮且\
                    只但非是一二两几多少来去到在上下中里回个些这恁了著着便却犹尚将正方才都皆尽共同各每再复重初";

/// Words that occur in fewer poems, per 10,000, are no keywords: nothing could be learnt about them.
const LEAST_PER_10K: usize = 5;
/// The least number of poems, however small the corpus.
const LEAST: usize = 2;
/// Pairs that stick together less than this (normalised pointwise mutual information) are chance neighbours.
const LEAST_COHESION: f64 = 0.22;

/// Pair statistics of a corpus.
#[derive(Debug, Clone)]
pub(super) struct Keywords {
    n_poems: usize,
    /// Salience of each keyword and the number of poems that hold it.
    words: HashMap<Pair, (f64, usize)>,
}

impl Keywords {
    /// Counts the pairs of `poems`; about 1 s per 100,000 poems.
    pub fn fit(poems: &[Poem]) -> Self {
        let mut counts = Counts::default();
        poems.iter().for_each(|poem| counts.add(poem));
        let least = (poems.len() * LEAST_PER_10K / 10_000).max(LEAST);
        let words = counts.words(least, poems.len());
        Self { n_poems: poems.len(), words }
    }

    /// Up to `most` keywords of `poem` that share no character, the most salient first.
    pub fn of(&self, poem: &Poem, most: usize) -> Vec<String> {
        let mut found: BTreeMap<Pair, usize> = BTreeMap::new();
        poem.lines.iter().flat_map(|line| word_pairs(line)).for_each(|pair| *found.entry(pair).or_default() += 1);
        let score = |(pair, n): (Pair, usize)| {
            self.words.get(&pair).map(|&(salience, _)| (pair, salience * (1.0 + (n as f64).ln())))
        };
        let mut scored: Vec<(Pair, f64)> = found.into_iter().filter_map(score).collect();
        scored.sort_by(|a, b| b.1.total_cmp(&a.1));
        let mut kept: Vec<Pair> = Vec::new();
        for (pair, _) in scored {
            if kept.len() < most && kept.iter().flatten().all(|c| !pair.contains(c)) {
                kept.push(pair);
            }
        }
        kept.iter().map(String::from_iter).collect()
    }

    /// All keywords and the share of poems that hold them, the most frequent first.
    pub fn vocabulary(&self) -> Vec<(String, f64)> {
        let mut words: Vec<_> = self.words.iter().map(|(&pair, &(_, n))| (Reverse(n), pair)).collect();
        words.sort_unstable();
        let share = |n: usize| n as f64 / self.n_poems as f64;
        words.into_iter().map(|(Reverse(n), pair)| (String::from_iter(pair), share(n))).collect()
    }
}

/// The pairs of a line that can be a word: five characters read 2 + 3 and seven 2 + 2 + 3, so that no word crosses a caesura.
fn word_pairs(line: &str) -> Vec<Pair> {
    let chars: Vec<char> = line.chars().filter(|&c| !is_mark(c)).collect();
    let starts: &[usize] = match chars.len() {
        5 => &[0, 2, 3],
        7 => &[0, 2, 4, 5],
        4 => &[0, 2],
        _ => return chars.windows(2).map(|pair| [pair[0], pair[1]]).collect(),
    };
    starts.iter().map(|&at| [chars[at], chars[at + 1]]).collect()
}

#[derive(Default)]
struct Counts {
    n_pairs: usize,
    first: HashMap<char, usize>,
    second: HashMap<char, usize>,
    /// Occurrences, and poems that hold the pair.
    pairs: HashMap<Pair, (usize, usize)>,
}

impl Counts {
    fn add(&mut self, poem: &Poem) {
        let mut pairs: Vec<Pair> = poem.lines.iter().flat_map(|line| word_pairs(line)).collect();
        self.n_pairs += pairs.len();
        for &[a, b] in &pairs {
            *self.first.entry(a).or_default() += 1;
            *self.second.entry(b).or_default() += 1;
        }
        pairs.sort_unstable();
        for run in pairs.chunk_by(|a, b| a == b) {
            let (n, n_poems) = self.pairs.entry(run[0]).or_default();
            *n += run.len();
            *n_poems += 1;
        }
    }

    fn words(&self, least: usize, n_poems: usize) -> HashMap<Pair, (f64, usize)> {
        let is_word = |pair: &Pair| !pair.iter().any(|&c| STOP.contains(c));
        let frequent = self.pairs.iter().filter(|&(pair, &(_, n))| n >= least && is_word(pair));
        let weighed = frequent.map(|(&pair, &(n, in_poems))| (pair, (self.cohesion(pair, n), in_poems)));
        let cohesive = weighed.filter(|&(_, (cohesion, _))| cohesion >= LEAST_COHESION);
        let salience = |cohesion: f64, n: usize| cohesion * (n_poems as f64 / n as f64).ln();
        cohesive.map(|(pair, (cohesion, n))| (pair, (salience(cohesion, n), n))).collect()
    }

    /// Normalised pointwise mutual information of a pair that occurs `n` times, in [-1, 1].
    fn cohesion(&self, [a, b]: Pair, n: usize) -> f64 {
        let total = self.n_pairs as f64;
        let share = |n: usize| n as f64 / total;
        let expected = share(self.first[&a]) * share(self.second[&b]);
        if n == self.n_pairs { 1.0 } else { (share(n) / expected).ln() / -share(n).ln() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_do_not_cross_the_caesura() {
        let words = |line| word_pairs(line).iter().map(String::from_iter).collect::<Vec<_>>();
        assert_eq!(words("白日依山尽，"), ["白日", "依山", "山尽"]);
        assert_eq!(words("朝辞白帝彩云间。"), ["朝辞", "白帝", "彩云", "云间"]);
        assert_eq!(words("月。"), [] as [String; 0]);
    }

    #[test]
    fn frequent_cohesive_words_are_found_and_function_words_are_not() {
        let texts = ["明月松间照，清泉石上流。", "明月出天山，苍茫云海间。", "何处望神州，何处是归程。"];
        let poems: Vec<Poem> = texts.iter().map(|text| Poem::from_text("", text)).collect();
        let keywords = Keywords::fit(&poems);
        assert_eq!(keywords.of(&poems[0], 3), ["明月"]);
        assert_eq!(keywords.of(&poems[2], 3), [] as [String; 0]);
        assert_eq!(keywords.vocabulary(), [("明月".to_owned(), 2.0 / 3.0)]);
    }

    #[test]
    fn an_empty_corpus_has_no_keywords() {
        assert!(Keywords::fit(&[]).vocabulary().is_empty());
    }
}
