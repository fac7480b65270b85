//! Groups of near-duplicates: the same poem under two authors, variant readings, an excerpt and its whole.

use super::hash::stable_hash;
use super::poem::Poem;

/// Characters of the shingles that make two poems candidates.
const SHINGLE: usize = 4;
/// A poem is compared with so many of the next ones that share a shingle; real duplicates share many shingles, of which
/// most are rare, so that the limit binds only for phrases that everybody uses.
const REACH: usize = 8;

/// For each poem the index of the first poem of its group.
///
/// Two poems belong together when they share half of the character pairs of the one that has fewer, and so do the poems
/// that are linked by a chain of such pairs. Only poems that share four characters in a row are compared.
pub fn near_duplicates(poems: &[Poem]) -> Vec<usize> {
    let bodies: Vec<Vec<char>> = poems.iter().map(|poem| poem.bare().chars().collect()).collect();
    let pairs: Vec<Vec<u32>> = bodies.iter().map(|body| character_pairs(body)).collect();
    let shingles = shingles(&bodies);
    let mut forest = Forest::new(poems.len());
    for run in shingles.chunk_by(|a, b| a.0 == b.0) {
        for (at, &(_, a)) in run.iter().enumerate() {
            for &(_, b) in run[at + 1..].iter().take(REACH) {
                if forest.root(a) != forest.root(b) && are_near(&pairs[a as usize], &pairs[b as usize]) {
                    forest.join(a, b);
                }
            }
        }
    }
    (0..poems.len() as u32).map(|poem| forest.root(poem) as usize).collect()
}

/// (hash of four characters, poem), sorted.
fn shingles(bodies: &[Vec<char>]) -> Vec<(u32, u32)> {
    let mut shingles = Vec::new();
    for (poem, body) in (0u32..).zip(bodies) {
        let hash = |window: &[char]| (stable_hash(window.iter().copied()) as u32, poem);
        shingles.extend(windows(body, SHINGLE).map(hash));
    }
    shingles.sort_unstable();
    shingles.dedup();
    shingles
}

/// All runs of `n` characters, or the whole body where it is shorter.
fn windows(body: &[char], n: usize) -> impl Iterator<Item = &[char]> {
    body.windows(n.min(body.len()).max(1))
}

fn character_pairs(body: &[char]) -> Vec<u32> {
    let mut pairs: Vec<u32> = windows(body, 2).map(|pair| stable_hash(pair.iter().copied()) as u32).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn are_near(a: &[u32], b: &[u32]) -> bool {
    2 * n_shared(a, b) >= a.len().min(b.len())
}

/// Common elements of two sorted lists.
fn n_shared(mut a: &[u32], mut b: &[u32]) -> usize {
    let mut n = 0;
    while let (Some(x), Some(y)) = (a.first(), b.first()) {
        n += usize::from(x == y);
        (a, b) = (&a[usize::from(x <= y)..], &b[usize::from(y <= x)..]);
    }
    n
}

/// Union-find whose roots are the smallest members.
struct Forest(Vec<u32>);

impl Forest {
    fn new(n: usize) -> Self {
        Self((0..n as u32).collect())
    }

    fn root(&mut self, mut node: u32) -> u32 {
        while self.0[node as usize] != node {
            let above = self.0[self.0[node as usize] as usize];
            self.0[node as usize] = above;
            node = above;
        }
        node
    }

    fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.root(a), self.root(b));
        self.0[a.max(b) as usize] = a.min(b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const QUIET_NIGHT: &str = "床前明月光，疑是地上霜。举头望明月，低头思故乡。";
    const VARIANT: &str = "床前看月光，疑是地上霜。举头望山月，低头思故乡。";
    const EXCERPT: &str = "举头望明月，低头思故乡。空山不见人，但闻人语响。";
    const OTHER: &str = "白日依山尽，黄河入海流。欲穷千里目，更上一层楼。";

    fn groups(texts: &[&str]) -> Vec<usize> {
        near_duplicates(&texts.iter().map(|text| Poem::from_text("", text)).collect::<Vec<_>>())
    }

    #[test]
    fn variants_and_copies_stand_together_and_others_apart() {
        assert_eq!(groups(&[OTHER, QUIET_NIGHT, VARIANT, QUIET_NIGHT]), [0, 1, 1, 1]);
    }

    #[test]
    fn excerpt_stands_with_its_whole() {
        let long = format!("{OTHER}{QUIET_NIGHT}春眠不觉晓，处处闻啼鸟。夜来风雨声，花落知多少。");
        assert_eq!(groups(&[&long, OTHER, EXCERPT]), [0, 0, 2]);
    }

    #[test]
    fn tiny_bodies_do_no_harm() {
        assert_eq!(groups(&["", "月", "月", "明月"]), [0, 1, 1, 3]);
    }

    proptest! {
        #[test]
        fn groups_do_not_depend_on_the_order(seed in 0usize..24) {
            let mut texts = vec![OTHER, QUIET_NIGHT, VARIANT, EXCERPT];
            texts.rotate_left(seed % 4);
            texts.swap(seed / 8, 3);
            let groups = groups(&texts);
            let of = |text| groups[texts.iter().position(|&t| t == text).unwrap()];
            prop_assert_eq!(of(QUIET_NIGHT), of(VARIANT));
            prop_assert_ne!(of(OTHER), of(VARIANT));
        }
    }
}
