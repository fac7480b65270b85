//! Which attributes a training sample shows.

use chandlery_kernels::{Key, Stream};

use super::{Attributes, ControlConfig};

/// What of `attrs` the sample of `key` shows, and with how many soft prompt vectors.
///
/// `None` is the unconditional sample. Every draw has a name of its own, so that one attribute more or less in the data
/// changes nothing for the others.
pub(super) fn visible(attrs: &Attributes, key: Key, config: &ControlConfig) -> Option<(Attributes, usize)> {
    if key.named("uncond").uniform(0) < config.p_uncond {
        return None;
    }
    let n_soft = Stream::new(key.named("soft")).below(config.max_soft + 1);
    let shown = if config.nested { thinned(attrs, key.named("attribute"), config) } else { attrs.clone() };
    let keywords = if config.keyword_subset { some(&shown.keywords, key.named("keywords")) } else { shown.keywords };
    Some((Attributes { keywords, ..shown }, n_soft))
}

/// `attrs` without those that `p_attr` hits.
fn thinned(attrs: &Attributes, key: Key, config: &ControlConfig) -> Attributes {
    let kept = |key: Key, name: &str| key.named(name).uniform(0) >= config.p_attr;
    let text = |name: &str, value: &Option<String>| value.clone().filter(|_| kept(key, name));
    let extra = attrs.extra.iter().filter(|(name, _)| kept(key.named("extra"), name));
    Attributes {
        genre: if config.drop_genre { text("genre", &attrs.genre) } else { attrs.genre.clone() },
        topic: text("topic", &attrs.topic),
        keywords: if kept(key, "keywords") { attrs.keywords.clone() } else { Vec::new() },
        sentiment: text("sentiment", &attrs.sentiment),
        length: attrs.length.filter(|_| kept(key, "length")),
        extra: extra.map(|(name, value)| (name.clone(), value.clone())).collect(),
    }
}

/// A uniform number, at least one, of the keywords, in their order.
fn some(keywords: &[String], key: Key) -> Vec<String> {
    let mut stream = Stream::new(key);
    let n = stream.below(keywords.len()) + 1;
    let mut order: Vec<usize> = (0..keywords.len()).collect();
    stream.shuffle(&mut order);
    order.truncate(n);
    order.sort_unstable();
    order.into_iter().map(|i| keywords[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const N: u64 = 20_000;

    fn four() -> Attributes {
        Attributes {
            topic: Some("t".to_owned()),
            keywords: ["a", "b", "c"].map(str::to_owned).to_vec(),
            sentiment: Some("s".to_owned()),
            length: Some(1),
            ..Attributes::default()
        }
    }

    fn draws(attrs: &Attributes, config: &ControlConfig) -> Vec<Option<(Attributes, usize)>> {
        let key = Key::new(11).named("control");
        (0..N).map(|sample| visible(attrs, key.at(sample), config)).collect()
    }

    /// Pearson's statistic of `counts` against `probabilities`.
    fn chi_square(counts: &[usize], probabilities: &[f64]) -> f64 {
        let n = counts.iter().sum::<usize>() as f64;
        counts.iter().zip(probabilities).map(|(&c, p)| (c as f64 - n * p).powi(2) / (n * p)).sum()
    }

    /// Each of the four hard attributes' visibility, in one number of four bits.
    fn pattern(shown: &Option<(Attributes, usize)>) -> usize {
        let Some((attrs, _)) = shown else { return 0 };
        let bits =
            [attrs.topic.is_some(), !attrs.keywords.is_empty(), attrs.sentiment.is_some(), attrs.length.is_some()];
        bits.iter().enumerate().map(|(i, &bit)| usize::from(bit) << i).sum()
    }

    fn patterns(config: &ControlConfig) -> [usize; 16] {
        let mut counts = [0; 16];
        draws(&four(), config).iter().for_each(|shown| counts[pattern(shown)] += 1);
        counts
    }

    #[test]
    fn nested_halves_show_a_quarter_and_leave_53_percent_bare() {
        // All sixteen patterns at once: independence of the attributes included. 0.001 quantile at 15 degrees: 37.7.
        let counts = patterns(&ControlConfig::default());
        let mut expected = [0.5 / 16.0; 16];
        expected[0] += 0.5;
        assert!(chi_square(&counts, &expected) < 37.7, "{counts:?}");
        assert!((counts[0] as f64 / N as f64 - 0.53125).abs() < 0.015);
        let with_topic = counts.iter().skip(1).step_by(2).sum::<usize>();
        // One degree: 10.83.
        assert!(chi_square(&[with_topic, N as usize - with_topic], &[0.25, 0.75]) < 10.83);
    }

    #[test]
    fn unnested_shows_all_or_nothing_in_halves() {
        let counts = patterns(&ControlConfig { nested: false, ..ControlConfig::default() });
        assert_eq!(counts[0] + counts[15], N as usize);
        assert!(chi_square(&[counts[0], counts[15]], &[0.5, 0.5]) < 10.83);
    }

    #[test]
    fn one_dropout_alone_shows_a_half() {
        let counts = patterns(&ControlConfig { p_uncond: 0.0, ..ControlConfig::default() });
        assert!(chi_square(&counts, &[1.0 / 16.0; 16]) < 37.7, "{counts:?}");
    }

    #[test]
    fn soft_prompt_lengths_are_uniform_from_0_to_64() {
        let mut counts = [0; 65];
        draws(&four(), &ControlConfig::default()).iter().flatten().for_each(|(_, n)| counts[*n] += 1);
        // 0.001 quantile at 64 degrees: 104.7.
        assert!(chi_square(&counts, &[1.0 / 65.0; 65]) < 104.7, "{counts:?}");
    }

    #[test]
    fn subset_shows_one_two_or_three_keywords_equally_often() {
        let config = ControlConfig { p_uncond: 0.0, p_attr: 0.0, keyword_subset: true, ..ControlConfig::default() };
        let mut counts = [0; 3];
        for (attrs, _) in draws(&four(), &config).into_iter().flatten() {
            assert!(attrs.keywords.is_sorted());
            counts[attrs.keywords.len() - 1] += 1;
        }
        // Two degrees: 13.8.
        assert!(chi_square(&counts, &[1.0 / 3.0; 3]) < 13.8, "{counts:?}");
    }

    #[test]
    fn genre_is_left_out_only_where_asked() {
        let attrs = Attributes { genre: Some("g".to_owned()), ..four() };
        let shown = |config: &ControlConfig| {
            draws(&attrs, config).iter().flatten().filter(|(shown, _)| shown.genre.is_some()).count()
        };
        let always = ControlConfig { p_uncond: 0.0, ..ControlConfig::default() };
        assert_eq!(shown(&always), N as usize);
        let half = shown(&ControlConfig { drop_genre: true, ..always });
        assert!(chi_square(&[half, N as usize - half], &[0.5, 0.5]) < 10.83);
    }

    #[test]
    fn another_attribute_changes_no_draw_of_the_rest() {
        let more = draws(&four().with("form", "x").with("topic", "y"), &ControlConfig::default());
        for (a, b) in draws(&four(), &ControlConfig::default()).iter().zip(&more) {
            assert_eq!(pattern(a), pattern(b));
        }
    }
}
