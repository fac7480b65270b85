//! Makes the embedded part from the whole package: sound, distinct, stratified, deterministic.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::clean::Dropped;
use super::error::PoetryError;
use super::form::{Form, form_of};
use super::hash::stable_hash;
use super::jsonl::to_line;
use super::near::near_duplicates;
use super::package::poems_from_package;
use super::poem::{Poem, SONG, TANG};

/// Poems of each form, over both dynasties as equally as the package allows.
pub const PER_FORM: usize = 5000;
/// A character must occur so often in the whole package that a poem with it is taken.
pub const LEAST_OCCURRENCES: usize = 50;

/// zstd's level: the file is written once and read often.
const LEVEL: i32 = 19;

/// What was read, left out and written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackReport {
    /// Records in the package.
    pub n_records: usize,
    /// Records that are no sound poem, by reason.
    pub dropped: Dropped,
    /// Poems left out because another of their near-duplicate group comes before them.
    pub n_duplicates: usize,
    /// Poems left out for a rare character.
    pub n_rare: usize,
    /// Poems left out because no rule tells their form: ci of unknown tune, old-style shi in unequal lines.
    pub n_formless: usize,
    /// Poems written.
    pub counts: Counts,
    /// Bytes written.
    pub n_bytes: usize,
}

/// Poems by form and dynasty.
pub type Counts = BTreeMap<(Form, String), usize>;

/// Packs the part of the package in `src` that this crate embeds into `out` (zstd of JSON lines).
///
/// The same package always gives the same bytes. `out` appears whole or not at all.
///
/// # Errors
/// See [`poems_from_package`]; a file that cannot be written.
pub fn pack_poetry(src: impl AsRef<Path>, out: impl AsRef<Path>) -> Result<PackReport, PoetryError> {
    let mut package = poems_from_package(src)?;
    let poems = package.by_ref().collect::<Result<Vec<Poem>, _>>()?;
    let groups = near_duplicates(&poems);
    let (first, others): (Vec<_>, Vec<_>) = poems.into_iter().enumerate().partition(|&(at, _)| groups[at] == at);
    let (common, rare) = by_characters(first.into_iter().map(|(_, poem)| poem).collect());
    let (formed, formless): (Vec<_>, Vec<_>) = common.into_iter().partition(is_formed);
    let chosen = stratify(formed);
    let bytes = compress(out.as_ref(), &chosen)?;
    write_whole(out.as_ref(), &bytes)?;
    Ok(PackReport {
        n_records: package.n_records(),
        dropped: package.dropped().clone(),
        n_duplicates: others.len(),
        n_rare: rare.len(),
        n_formless: formless.len(),
        counts: count(&chosen),
        n_bytes: bytes.len(),
    })
}

/// Poems by form and dynasty.
pub fn count(poems: &[Poem]) -> Counts {
    let mut counts = Counts::new();
    poems.iter().for_each(|poem| *counts.entry((poem.form, poem.dynasty.clone())).or_default() += 1);
    counts
}

/// Parts poems of common characters from those with a rare one.
fn by_characters(poems: Vec<Poem>) -> (Vec<Poem>, Vec<Poem>) {
    let mut occurrences: HashMap<char, usize> = HashMap::new();
    for c in poems.iter().flat_map(|poem| poem.bare().chars().collect::<Vec<_>>()) {
        *occurrences.entry(c).or_default() += 1;
    }
    poems.into_iter().partition(|poem| poem.bare().chars().all(|c| occurrences[&c] >= LEAST_OCCURRENCES))
}

/// Whether the form can be asked for and verified: a ci has its tune, and any other shi equal lines in pairs, for unequal
/// ones cannot be told from a ci.
fn is_formed(poem: &Poem) -> bool {
    match poem.form {
        Form::Ci => poem.tune.is_some(),
        form => form_of(&poem.text()) == Some(form),
    }
}

/// Takes [`PER_FORM`] poems of each form by the hash of their text, and keeps the package's order.
fn stratify(poems: Vec<Poem>) -> Vec<Poem> {
    let available = count(&poems);
    let mut quota = Counts::new();
    for form in Form::ALL {
        let have = |dynasty: &str| available.get(&(form, dynasty.to_owned())).copied().unwrap_or_default();
        let (tang, song) = shares(have(TANG), have(SONG));
        quota.extend([((form, TANG.to_owned()), tang), ((form, SONG.to_owned()), song)]);
    }
    let mut order: Vec<usize> = (0..poems.len()).collect();
    order.sort_by_cached_key(|&at| stable_hash(poems[at].bare().chars()));
    let mut taken = vec![false; poems.len()];
    for at in order {
        let left = quota.entry((poems[at].form, poems[at].dynasty.clone())).or_default();
        taken[at] = *left > 0;
        *left = left.saturating_sub(1);
    }
    poems.into_iter().zip(taken).filter(|&(_, taken)| taken).map(|(poem, _)| poem).collect()
}

