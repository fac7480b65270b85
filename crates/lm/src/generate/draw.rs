//! One token from a distribution.

use super::Options;
use std::cmp::Ordering;

/// A token and its probability.
type Candidate = (u32, f32);

/// Likelier first, then the lower id: an order without ties.
fn by_rank(a: &Candidate, b: &Candidate) -> Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}

/// Index of the largest logit, the first of equals; `None` where all are `-inf` or one is NaN.
pub(super) fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best = (None, f32::NEG_INFINITY);
    for (token, &x) in logits.iter().enumerate() {
        if x.is_nan() {
            return None;
        }
        if x > best.1 {
            best = (Some(token as u32), x);
        }
    }
    best.0
}

/// The `k` likeliest of `probs`, best first, in one pass that sorts no more than `2 k` at a time.
fn top(probs: &[f32], k: usize) -> Vec<Candidate> {
    let mut best: Vec<Candidate> = Vec::with_capacity((2 * k).min(probs.len()));
    let mut least = 0.0;
    for (token, &p) in probs.iter().enumerate() {
        if p <= least {
            continue;
        }
        best.push((token as u32, p));
        if best.len() >= 2 * k {
            best.select_nth_unstable_by(k - 1, by_rank);
            best.truncate(k);
            least = best[k - 1].1;
        }
    }
    best.sort_unstable_by(by_rank);
    best.truncate(k);
    best
}

/// How many of the first candidates (best first) reach `goal`; `None` if they fall short.
fn reach(candidates: &[Candidate], goal: f64) -> Option<usize> {
    let mut sum = 0.0;
    candidates.iter().position(|&(_, p)| {
        sum += f64::from(p);
        sum >= goal
    })
}

/// The fewest of the likeliest tokens that together reach `top_p`, in some order that depends on `probs` alone.
fn nucleus(probs: &[f32], top_p: f64) -> Vec<Candidate> {
    // Few tokens mostly do.
    let mut best = top(probs, 64);
    if let Some(last) = reach(&best, top_p) {
        best.truncate(last + 1);
        return best;
    }
    let mut all: Vec<Candidate> = (0..).zip(probs.iter().copied()).filter(|c| c.1 > 0.0).collect();
    let (mut from, mut to, mut goal) = (0, all.len(), top_p);
    // All before `from` belong to the nucleus, none from `to` on does; the rest is halved by rank.
    while to - from > 1 {
        let half = (to - from) / 2;
        all[from..to].select_nth_unstable_by(half, by_rank);
        let mass: f64 = all[from..from + half].iter().map(|c| f64::from(c.1)).sum();
        if mass >= goal {
            to = from + half;
        } else {
            (from, goal) = (from + half, goal - mass);
        }
    }
    all.truncate(to);
    all
}

/// The token at `u` (uniform in [0, 1)) of `probs` after `top_k`, `top_p` and `min_p`; `None` where all are 0 or NaN.
pub(super) fn draw(probs: &[f32], options: &Options, u: f64) -> Option<u32> {
    let mut candidates = if options.top_k > 0 {
        let mut best = top(probs, options.top_k.min(probs.len()));
        let mass: f64 = best.iter().map(|&(_, p)| f64::from(p)).sum();
        if let (true, Some(last)) = (options.top_p < 1.0, reach(&best, options.top_p * mass)) {
            best.truncate(last + 1);
        }
        best
    } else if options.top_p < 1.0 {
        nucleus(probs, options.top_p)
    } else if options.min_p > 0.0 {
        let least = options.min_p as f32 * probs.iter().copied().fold(0.0, f32::max);
        probs.iter().enumerate().filter(|(_, p)| **p >= least).map(|(token, &p)| (token as u32, p)).collect()
    } else {
        return pick(probs.iter().enumerate().map(|(token, &p)| (token as u32, p)), u);
    };
    let best = candidates.iter().map(|c| c.1).fold(0.0, f32::max);
    candidates.retain(|c| c.1 >= options.min_p as f32 * best);
    pick(candidates.into_iter(), u)
}

