//! Which layers go to which stage.

/// What a stage costs: seconds per micro-batch of one layer on it, of the embedding or the head it carries, and the most
/// layers it has room for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StageCost {
    /// Seconds of one layer.
    pub layer: f64,
    /// Seconds besides its layers.
    pub fixed: f64,
    /// Most layers.
    pub room: u64,
}

/// One way to place some layers on the first stages.
#[derive(Clone, Copy, Debug)]
struct Way {
    /// Makespan it forces already.
    bound: f64,
    /// Work of the stages so far, one micro-batch.
    work: f64,
    /// Layers placed before the last of these stages, and which way that was.
    before: usize,
    index: usize,
}

/// The cut of `layers` layers over `stages` (at least one each) that minimises max over stages of (work of all stages
/// before it + `micro_batches` x its own work): what a pipeline of fused schedules takes at least. Exact, by dynamic
/// programming over (stage, layers placed), keeping every way that is not worse in both bound and work (one, where all
/// stages run alike). `None` when the layers do not fit.
pub fn best_cut(layers: u64, stages: &[StageCost], micro_batches: f64) -> Option<Vec<u32>> {
    let (l, p) = (usize::try_from(layers).ok()?, stages.len());
    if p == 0 || p > l {
        return None;
    }
    let mut table: Vec<Vec<Vec<Way>>> = vec![vec![Vec::new(); l + 1]];
    table[0][0].push(Way { bound: 0.0, work: 0.0, before: 0, index: 0 });
    for (s, stage) in stages.iter().enumerate() {
        let most = l - (p - 1 - s);
        let next = (0..=l)
            .map(|n| if n > s && n <= most { extend(&table[s], n, s, stage, micro_batches) } else { Vec::new() });
        let next = next.collect();
        table.push(next);
    }
    let ways = &table[p][l];
    let mut index = (0..ways.len()).min_by(|&a, &b| ways[a].bound.total_cmp(&ways[b].bound))?;
    let mut cut = vec![0u32; p];
    let mut left = l;
    for s in (0..p).rev() {
        let way = table[s + 1][left][index];
        cut[s] = (left - way.before) as u32;
        (left, index) = (way.before, way.index);
    }
    Some(cut)
}

/// Ways to place `n` layers on the stages up to `stage`, the `s`-th, from the ways of the stages before it.
fn extend(before: &[Vec<Way>], n: usize, s: usize, stage: &StageCost, micro_batches: f64) -> Vec<Way> {
    let room = usize::try_from(stage.room).unwrap_or(usize::MAX);
    let least = n.saturating_sub(room).max(s);
    let mut ways = Vec::new();
    for (placed, list) in before.iter().enumerate().take(n).skip(least) {
        let own = (n - placed) as f64 * stage.layer + stage.fixed;
        for (index, way) in list.iter().enumerate() {
            let bound = way.bound.max(way.work + micro_batches * own);
            keep(&mut ways, Way { bound, work: way.work + own, before: placed, index });
        }
    }
    ways
}

/// Adds a way unless another is as good in both; drops those it beats.
fn keep(ways: &mut Vec<Way>, new: Way) {
    if ways.iter().any(|w| w.bound <= new.bound && w.work <= new.work) {
        return;
    }
    ways.retain(|w| w.bound < new.bound || w.work < new.work);
    ways.push(new);
}

/// Layers of each device when `layers` are spread so that the slowest device is as fast as it can be, each device having `least`
/// at least: every layer goes to the device that has least work with it. `layer` is the time of one layer, `first` and `last`
/// what the first and the last device do besides.
pub fn balanced(layers: u64, devices: u32, least: u32, layer: f64, ends: (f64, f64)) -> Vec<u64> {
    let p = devices as usize;
    let fixed = |d: usize| if d == 0 { ends.0 } else { 0.0 } + if d + 1 == p { ends.1 } else { 0.0 };
    let mut counts = vec![u64::from(least); p];
    let Some(mut left) = layers.checked_sub(u64::from(least) * p as u64) else { return counts };
    // Nearly all of it at once: up to one layer below the mean work.
    let level = (layers as f64 * layer + ends.0 + ends.1) / p as f64;
    for (d, count) in counts.iter_mut().enumerate() {
        let whole = ((level - fixed(d)) / layer - 1.0).floor().max(0.0) as u64;
        let more = whole.saturating_sub(*count).min(left);
        *count += more;
        left -= more;
    }
    let work = |counts: &[u64], d: usize| (counts[d] + 1) as f64 * layer + fixed(d);
    for _ in 0..left {
        let least = (0..p).fold(0, |best, d| if work(&counts, d) < work(&counts, best) { d } else { best });
        counts[least] += 1;
    }
    counts
}

