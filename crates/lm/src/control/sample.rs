use chandlery_kernels::Key;

use super::drops::visible;
use super::{Attributes, ControlConfig, ControlError, Overlong, Prompt, Start};
use crate::tokenizer::Tokenizer;

/// Target of a position that the loss passes over: the default `ignore_index` of
/// [`CrossEntropy`](chandlery_kernels::CrossEntropy) as u32.
pub const IGNORE: u32 = -100_i32 as u32;

/// One training sequence: what the model sees at each position, and what it is to say next there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// `[BOS] prompt text`, or `prompt [BOS] text` with [`places`](ControlConfig::places).
    pub ids: Vec<u32>,
    /// The next token where it belongs to the text or ends it, else [`IGNORE`]; as long as `ids`.
    pub targets: Vec<u32>,
    /// Positions for a model with learned ones: 0, 1, 2, ... unless [`places`](ControlConfig::places) says otherwise.
    pub positions: Vec<u32>,
    /// How many of the ids stand before the text.
    pub start: usize,
}

impl Sample {
    /// Positions.
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no position.
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Positions on which the loss counts.
    pub fn n_targets(&self) -> usize {
        self.targets.iter().filter(|&&target| target != IGNORE).count()
    }
}

/// The training sample of a text: one draw of equation 2 of Titan (arXiv 2112.12731).
///
/// With `p_uncond` it is `[BOS] text [EOS]`, else `[BOS] prompt text [EOS]` with the attributes that `p_attr` spares. The
/// loss counts on the text and its end. All draws come from `key`, which is to be the sample's own:
/// `key.named("control").at(epoch).at(index)`.
///
/// # Errors
/// If the text or an attribute is empty, the genre unknown, a special token missing, or the sample too long
/// ([`ControlConfig::max_len`], [`ControlConfig::overlong`]).
pub fn encode_sample(
    tokenizer: &Tokenizer,
    attrs: &Attributes,
    text: &str,
    key: Key,
    config: &ControlConfig,
) -> Result<Sample, ControlError> {
    if text.trim().is_empty() {
        return Err(ControlError::EmptyText);
    }
    encode_ids(tokenizer, attrs, &tokenizer.encode(text)?, key, config)
}

/// [`encode_sample`] of a text that was tokenised before.
///
/// # Errors
/// As [`encode_sample`].
pub fn encode_ids(
    tokenizer: &Tokenizer,
    attrs: &Attributes,
    text: &[u32],
    key: Key,
    config: &ControlConfig,
) -> Result<Sample, ControlError> {
    attrs.validate()?;
    let prompt = match visible(attrs, key, config) {
        Some((shown, n_soft)) => Prompt::new(&shown, n_soft, config)?,
        None => Prompt::default(),
    };
    join(tokenizer, prompt.start(tokenizer, config)?, text, config)
}

fn join(tokenizer: &Tokenizer, start: Start, text: &[u32], config: &ControlConfig) -> Result<Sample, ControlError> {
    if text.is_empty() {
        return Err(ControlError::EmptyText);
    }
    let Start { mut ids, mut positions } = start;
    let first = ids.len();
    let room = config.max_len.unwrap_or(usize::MAX).saturating_sub(first);
    let fits = text.len() <= room;
    if !fits && (config.overlong == Overlong::Error || room == 0) {
        let max_len = config.max_len.unwrap_or(usize::MAX);
        return Err(ControlError::TooLong { prompt: first, text: text.len(), max_len });
    }
    ids.extend_from_slice(&text[..text.len().min(room)]);
    let text_at = positions.last().map_or(0, |last| last + 1);
    positions.extend((text_at..).take(ids.len() - first));
    let soft = config.soft_start.unwrap_or(tokenizer.vocab_size() as u32);
    let counts = |(at, &id): (usize, &u32)| at >= first || config.loss_on_prompt && id < soft;
    let target = |(at, id)| if counts((at, id)) { *id } else { IGNORE };
    let mut targets: Vec<u32> = ids.iter().enumerate().skip(1).map(target).collect();
    match fits {
        true => targets.push(tokenizer.eos()?),
        // The last token that still has a successor to predict is the one before the cut.
        false => targets.push(text[room]),
    }
    Ok(Sample { ids, targets, positions, start: first })
}