/// Half of the poems of a form from each dynasty; what one lacks comes from the other.
fn shares(tang: usize, song: usize) -> (usize, usize) {
    let half = PER_FORM / 2;
    let from_tang = tang.min(half.max(PER_FORM.saturating_sub(song)));
    (from_tang, song.min(PER_FORM - from_tang))
}

fn compress(out: &Path, poems: &[Poem]) -> Result<Vec<u8>, PoetryError> {
    let write = || {
        let mut zstd = zstd::Encoder::new(Vec::new(), LEVEL)?;
        for poem in poems {
            writeln!(zstd, "{}", to_line(poem)?)?;
        }
        zstd.finish()
    };
    write().map_err(PoetryError::io(out))
}

fn write_whole(out: &Path, bytes: &[u8]) -> Result<(), PoetryError> {
    let part = out.with_extension("part");
    let write = || {
        let mut file = File::create(&part)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&part, out)
    };
    write().map_err(PoetryError::io(out))
}

impl fmt::Display for PackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} records", self.n_records)?;
        self.dropped.iter().try_for_each(|(reason, n)| writeln!(f, "{n} dropped: {reason}"))?;
        writeln!(f, "{} left out: near-duplicates", self.n_duplicates)?;
        writeln!(f, "{} left out: rare characters", self.n_rare)?;
        writeln!(f, "{} left out: form not told by rule", self.n_formless)?;
        self.counts.iter().try_for_each(|((form, dynasty), n)| writeln!(f, "{n} {form} {dynasty}"))?;
        write!(f, "{} poems, {} bytes", self.counts.values().sum::<usize>(), self.n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynasties_share_a_form_equally_where_both_have_enough() {
        assert_eq!(shares(9000, 9000), (2500, 2500));
        assert_eq!(shares(1000, 9000), (1000, 4000));
        assert_eq!(shares(9000, 1000), (4000, 1000));
        assert_eq!(shares(0, 9000), (0, 5000));
        assert_eq!(shares(10, 20), (10, 20));
    }

    /// Four lines of five characters that spell `n`.
    fn quatrain(n: usize) -> Poem {
        let digits = format!("{n:020}");
        let line = |i: usize| {
            digits[5 * i..5 * i + 5].chars().map(|c| "天地玄黄宇宙洪荒日月".chars().nth(c as usize - 48).unwrap())
        };
        let text: String = (0..4).flat_map(|i| line(i).chain(['。'])).collect();
        Poem { dynasty: TANG.into(), ..Poem::from_text(n.to_string(), &text) }
    }

    #[test]
    fn each_form_is_cut_to_its_share_in_the_order_of_the_package() {
        let poems: Vec<Poem> = (0..PER_FORM + 100).map(quatrain).collect();
        let chosen = stratify(poems.clone());
        assert_eq!(count(&chosen), Counts::from([((Form::WuJue, TANG.to_owned()), PER_FORM)]));
        let places: Vec<usize> = chosen.iter().map(|poem| poem.id.parse().unwrap()).collect();
        assert!(places.is_sorted());
        let mut reversed = poems;
        reversed.reverse();
        assert!(stratify(reversed).iter().rev().eq(&chosen), "the choice depends on the texts alone");
    }

    #[test]
    fn poems_with_a_rare_character_are_left_out() {
        let mut poems: Vec<Poem> = (0..LEAST_OCCURRENCES).map(|_| Poem::from_text("", "天地玄黄。")).collect();
        poems.push(Poem::from_text("rare", "天地龘黄。"));
        let (common, rare) = by_characters(poems);
        assert_eq!((common.len(), rare[0].id.as_str()), (LEAST_OCCURRENCES, "rare"));
    }

    #[test]
    fn only_forms_that_a_rule_can_tell_are_taken() {
        let ballad = Poem::from_text("", "君不见，黄河之水天上来，奔流到海不复回。");
        let ci = |tune: Option<&str>| Poem { form: Form::Ci, tune: tune.map(str::to_owned), ..ballad.clone() };
        assert!(is_formed(&quatrain(1)) && is_formed(&ci(Some("忆江南"))));
        assert!(!is_formed(&ballad) && !is_formed(&ci(None)));
    }

    #[test]
    fn written_poems_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("poems.zst");
        let poems: Vec<Poem> = (0..3).map(quatrain).collect();
        write_whole(&out, &compress(&out, &poems).unwrap()).unwrap();
        let jsonl = zstd::decode_all(File::open(&out).unwrap()).unwrap();
        assert_eq!(crate::poetry::jsonl::parse(&out, &jsonl).unwrap(), poems);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn a_file_that_cannot_be_written_is_named() {
        let error = write_whole(Path::new("/no/such/folder/poems.zst"), b"x").unwrap_err();
        assert!(error.to_string().starts_with("/no/such/folder/poems.zst: "));
    }
}
