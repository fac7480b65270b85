//! Timeline and device map as SVG, and both with the text as one HTML page.

use std::fmt::Write;

use super::answer::Answer;
use crate::schedule::{ScheduleError, Span, Work, order, replay};

/// Operations drawn at most; longer timelines show their beginning and their end.
const DRAWN: usize = 24_000;
const WIDTH: f64 = 1600.0;
const ROW: f64 = 14.0;
const LEFT: f64 = 60.0;

impl Answer {
    /// The pipeline's timeline: one row a device; forward, gradients, weight gradients and idle time by colour.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn timeline_svg(&self) -> Result<String, ScheduleError> {
        let pipeline = &self.prediction.pipeline;
        let timeline = replay(pipeline, &order(pipeline)?)?;
        let rows = timeline.devices.len() as f64;
        let total: usize = timeline.devices.iter().map(Vec::len).sum();
        let (window, note) = window(total, timeline.makespan);
        let scale = (WIDTH - LEFT - 10.0) / window.iter().map(|w| w.1 - w.0).sum::<f64>();
        let mut out = head(WIDTH, rows * ROW + 60.0);
        let title = format!("{} on {}: {}", self.model, self.cluster, self.plan);
        label(&mut out, 4.0, 14.0, &title);
        for (d, spans) in timeline.devices.iter().enumerate() {
            let y = 22.0 + d as f64 * ROW;
            label(&mut out, 4.0, y + 11.0, &format!("stage {d}"));
            for work in [Work::F, Work::B, Work::W, Work::BW] {
                path(&mut out, spans, work, &window, scale, y);
            }
        }
        let end = format!(
            "{note}step without tail {:.4} s, bubble {:.1} %; ",
            timeline.makespan,
            100.0 * timeline.bubble_fraction()
        );
        let legend =
            format!("{end}green forward, blue gradients, light blue input gradient, orange weight gradient, grey idle");
        label(&mut out, 4.0, rows * ROW + 40.0, &legend);
        out.push_str("</svg>\n");
        Ok(out)
    }

    /// The device map: one square a device, coloured by pipeline stage, framed by machine.
    pub fn map_svg(&self) -> String {
        let Some(placement) = &self.placement else {
            let mut out = head(WIDTH, 40.0);
            label(&mut out, 4.0, 20.0, "too many devices to draw");
            out.push_str("</svg>\n");
            return out;
        };
        let per_stage = self.plan.devices() / u64::from(self.plan.pipeline);
        let side = 14.0;
        let columns = ((WIDTH - 20.0) / side).floor() as usize / 8 * 8;
        let lines = placement.device_of_rank.len().div_ceil(columns);
        let mut out = head(WIDTH, lines as f64 * side + 40.0);
        label(&mut out, 4.0, 14.0, "devices by pipeline stage (colour), tensor rank inside");
        for (rank, &device) in placement.device_of_rank.iter().enumerate() {
            let (x, y) = (device as usize % columns, device as usize / columns);
            let stage = rank as u64 / per_stage;
            let hue = stage * 360 / u64::from(self.plan.pipeline);
            let tensor = rank as u32 % self.plan.tensor;
            let (x, y) = (10.0 + x as f64 * side, 22.0 + y as f64 * side);
            let _ = write!(
                out,
                "<rect x='{x}' y='{y}' width='13' height='13' fill='hsl({hue},60%,70%)'><title>device {device}: rank {rank}, stage {stage}</title></rect>\
                 <text x='{}' y='{}' font-size='8' font-family='sans-serif'>{tensor}</text>",
                x + 3.0,
                y + 10.0
            );
        }
        out.push_str("</svg>\n");
        out
    }

    /// Text, timeline and device map as one page.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn to_html(&self) -> Result<String, ScheduleError> {
        Ok(format!(
            "<!doctype html>\n<meta charset='utf-8'><title>{}</title>\n<pre>{}</pre>\n{}\n{}\n",
            escape(&self.model),
            escape(&self.to_text()),
            self.timeline_svg()?,
            self.map_svg()
        ))
    }
}

/// Parts of the timeline that are drawn: all of it, or its beginning and end.
fn window(operations: usize, makespan: f64) -> (Vec<(f64, f64)>, String) {
    if operations <= DRAWN {
        return (vec![(0.0, makespan)], String::new());
    }
    let part = makespan * DRAWN as f64 / operations as f64 / 2.0;
    (vec![(0.0, part), (makespan - part, makespan)], "middle left out; ".into())
}

/// Horizontal place of a moment; `None` outside what is drawn.
fn place(window: &[(f64, f64)], scale: f64, time: f64) -> Option<f64> {
    let mut x = LEFT;
    for &(from, to) in window {
        if (from..=to).contains(&time) {
            return Some(x + (time - from) * scale);
        }
        x += (to - from) * scale;
    }
    None
}

fn path(out: &mut String, spans: &[Span], work: Work, window: &[(f64, f64)], scale: f64, y: f64) {
    let colour = match work {
        Work::F => "#7fc97f",
        Work::B => "#9ecae1",
        Work::W => "#fdae6b",
        Work::BW => "#6baed6",
    };
    let mut d = String::new();
    for s in spans.iter().filter(|s| s.operation.work == work) {
        let Some(x) = place(window, scale, s.start) else { continue };
        let width = ((s.end - s.start) * scale - 0.3).max(0.2);
        let _ = write!(d, "M{x:.2} {y:.1}h{width:.2}v{:.0}h-{width:.2}z", ROW - 2.0);
    }
    if !d.is_empty() {
        let _ = write!(out, "<path fill='{colour}' d='{d}'/>");
    }
}

fn head(width: f64, height: f64) -> String {
    format!(
        "<svg xmlns='http://www.w3.org/2000/svg' width='{width:.0}' height='{height:.0}' viewBox='0 0 {width:.0} {height:.0}'>\
         <rect width='100%' height='100%' fill='#eee'/>"
    )
}

fn label(out: &mut String, x: f64, y: f64, text: &str) {
    let _ = write!(out, "<text x='{x}' y='{y}' font-size='11' font-family='sans-serif'>{}</text>", escape(text));
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
