//! Means, spreads and comparisons of an experiment.

use super::super::evaluate::Evaluation;
use super::plan::{Job, Plan};
use crate::Result;
use crate::report::chart::{self, Axis, Chart, Series};
use chandlery::kernels::Key;
use chandlery::pseudo::trust::{paired_bootstrap, spread};
use serde::Serialize;
use std::fmt::Write;

/// Resamples of the bootstrap.
const RESAMPLES: usize = 10_000;

/// One arm at one share of labels.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// The arm.
    pub arm: String,
    /// Percentage of labels.
    pub percent: f64,
    /// Labels of the first seed.
    pub labels: usize,
    /// Seeds that are done.
    pub seeds: Vec<u64>,
    /// Accuracy of the last step: mean and standard deviation over seeds.
    pub last: [f64; 2],
    /// Accuracy of the step that was best on held-out labels.
    pub best: [f64; 2],
    /// Calibration error of the last step, mean over seeds.
    pub ece: f64,
    /// Kept share of the pseudo-labels and right share of these in the last pass, means over seeds.
    pub kept: Option<f64>,
    /// See `kept`.
    pub right: Option<f64>,
    /// Minutes of training, mean over seeds.
    pub minutes: f64,
    /// Against each of the references, image by image over the seeds that both have, last step.
    pub against: Vec<Difference>,
}

/// How an arm differs from another.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The other arm.
    pub arm: String,
    /// Mean difference in accuracy.
    pub difference: f64,
    /// Ends of the 95 % interval.
    pub low: f64,
    /// See `low`.
    pub high: f64,
    /// Two-sided.
    pub p_value: f64,
}

/// The table.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// What was judged on.
    pub judged_on: String,
    /// Number of judged images.
    pub n: usize,
    /// Steps of each run.
    pub steps: u64,
    /// By share, then arm.
    pub lines: Vec<Line>,
}

type Done<'a> = [(&'a Job, Evaluation)];

fn of<'a>(done: &'a Done<'a>, arm: &'a str, percent: f64) -> impl Iterator<Item = (&'a Job, &'a Evaluation)> {
    let fits = move |(job, _): &&(&Job, Evaluation)| job.arm == arm && job.percent == percent;
    done.iter().filter(fits).map(|(job, evaluation)| (*job, evaluation))
}

fn hits(e: &Evaluation) -> impl Iterator<Item = f64> {
    e.last().hits.bytes().map(|b| f64::from(b - b'0'))
}

fn difference(done: &Done<'_>, arm: &str, reference: &str, percent: f64) -> Result<Option<Difference>> {
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for (job, evaluation) in of(done, arm, percent) {
        if let Some((_, other)) = of(done, reference, percent).find(|(j, _)| j.seed == job.seed) {
            a.extend(hits(evaluation));
            b.extend(hits(other));
        }
    }
    if a.is_empty() {
        return Ok(None);
    }
    let d = paired_bootstrap(&a, &b, RESAMPLES, Key::new(0).named("experiment"))?;
    let arm = reference.to_string();
    Ok(Some(Difference { arm, difference: d.difference, low: d.low, high: d.high, p_value: d.p_value }))
}

/// Means, spreads and comparisons of what is done.
pub fn results(plan: &Plan, done: &Done<'_>) -> Result<Results> {
    let mut lines = Vec::new();
    for share in &plan.shares {
        for arm in &plan.arms {
            let runs: Vec<_> = of(done, &arm.name, share.percent).collect();
            let Some((_, first)) = runs.first() else { continue };
            let each = |f: &dyn Fn(&Evaluation) -> f64| -> Vec<f64> { runs.iter().map(|(_, e)| f(e)).collect() };
            let both = |values: Vec<f64>| {
                let s = spread(&values);
                [s.mean, s.sd]
            };
            let known = |f: &dyn Fn(&Evaluation) -> Option<f64>| {
                let values: Vec<f64> = runs.iter().filter_map(|(_, e)| f(e)).collect();
                (!values.is_empty()).then(|| spread(&values).mean)
            };
            let others = plan.references.iter().filter(|r| **r != arm.name);
            let against = others.map(|r| difference(done, &arm.name, r, share.percent));
            lines.push(Line {
                arm: arm.name.clone(),
                percent: share.percent,
                labels: first.images[0],
                seeds: runs.iter().map(|(job, _)| job.seed).collect(),
                last: both(each(&|e| e.last().top1)),
                best: both(each(&|e| e.best.scores.top1)),
                ece: spread(&each(&|e| e.last().ece)).mean,
                kept: known(&|e| e.pseudo.as_ref()?.coverage),
                right: known(&|e| e.pseudo.as_ref()?.precision),
                minutes: spread(&each(&|e| e.seconds / 60.0)).mean,
                against: against.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect(),
            });
        }
    }
    let first = done.first().map(|(_, e)| e);
    Ok(Results {
        judged_on: first.map_or_else(String::new, |e| e.judged_on.clone()),
        n: first.map_or(0, |e| e.best.scores.hits.len()),
        steps: first.map_or(0, |e| e.steps),
        lines,
    })
}

