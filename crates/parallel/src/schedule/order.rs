//! The fixed order of operations on each device.

use super::{Operation, Pipeline, Schedule, ScheduleError, Work, vee};

/// Largest number of operations that is listed and replayed.
pub const MAX_OPERATIONS: u64 = 20_000_000;

/// Order of operations on each device, outer index = device.
///
/// # Errors
/// [`ScheduleError::Shape`] or [`ScheduleError::Time`] for a pipeline that cannot be.
pub fn order(pipeline: &Pipeline) -> Result<Vec<Vec<Operation>>, ScheduleError> {
    pipeline.check()?;
    let (p, v, m) = (pipeline.stages, pipeline.chunks, pipeline.micro_batches);
    Ok(match pipeline.schedule {
        Schedule::GPipe => (0..p).map(|s| gpipe(s, m)).collect(),
        Schedule::OneFOneB => (0..p).map(|s| one_f_one_b(s, p, m)).collect(),
        Schedule::Interleaved => (0..p).map(|s| interleaved(s, p, v, m)).collect(),
        Schedule::ZbH1 => (0..p).map(|s| zb_h1(s, p, m)).collect(),
        Schedule::ZbV => vee::order(pipeline)?,
    })
}

fn op(work: Work, stage: u32, micro: u32) -> Operation {
    Operation { work, stage, micro }
}

fn gpipe(s: u32, m: u32) -> Vec<Operation> {
    (0..m).map(|j| op(Work::F, s, j)).chain((0..m).map(|j| op(Work::BW, s, j))).collect()
}

fn one_f_one_b(s: u32, p: u32, m: u32) -> Vec<Operation> {
    let warm = (p - s - 1).min(m);
    paired(m, warm, |j| op(Work::F, s, j), |j| op(Work::BW, s, j))
}

/// `warm` forwards, then pairs of forward and backward, then the backwards left.
fn paired(n: u32, warm: u32, f: impl Fn(u32) -> Operation, b: impl Fn(u32) -> Operation) -> Vec<Operation> {
    let mut list: Vec<_> = (0..warm).map(&f).collect();
    for k in warm..n {
        list.push(f(k));
        list.push(b(k - warm));
    }
    list.extend((n - warm..n).map(b));
    list
}

fn interleaved(s: u32, p: u32, v: u32, m: u32) -> Vec<Operation> {
    let place = |k: u32| (k % (p * v) / p, k / (p * v) * p + k % p);
    let f = |k| {
        let (chunk, micro) = place(k);
        op(Work::F, chunk * p + s, micro)
    };
    let b = |k| {
        let (chunk, micro) = place(k);
        op(Work::BW, (v - 1 - chunk) * p + s, micro)
    };
    let warm = (2 * (p - s - 1) + (v - 1) * p).min(m * v);
    paired(m * v, warm, f, b)
}

fn zb_h1(s: u32, p: u32, m: u32) -> Vec<Operation> {
    let warm = (p - s - 1).min(m);
    let mut list: Vec<_> = (0..warm).map(|j| op(Work::F, s, j)).collect();
    let mut weights = 0;
    for i in 0..m {
        if warm + i < m {
            list.push(op(Work::F, s, warm + i));
        }
        list.push(op(Work::B, s, i));
        if i >= s {
            list.push(op(Work::W, s, weights));
            weights += 1;
        }
    }
    list.extend((weights..m).map(|j| op(Work::W, s, j)));
    list
}