/// What a model is given to write a text with all of `attrs`, a genre by [`request_soft`](ControlConfig::request_soft)
/// vectors; with no attributes, what it is given to write a text of no particular kind, the other side of guidance.
///
/// # Errors
/// If an attribute is empty, the genre unknown, a special token missing, or no room left for a text.
pub fn encode_request(
    tokenizer: &Tokenizer,
    attrs: &Attributes,
    config: &ControlConfig,
) -> Result<Start, ControlError> {
    let start = Prompt::new(attrs, config.request_soft(), config)?.start(tokenizer, config)?;
    match config.max_len {
        Some(max_len) if start.ids.len() >= max_len => {
            Err(ControlError::TooLong { prompt: start.ids.len(), text: 0, max_len })
        }
        _ => Ok(start),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Places;
    use crate::tokenizer::{BOS, CharTokenizer, EOS};
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
        CharTokenizer::train(["白日依山尽，黄河入海流。约字体裁绝五"], 1, "0123456789").unwrap().into()
    });

    fn attrs() -> Attributes {
        Attributes {
            genre: Some("poet".to_owned()),
            topic: Some("山".to_owned()),
            length: Some(10),
            ..Attributes::default()
        }
        .with("体裁", "五绝")
    }

    fn config() -> ControlConfig {
        ControlConfig { genres: vec!["web".to_owned(), "poet".to_owned()], ..ControlConfig::default() }
    }

    fn always() -> ControlConfig {
        ControlConfig { p_uncond: 0.0, p_attr: 0.0, ..config() }
    }

    fn special(name: &str) -> u32 {
        TOKENIZER.special(name).unwrap()
    }

    fn text(text: &str) -> Vec<u32> {
        TOKENIZER.encode(text).unwrap()
    }

    fn sample(attrs: &Attributes, text: &str, seed: u64, config: &ControlConfig) -> Result<Sample, ControlError> {
        encode_sample(&TOKENIZER, attrs, text, Key::new(seed), config)
    }

    #[test]
    fn unconditional_sample_is_that_without_attributes() {
        let never = ControlConfig { p_uncond: 1.0, ..config() };
        let bare = Sample {
            ids: [vec![special(BOS)], text("白日")].concat(),
            targets: [text("白日"), vec![special(EOS)]].concat(),
            positions: vec![0, 1, 2],
            start: 1,
        };
        for seed in 0..20 {
            assert_eq!(sample(&attrs(), "白日", seed, &never).unwrap(), bare);
            assert_eq!(sample(&Attributes::default(), "白日", seed, &config()).unwrap(), bare);
        }
    }

    #[test]
    fn full_sample_has_prompt_and_counts_on_text_and_end_only() {
        let shown = ControlConfig { max_soft: 0, ..always() };
        let got = sample(&attrs(), "白日", 0, &shown).unwrap();
        let mut ids = vec![special(BOS), special("[t]")];
        ids.extend(text("山"));
        ids.extend([special("[/t]"), special("[w]")]);
        ids.extend(text("About 10 words"));
        ids.extend([special("[/w]"), special("[a]")]);
        ids.extend(text("体裁: 五绝"));
        ids.push(special("[/a]"));
        let n = ids.len();
        ids.extend(text("白日"));
        assert_eq!(got.ids, ids);
        assert_eq!(got.targets[..n - 1], vec![IGNORE; n - 1]);
        assert_eq!(got.targets[n - 1..], [text("白日"), vec![special(EOS)]].concat());
    }

    #[test]
    fn ignored_target_is_that_of_the_cross_entropy() {
        assert_eq!(i64::from(IGNORE as i32), chandlery_kernels::CrossEntropy::default().ignore_index);
        assert_eq!(IGNORE, 4_294_967_196);
    }

    #[test]
    fn request_is_the_prompt_of_a_sample_that_shows_everything() {
        let all = encode_request(&TOKENIZER, &attrs(), &config()).unwrap().ids;
        let seed = (0..10_000).find(|&seed| {
            let ids = sample(&attrs(), "白", seed, &always()).unwrap().ids;
            ids == [all.clone(), text("白")].concat()
        });
        assert!(seed.is_some());
        assert_eq!(all[1..65], (0..64).map(|i| TOKENIZER.vocab_size() as u32 + 64 + i).collect::<Vec<_>>());
        assert_eq!(encode_request(&TOKENIZER, &Attributes::default(), &config()).unwrap().ids, [special(BOS)]);
    }

    fn placed() -> Places {
        let extra = [("体裁".to_owned(), 40)].into();
        Places { text: 60, soft: 1, topic: 4, keywords: 10, sentiment: 20, length: 22, extra }
    }

    #[test]
    fn with_places_each_part_stands_at_its_own_position_whatever_else_is_shown() {
        let config = ControlConfig { places: Some(placed()), max_soft: 2, request_soft: Some(2), ..always() };
        let all = encode_request(&TOKENIZER, &attrs(), &config).unwrap();
        let words = text("About 10 words").len() as u32;
        let parts = [1..3, 4..7, 22..24 + words, 40..48, 59..60];
        assert_eq!(all.positions, parts.into_iter().flatten().collect::<Vec<u32>>());
        assert_eq!((all.ids.len(), all.ids.last()), (all.positions.len(), Some(&special(BOS))));
        let form = Attributes::default().with("体裁", "五绝");
        let got = sample(&form, "白日", 0, &config).unwrap();
        assert_eq!(got.positions, [40, 41, 42, 43, 44, 45, 46, 47, 59, 60, 61]);
        assert_eq!(got.targets[8..], [text("白日"), vec![special(EOS)]].concat());
        let bare = encode_request(&TOKENIZER, &Attributes::default(), &config).unwrap();
        assert_eq!((bare.ids, bare.positions), (vec![special(BOS)], vec![59]));
    }

    #[test]
    fn part_without_a_place_and_place_behind_the_text_are_refused() {
        let config = ControlConfig { places: Some(placed()), ..always() };
        let error = encode_request(&TOKENIZER, &attrs().with("作者", "王"), &config).unwrap_err();
        assert!(error.to_string().contains("no place for `作者`"), "{error}");
        let late = ControlConfig { places: Some(Places { topic: 59, ..placed() }), ..config };
        assert!(late.validate().unwrap_err().to_string().contains("a part at 59"));
    }

    #[test]
    fn prompt_words_count_where_asked_but_soft_prompts_never() {
        let counted = ControlConfig { loss_on_prompt: true, max_soft: 3, ..always() };
        let got = (0..).map(|seed| sample(&attrs(), "白日", seed, &counted).unwrap());
        let got = got.into_iter().find(|s| s.ids[1] >= TOKENIZER.vocab_size() as u32).unwrap();
        let vocab = TOKENIZER.vocab_size() as u32;
        assert!(got.targets.iter().all(|&target| target == IGNORE || target < vocab));
        assert_eq!(got.n_targets(), got.len() - got.ids.iter().filter(|&&id| id >= vocab).count());
    }

    #[test]
    fn empty_text_is_an_error() {
        for text in ["", " \n"] {
            assert!(matches!(sample(&attrs(), text, 0, &config()), Err(ControlError::EmptyText)));
        }
        assert!(matches!(encode_ids(&TOKENIZER, &attrs(), &[], Key::new(0), &config()), Err(ControlError::EmptyText)));
    }

    #[test]
    fn long_text_is_refused_or_cut_at_its_end() {
        let exact = ControlConfig { max_len: Some(5), p_uncond: 1.0, ..config() };
        assert_eq!(sample(&attrs(), "白日依山", 0, &exact).unwrap().targets.last(), Some(&special(EOS)));
        let error = sample(&attrs(), "白日依山尽", 0, &exact).unwrap_err().to_string();
        assert_eq!(error, "the sample has 1 prompt and 5 text tokens, expected at most 5 together");
        let cut = sample(&attrs(), "白日依山尽黄", 0, &ControlConfig { overlong: Overlong::Cut, ..exact }).unwrap();
        assert_eq!(cut.ids, [vec![special(BOS)], text("白日依山")].concat());
        assert_eq!(cut.targets, text("白日依山尽"));
    }

    #[test]
    fn prompt_that_leaves_no_room_is_refused_even_where_text_may_be_cut() {
        let narrow = ControlConfig { max_len: Some(6), overlong: Overlong::Cut, max_soft: 0, ..always() };
        assert!(matches!(sample(&attrs(), "白", 0, &narrow), Err(ControlError::TooLong { text: 1, max_len: 6, .. })));
        let request = encode_request(&TOKENIZER, &attrs(), &narrow);
        assert!(matches!(request, Err(ControlError::TooLong { text: 0, max_len: 6, .. })));
    }

    #[test]
    fn hidden_empty_attribute_is_still_an_error() {
        let bad = attrs().with("作者", " ");
        let never = ControlConfig { p_uncond: 1.0, ..config() };
        assert!(matches!(sample(&bad, "白", 0, &never), Err(ControlError::EmptyAttribute { name }) if name == "作者"));
    }

    proptest! {
        #[test]
        fn loss_covers_exactly_text_and_end(poem in "[白日依山尽，何人]{1,30}", seed: u64) {
            let got = sample(&attrs(), &poem, seed, &config()).unwrap();
            let body = text(&poem);
            prop_assert_eq!(got.ids.len(), got.targets.len());
            prop_assert_eq!(got.n_targets(), body.len() + 1);
            let counted: Vec<u32> = got.targets.iter().copied().filter(|&target| target != IGNORE).collect();
            prop_assert_eq!(&counted[..body.len()], &body[..]);
            prop_assert_eq!(counted[body.len()], special(EOS));
            prop_assert_eq!(&got.ids[got.len() - body.len()..], &body[..]);
            prop_assert!(got.ids.windows(2).zip(&got.targets).all(|(ids, &t)| t == IGNORE || t == ids[1]));
        }

        #[test]
        fn cut_sample_is_the_start_of_the_whole_one(seed: u64, max_len in 100_usize..160) {
            let poem = "白日依山尽，".repeat(20);
            let whole = sample(&attrs(), &poem, seed, &config()).unwrap();
            let narrow = ControlConfig { max_len: Some(max_len), overlong: Overlong::Cut, ..config() };
            let cut = sample(&attrs(), &poem, seed, &narrow).unwrap();
            prop_assert_eq!(cut.len(), whole.len().min(max_len));
            prop_assert_eq!(&cut.ids[..], &whole.ids[..cut.len()]);
            prop_assert_eq!(&cut.targets[..], &whole.targets[..cut.len()]);
        }

        #[test]
        fn sample_is_a_function_of_its_key(seed: u64) {
            let draw = || sample(&attrs(), "白日", seed, &config()).unwrap();
            prop_assert_eq!(draw(), draw());
        }
    }
}