/// Whether there are at most `most` ways to cut `layers` over `stages`.
pub(super) fn few_cuts(layers: u64, stages: u32, most: usize) -> bool {
    let (n, k) = (layers.saturating_sub(1), u64::from(stages.saturating_sub(1)));
    let mut ways = 1u64;
    for i in 0..k.min(n.saturating_sub(k)) {
        ways = ways.saturating_mul(n - i) / (i + 1);
        if ways > most as u64 {
            return false;
        }
    }
    true
}

/// Every cut of `layers` over `stages`, at least one each, when there are at most `most` of them.
pub fn all_cuts(layers: u32, stages: u32, most: usize) -> Option<Vec<Vec<u32>>> {
    let mut cuts = vec![Vec::new()];
    for s in 0..stages {
        let mut longer = Vec::new();
        for cut in &cuts {
            let left = layers - cut.iter().sum::<u32>();
            let behind = stages - 1 - s;
            let range = if behind == 0 { left..=left } else { 1..=left.saturating_sub(behind) };
            longer.extend(range.map(|n| cut.iter().copied().chain([n]).collect::<Vec<u32>>()));
            if longer.len() > most {
                return None;
            }
        }
        cuts = longer;
    }
    Some(cuts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound(cut: &[u32], stages: &[StageCost], m: f64) -> f64 {
        let (mut before, mut worst) = (0.0, 0.0f64);
        for (n, s) in cut.iter().zip(stages) {
            let own = f64::from(*n) * s.layer + s.fixed;
            worst = worst.max(before + m * own);
            before += own;
        }
        worst
    }

    proptest! {
        #[test]
        fn best_cut_equals_trying_all(l in 1u32..10, p in 1u32..5, m in 1u32..9, seed in proptest::collection::vec((1u32..9, 0u32..9), 5)) {
            prop_assume!(p <= l);
            let stages: Vec<_> = seed[..p as usize].iter()
                .map(|&(a, b)| StageCost { layer: f64::from(a), fixed: f64::from(b), room: 1000 }).collect();
            let cut = best_cut(l.into(), &stages, m.into()).expect("cut");
            let least = all_cuts(l, p, 10_000).expect("few").iter().map(|c| bound(c, &stages, m.into())).fold(f64::INFINITY, f64::min);
            prop_assert!((bound(&cut, &stages, m.into()) - least).abs() < 1e-9, "{cut:?}");
        }
    }

    proptest! {
        #[test]
        fn balanced_is_as_good_as_the_best_cut_of_one_micro_batch(l in 1u32..12, p in 1u32..5, f in 0u32..9, h in 0u32..9) {
            prop_assume!(p <= l);
            let (first, last) = (f64::from(f) / 3.0, f64::from(h) / 3.0);
            let worst = |cut: &[u64]| {
                let of = |(d, n): (usize, &u64)| {
                    *n as f64 + if d == 0 { first } else { 0.0 } + if d + 1 == p as usize { last } else { 0.0 }
                };
                cut.iter().enumerate().map(of).fold(0.0, f64::max)
            };
            let ours = balanced(l.into(), p, 1, 1.0, (first, last));
            prop_assert_eq!(ours.iter().sum::<u64>(), u64::from(l));
            let all = all_cuts(l, p, 100_000).expect("few");
            prop_assert!(few_cuts(l.into(), p, all.len()));
            prop_assert!(all.len() == 1 || !few_cuts(l.into(), p, all.len() - 1));
            let wide = |c: &Vec<u32>| c.iter().map(|&n| u64::from(n)).collect::<Vec<_>>();
            let least = all.iter().map(|c| worst(&wide(c))).fold(f64::INFINITY, f64::min);
            prop_assert!((worst(&ours) - least).abs() < 1e-9, "{:?}", ours);
        }
    }

    #[test]
    fn layers_that_do_not_fit_have_no_cut() {
        let stage = StageCost { layer: 1.0, fixed: 0.0, room: 2 };
        assert_eq!(best_cut(5, &[stage, stage], 1.0), None);
        assert_eq!(best_cut(4, &[stage, stage], 1.0), Some(vec![2, 2]));
    }
}
