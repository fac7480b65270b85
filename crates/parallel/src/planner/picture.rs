//! Timeline, device map and bars as SVG, and all of them with the text as one HTML page.

use std::fmt::Write;

use super::answer::Answer;
use crate::memory::MemoryParts;
use crate::schedule::{Pipeline, ScheduleError, Span, Work, order, replay};

/// Operations drawn at most; longer timelines show their beginning and their end.
const DRAWN: usize = 24_000;
/// Devices drawn at most on a map.
pub(super) const MAPPED: u32 = 16_384;
const WIDTH: f64 = 1600.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 48.0;
const GIB: f64 = (1u64 << 30) as f64;
/// Kinds of work with their colours, told apart without red and green.
const WORK: [(Work, &str, &str); 4] = [
    (Work::F, "#4477aa", "forward"),
    (Work::BW, "#ee9944", "both gradients"),
    (Work::B, "#ddcc55", "input gradient"),
    (Work::W, "#aa4477", "weight gradient"),
];
/// Colours of parts, in the order of printing.
const PARTS: [&str; 10] =
    ["#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa7744", "#ee6677", "#aa3377", "#bbbbbb", "#004488", "#997700"];

impl Answer {
    /// The pipeline's timeline: one row a device; forward, gradients, weight gradients and idle time by colour.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn timeline_svg(&self) -> Result<String, ScheduleError> {
        timeline(&self.prediction.pipeline, &format!("{} on {}: {}", self.model, self.cluster, self.plan))
    }

    /// The device map: one square a device, coloured by pipeline stage, framed by machine.
    pub fn map_svg(&self) -> String {
        let none = Vec::new();
        let placed = self.placement.as_ref().map_or(&none, |p| &p.device_of_rank);
        map(placed, self.plan.devices(), self.plan.pipeline, self.plan.tensor, self.machine)
    }

    /// Text, bars, timeline and device map as one page.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn to_html(&self) -> Result<String, ScheduleError> {
        let step = bars("step, seconds by part", &self.prediction.parts.named(), None);
        let memory = memory_bars(&self.memory, self.usable.first().copied());
        let title = format!("{} on {}", self.model, self.cluster);
        Ok(page(&title, &self.to_text(), &[step, memory, self.timeline_svg()?, self.map_svg()]))
    }
}

/// The timeline of a pipeline under its schedule.
///
/// # Errors
/// A pipeline that cannot be replayed.
pub(super) fn timeline(pipeline: &Pipeline, title: &str) -> Result<String, ScheduleError> {
    let timeline = replay(pipeline, &order(pipeline)?)?;
    let rows = timeline.devices.len();
    let row = (900.0 / rows as f64).clamp(5.0, 22.0);
    let total: usize = timeline.devices.iter().map(Vec::len).sum();
    let window = Window::new(total, timeline.makespan);
    let bottom = TOP + rows as f64 * row;
    let mut out = head(WIDTH, bottom + 40.0);
    label(&mut out, 4.0, 16.0, 13.0, title);
    let mut x = LEFT;
    for (work, colour, name) in WORK {
        if timeline.devices.iter().flatten().any(|s| s.operation.work == work) {
            swatch(&mut out, &mut x, colour, name);
        }
    }
    swatch(&mut out, &mut x, "#f0f0f0", "idle");
    let facts = format!(
        "{} micro-batches, {:.4} s before the gradient reduction, bubble {:.1} %{}",
        pipeline.micro_batches,
        timeline.makespan,
        100.0 * timeline.bubble_fraction(),
        if window.parts.len() > 1 { "; middle left out" } else { "" }
    );
    label(&mut out, x + 10.0, 34.0, 11.0, &facts);
    for (d, spans) in timeline.devices.iter().enumerate() {
        let y = TOP + d as f64 * row;
        let (width, gap) = (WIDTH - LEFT - RIGHT, if row > 8.0 { 2.0 } else { 0.5 });
        let _ = write!(out, "<rect x='{LEFT}' y='{y:.1}' width='{width}' height='{:.1}' fill='#f0f0f0'/>", row - gap);
        // Where rows are thin, every few of them carry a name.
        if d % (11.0 / row).ceil().max(1.0) as usize == 0 {
            label(&mut out, 4.0, y + row.min(14.0) - 3.0, 11.0, &format!("stage {d}"));
        }
        for (work, colour, _) in WORK {
            path(&mut out, spans, work, colour, &window, (y, row - gap));
        }
    }
    window.axis(&mut out, bottom);
    out.push_str("</svg>\n");
    Ok(out)
}

