//! The answer in words.

use std::fmt::Write;

use super::answer::Answer;

const GIB: f64 = (1u64 << 30) as f64;

impl Answer {
    /// Plan, parts, memory, binding constraint, rejected plans, sensitivities.
    pub fn to_text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        self.head(out)?;
        self.step(out)?;
        self.memory_lines(out)?;
        writeln!(out, "\nbinding: {}", self.binding)?;
        self.rejected(out)?;
        writeln!(out, "\nif a constant rises by 1 %, the step changes by")?;
        for s in &self.sensitivity {
            writeln!(out, "  {:<34} {:>12.4}   {:>+7.3} %", s.constant, s.value, s.elasticity)?;
        }
        if let Some(p) = &self.placement {
            writeln!(
                out,
                "\nplacement: {:.3} s of link time per step (rank order {:.3} s, at least {:.3} s, gap {:.1} %)",
                p.cost_s,
                p.rank_order_s,
                p.bound_s,
                100.0 * p.gap()
            )?;
        }
        Ok(())
    }

    fn head(&self, out: &mut String) -> std::fmt::Result {
        let (plan, devices) = (&self.plan, self.plan.devices());
        writeln!(
            out,
            "{} ({:.1} B parameters, {} tokens) on {} ({} x {}), batch {}",
            self.model,
            self.params as f64 / 1e9,
            self.sequence,
            self.cluster,
            devices,
            unique(&self.devices),
            plan.global_batch
        )?;
        writeln!(out, "\nplan: {plan}")?;
        let words = [
            ("data", plan.data),
            ("tensor", plan.tensor),
            ("pipeline", plan.pipeline),
            ("chunks per stage", plan.chunks),
            ("context", plan.context),
            ("expert", plan.expert),
            ("micro-batch", plan.micro_batch),
            ("micro-batches", plan.micro_batches()),
        ];
        let list: Vec<String> = words.iter().map(|(n, v)| format!("{n} {v}")).collect();
        writeln!(out, "  {}", list.join(", "))?;
        writeln!(out, "  layers of the stages: {}", runs(&self.cut))?;
        let s = &self.search;
        let proof = if s.gap <= 1e-9 {
            "proved best in the space".into()
        } else {
            format!("at most {:.1} % above the best in the space", 100.0 * s.gap)
        };
        writeln!(out, "  {} plans examined, {} fit, {} replayed: {proof}", s.examined, s.feasible, s.replayed)
    }

    fn step(&self, out: &mut String) -> std::fmt::Result {
        let step = self.prediction.step_s;
        writeln!(
            out,
            "\nstep {:.4} s, {:.0} tokens/s, {:.1} % of the peak in model flops",
            step,
            self.tokens_per_second(),
            100.0 * self.utilization
        )?;
        for (name, seconds) in self.prediction.parts.named() {
            if seconds > 0.0 {
                writeln!(out, "  {name:<20} {seconds:>10.4} s  {:>5.1} %", 100.0 * seconds / step)?;
            }
        }
        Ok(())
    }

    fn memory_lines(&self, out: &mut String) -> std::fmt::Result {
        let fullest = (0..self.memory.len()).max_by(|&a, &b| self.memory[a].total().total_cmp(&self.memory[b].total()));
        let Some(d) = fullest else { return Ok(()) };
        let (parts, usable) = (&self.memory[d], self.usable[d.min(self.usable.len() - 1)]);
        writeln!(
            out,
            "\nmemory of the fullest device (stage {d}): {:.2} GiB of {:.2} usable",
            parts.total() / GIB,
            usable / GIB
        )?;
        for (name, bytes) in parts.named() {
            writeln!(out, "  {name:<20} {:>10.2} GiB", bytes / GIB)?;
        }
        Ok(())
    }

    fn rejected(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "\nwhy not")?;
        for a in &self.alternatives {
            let step = a.step_s.map_or("      -   ".into(), |s| format!("{s:>9.4} s"));
            writeln!(out, "  {:<20} {:<12} {step}  {} [{}]", a.choice, a.value, a.why, a.plan)?;
        }
        Ok(())
    }
}

/// Different names once, in order.
fn unique(names: &[String]) -> String {
    let mut seen: Vec<&str> = Vec::new();
    names.iter().for_each(|n| {
        if !seen.contains(&n.as_str()) {
            seen.push(n);
        }
    });
    seen.join(" + ")
}

/// `7 x 12, 1 x 12` for long lists of equal numbers.
fn runs(cut: &[u32]) -> String {
    let mut list: Vec<(u32, u32)> = Vec::new();
    for &n in cut {
        match list.last_mut() {
            Some(last) if last.1 == n => last.0 += 1,
            _ => list.push((1, n)),
        }
    }
    list.iter()
        .map(|(times, n)| if *times > 1 { format!("{times} x {n}") } else { n.to_string() })
        .collect::<Vec<_>>()
        .join(", ")
}
