use std::fmt;

use super::config::SOFT_PROMPTS;
use super::{Attributes, ControlConfig, ControlError};
use crate::tokenizer::{EXTRA, KEYWORDS, LENGTH, SENTIMENT, TOPIC, Tokenizer, TokenizerError};

/// A part of a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// The first `n` learnable vectors of a genre.
    Soft { genre: usize, n: usize },
    /// Words between an opening and a closing marker.
    Hard { markers: [&'static str; 2], words: String },
}

/// What stands before the text, in the paper's order: genre, topic, keywords, sentiment, length, and then our free-form
/// attributes by name.
///
/// Its `Display` is the paper's serialisation. The spaces around markers are there for people: a model sees the marker's
/// id with the words next to it.
///
/// ```
/// use chandlery_lm::control::{Attributes, ControlConfig, Prompt, Wording};
/// # fn main() -> Result<(), chandlery_lm::control::ControlError> {
/// let config = ControlConfig { wording: Wording::chinese(), ..Default::default() };
/// let attrs = Attributes { length: Some(28), ..Default::default() }.with("体裁", "七绝");
/// assert_eq!(Prompt::new(&attrs, 0, &config)?.to_string(), "[w] 约28字 [/w] [a] 体裁：七绝 [/a]");
/// # Ok(()) }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prompt {
    pieces: Vec<(Option<usize>, Piece)>,
}

/// What a model reads before a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Tokens, `[BOS]` among them.
    pub ids: Vec<u32>,
    /// Their positions; the text's follow the last.
    pub positions: Vec<u32>,
}

impl Piece {
    fn ids(&self, tokenizer: &Tokenizer, config: &ControlConfig) -> Result<Vec<u32>, ControlError> {
        match self {
            Self::Soft { genre, n } => {
                let start = config.soft_start.unwrap_or(tokenizer.vocab_size() as u32);
                let first = start + (genre * SOFT_PROMPTS) as u32;
                Ok((first..first + *n as u32).collect())
            }
            Self::Hard { markers: [open, close], words } => {
                Ok([vec![marker(tokenizer, open)?], tokenizer.encode(words)?, vec![marker(tokenizer, close)?]].concat())
            }
        }
    }
}

impl Prompt {
    /// The prompt that shows all of `attrs`, a genre by its first `n_soft` vectors.
    ///
    /// # Errors
    /// If a value is empty, the genre unknown, or `n_soft` above [`SOFT_PROMPTS`].
    pub fn new(attrs: &Attributes, n_soft: usize, config: &ControlConfig) -> Result<Self, ControlError> {
        attrs.validate()?;
        if n_soft > SOFT_PROMPTS {
            return Err(ControlError::config("n_soft", format!("expected at most {SOFT_PROMPTS}, got {n_soft}")));
        }
        let genre = attrs.genre.as_ref().map(|name| config.genre(name)).transpose()?;
        let place = config.places.as_ref().map(|places| places.soft);
        let soft = genre.filter(|_| n_soft > 0).map(|genre| Ok((place, Piece::Soft { genre, n: n_soft })));
        let pieces = soft.into_iter().chain(hard(attrs, config)).collect::<Result<_, _>>()?;
        Ok(Self { pieces })
    }

    /// Whether nothing stands before the text.
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The ids of the prompt; vector `i` of genre `g` is `soft_start + 64 g + i`.
    ///
    /// # Errors
    /// If the tokenizer has no special token for a marker.
    pub fn ids(&self, tokenizer: &Tokenizer, config: &ControlConfig) -> Result<Vec<u32>, ControlError> {
        self.pieces.iter().try_fold(Vec::new(), |ids, (_, piece)| Ok([ids, piece.ids(tokenizer, config)?].concat()))
    }

    /// What a model reads before a text: `[BOS] prompt` at positions from 0 on or, with
    /// [`places`](ControlConfig::places), `prompt [BOS]` at those.
    pub(super) fn start(&self, tokenizer: &Tokenizer, config: &ControlConfig) -> Result<Start, ControlError> {
        let bos = tokenizer.bos()?;
        let Some(places) = &config.places else {
            let ids = [vec![bos], self.ids(tokenizer, config)?].concat();
            let positions = (0..ids.len() as u32).collect();
            return Ok(Start { ids, positions });
        };
        let (mut ids, mut positions) = (Vec::new(), Vec::new());
        for (place, piece) in &self.pieces {
            let of_piece = piece.ids(tokenizer, config)?;
            positions.extend(places.run(place.unwrap_or_default(), of_piece.len()));
            ids.extend(of_piece);
        }
        ids.push(bos);
        positions.push(places.text.saturating_sub(1) as u32);
        Ok(Start { ids, positions })
    }

    /// The words between markers, from which a tokenizer can learn the characters that prompts need.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.pieces.iter().filter_map(|(_, piece)| match piece {
            Piece::Hard { words, .. } => Some(words.as_str()),
            Piece::Soft { .. } => None,
        })
    }
}

type Placed = (Option<usize>, Piece);

