//! Makespans, busy times, bubbles, memory and timelines of pipeline schedules, exactly.

use chandlery_parallel::schedule::{Pipeline, Schedule, Timeline, order, replay};
use serde_json::Value;

fn numbers(v: &Value) -> Vec<f64> {
    v.as_array().expect("list").iter().map(|x| x.as_f64().expect("number")).collect()
}

fn pipeline(case: &Value) -> Pipeline {
    let size = |k: &str| case[k].as_u64().expect("size") as u32;
    Pipeline {
        schedule: serde_json::from_value::<Schedule>(case["schedule"].clone()).expect("known schedule"),
        stages: size("stages"),
        chunks: size("chunks"),
        micro_batches: size("microbatches"),
        forward: numbers(&case["forward"]),
        backward_input: numbers(&case["backward_input"]),
        backward_weight: numbers(&case["backward_weight"]),
        transfer: case["p2p"].as_f64().expect("p2p"),
    }
}

fn as_timeline(t: &Timeline) -> Value {
    let span = |s: &chandlery_parallel::schedule::Span| {
        let o = s.operation;
        serde_json::json!([format!("{:?}", o.work), o.stage, o.micro, s.start as u64, s.end as u64])
    };
    Value::from(t.devices.iter().map(|d| Value::from(d.iter().map(span).collect::<Vec<_>>())).collect::<Vec<_>>())
}

fn check(case: &Value) {
    let (id, expected, p) = (&case["id"], &case["expected"], pipeline(case));
    let t = replay(&p, &order(&p).expect("order")).expect("replay");
    let whole = |x: &[u32]| x.iter().map(|&k| f64::from(k)).collect::<Vec<_>>();
    let edge = |f: fn(&[chandlery_parallel::schedule::Span]) -> f64| t.devices.iter().map(|d| f(d)).collect::<Vec<_>>();
    assert_eq!(t.makespan, expected["makespan"].as_f64().expect("makespan"), "{id} makespan");
    assert_eq!(t.busy, numbers(&expected["device_busy"]), "{id} busy");
    assert_eq!(whole(&t.peak_in_flight), numbers(&expected["peak_in_flight"]), "{id} in flight");
    assert_eq!(edge(|d| d[0].start), numbers(&expected["first_start"]), "{id} first start");
    assert_eq!(edge(|d| d[d.len() - 1].end), numbers(&expected["last_end"]), "{id} last end");
    let (num, den) = (expected["bubble_fraction"]["num"].as_f64(), expected["bubble_fraction"]["den"].as_f64());
    let idle = t.makespan * t.busy.len() as f64 - t.busy.iter().sum::<f64>();
    assert_eq!(idle * den.expect("den"), num.expect("num") * t.makespan * t.busy.len() as f64, "{id} bubble");
    if let Some(peak) = expected.get("peak_in_flight_until_input_gradient") {
        assert_eq!(whole(&t.peak_until_input_gradient), numbers(peak), "{id} in flight until B");
    }
    if let Some(timeline) = case.get("timeline") {
        assert_eq!(&as_timeline(&t), timeline, "{id} timeline");
    }
}

#[test]
fn conformance_schedules_are_exact() {
    for (_, case) in super::entries("cases", |c| c.get("schedule").is_some() && c.get("microbatches").is_some()) {
        check(&case);
    }
}
