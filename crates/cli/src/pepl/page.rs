//! The report of a run.

use super::config::PeplConfig;
use super::data::Corpus;
use super::evaluate::{ClassRow, Evaluation, Judged, mixes};
use super::pictures;
use crate::Result;
use crate::report::chart::{self, Axis, Chart, Row, Series};
use crate::report::{Cell, Figure, Picture, Report, Section, Table, number};
use chandlery::pseudo::trust::{Histogram, Predictions};
use serde_json::Value;
use std::path::Path;

/// What happened in a run, line by line.
struct Events(Vec<Value>);

impl Events {
    fn of(run: &Path) -> Self {
        let text = std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// `(step, value)` of one number of one kind of event.
    fn series(&self, event: &str, name: &str) -> Vec<(f64, f64)> {
        let of_kind = self.0.iter().filter(|e| e["event"] == event);
        of_kind.filter_map(|e| Some((e["step"].as_f64()?, e[name].as_f64()?))).collect()
    }

    /// A line for each name that has values.
    fn lines(&self, event: &str, names: &[(&str, &str)]) -> Vec<Series> {
        let series = |(label, name): &(&str, &str)| Series::new(*label, self.series(event, name));
        names.iter().filter(|(_, name)| !self.series(event, name).is_empty()).map(series).collect()
    }
}

fn training(events: &Events) -> Section {
    let loss = events.series("train", "loss");
    let losses = [("labelled", "loss_sup"), ("unlabelled", "loss_unsup"), ("fairness", "loss_aux")];
    let mut curves = vec![Series::new("logged", loss.clone()).faint(), Series::new("total", chart::smooth(&loss, 5.0))];
    curves.extend(events.lines("train", &losses));
    let accuracy = events.lines("eval", &[("held out, top-1", "top1"), ("held out, top-5", "top5")]);
    Section::new("Training")
        .chart(chart::lines("Losses", Axis::new("step"), Axis::new("nats"), curves))
        .chart(chart::lines("Accuracy on held-out labels", Axis::new("step"), Axis::new("share").percent(), accuracy))
}

fn pseudo_labels(events: &Events, e: &Evaluation) -> Option<Section> {
    let shares = [
        ("kept", "coverage"),
        ("right among kept", "precision"),
        ("expected right", "estimated_precision"),
        ("kept and right", "effective_precision"),
    ];
    let shares = events.lines("train", &shares);
    if shares.is_empty() {
        return None;
    }
    let thresholds = [("lowest", "threshold.min"), ("median", "threshold.median"), ("highest", "threshold.max")];
    let thresholds = events.lines("train", &thresholds);
    let share = |p: Option<f64>| p.map_or(number::ABSENT.to_string(), number::percent);
    let text = e.pseudo.as_ref().map_or("The run ended before its first whole pass over the unlabelled images.".into(), |p| {
        let alarm = if p.collapsed { " The alarm for collapse is raised: too few classes are in use." } else { "" };
        format!(
            "In the last whole pass over the unlabelled images {} of the pseudo-labels were kept; {} of these were right by the hidden labels, {} by the network's own confidence. {} had changed since the pass before. They spread over {} effective classes of {}.{alarm}",
            share(p.coverage), share(p.precision), share(p.estimated_precision), share(p.flip_rate),
            number::fixed(p.effective_classes, 1), e.classes.len()
        )
    });
    let mut section = Section::new("Pseudo-labels").text(text).chart(
        chart::lines(
            "What is kept, and how much of it is right",
            Axis::new("step"),
            Axis::new("share").percent().from(0.0).to(1.0),
            shares,
        )
        .note("Each point is one batch. Hidden labels measure; they never train."),
    );
    if !thresholds.is_empty() {
        let axis = Axis::new("probability").from(0.0).to(1.0);
        section = section.chart(chart::lines("Thresholds of the classes", Axis::new("step"), axis, thresholds));
    }
    Some(section)
}

/// Shares of a histogram at the middle of its bins.
fn shares(h: &Histogram) -> Vec<(f64, f64)> {
    let width = (h.high - h.low) / h.counts.len() as f64;
    let at = |(i, &n): (usize, &u64)| (h.low + width * (i as f64 + 0.5), n as f64 / h.n().max(1) as f64);
    h.counts.iter().enumerate().map(at).collect()
}

fn mixing(judged: &Judged) -> Option<Section> {
    let audit = mixes(judged.record.as_ref()?);
    if audit.own.n() == 0 {
        return None;
    }
    let series = |name: &str, h: &Histogram| Series::new(name, shares(h));
    let rho = vec![series("own label, rho a", &audit.own), series("partner's label, rho b", &audit.partner)];
    let gap = vec![series("|rho b - area|", &audit.gap)];
    let y = || Axis::new("share of mixed images").percent().from(0.0);
    let text = format!(
        "{} mixed images: the mean weight of the own label is {}, of the partner's {}, of both together {}. Between the partner's weight and the area of its box lie {} on average: what the activation map changes.",
        number::count(audit.own.n()),
        number::fixed(audit.own.mean(), 3),
        number::fixed(audit.partner.mean(), 3),
        number::fixed(audit.sum.mean(), 3),
        number::fixed(audit.gap.mean(), 3)
    );
    Some(
        Section::new("Mixing")
            .text(text)
            .chart(chart::lines("Weights of the two labels of a mixed image", Axis::new("rho"), y(), rho))
            .chart(chart::lines("Meaning against area", Axis::new("gap"), y(), gap)),
    )
}

fn reliability(plain: &Predictions, calibrated: &Predictions) -> Chart {
    let points = |p: &Predictions| {
        let bins = p.reliability(15).bins;
        bins.iter().filter(|b| b.n > 0).map(|b| (b.confidence, b.accuracy)).collect()
    };
    let series = vec![Series::new("as trained", points(plain)), Series::new("calibrated", points(calibrated))];
    let axis = |label: &str| Axis::new(label).percent().from(0.0).to(1.0);
    chart::agreement("Reliability", axis("confidence"), axis("right"), series).note("15 bins of equal width.")
}

fn risk(plain: &Predictions, calibrated: &Predictions) -> Chart {
    let points = |p: &Predictions| {
        let risks = p.risk_coverage().risks;
        let (n, every) = (risks.len() as f64, (risks.len() / 200).max(1));
        risks.iter().enumerate().step_by(every).map(|(i, &risk)| ((i + 1) as f64 / n, risk)).collect()
    };
    let series = vec![Series::new("as trained", points(plain)), Series::new("calibrated", points(calibrated))];
    let (x, y) = (Axis::new("most confident share of the images").percent(), Axis::new("wrong").percent().from(0.0));
    chart::lines("Wrong labels against coverage", x, y, series)
}

fn trust(judged: &Judged) -> Section {
    let (e, c) = (&judged.evaluation, &judged.evaluation.calibration);
    let text = format!(
        "Temperature {} was fitted on {} held-out labels. On the {} images it moves the calibration error from {} to {}. From a probability of {} up, {} of the held-out labels are kept and {} of these are right.",
        number::fixed(c.temperature, 3),
        c.n,
        e.judged_on,
        number::percent(e.best.scores.ece),
        number::percent(e.calibrated.ece),
        number::fixed(c.keep_above, 3),
        number::percent(c.coverage),
        number::percent(c.precision.unwrap_or(f64::NAN))
    );
    Section::new("Trust")
        .text(text)
        .chart(reliability(&judged.plain, &judged.predictions))
        .chart(risk(&judged.plain, &judged.predictions))
}

fn class_table(rows: &[ClassRow]) -> Table {
    let columns = ["class", "labels", "judged", "recognised", "pseudo-labels kept", "right among kept"];
    let share = |p: Option<f64>| Cell::percent(p.unwrap_or(f64::NAN));
    let mut table = Table::new(columns);
    for row in rows {
        let counts = [row.labels, row.n].map(|n| Cell::number(n as f64, 0));
        let cells = [Cell::text(&row.name)].into_iter().chain(counts);
        table = table.row(cells.chain([share(row.accuracy), share(row.coverage), share(row.precision)]));
    }
    table
}

fn classes(e: &Evaluation) -> Section {
    let mut order: Vec<&ClassRow> = e.classes.iter().filter(|row| row.accuracy.is_some()).collect();
    order.sort_by(|a, b| a.accuracy.unwrap_or(0.0).total_cmp(&b.accuracy.unwrap_or(0.0)));
    let worst = order.iter().take(12).map(|row| {
        let (p, n) = (row.accuracy.unwrap_or(0.0), row.n.max(1) as f64);
        let spread = 1.96 * (p * (1.0 - p) / n).sqrt();
        Row::new(&row.name).mark(p, (p - spread).max(0.0), (p + spread).min(1.0))
    });
    let axis = Axis::new("recognised").percent().from(0.0).to(1.0);
    let chart = chart::intervals("The classes that are recognised least", axis, ["recognised"], worst.collect());
    Section::new("Classes")
        .chart(chart.note("Intervals: normal approximation, 95 %."))
        .details("All classes", Section::new("").table(class_table(&e.classes)))
}

fn confusions(corpus: &Corpus, config: &PeplConfig, judged: &Judged) -> Result<Section> {
    let data = corpus.images.data();
    let (labels, predicted) = (judged.plain.labels(), judged.plain.predicted());
    let mut found = Vec::new();
    for row in &judged.evaluation.confusions {
        let class = |name: &String| data.classes.iter().position(|c| c == name);
        let (Some(truth), Some(taken)) = (class(&row.truth), class(&row.predicted)) else { continue };
        let is_it = |i: &usize| (labels[*i] as usize, predicted[*i] as usize) == (truth, taken);
        let Some(i) = (0..labels.len()).find(is_it) else { continue };
        let item = corpus.judged()[judged.kept[i]];
        let png = pictures::strip(&judged.model, &config.views, &corpus.images.prepared(item)?, &[taken, truth])?;
        let caption = format!(
            "{} taken for {}: {} images, {} of the class. Left the image, then what speaks for {}, then for {}.",
            row.truth,
            row.predicted,
            row.n,
            number::percent(row.share),
            row.predicted,
            row.truth
        );
        found.push(Picture::new(png, caption));
    }
    Ok(Section::new("Confusions")
        .text("The most frequent ones, each with its first image and the class activation maps of both classes.")
        .pictures(found))
}

fn results(e: &Evaluation) -> Table {
    let mut table = Table::new(["parameters", "top-1", "top-5", "mean of classes", "log loss", "Brier", "ECE", "AURC"]);
    let reached = e.last.iter().map(|r| ("last", r)).chain([("best held-out", &e.best)]);
    let named = reached.map(|(which, r)| {
        let average = if r.average { ", averaged" } else { "" };
        (format!("{which}{average}, step {}", r.step), &r.scores)
    });
    for (name, s) in named.chain([("the same, calibrated".to_string(), &e.calibrated)]) {
        let shares = [s.top1, s.top5, s.balanced].map(Cell::percent);
        let rest = [Cell::number(s.nll, 3), Cell::number(s.brier, 3), Cell::percent(s.ece), Cell::number(s.aurc, 4)];
        table = table.row([Cell::text(name)].into_iter().chain(shares).chain(rest));
    }
    table.note(format!(
        "On the {} images. Nothing was chosen on them; \"best\" means best on held-out labels.",
        e.judged_on
    ))
}

/// The page as HTML.
pub fn page(run: &Path, config: &PeplConfig, corpus: &Corpus, judged: &Judged) -> Result<String> {
    let (e, events) = (&judged.evaluation, Events::of(run));
    let [labelled, unlabelled, held_out, test] = e.images.map(|n| number::count(n as u64));
    let figure = |label: &str, s: &super::evaluate::Scores| {
        let n = s.hits.len() as f64;
        let spread = 1.96 * (s.top1 * (1.0 - s.top1) / n).sqrt();
        Figure::new(label, number::percent(s.top1)).note(format!(
            "± {} for {} images",
            number::percent(spread),
            number::count(n as u64)
        ))
    };
    let c = &e.calibration;
    let kept = Figure::new("Labels kept", number::percent(c.coverage));
    let mut report = Report::new(format!("{}: {} classes from {labelled} labels", e.method, e.classes.len()))
        .lede("A classifier of images, trained on few labelled and many unlabelled images; what it reaches, and how far to trust it.")
        .fact("Images with labels", labelled)
        .fact("Without", unlabelled)
        .fact("Held out", held_out)
        .fact("Test", test)
        .fact("Steps", number::count(e.steps))
        .fact("Seed", e.seed.to_string())
        .fact("Command", format!("cargo xtask eval {}", run.display()))
        .figure(figure("Right, last step", e.last()))
        .figure(figure("Right, best on held-out labels", &e.best.scores))
        .figure(kept.note(format!("{} of them right, on {} held-out labels", number::percent(c.precision.unwrap_or(f64::NAN)), c.n)))
        .section(Section::new("Results").table(results(e)))
        .section(trust(judged));
    for section in [pseudo_labels(&events, e), mixing(judged)].into_iter().flatten() {
        report = report.section(section);
    }
    let settings = toml::to_string_pretty(config).unwrap_or_default();
    Ok(report
        .section(confusions(corpus, config, judged)?)
        .section(classes(e))
        .section(training(&events))
        .section(Section::new("Settings").preformatted(settings))
        .render())
}
