//! The report of a run.

use super::config::PoetConfig;
use super::data::{AUTHOR, DYNASTY, FORM, LINES, TUNE};
use super::evaluate::{Evaluation, Sample};
use crate::report::chart::{self, Axis, Row, Series};
use crate::report::{Cell, Chip, Figure, Poem, Report, Section, Table, number};
use chandlery::lm::control::Attributes;
use chandlery::lm::poetry;
use serde_json::Value;
use std::path::Path;

/// `(step, value)` of one number of one kind of event.
fn series(run: &Path, event: &str, name: &str) -> Vec<(f64, f64)> {
    let text = std::fs::read_to_string(run.join("events.jsonl")).unwrap_or_default();
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let of_kind = events.filter(|e| e["event"] == event);
    of_kind.filter_map(|e| Some((e["step"].as_f64()?, e[name].as_f64()?))).collect()
}

fn training(run: &Path) -> Section {
    let loss = series(run, "train", "loss");
    let curves = vec![
        Series::new("each step", loss.clone()).faint(),
        Series::new("training", chart::smooth(&loss, 10.0)),
        Series::new("held out, no prompt", series(run, "eval", "nll")),
        Series::new("held out, all attributes", series(run, "eval", "nll_prompted")),
    ];
    let curve = chart::lines("Loss", Axis::new("step"), Axis::new("nats per character"), curves);
    Section::new("Training").chart(curve.note("Held out: 256 poems of the validation part."))
}

fn control(e: &Evaluation) -> Section {
    let guided = format!("guidance {}", number::short(e.guidance));
    let columns = [
        "attribute",
        "without asking",
        "asked",
        &guided,
        "led, too",
        "real poems",
        "lift",
        "lift, guided",
        "form shift",
    ];
    let mut table = Table::new(columns.map(str::to_string));
    let mut rows = Vec::new();
    for (name, c) in &e.control {
        let label = name.replace('_', " ");
        let share = |s: super::evaluate::Share| Cell::percent_within(s.value, s.low, s.high);
        let numbers = [c.lift, c.lift_guided, c.form_shift].map(|v| Cell::number(v, 2));
        let led = c.led.map_or_else(|| Cell::text(""), share);
        let cells = [Cell::text(&label), share(c.base), share(c.asked), share(c.guided), led, share(c.ceiling)];
        table = table.row(cells.into_iter().chain(numbers));
        let row = Row::new(label).mark(c.asked.value, c.asked.low, c.asked.high);
        rows.push(row.mark(c.guided.value, c.guided.low, c.guided.high).base(c.base.value).ceiling(c.ceiling.value));
    }
    let variants = ["asked".to_string(), guided];
    let chart =
        chart::intervals("Share of requests fulfilled", Axis::new("share").percent().from(0.0).to(1.0), variants, rows);
    let note = "Intervals: Wilson, 95 %. Lift: (share - without asking) / (real poems - without asking). Form shift: total \
        variation distance between the forms of the asked texts and of those written without asking. Dynasty and author \
        are judged by naive Bayes over characters, fitted on real poems; everything else by rule. Led, too: besides guidance, \
        the characters of missing keywords are made likelier while a text is written, the more the longer it gets.";
    let text = format!("{} requests per attribute, drawn uniformly from its values.", e.requests);
    Section::new("Control").text(text).chart(chart).table(table.note(note))
}

fn length(e: &Evaluation) -> Section {
    let points = e.length.pairs.iter().map(|&(a, b)| (a as f64, b as f64)).collect();
    let chart = chart::agreement(
        "Length",
        Axis::new("asked, characters"),
        Axis::new("written"),
        vec![Series::new("poems", points)],
    );
    let (mae, r) = (number::fixed(e.length.mae, 1), number::fixed(e.length.correlation, 3));
    Section::new("Length")
        .chart(chart.note(format!("Mean absolute error {mae} characters, correlation {r}; with guidance.")))
}

/// A poem with the attributes that were asked for.
pub fn card(asked: &Attributes, text: &str, met: Option<bool>) -> Poem {
    let chip = |label: String| match met {
        Some(true) => Chip::met(label),
        Some(false) => Chip::missed(label),
        None => Chip::plain(label),
    };
    let mut card = Poem::new(poetry::split_lines(text));
    for name in [FORM, DYNASTY, AUTHOR, TUNE] {
        if let Some(value) = asked.extra.get(name) {
            card = card.chip(chip(value.clone()));
        }
    }
    for word in &asked.keywords {
        card = card.chip(chip(format!("「{word}」")));
    }
    if let Some(n) = asked.length {
        card = card.chip(chip(format!("{n}字")));
    }
    if let Some(n) = asked.extra.get(LINES) {
        card = card.chip(chip(format!("{n}行")));
    }
    card
}

fn samples(e: &Evaluation) -> Section {
    let cards = |kind: &str| -> Vec<Poem> {
        let of_kind = e.samples.iter().filter(|s| s.kind == kind);
        of_kind.map(|Sample { asked, text, met, .. }| card(asked, text, Some(*met))).collect()
    };
    let mut section = Section::new("Poems")
        .text("The first requests of each kind, not chosen by hand, with guidance and led to their keywords.");
    for kind in ["form", "keyword", "joint", "tune"] {
        section = section.poems(cards(kind));
    }
    section
}

/// The page as HTML.
pub fn page(run: &Path, config: &PoetConfig, e: &Evaluation, n_params: usize, command: &str) -> String {
    let figure = |label: &str, name: &str| {
        let Some(c) = e.control.get(name) else { return Figure::new(label, number::ABSENT) };
        let p = number::percent;
        let led = c.led.map_or_else(String::new, |led| format!("; led to it, too: {}", p(led.value)));
        let note = format!("{}–{}; without asking {}{led}", p(c.guided.low), p(c.guided.high), p(c.base.value));
        Figure::new(label, p(c.guided.value)).note(note)
    };
    let settings = toml::to_string_pretty(config).unwrap_or_default();
    Report::new("poet: verse on request")
        .lede("A transformer trained on Tang and Song verse, asked for form, dynasty, author, length and keywords.")
        .fact("Parameters", number::count(n_params as u64))
        .fact("Steps", number::count(config.fit.steps))
        .fact("Seed", config.fit.seed.to_string())
        .fact(
            "Test loss",
            format!(
                "{} nats per character, {} with all attributes",
                number::fixed(e.test_nll, 3),
                number::fixed(e.test_nll_prompted, 3)
            ),
        )
        .fact("Command", command)
        .figure(figure("Form as asked", "form"))
        .figure(figure("Line lengths exact", "line_length"))
        .figure(figure("Keyword present", "keyword"))
        .section(samples(e))
        .section(control(e))
        .section(length(e))
        .section(training(run))
        .section(Section::new("Settings").preformatted(settings))
        .render()
}