fn percent(value: f64) -> String {
    if value.is_finite() { format!("{:.1}", 100.0 * value) } else { "–".into() }
}

fn with_spread([mean, sd]: [f64; 2]) -> String {
    if sd.is_finite() { format!("{} ± {}", percent(mean), percent(sd)) } else { percent(mean) }
}

impl Results {
    /// The table for a page in Markdown.
    pub fn markdown(&self, plan: &Plan) -> String {
        let mut text = String::new();
        let mut percents: Vec<f64> = self.lines.iter().map(|l| l.percent).collect();
        percents.dedup();
        for share in percents {
            let lines: Vec<&Line> = self.lines.iter().filter(|l| l.percent == share).collect();
            // Writing to a String cannot fail.
            let _ = writeln!(text, "### {share} % of the labels ({})\n", lines[0].labels);
            text.push_str("| method | seeds | last | best held-out | ECE | kept | right | min |");
            plan.references.iter().for_each(|r| {
                let _ = write!(text, " against {r} |");
            });
            text.push_str("\n|---|---|---|---|---|---|---|---|");
            text.push_str(&"---|".repeat(plan.references.len()));
            text.push('\n');
            for line in lines {
                let known = |v: Option<f64>| v.map_or("–".to_string(), percent);
                let _ = write!(
                    text,
                    "| {} | {} | {} | {} | {} | {} | {} | {:.1} |",
                    line.arm,
                    line.seeds.len(),
                    with_spread(line.last),
                    with_spread(line.best),
                    percent(line.ece),
                    known(line.kept),
                    known(line.right),
                    line.minutes
                );
                for reference in &plan.references {
                    let cell = line.against.iter().find(|d| d.arm == *reference).map(|d| {
                        let signed = |v: f64| format!("{:+.1}", 100.0 * v).replace('-', "\u{2212}");
                        let (difference, low, high) = (signed(d.difference), signed(d.low), signed(d.high));
                        format!("{difference} [{low}, {high}], p {:.3}", d.p_value)
                    });
                    let _ = write!(text, " {} |", cell.unwrap_or_default());
                }
                text.push('\n');
            }
            text.push('\n');
        }
        let _ = writeln!(
            text,
            "Top-1 accuracy in % on {} {} images after {} steps; mean ± standard deviation over seeds, each seed with a split of \
             its own. Last: the parameters of the last step, averaged where the run averages. Best held-out: the step that was \
             best on held-out labels, judged on the same images. Nothing was chosen on them. Kept, right: pseudo-labels of the \
             last whole pass. Against: difference of the last steps in points with its 95 % interval, paired bootstrap over images \
             and seeds, {RESAMPLES} resamples; it does not count the variation between further seeds.",
            self.n, self.judged_on, self.steps
        );
        text
    }

    /// Accuracy against the share of labels.
    pub fn chart(&self) -> Chart {
        let mut arms: Vec<&str> = Vec::new();
        self.lines.iter().for_each(|l| {
            if !arms.contains(&l.arm.as_str()) {
                arms.push(&l.arm);
            }
        });
        let series = arms.into_iter().map(|arm| {
            let points = self.lines.iter().filter(|l| l.arm == arm).map(|l| (l.percent, l.last[0])).collect();
            Series::new(arm, points)
        });
        chart::lines(
            "Accuracy after the last step",
            Axis::new("labels, %"),
            Axis::new("right").percent(),
            series.collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_percentages_with_a_spread_where_there_is_one() {
        assert_eq!(with_spread([0.5, 0.0123]), "50.0 ± 1.2");
        assert_eq!(with_spread([0.5, f64::NAN]), "50.0");
        assert_eq!(percent(f64::NAN), "–");
    }
}
