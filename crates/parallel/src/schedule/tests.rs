use super::*;
use proptest::prelude::*;

fn even(schedule: Schedule, p: u32, v: u32, m: u32) -> Pipeline {
    let n = (p * v) as usize;
    let one = vec![1.0; n];
    Pipeline {
        schedule,
        stages: p,
        chunks: v,
        micro_batches: m,
        forward: one.clone(),
        backward_input: one.clone(),
        backward_weight: one,
        transfer: 0.0,
    }
}

fn run(pipeline: &Pipeline) -> Timeline {
    replay(pipeline, &order(pipeline).expect("order")).expect("replay")
}

#[test]
fn even_stages_agree_with_the_closed_forms() {
    for (s, v) in [(Schedule::GPipe, 1), (Schedule::OneFOneB, 1), (Schedule::Interleaved, 3), (Schedule::ZbH1, 1)] {
        for p in [1, 2, 4, 7] {
            let t = run(&even(s, p, v, 4 * p));
            assert_eq!(t.makespan, even_makespan(s, p, v, 4 * p, 1.0, 1.0, 1.0), "{s} p={p}");
        }
    }
}

#[test]
fn vee_fills_nearly_the_whole_pipeline_within_the_memory_of_1f1b() {
    for p in [2u32, 4, 8, 16] {
        let t = run(&even(Schedule::ZbV, p, 2, 4 * p));
        assert!(t.bubble_fraction() < 0.08, "p={p}: {}", t.bubble_fraction());
        assert!(t.peak_in_flight.iter().all(|&k| k <= 2 * p + 1), "p={p}: {:?}", t.peak_in_flight);
        let plain = run(&even(Schedule::OneFOneB, p, 1, 4 * p));
        assert!(t.bubble_fraction() < plain.bubble_fraction(), "p={p}");
    }
}

#[test]
fn order_that_waits_for_itself_is_reported() {
    let p = even(Schedule::OneFOneB, 2, 1, 2);
    let mut orders = order(&p).expect("order");
    orders[0].reverse();
    assert!(matches!(replay(&p, &orders), Err(ScheduleError::Deadlock { .. })));
}

#[test]
fn impossible_pipelines_are_refused() {
    for (p, why) in [
        (even(Schedule::Interleaved, 4, 2, 6), "multiple"),
        (even(Schedule::OneFOneB, 4, 2, 8), "chunks"),
        (Pipeline { transfer: f64::NAN, ..even(Schedule::GPipe, 1, 1, 1) }, "finite"),
        (Pipeline { forward: vec![], ..even(Schedule::GPipe, 2, 1, 1) }, "each"),
        (Pipeline { micro_batches: 0, ..even(Schedule::GPipe, 2, 1, 1) }, "positive"),
        (Pipeline { micro_batches: u32::MAX, ..even(Schedule::GPipe, 2, 1, 1) }, "at most"),
    ] {
        let error = order(&p).expect_err(why).to_string();
        assert!(error.contains(why), "{error}");
    }
}

proptest! {
    /// No schedule beats the slowest device or a micro-batch's way through, and none loses an operation.
    #[test]
    fn makespan_respects_the_lower_bounds(p in 1u32..6, k in 1u32..5, kind in 0usize..5, seed in proptest::collection::vec(1u32..9, 36), hop in 0u32..4) {
        let schedule = [Schedule::GPipe, Schedule::OneFOneB, Schedule::Interleaved, Schedule::ZbH1, Schedule::ZbV][kind];
        let v = match schedule { Schedule::Interleaved | Schedule::ZbV => 2, _ => 1 };
        let n = (p * v) as usize;
        let take = |o: usize| -> Vec<f64> { (0..n).map(|i| f64::from(seed[o * 12 + i])).collect() };
        let pipeline = Pipeline {
            schedule, stages: p, chunks: v, micro_batches: k * p,
            forward: take(0), backward_input: take(1), backward_weight: take(2), transfer: f64::from(hop),
        };
        let t = run(&pipeline);
        let slowest = t.busy.iter().fold(0.0f64, |a, &b| a.max(b));
        let way: f64 = pipeline.forward.iter().sum::<f64>() + pipeline.backward_input.iter().sum::<f64>();
        prop_assert!(t.makespan >= slowest && t.makespan >= way);
        let per = if matches!(schedule, Schedule::ZbH1 | Schedule::ZbV) { 3 } else { 2 };
        prop_assert_eq!(t.devices.iter().map(Vec::len).sum::<usize>(), n * (k * p) as usize * per);
    }
}
