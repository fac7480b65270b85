//! A page with one of everything, for the tests and for the eye. The numbers are made up; the poems are not.

use super::chart::{self, Axis, Row, Series};
use super::{Cell, Chip, Figure, Poem, Report, Section, Table, number};

/// The page.
pub fn report() -> Report {
    Report::new("poet: verse on request")
        .lede("A transformer trained on Tang and Song verse, asked for form, dynasty, length and keywords. All numbers on this page are made up.")
        .fact("Recipe", "poet")
        .fact("Parameters", number::count(2_861_440))
        .fact("Steps", number::count(3_000))
        .fact("Seed", "17")
        .fact("Device", "CPU, 2 threads")
        .fact("Held-out loss", "4.912 nats per character")
        .fact("Command", "cargo xtask train poet --set seed=17")
        .figure(Figure::new("Form as asked", number::percent(0.934)).note("91.7–94.8; without control 14.2"))
        .figure(Figure::new("Line length exact", number::percent(0.968)).note("95.5–97.7; without control 31.0"))
        .figure(Figure::new("Keyword present", number::percent(0.71)).note("68.1–73.8; without control 1.3"))
        .section(training())
        .section(control())
        .section(lengths())
        .section(samples())
        .section(settings())
}

/// A number between 0 and 1 that looks random and is the same in each run.
fn noise(i: usize) -> f64 {
    let x = (i as f64 * 12.9898).sin() * 43758.5453;
    x - x.floor()
}

fn training() -> Section {
    let loss = |i: usize, floor: f64| floor + 3.6 * (-(i as f64) / 420.0).exp() + (noise(i) - 0.5) * 0.35;
    let raw: Vec<_> =
        (1..3000).map(|i| (i as f64, if (1400..1420).contains(&i) { f64::NAN } else { loss(i, 4.7) })).collect();
    let held_out: Vec<_> = (0..=12).map(|i| (f64::from(i) * 250.0, 4.9 + 3.5 * (-f64::from(i) / 1.7).exp())).collect();
    let curve = chart::lines(
        "Training and held-out loss",
        Axis::new("step"),
        Axis::new("nats per character"),
        vec![
            Series::new("raw", raw.clone()).faint(),
            Series::new("training", chart::smooth(&raw, 60.0)),
            Series::new("held out", held_out),
        ],
    )
    .note("Pale: each step. Strong: exponential mean over 60 steps.");
    let rate: Vec<_> = (0..300)
        .map(|i| {
            (f64::from(i * 10), 1e-3 * (f64::from(i) / 20.0).min(1.0) * (0.55 + 0.45 * (f64::from(i) / 95.5).cos()))
        })
        .collect();
    let schedule =
        chart::lines("Learning rate", Axis::new("step"), Axis::new("learning rate"), vec![Series::new("rate", rate)]);
    let lengths = [128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0];
    let time = |per: f64, square: f64| lengths.map(|t: f64| (t, t * per + t * t * square)).to_vec();
    let band = lengths.map(|t: f64| (t, t * 0.009, t * 0.0125)).to_vec();
    let growth = chart::lines(
        "Time of one layer, forward and backward",
        Axis::new("sequence length").log().marks(lengths),
        Axis::new("milliseconds").log(),
        vec![
            Series::new("attention, memory linear in T", time(0.01, 8e-6)).band(band),
            Series::new("candle, composed", time(0.03, 6e-5)),
            Series::new("feed-forward", time(0.02, 0.0)),
        ],
    );
    Section::new("Training")
        .text("The loss falls quickly at first.\n\nNothing else can be said of numbers that were made up.")
        .chart(curve)
        .chart(schedule)
        .chart(growth)
}

