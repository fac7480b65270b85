use std::path::Path;

use super::error::PoetryError;
use super::jsonl;
use super::poem::Poem;

const FILE: &str = "data/poems.jsonl.zst";
const BYTES: &[u8] = include_bytes!("../../data/poems.jsonl.zst");

/// The 30,000 poems that come with the crate: real, distinct, about 5,000 of each form (`data/README.md` has the counts,
/// the source and its licence). Takes about a tenth of a second.
///
/// # Errors
/// None in a sound build.
pub fn embedded() -> Result<Vec<Poem>, PoetryError> {
    let path = Path::new(FILE);
    let jsonl = zstd::decode_all(BYTES).map_err(PoetryError::io(path))?;
    jsonl::parse(path, &jsonl)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sha2::{Digest, Sha256};

    use super::*;
    use crate::poetry::jsonl::to_line;
    use crate::poetry::{
        Catalogue, CatalogueSize, Form, LONGEST, Part, contains_keyword, count, form_of, is_han, split,
    };

    const README: &str = include_str!("../../data/README.md");

    #[test]
    fn poems_are_stored_in_the_canon() {
        let jsonl = zstd::decode_all(BYTES).unwrap();
        let lines: Vec<_> = embedded().unwrap().iter().map(|poem| to_line(poem).unwrap()).collect();
        assert!(std::str::from_utf8(&jsonl).unwrap().lines().eq(lines.iter()), "a poem changes when read and written");
    }

    #[test]
    fn readme_counts_every_form_and_dynasty() {
        let counts = count(&embedded().unwrap());
        assert_eq!(counts.values().sum::<usize>(), 30_000);
        for ((form, dynasty), n) in counts {
            let row = format!("| {form} | {dynasty} | {n} |");
            assert!(README.contains(&row), "no line `{row}`");
        }
    }

    #[test]
    fn readme_has_the_hash_of_the_file() {
        let hash: String = Sha256::digest(BYTES).iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(README.contains(&hash), "{hash}");
        assert!(BYTES.len() < 4_000_000);
    }

    #[test]
    fn every_poem_is_sound_and_none_comes_twice() {
        let poems = embedded().unwrap();
        let mut texts = HashSet::new();
        for poem in &poems {
            assert!(texts.insert(poem.bare()), "{} comes twice", poem.id);
            assert!(poem.bare().chars().all(is_han) && poem.length() <= LONGEST, "{}", poem.id);
            assert_eq!(poem.tune.is_some(), poem.form == Form::Ci, "{}", poem.id);
            assert!(poem.form == Form::Ci || form_of(&poem.text()) == Some(poem.form), "{}", poem.id);
            assert!(!poem.author.is_empty() && !poem.dynasty.is_empty(), "{}", poem.id);
        }
    }

    #[test]
    fn split_is_the_same_for_ever() {
        let poems = embedded().unwrap();
        let split = split(&poems);
        let sizes = [Part::Train, Part::Val, Part::Test].map(|part| split.indices(part).len());
        assert_eq!((sizes, split.n_groups()), ([26_954, 1_513, 1_533], 30_000));
        assert_eq!(format!("{:016x}", split.fingerprint()), "9cebd565f129f74f");
    }

    #[test]
    fn nearly_every_poem_has_keywords_and_contains_them() {
        let poems = embedded().unwrap();
        let catalogue = Catalogue::fit(&poems, &CatalogueSize::default());
        assert_eq!((catalogue.authors().len(), catalogue.tunes().len()), (50, 50));
        let mut n_with = 0;
        for poem in &poems {
            let keywords = catalogue.attributes(poem).keywords;
            n_with += usize::from(!keywords.is_empty());
            assert!(keywords.iter().all(|keyword| contains_keyword(&poem.text(), keyword)), "{}", poem.id);
        }
        assert!(n_with > poems.len() * 95 / 100, "{n_with}");
    }
}