/// The candidate at which the running sum passes `u` times the whole.
fn pick(candidates: impl Iterator<Item = Candidate> + Clone, u: f64) -> Option<u32> {
    let whole: f64 = candidates.clone().map(|(_, p)| f64::from(p)).sum();
    let (goal, mut sum, mut last) = (u * whole, 0.0, None);
    for (token, p) in candidates.filter(|(_, p)| *p > 0.0) {
        sum += f64::from(p);
        last = Some(token);
        if sum > goal {
            break;
        }
    }
    last.filter(|_| whole.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::{Key, Stream};

    const PROBS: [f32; 5] = [0.1, 0.4, 0.05, 0.3, 0.15];

    /// Tokens that are ever drawn, with their shares.
    fn shares(probs: &[f32], options: Options) -> Vec<(u32, f64)> {
        let n = 20_000;
        let mut stream = Stream::new(Key::new(4));
        let mut counts = vec![0; probs.len()];
        (0..n).for_each(|_| counts[draw(probs, &options, stream.uniform()).unwrap() as usize] += 1);
        (0..).zip(counts).filter(|(_, c)| *c > 0).map(|(t, c)| (t, f64::from(c) / f64::from(n))).collect()
    }

    fn check(options: Options, want: &[(u32, f64)]) {
        let got = shares(&PROBS, options);
        assert_eq!(got.len(), want.len(), "{got:?}");
        for ((token, share), (want, p)) in got.iter().zip(want) {
            // Five standard errors at most.
            assert!(token == want && (share - p).abs() < 5.0 * (0.25_f64 / 20_000.0).sqrt(), "{got:?}");
        }
    }

    #[test]
    fn plain_draws_follow_the_distribution() {
        check(Options::default(), &[(0, 0.1), (1, 0.4), (2, 0.05), (3, 0.3), (4, 0.15)]);
    }

    #[test]
    fn top_k_keeps_the_k_likeliest() {
        check(Options { top_k: 2, ..Options::default() }, &[(1, 4.0 / 7.0), (3, 3.0 / 7.0)]);
        check(Options { top_k: 99, ..Options::default() }, &[(0, 0.1), (1, 0.4), (2, 0.05), (3, 0.3), (4, 0.15)]);
    }

    #[test]
    fn top_p_keeps_the_fewest_that_reach_p() {
        let third = 0.85;
        check(Options { top_p: 0.8, ..Options::default() }, &[(1, 0.4 / third), (3, 0.3 / third), (4, 0.15 / third)]);
        check(Options { top_p: 0.3, ..Options::default() }, &[(1, 1.0)]);
    }

    #[test]
    fn top_p_counts_within_top_k() {
        check(Options { top_k: 2, top_p: 0.5, ..Options::default() }, &[(1, 1.0)]);
    }

    #[test]
    fn min_p_is_relative_to_the_likeliest() {
        let want = [(1, 0.4 / 0.7), (3, 0.3 / 0.7)];
        check(Options { min_p: 0.5, ..Options::default() }, &want);
        check(Options { min_p: 0.5, top_p: 0.9, ..Options::default() }, &want);
    }

    #[test]
    fn top_equals_sorting_everything() {
        let key = Key::new(8);
        // Many ties.
        let probs: Vec<f32> = (0..1000).map(|i| (key.u64(i) % 50) as f32 / 50.0).collect();
        let mut all: Vec<Candidate> = (0..).zip(probs.iter().copied()).filter(|c| c.1 > 0.0).collect();
        all.sort_by(by_rank);
        for k in [1, 2, 7, 64, 500, 1000] {
            assert_eq!(top(&probs, k), all[..k.min(all.len())]);
        }
        for p in [0.01, 0.5, 0.99] {
            let total: f32 = probs.iter().sum();
            let scaled: Vec<f32> = probs.iter().map(|p| p / total).collect();
            let kept = nucleus(&scaled, p);
            let mass: f64 = kept.iter().map(|c| f64::from(c.1)).sum();
            let without: f64 = kept[..kept.len() - 1].iter().map(|c| f64::from(c.1)).sum();
            assert!(mass >= p && without < p);
        }
    }

    #[test]
    fn forbidden_tokens_are_never_drawn_and_nothing_is_drawn_from_nothing() {
        for u in [0.0, 0.5, 1.0 - 1e-16] {
            assert_eq!(draw(&[0.0, 1.0, 0.0], &Options::default(), u), Some(1));
            assert_eq!(draw(&[0.0, 0.0], &Options::default(), u), None);
            assert_eq!(draw(&[f32::NAN, 0.5], &Options::default(), u), None);
        }
        assert_eq!(likeliest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(likeliest(&[f32::NEG_INFINITY; 2]), None);
        assert_eq!(likeliest(&[1.0, f32::NAN]), None);
    }
}
