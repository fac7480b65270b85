//! Closed forms for even stages, as fast bounds for the planner's search.

use super::Schedule;

/// Makespan of a pipeline whose `p*v` virtual stages are all alike and whose transfers take no time: exact for GPipe, 1F1B
/// and interleaved 1F1B, and for ZB-H1 with f = b = w; `f`, `b`, `w` are the times of one virtual stage, `m` micro-batches.
///
/// | schedule | makespan |
/// |---|---|
/// | GPipe, 1F1B | (m+p-1)(f+b+w) |
/// | interleaved | (mv+p-1)(f+b+w) |
/// | ZB-H1 | m(f+b+w) + (p-1)(f+b-w) |
/// | ZB-V | 2m(f+b+w) + (p-1) max(0, f+b-2w) (the greedy order comes close) |
pub fn even_makespan(schedule: Schedule, p: u32, v: u32, m: u32, f: f64, b: f64, w: f64) -> f64 {
    let (p, v, m, all) = (f64::from(p), f64::from(v), f64::from(m), f + b + w);
    match schedule {
        Schedule::GPipe | Schedule::OneFOneB => (m + p - 1.0) * all,
        Schedule::Interleaved => (m * v + p - 1.0) * all,
        Schedule::ZbH1 => m * all + (p - 1.0) * (f + b - w).max(0.0),
        Schedule::ZbV => 2.0 * m * all + (p - 1.0) * (f + b - 2.0 * w).max(0.0),
    }
}