fn hard(attrs: &Attributes, config: &ControlConfig) -> impl Iterator<Item = Result<Placed, ControlError>> {
    let wording = &config.wording;
    let [before, after] = &wording.length;
    let keywords = (!attrs.keywords.is_empty()).then(|| attrs.keywords.join(&wording.keyword_separator));
    let paper = [
        (TOPIC, attrs.topic.clone()),
        (KEYWORDS, keywords),
        (SENTIMENT, attrs.sentiment.clone()),
        (LENGTH, attrs.length.map(|n| format!("{before}{n}{after}"))),
    ];
    let paper = paper.into_iter().filter_map(|(markers, words)| Some((markers, None, words?)));
    let extra = |(name, value): (&String, &String)| {
        (EXTRA, Some(name.clone()), [name, &*wording.value_separator, value].concat())
    };
    let extra: Vec<_> = attrs.extra.iter().map(extra).collect();
    let placed = |(markers, name, words): (_, Option<String>, _)| {
        let place = config.places.as_ref().map(|places| places.hard(markers, name.as_deref())).transpose()?;
        Ok((place, Piece::Hard { markers, words }))
    };
    paper.chain(extra).map(placed)
}

fn marker(tokenizer: &Tokenizer, name: &str) -> Result<u32, TokenizerError> {
    tokenizer.special(name).ok_or_else(|| TokenizerError::MissingSpecial { name: name.to_owned() })
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let write = |(_, piece): &Placed| match piece {
            Piece::Soft { n, .. } => (0..*n).map(|i| format!("[Genre-{i}]")).collect::<Vec<_>>().join(" "),
            Piece::Hard { markers: [open, close], words } => format!("{open} {words} {close}"),
        };
        f.write_str(&self.pieces.iter().map(write).collect::<Vec<_>>().join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{PAPER_GENRES, Wording};
    use crate::tokenizer::CharTokenizer;

    fn paper() -> ControlConfig {
        ControlConfig { genres: PAPER_GENRES.map(str::to_owned).to_vec(), ..ControlConfig::default() }
    }

    fn all() -> Attributes {
        Attributes {
            genre: Some("qa".to_owned()),
            topic: Some("sport".to_owned()),
            keywords: vec!["ball".to_owned(), "goal".to_owned()],
            sentiment: Some("positive".to_owned()),
            length: Some(50),
            ..Attributes::default()
        }
    }

    #[test]
    fn serialisation_is_the_papers() {
        let prompt = Prompt::new(&all(), 3, &paper()).unwrap();
        assert_eq!(
            format!("{prompt} original text"),
            "[Genre-0] [Genre-1] [Genre-2] [t] sport [/t] [k] ball, goal [/k] [senti] positive [/senti] \
             [w] About 50 words [/w] original text"
        );
    }

    #[test]
    fn free_form_attributes_follow_by_name() {
        let config = ControlConfig { wording: Wording::chinese(), ..paper() };
        let attrs = Attributes { keywords: vec!["明月".to_owned(), "故乡".to_owned()], ..Attributes::default() };
        let prompt = Prompt::new(&attrs.with("朝代", "唐").with("体裁", "五绝"), 0, &config).unwrap();
        assert_eq!(prompt.to_string(), "[k] 明月、故乡 [/k] [a] 体裁：五绝 [/a] [a] 朝代：唐 [/a]");
    }

    #[test]
    fn ids_are_soft_rows_then_markers_with_words() {
        let tokenizer: Tokenizer = CharTokenizer::train(["abc"], 1, "").unwrap().into();
        let attrs = Attributes { topic: Some("[/t]a".to_owned()), ..all() };
        let attrs = Attributes { keywords: Vec::new(), sentiment: None, length: None, ..attrs };
        let ids = Prompt::new(&attrs, 2, &paper()).unwrap().ids(&tokenizer, &paper()).unwrap();
        let first = 276 + 2 * 64;
        let mut expected = vec![first, first + 1, 7];
        expected.extend(tokenizer.encode("[/t]a").unwrap());
        expected.push(8);
        assert_eq!(ids, expected);
        let wide = ControlConfig { soft_start: Some(1000), ..paper() };
        assert_eq!(Prompt::new(&attrs, 2, &wide).unwrap().ids(&tokenizer, &wide).unwrap()[0], 1128);
    }

    #[test]
    fn bad_attributes_are_named() {
        let error = |attrs: Attributes| Prompt::new(&attrs, 1, &paper()).unwrap_err().to_string();
        let genre = error(Attributes { genre: Some("haiku".to_owned()), ..all() });
        assert!(genre.starts_with("genre `haiku` is unknown, expected one of [general, web, "), "{genre}");
        let topic = error(Attributes { topic: Some(" ".to_owned()), ..all() });
        assert_eq!(topic, "attribute `topic` is empty; leave it out instead");
        assert!(error(all().with("form", "")).contains("`form`"));
        let words = error(Attributes { keywords: vec!["a".to_owned(), String::new()], ..all() });
        assert!(words.contains("`keywords`"));
    }

    #[test]
    fn no_attributes_or_no_vectors_give_no_prompt() {
        assert!(Prompt::new(&Attributes::default(), 64, &paper()).unwrap().is_empty());
        let genre = Attributes { genre: Some("qa".to_owned()), ..Attributes::default() };
        assert!(Prompt::new(&genre, 0, &paper()).unwrap().is_empty());
    }
}