/// The device map: rank `r` sits on device `placed[r]`; ranks are numbered stage by stage, tensor group innermost.
pub(super) fn map(placed: &[u32], devices: u64, stages: u32, tensor: u32, machine: u32) -> String {
    if placed.is_empty() {
        let mut out = head(WIDTH, 40.0);
        label(&mut out, 4.0, 24.0, 13.0, &format!("{devices} devices: too many to draw"));
        out.push_str("</svg>\n");
        return out;
    }
    let per_stage = (devices / u64::from(stages)).max(1);
    let (side, machine) = (14.0, machine.max(1) as usize);
    // Machines are blocks of at most eight columns.
    let (columns, lines) = (machine.min(8), machine.div_ceil(8));
    let (block, tall) = (columns as f64 * side + 8.0, lines as f64 * side + 8.0);
    let across = (((WIDTH - 20.0) / block).floor() as usize).max(1);
    let machines = (placed.iter().max().copied().unwrap_or(0) as usize + 1).div_ceil(machine);
    let legend = if stages <= 64 { 20.0 } else { 0.0 };
    let mut out = head(WIDTH, TOP + machines.div_ceil(across) as f64 * tall + legend + 16.0);
    label(&mut out, 4.0, 16.0, 13.0, "where each rank runs");
    let note = format!("colour = pipeline stage, number = place in the tensor group, frame = machine of {machine}");
    label(&mut out, 4.0, 34.0, 11.0, &note);
    for m in 0..machines {
        let (x, y) = (10.0 + (m % across) as f64 * block, TOP + (m / across) as f64 * tall);
        let (w, h) = (block - 4.0, tall - 4.0);
        let _ = write!(out, "<rect x='{x:.0}' y='{y:.0}' width='{w:.0}' height='{h:.0}' fill='none' stroke='#999'/>");
    }
    for (rank, &device) in placed.iter().enumerate() {
        let (m, inside) = (device as usize / machine, device as usize % machine);
        let x = 12.0 + (m % across) as f64 * block + (inside % 8) as f64 * side;
        let y = TOP + 2.0 + (m / across) as f64 * tall + (inside / 8) as f64 * side;
        let stage = rank as u64 / per_stage;
        let fill = stage_colour(stage, stages);
        let place = rank as u32 % tensor.max(1);
        let _ = write!(
            out,
            "<rect x='{x}' y='{y}' width='13' height='13' fill='{fill}'><title>device {device}: rank {rank}, stage \
             {stage}</title></rect><text x='{}' y='{}' font-size='8' font-family='sans-serif'>{place}</text>",
            x + 3.0,
            y + 10.0
        );
    }
    if legend > 0.0 {
        let y = TOP + machines.div_ceil(across) as f64 * tall + 6.0;
        for stage in 0..u64::from(stages) {
            let x = 10.0 + stage as f64 * 24.0;
            let fill = stage_colour(stage, stages);
            let _ = write!(out, "<rect x='{x}' y='{y}' width='22' height='14' fill='{fill}'/>");
            label(&mut out, x + 5.0, y + 11.0, 9.0, &stage.to_string());
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Neighbouring stages differ in hue and, alternately, in lightness.
fn stage_colour(stage: u64, stages: u32) -> String {
    let hue = stage * 360 / u64::from(stages.max(1));
    format!("hsl({hue},60%,{}%)", if stage.is_multiple_of(2) { 72 } else { 60 })
}

/// A bar of parts with a legend; `limit` is drawn as a line, the bar in proportion to it.
pub(super) fn bars(title: &str, parts: &[(&str, f64)], limit: Option<f64>) -> String {
    let total: f64 = parts.iter().map(|p| p.1).sum();
    let scale = (WIDTH - 20.0) / total.max(limit.unwrap_or(0.0)).max(f64::MIN_POSITIVE);
    let mut out = head(WIDTH, 78.0);
    label(&mut out, 4.0, 16.0, 13.0, title);
    let (mut x, mut text) = (10.0, 10.0);
    for (i, (name, value)) in parts.iter().enumerate().filter(|(_, p)| p.1 > 0.0) {
        let (colour, width) = (PARTS[i % PARTS.len()], value * scale);
        let _ = write!(
            out,
            "<rect x='{x:.1}' y='24' width='{width:.1}' height='22' fill='{colour}'><title>{name}: {value:.4}</title></rect>"
        );
        x += width;
        let digits = if *value >= 100.0 { 0 } else { 3 };
        let words = format!("{name} {value:.digits$} ({:.0} %)", 100.0 * value / total);
        let _ = write!(out, "<rect x='{text:.0}' y='54' width='10' height='10' fill='{colour}'/>");
        label(&mut out, text + 14.0, 63.0, 11.0, &words);
        text += 24.0 + 6.2 * words.len() as f64;
    }
    if let Some(limit) = limit {
        let at = 10.0 + limit * scale;
        let _ = write!(out, "<line x1='{at:.1}' y1='20' x2='{at:.1}' y2='50' stroke='#000' stroke-dasharray='3 2'/>");
    }
    out.push_str("</svg>\n");
    out
}

/// The fullest device's memory against what may be used.
pub(super) fn memory_bars(memory: &[MemoryParts], usable: Option<f64>) -> String {
    let fullest = memory.iter().max_by(|a, b| a.total().total_cmp(&b.total())).copied().unwrap_or_default();
    let parts = fullest.named().map(|(name, bytes)| (name, bytes / GIB));
    bars("memory of the fullest device, GiB (dashed: usable)", &parts, usable.map(|u| u / GIB))
}

/// Text and pictures as one page that needs nothing else.
pub(super) fn page(title: &str, text: &str, pictures: &[String]) -> String {
    let pictures: String = pictures.iter().map(|p| format!("<figure>{p}</figure>\n")).collect();
    format!(
        "<!doctype html>\n<html lang='en'><meta charset='utf-8'><title>{0}</title>\n<style>\
         body{{font:15px/1.45 sans-serif;margin:2em auto;max-width:1640px;padding:0 1em;color:#222;background:#fff}}\
         figure{{margin:1em 0;overflow-x:auto}}svg{{max-width:100%;height:auto;border:1px solid #ddd}}\
         pre{{font:13px/1.4 monospace;background:#f7f7f7;border:1px solid #ddd;padding:1em;overflow-x:auto}}\
         </style>\n<h1>{0}</h1>\n{pictures}<pre>{1}</pre>\n</html>\n",
        escape(title),
        escape(text)
    )
}

/// Parts of the timeline that are drawn: all of it, or its beginning and end.
struct Window {
    parts: Vec<(f64, f64)>,
    scale: f64,
}

impl Window {
    fn new(operations: usize, makespan: f64) -> Self {
        let mut parts = vec![(0.0, makespan)];
        if operations > DRAWN {
            let part = makespan * DRAWN as f64 / operations as f64 / 2.0;
            parts = vec![(0.0, part), (makespan - part, makespan)];
        }
        let shown = parts.iter().map(|w| w.1 - w.0).sum::<f64>().max(f64::MIN_POSITIVE);
        Self { parts, scale: (WIDTH - LEFT - RIGHT) / shown }
    }

    /// Horizontal place of a moment; `None` outside what is drawn.
    fn place(&self, time: f64) -> Option<f64> {
        let mut x = LEFT;
        for &(from, to) in &self.parts {
            if (from..=to).contains(&time) {
                return Some(x + (time - from) * self.scale);
            }
            x += (to - from) * self.scale;
        }
        None
    }

    /// Seconds below the rows, at round numbers.
    fn axis(&self, out: &mut String, y: f64) {
        let span = (WIDTH - LEFT - RIGHT) / self.scale / 10.0;
        let power = 10f64.powf(span.log10().floor());
        let tick = [1.0, 2.0, 5.0, 10.0].iter().map(|k| k * power).find(|t| *t >= span).unwrap_or(span);
        let digits = (-tick.log10().floor()).clamp(0.0, 9.0) as usize;
        for &(from, to) in &self.parts {
            let first = (from / tick).ceil() as u64;
            for k in (first..).take_while(|k| *k as f64 * tick <= to).take(30) {
                let Some(x) = self.place(k as f64 * tick) else { continue };
                let _ = write!(out, "<line x1='{x:.1}' y1='{TOP}' x2='{x:.1}' y2='{:.1}' stroke='#0003'/>", y + 4.0);
                let text = format!("{:.digits$} s", k as f64 * tick);
                // The last tick's number stands left of it.
                let at = (x + 2.0).min(WIDTH - 4.0 - 6.5 * text.len() as f64);
                label(out, at, y + 16.0, 11.0, &text);
            }
        }
        if let [(_, end), _] = self.parts.as_slice()
            && let Some(x) = self.place(*end)
        {
            let _ =
                write!(out, "<line x1='{x:.1}' y1='{TOP}' x2='{x:.1}' y2='{y:.1}' stroke='#000' stroke-width='3'/>");
        }
    }
}

fn path(out: &mut String, spans: &[Span], work: Work, colour: &str, window: &Window, (y, height): (f64, f64)) {
    let mut d = String::new();
    for s in spans.iter().filter(|s| s.operation.work == work) {
        let Some(x) = window.place(s.start) else { continue };
        let width = ((s.end - s.start) * window.scale - 0.4).max(0.2);
        let _ = write!(d, "M{x:.2} {y:.1}h{width:.2}v{height:.1}h-{width:.2}z");
    }
    if !d.is_empty() {
        let _ = write!(out, "<path fill='{colour}' d='{d}'/>");
    }
}

fn head(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{height:.0}' viewBox='0 0 {width:.0} {height:.0}'>\
         <rect width='100%' height='100%' fill='#fff'/>"
    )
}

fn swatch(out: &mut String, x: &mut f64, colour: &str, name: &str) {
    let _ = write!(out, "<rect x='{x:.0}' y='25' width='11' height='11' fill='{colour}' stroke='#999'/>");
    label(out, *x + 15.0, 34.0, 11.0, name);
    *x += 28.0 + 6.5 * name.len() as f64;
}

fn label(out: &mut String, x: f64, y: f64, size: f64, text: &str) {
    let text = escape(text);
    let _ = write!(out, "<text x='{x:.1}' y='{y:.1}' font-size='{size}' font-family='sans-serif'>{text}</text>");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
