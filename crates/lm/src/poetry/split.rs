use super::hash::stable_hash;
use super::near::near_duplicates;
use super::poem::Poem;

/// Which part of the data a poem belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Parameters are fitted on it.
    Train,
    /// Choices are made on it.
    Val,
    /// Results are reported on it.
    Test,
}

/// A division of poems into parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    parts: Vec<Part>,
    n_groups: usize,
}

/// Divides poems by a hash of their text, all near-duplicates on one side: 90 % train, 5 % val, 5 % test.
///
/// The order of the poems changes nothing, nor do ids, titles and authors; a poem changes sides only if a new
/// near-duplicate of it comes in.
pub fn split(poems: &[Poem]) -> Split {
    let groups = near_duplicates(poems);
    let mut keys = vec![u64::MAX; poems.len()];
    for (poem, &group) in poems.iter().zip(&groups) {
        keys[group] = keys[group].min(stable_hash(poem.bare().chars()));
    }
    let n_groups = groups.iter().enumerate().filter(|&(at, &group)| at == group).count();
    Split { parts: groups.iter().map(|&group| part(keys[group])).collect(), n_groups }
}

fn part(key: u64) -> Part {
    match key % 20 {
        0 => Part::Test,
        1 => Part::Val,
        _ => Part::Train,
    }
}

impl Split {
    /// The part of each poem.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Indices of the poems of one part, ascending.
    pub fn indices(&self, part: Part) -> Vec<usize> {
        self.parts.iter().enumerate().filter(|&(_, &p)| p == part).map(|(at, _)| at).collect()
    }

    /// Groups of near-duplicates, single poems included.
    pub fn n_groups(&self) -> usize {
        self.n_groups
    }

    /// A fingerprint of the whole division: it changes with any poem's part or place.
    pub fn fingerprint(&self) -> u64 {
        stable_hash(self.parts.iter().map(|&part| char::from(b'a' + part as u8)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn poems(n: usize) -> Vec<Poem> {
        let char = |i: usize| char::from_u32(0x4E00 + (i * 7919 % 20_000) as u32).unwrap();
        let text = |i: usize| (0..20).map(|j| char(i * 20 + j)).collect::<String>();
        (0..n).map(|i| Poem::from_text(i.to_string(), &text(i))).collect()
    }

    #[test]
    fn near_duplicates_are_on_one_side() {
        let mut poems = poems(400);
        let variants: Vec<Poem> = poems
            .iter()
            .map(|p| Poem::from_text("", &p.text().chars().skip(4).chain("山水".chars()).collect::<String>()))
            .collect();
        poems.extend(variants);
        let split = split(&poems);
        assert_eq!(split.n_groups(), 400);
        assert_eq!(split.parts()[..400], split.parts()[400..]);
    }

    #[test]
    fn order_of_the_poems_changes_nothing() {
        let mut poems = poems(400);
        let forward = split(&poems);
        poems.reverse();
        let mut backward = split(&poems);
        backward.parts.reverse();
        assert_eq!(forward, backward);
        assert!(forward.indices(Part::Test).len() > 5 && forward.indices(Part::Val).len() > 5);
        assert!(forward.indices(Part::Train).len() > 320);
    }
}
