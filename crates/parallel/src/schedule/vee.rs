//! ZB-V: a greedy order of the V-shaped schedule within the memory of 1F1B.

use super::{Operation, Pipeline, ScheduleError, Work};

/// When an operation could start, its rank among works, its device, and the operation.
type Offer = ((f64, usize, usize), Operation);

/// State of the greedy construction.
struct Greedy<'a> {
    pipeline: &'a Pipeline,
    /// Next micro-batch of each work on each virtual stage, and when the last results are ready.
    next: [Vec<u32>; 3],
    forward: Vec<Vec<f64>>,
    gradient: Vec<Vec<f64>>,
    free: Vec<f64>,
    /// What each device would do next; `None` while it waits.
    offers: Vec<Option<Offer>>,
    lists: Vec<Vec<Operation>>,
}

/// Order of operations on each device. Whenever a device is free it takes the gradient that is ready, else the forward
/// that is ready and whose activations fit (virtual stage k keeps at most 2p-k), else a weight gradient.
pub(super) fn order(pipeline: &Pipeline) -> Result<Vec<Vec<Operation>>, ScheduleError> {
    let (p, n, m) = (pipeline.stages as usize, pipeline.virtual_stages() as usize, pipeline.micro_batches as usize);
    let blank = vec![Vec::with_capacity(m); n];
    let mut greedy = Greedy {
        pipeline,
        next: [vec![0; n], vec![0; n], vec![0; n]],
        forward: blank.clone(),
        gradient: blank,
        free: vec![0.0; p],
        offers: vec![None; p],
        lists: vec![Vec::with_capacity(6 * m); p],
    };
    (0..p).for_each(|device| greedy.offers[device] = greedy.offer(device));
    for _ in 0..3 * n * m {
        greedy.step()?;
    }
    Ok(greedy.lists)
}

const WORKS: [Work; 3] = [Work::B, Work::F, Work::W];

impl Greedy<'_> {
    /// Places the operation that can start first; ties go to gradients, then forwards, then the lower device.
    fn step(&mut self) -> Result<(), ScheduleError> {
        let first =
            self.offers.iter().flatten().min_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
        let Some(&((start, rank, device), o)) = first else {
            return Err(ScheduleError::Deadlock { device: 0, position: self.lists[0].len() });
        };
        self.place(start, rank, device, o);
        // Only this device and those of the neighbouring stages can see the result.
        self.offers[device] = self.offer(device);
        let last = self.pipeline.virtual_stages() - 1;
        for neighbour in [o.stage.saturating_sub(1), (o.stage + 1).min(last)] {
            let other = self.pipeline.device_of(neighbour) as usize;
            self.offers[other] = self.offer(other);
        }
        Ok(())
    }

    /// The operation `device` would start first.
    fn offer(&self, device: usize) -> Option<Offer> {
        let mut best: Option<Offer> = None;
        for (rank, &work) in WORKS.iter().enumerate() {
            for stage in self.stages_of(device) {
                let Some(ready) = self.ready(work, rank, stage) else { continue };
                let key = (ready.max(self.free[device]), rank, device);
                if best.as_ref().is_none_or(|(k, _)| key < *k) {
                    best = Some((key, Operation { work, stage, micro: self.next[rank][stage as usize] }));
                }
            }
        }
        best
    }

    /// The upward chunk first: its gradients are due first.
    fn stages_of(&self, device: usize) -> [u32; 2] {
        [2 * self.pipeline.stages - 1 - device as u32, device as u32]
    }

    fn place(&mut self, start: f64, rank: usize, device: usize, o: Operation) {
        let (k, end) = (o.stage as usize, start + self.pipeline.time(o));
        self.next[rank][k] += 1;
        self.free[device] = end;
        match o.work {
            Work::F => self.forward[k].push(end),
            Work::B | Work::BW => self.gradient[k].push(end),
            Work::W => {}
        }
        self.lists[device].push(o);
    }

    /// When the next `work` on `stage` could start; `None` when it cannot yet.
    fn ready(&self, work: Work, rank: usize, stage: u32) -> Option<f64> {
        let (k, j) = (stage as usize, self.next[rank][stage as usize] as usize);
        let last = self.pipeline.virtual_stages() - 1;
        let moved = |a: u32| {
            if self.pipeline.device_of(a) == self.pipeline.device_of(stage) { 0.0 } else { self.pipeline.transfer }
        };
        match work {
            Work::F => {
                let kept = self.next[1][k] - self.next[2][k];
                let more = j < self.pipeline.micro_batches as usize && kept < 2 * self.pipeline.stages - stage;
                let input = if k == 0 { Some(0.0) } else { self.forward[k - 1].get(j).map(|t| t + moved(stage - 1)) };
                input.filter(|_| more)
            }
            Work::W => self.gradient[k].get(j).copied(),
            _ if stage == last => self.forward[k].get(j).copied(),
            _ => Some(self.forward[k].get(j)?.max(self.gradient[k + 1].get(j)? + moved(stage + 1))),
        }
    }
}