fn control() -> Section {
    let rows = vec![
        Row::new("form").mark(0.881, 0.859, 0.9).mark(0.934, 0.917, 0.948).base(0.142).ceiling(0.998),
        Row::new("dynasty").mark(0.71, 0.68, 0.737).mark(0.79, 0.764, 0.814).base(0.5).ceiling(0.86),
        Row::new("line length, exact").mark(0.943, 0.927, 0.956).mark(0.968, 0.955, 0.977).base(0.31).ceiling(1.0),
        Row::new("keyword present").mark(0.44, 0.409, 0.471).mark(0.71, 0.681, 0.738).base(0.013).ceiling(1.0),
        Row::new("tune 詞牌").mark(0.52, 0.45, 0.59).mark(f64::NAN, 0.5, 0.6).base(0.02).ceiling(0.97),
    ];
    let chart = chart::intervals("Accuracy by attribute", Axis::new("accuracy by rule").percent().from(0.0).to(1.0), ["conditional", "guided, g = 1.5"], rows)
        .note("1,000 uniformly drawn requests; bars are 95 % Wilson intervals. Base rate: text written without control. Ceiling: real text judged by the same rule.");
    let table = Table::new(["attribute", "requests", "accuracy", "base rate", "ceiling", "normalised lift"])
        .title("The same as numbers, guided")
        .row([
            Cell::text("form"),
            1000u64.into(),
            Cell::percent_within(0.934, 0.917, 0.948),
            Cell::percent(0.142),
            Cell::percent(0.998),
            Cell::number(0.925, 3),
        ])
        .row([
            Cell::text("dynasty"),
            1000u64.into(),
            Cell::percent_within(0.79, 0.764, 0.814),
            Cell::percent(0.5),
            Cell::percent(0.86),
            Cell::number(0.806, 3),
        ])
        .row([
            Cell::text("keyword"),
            1000u64.into(),
            Cell::percent_within(0.71, 0.681, 0.738),
            Cell::percent(0.013),
            Cell::percent(1.0),
            Cell::number(0.706, 3).strong(),
        ])
        .row([
            Cell::text("joint, four at once"),
            1000u64.into(),
            Cell::percent_within(0.48, 0.449, 0.511),
            Cell::percent(0.0),
            Cell::percent(f64::NAN),
            Cell::number(f64::NAN, 3),
        ])
        .note("Lift is (accuracy − base rate) / (ceiling − base rate).");
    Section::new("Control").chart(chart).table(table)
}

fn lengths() -> Section {
    let asked: Vec<f64> =
        (0..1000).map(|i| [20.0, 28.0, 40.0, 56.0, 44.0, 62.0, 90.0][(noise(i) * 7.0) as usize]).collect();
    let got: Vec<f64> = asked
        .iter()
        .enumerate()
        .map(|(i, n)| if noise(i + 5000) < 0.8 { *n } else { n + (noise(i + 9000) * 9.0).floor() - 4.0 })
        .collect();
    let points = asked.iter().copied().zip(got.iter().copied()).collect();
    let agreement = chart::agreement(
        "Length asked for and length written",
        Axis::new("characters asked for"),
        Axis::new("characters written"),
        vec![Series::new("poem", points)],
    )
    .note("The area of a point grows with the number of poems it stands for.");
    let errors = asked.iter().zip(&got).map(|(a, b)| b - a).collect();
    let distance =
        chart::histogram("Error of the length", Axis::new("characters written − asked for"), [("poems", errors)], 12);
    let likelihood = |mean: f64| {
        (0..600).map(|i| mean + 0.5 * (noise(i) + noise(i + 700) + noise(i + 1400) - 1.5)).collect::<Vec<f64>>()
    };
    let compare = chart::histogram(
        "Log-probability per character",
        Axis::new("nats"),
        [("written by people", likelihood(-4.9)), ("written by the model", likelihood(-4.4))],
        24,
    );
    Section::new("Length").chart(agreement).chart(distance).chart(compare)
}

fn samples() -> Section {
    let quiet = Poem::new(["床前明月光", "疑是地上霜", "舉頭望明月", "低頭思故鄉"]).title("靜夜思").author("李白");
    let tower = Poem::new([
        "國破山河在",
        "城春草木深",
        "感時花濺淚",
        "恨別鳥驚心",
        "烽火連三月",
        "家書抵萬金",
        "白頭搔更短",
        "渾欲不勝簪",
    ])
    .title("春望")
    .author("杜甫");
    let tune = Poem::new([
        "明月幾時有",
        "把酒問青天",
        "不知天上宮闕",
        "今夕是何年",
        "我欲乘風歸去",
        "又恐瓊樓玉宇",
        "高處不勝寒",
        "起舞弄清影",
        "何似在人間",
    ])
    .title("水調歌頭")
    .author("蘇軾");
    let story = Poem::new([
        "Gravity is the force by which a planet draws objects towards its centre.",
        "It keeps the moon where it is.",
    ])
    .title("Prose");
    Section::new("Poems").poems([
        quiet
            .chip(Chip::met("五言絕句"))
            .chip(Chip::met("唐"))
            .chip(Chip::met("月"))
            .note("seed 4, log-probability −61.2"),
        tower.chip(Chip::met("五言律詩")).chip(Chip::missed("宋")).chip(Chip::plain("春")),
        tune.chip(Chip::met("水調歌頭")).chip(Chip::met("宋")).note("first half"),
        story.chip(Chip::plain("unconditional")),
    ])
}

fn settings() -> Section {
    Section::new("Settings")
        .text("The resolved configuration, as it lies beside the checkpoints.")
        .details(
            "config.toml",
            Section::new("")
                .preformatted("recipe = \"poet\"\nseed = 17\n\n[model]\nlayers = 4\nd_model = 192\nheads = 6\n"),
        )
        .chart(chart::lines("Gradient norm", Axis::new("step"), Axis::new("norm"), vec![Series::new("norm", vec![])]))
}
