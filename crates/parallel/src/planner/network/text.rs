//! The answer in words and as a page.

use std::fmt::Write;

use super::NetworkAnswer;
use crate::planner::picture;
use crate::schedule::ScheduleError;

const GIB: f64 = (1u64 << 30) as f64;

impl NetworkAnswer {
    /// Plan, parts, memory, binding constraint, rejected plans, sensitivities.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let (plan, devices) = (&self.plan, u64::from(self.plan.data) * u64::from(self.plan.pipeline));
        let size = self.params as f64 / 1e6;
        writeln!(
            out,
            "{} ({size:.1} M parameters) on {} ({devices} x {}), batch {}",
            self.model, self.cluster, self.device, plan.global_batch
        )?;
        writeln!(out, "\nplan: {plan}")?;
        writeln!(
            out,
            "  data {}, pipeline {}, micro-batch {}, micro-batches {}, ZeRO stage {}, tables {}",
            plan.data,
            plan.pipeline,
            plan.micro_batch,
            plan.micro_batches(),
            plan.zero,
            format!("{:?}", plan.tables).to_lowercase()
        )?;
        writeln!(out, "  stages begin at: {}", self.stages.join(", "))?;
        let s = &self.search;
        writeln!(out, "  {} plans priced and replayed, {} fit: proved best in the space", s.examined, s.feasible)?;
        writeln!(
            out,
            "\nstep {:.4} s, {:.0} samples/s, {:.1} % of the peak in model flops",
            self.step_s,
            self.samples_per_second(),
            100.0 * self.utilization
        )?;
        for (name, seconds) in self.parts.iter().filter(|p| p.1 > 0.0) {
            writeln!(out, "  {name:<20} {seconds:>10.4} s  {:>5.1} %", 100.0 * seconds / self.step_s)?;
        }
        let fullest = (0..self.memory.len()).max_by(|&a, &b| self.memory[a].total().total_cmp(&self.memory[b].total()));
        if let Some(d) = fullest {
            let (total, usable) = (self.memory[d].total() / GIB, self.usable / GIB);
            writeln!(out, "\nmemory of the fullest device (stage {d}): {total:.2} GiB of {usable:.2} usable")?;
            for (name, bytes) in self.memory[d].named() {
                writeln!(out, "  {name:<20} {:>10.2} GiB", bytes / GIB)?;
            }
        }
        writeln!(out, "\nbinding: {}", self.binding)?;
        writeln!(out, "\nwhy not")?;
        for a in &self.alternatives {
            let step = a.step_s.map_or("      -   ".into(), |s| format!("{s:>9.4} s"));
            writeln!(out, "  {:<20} {:<12} {step}  {} [{}]", a.choice, a.value, a.why, a.plan)?;
        }
        writeln!(out, "\nif a constant rises by 1 %, the step changes by")?;
        for s in &self.sensitivity {
            writeln!(out, "  {:<34} {:>12.4}   {:>+7.3} %", s.constant, s.value, s.elasticity)?;
        }
        Ok(())
    }

    /// The pipeline's timeline.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn timeline_svg(&self) -> Result<String, ScheduleError> {
        picture::timeline(&self.pipeline, &format!("{} on {}: {}", self.model, self.cluster, self.plan))
    }

    /// The device map: devices in order, stage after stage.
    pub fn map_svg(&self) -> String {
        let devices = u64::from(self.plan.data) * u64::from(self.plan.pipeline);
        let drawn = u32::try_from(devices).ok().filter(|n| *n <= picture::MAPPED).unwrap_or(0);
        let in_order: Vec<u32> = (0..drawn).collect();
        picture::map(&in_order, devices, self.plan.pipeline, 1, self.machine)
    }

    /// Text, timeline and device map as one page.
    ///
    /// # Errors
    /// A pipeline that cannot be replayed.
    pub fn to_html(&self) -> Result<String, ScheduleError> {
        let step = picture::bars("step, seconds by part", &self.parts, None);
        let memory = picture::memory_bars(&self.memory, Some(self.usable));
        let title = format!("{} on {}", self.model, self.cluster);
        Ok(picture::page(&title, &self.to_text(), &[step, memory, self.timeline_svg()?, self.map_svg()]))
    }
}
