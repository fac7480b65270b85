//! Exact discrete-event replay of a schedule.

use super::{Operation, Pipeline, ScheduleError, Work};

/// One operation with its start and end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// The operation.
    pub operation: Operation,
    /// Start.
    pub start: f64,
    /// End.
    pub end: f64,
}

/// What a schedule did.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// Spans of each device in order.
    pub devices: Vec<Vec<Span>>,
    /// End of the last operation.
    pub makespan: f64,
    /// Sum of the times of each device's operations.
    pub busy: Vec<f64>,
    /// Largest number of (micro-batch, chunk) pairs on each device whose forward has started and whose weight gradient has
    /// not ended: what must be kept.
    pub peak_in_flight: Vec<u32>,
    /// The same, released already at the end of the input gradient.
    pub peak_until_input_gradient: Vec<u32>,
}

impl Timeline {
    /// Share of device time without work.
    pub fn bubble_fraction(&self) -> f64 {
        let total = self.makespan * self.busy.len() as f64;
        if total > 0.0 { 1.0 - self.busy.iter().sum::<f64>() / total } else { 0.0 }
    }
}

/// When the results of each (virtual stage, micro-batch) are ready; infinite = not yet.
struct Ready {
    micro_batches: usize,
    forward: Vec<f64>,
    gradient: Vec<f64>,
}

impl Ready {
    fn new(stages: u32, micro_batches: u32) -> Self {
        let n = stages as usize * micro_batches as usize;
        Self {
            micro_batches: micro_batches as usize,
            forward: vec![f64::INFINITY; n],
            gradient: vec![f64::INFINITY; n],
        }
    }

    fn at(&self, stage: u32, micro: u32) -> usize {
        stage as usize * self.micro_batches + micro as usize
    }

    /// Earliest moment all inputs of `o` are there; infinite while one is not computed.
    fn inputs(&self, pipeline: &Pipeline, o: Operation) -> f64 {
        let here = self.at(o.stage, o.micro);
        let moved =
            |from: u32| if pipeline.device_of(from) == pipeline.device_of(o.stage) { 0.0 } else { pipeline.transfer };
        match o.work {
            Work::F if o.stage == 0 => 0.0,
            Work::F => self.forward[self.at(o.stage - 1, o.micro)] + moved(o.stage - 1),
            Work::W => self.gradient[here],
            Work::B | Work::BW if o.stage + 1 == pipeline.virtual_stages() => self.forward[here],
            Work::B | Work::BW => {
                self.forward[here].max(self.gradient[self.at(o.stage + 1, o.micro)] + moved(o.stage + 1))
            }
        }
    }

    fn finish(&mut self, o: Operation, end: f64) {
        let here = self.at(o.stage, o.micro);
        match o.work {
            Work::F => self.forward[here] = end,
            Work::B | Work::BW => self.gradient[here] = end,
            Work::W => {}
        }
    }
}

/// Runs the orders: each device one operation at a time, each as soon as the device is free and its inputs have arrived.
///
/// # Errors
/// [`ScheduleError::Deadlock`] when an order waits for itself; shape and time errors as [`Pipeline::check`].
pub fn replay(pipeline: &Pipeline, orders: &[Vec<Operation>]) -> Result<Timeline, ScheduleError> {
    pipeline.check()?;
    let n = orders.len();
    let mut ready = Ready::new(pipeline.virtual_stages(), pipeline.micro_batches);
    let mut devices: Vec<Vec<Span>> = orders.iter().map(|o| Vec::with_capacity(o.len())).collect();
    let mut free = vec![0.0f64; n];
    let mut moved = true;
    while moved {
        moved = false;
        for d in sweep(n) {
            while let Some(&o) = orders[d].get(devices[d].len()) {
                let inputs = ready.inputs(pipeline, o);
                if inputs == f64::INFINITY {
                    break;
                }
                let start = free[d].max(inputs);
                let end = start + pipeline.time(o);
                ready.finish(o, end);
                devices[d].push(Span { operation: o, start, end });
                free[d] = end;
                moved = true;
            }
        }
    }
    match (0..n).find(|&d| devices[d].len() < orders[d].len()) {
        Some(device) => Err(ScheduleError::Deadlock { device, position: devices[device].len() }),
        None => Ok(summary(pipeline, devices)),
    }
}

/// Devices forwards then backwards: forwards and gradients each travel far in one sweep.
fn sweep(n: usize) -> impl Iterator<Item = usize> {
    (0..n).chain((0..n).rev())
}

fn summary(pipeline: &Pipeline, devices: Vec<Vec<Span>>) -> Timeline {
    let makespan = devices.iter().filter_map(|d| d.last()).fold(0.0f64, |m, s| m.max(s.end));
    let busy = devices.iter().map(|d| d.iter().map(|s| pipeline.time(s.operation)).sum()).collect();
    let peak_in_flight = devices.iter().map(|d| peak(d, |w| matches!(w, Work::W | Work::BW))).collect();
    let peak_until_input_gradient = devices.iter().map(|d| peak(d, |w| matches!(w, Work::B | Work::BW))).collect();
    Timeline { devices, makespan, busy, peak_in_flight, peak_until_input_gradient }
}

/// A device works one operation at a time, so the order alone decides what is in flight.
fn peak(spans: &[Span], releases: impl Fn(Work) -> bool) -> u32 {
    let (mut now, mut most) = (0u32, 0u32);
    for span in spans {
        if span.operation.work == Work::F {
            now += 1;
            most = most.max(now);
        } else if releases(span.operation.work) {
            now -= 1;
        }
    }
    most
}
