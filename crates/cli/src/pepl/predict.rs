//! Labels for a folder of images, line by line.

use super::calibration::{Calibration, most};
use super::config::PeplConfig;
use super::data::Classes;
use super::folder::Walk;
use super::pictures::{PlainHead, map};
use super::{config_of, network};
use crate::args::Predict;
use crate::report::chart::{self, Axis, Series};
use crate::report::{Cell, Report, Section, Table, number};
use crate::{Result, say};
use candle_core::Device;
use chandlery::kernels::Key;
use chandlery::nn::Mode;
use chandlery::nn::file::write_atomic;
use chandlery::pseudo::cam::measure::largest_box;
use chandlery::pseudo::cam::{Corners, Method};
use chandlery::pseudo::image::{ImageError, View, Views, header};
use chandlery::pseudo::models::Classifier;
use chandlery::pseudo::trust::Histogram;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// One line: what an image shows, or why it cannot be used.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Line {
    /// A label.
    Label {
        path: String,
        label: String,
        /// The network's own probability.
        confidence: f32,
        /// The calibrated one.
        probability: f32,
        kept: bool,
        /// What the label rests on, in pixels of the upright image: left, top, right, bottom.
        #[serde(rename = "box")]
        region: Option<[f32; 4]>,
    },
    /// No label.
    Bad { path: String, error: String },
}

/// A trained classifier, ready to label.
struct Labeller {
    model: Classifier,
    head: PlainHead,
    classes: Vec<String>,
    calibration: Calibration,
    views: Views,
    keep_above: f64,
}

impl Labeller {
    fn open(run: &Path, config: &PeplConfig, keep_above: Option<f64>) -> Result<Self> {
        let (classes, calibration) = (Classes::load(run)?.names, Calibration::load(run)?);
        let (model, _) = network::open(&config.model, classes.len(), &run.join(network::MODEL))?;
        let keep_above = keep_above.unwrap_or(calibration.keep_above);
        let head = PlainHead::of(&model)?;
        Ok(Self { model, head, classes, calibration, views: config.views.clone(), keep_above })
    }

    /// One line for each of `paths`, in their order, with the class of the labelled ones.
    fn label(&self, paths: &[PathBuf]) -> Result<Vec<(Line, Option<usize>)>> {
        let sizes: Vec<OnceLock<(usize, usize)>> = paths.iter().map(|_| OnceLock::new()).collect();
        let load = |i: usize| -> std::result::Result<_, ImageError> {
            let content = self.views.decode.read(&paths[i])?;
            let header = header(&content)?;
            // Orientations 5 to 8 lie on their side.
            let upright = if header.exif > 4 { (header.height, header.width) } else { (header.width, header.height) };
            let _ = sizes[i].set(upright);
            self.views.prepare(&content)
        };
        let items: Vec<usize> = (0..paths.len()).collect();
        let seen = self.views.batch(&items, &[View::Test], Key::new(0), load);
        let mut lines: Vec<Option<(Line, Option<usize>)>> = paths.iter().map(|_| None).collect();
        let name = |i: usize| paths[i].display().to_string();
        for (i, why) in &seen.failed {
            lines[*i] = Some((Line::Bad { path: name(*i), error: why.to_string() }, None));
        }
        let kept = seen.kept.clone();
        if let Some(x) = seen.tensors(&Device::Cpu)?.into_iter().next().filter(|_| !kept.is_empty()) {
            let (logits, features) = self.model.forward_with_maps(&x, Mode::Eval)?;
            let (_, k, h, w) = features.dims4()?;
            let (logits, features) =
                (logits.flatten_all()?.to_vec1::<f32>()?, features.flatten_all()?.to_vec1::<f32>()?);
            let c = self.classes.len();
            let plain = Calibration { temperature: 1.0, ..self.calibration.clone() }.apply(&logits, c);
            let calibrated = self.calibration.apply(&logits, c);
            for (row, &i) in kept.iter().enumerate() {
                let (class, confidence) = most(&plain[row * c..][..c]);
                let probability = calibrated[row * c + class];
                if !(confidence.is_finite() && probability.is_finite()) {
                    let error = "the network gives no number for it".to_string();
                    lines[i] = Some((Line::Bad { path: name(i), error }, None));
                    continue;
                }
                let size = sizes[i].get().copied();
                let region = size
                    .and_then(|size| self.region(&features[row * k * h * w..][..k * h * w], (k, h, w), class, size));
                let kept = f64::from(probability) >= self.keep_above;
                let label = self.classes[class].clone();
                lines[i] =
                    Some((Line::Label { path: name(i), label, confidence, probability, kept, region }, Some(class)));
            }
        }
        Ok(lines.into_iter().flatten().collect())
    }

    /// The box around what speaks for `class`, in pixels of the upright image; none where the map prefers no place.
    fn region(
        &self,
        features: &[f32],
        shape: (usize, usize, usize),
        class: usize,
        size: (usize, usize),
    ) -> Option<[f32; 4]> {
        let crop = self.views.crop;
        let map = map(&self.head.get().ok()?, features, shape, class, Method::Cam).ok()?.rectified();
        let found = largest_box(&map.resized(crop, crop, Corners::Half).ok()?, 0.5)?;
        // Where the image's corner and its far corner lie in the view says how to go back.
        let (near, far) = (self.views.place(size, (0.0, 0.0)), self.views.place(size, (size.0 as f32, size.1 as f32)));
        let back = |at: usize, near: f32, far: f32, side: usize| {
            ((at as f32 - near) / (far - near) * side as f32).clamp(0.0, side as f32)
        };
        let (x, y) = (|at| back(at, near.0, far.0, size.0), |at| back(at, near.1, far.1, size.1));
        Some([x(found.x0), y(found.y0), x(found.x1), y(found.y1)])
    }
}

/// Counts of a folder; as long as the list of classes, however many images there are.
struct Counts {
    labelled: Vec<usize>,
    kept: Vec<usize>,
    /// Sum of the calibrated probabilities of the kept.
    trust: Vec<f64>,
    probabilities: Histogram,
    n_bad: usize,
    /// The first of them.
    bad: Vec<(String, String)>,
}

/// Bad images that the report lists; all are among the lines.
const LISTED: usize = 200;

impl Counts {
    fn new(n_classes: usize) -> Self {
        Self {
            labelled: vec![0; n_classes],
            kept: vec![0; n_classes],
            trust: vec![0.0; n_classes],
            probabilities: Histogram::new(0.0, 1.0, 20),
            n_bad: 0,
            bad: Vec::new(),
        }
    }

    fn add(&mut self, line: &Line, class: Option<usize>) {
        match (line, class) {
            (Line::Label { probability, kept, .. }, Some(class)) => {
                self.labelled[class] += 1;
                self.kept[class] += usize::from(*kept);
                self.trust[class] += if *kept { f64::from(*probability) } else { 0.0 };
                self.probabilities.add(f64::from(*probability));
            }
            (Line::Bad { path, error }, _) => {
                self.n_bad += 1;
                if self.bad.len() < LISTED {
                    self.bad.push((path.clone(), error.clone()));
                }
            }
            (Line::Label { .. }, None) => {}
        }
    }

    fn totals(&self) -> (usize, usize, f64) {
        let (n, kept) = (self.labelled.iter().sum(), self.kept.iter().sum::<usize>());
        (n, kept, self.trust.iter().sum::<f64>() / kept as f64)
    }
}

/// Where the lines go, and the images.
struct Output {
    lines: Box<dyn Write>,
    into: Option<PathBuf>,
}

/// A class's name as a folder's.
fn folder_name(class: &str) -> String {
    let safe: String =
        class.chars().map(|c| if c.is_control() || "/\\:*?\"<>|".contains(c) { '-' } else { c }).collect();
    match safe.trim_matches([' ', '.']) {
        "" => "-".into(),
        name => name.into(),
    }
}

/// A path in `folder` for a copy of `from`: a name that is taken gets a number.
fn free(folder: &Path, from: &Path) -> PathBuf {
    let (stem, ending) = (from.file_stem().unwrap_or_default(), from.extension().unwrap_or_default());
    let name = |n: usize| {
        let number = if n == 0 { String::new() } else { format!("-{n}") };
        folder.join(format!("{}{number}.{}", stem.to_string_lossy(), ending.to_string_lossy()))
    };
    (0..).map(name).find(|path| !path.exists()).unwrap_or_else(|| name(0))
}

impl Output {
    fn new(args: &Predict) -> Result<Self> {
        let file = match (&args.out, &args.into) {
            (Some(out), _) => Some(out.clone()),
            (None, Some(into)) => Some(into.join("labels.jsonl")),
            (None, None) => None,
        };
        if let Some(into) = &args.into {
            let inside = |inner: &Path, outer: &Path| {
                Ok::<_, std::io::Error>(inner.canonicalize()?.starts_with(outer.canonicalize()?))
            };
            std::fs::create_dir_all(into).map_err(|e| format!("--into {}: {e}", into.display()))?;
            if inside(into, &args.images).map_err(|e| format!("--images {}: {e}", args.images.display()))? {
                return Err(
                    "--into: expected a folder outside of --images, whose copies would be labelled again".into()
                );
            }
        }
        let lines: Box<dyn Write> = match file {
            Some(path) => {
                Box::new(BufWriter::new(File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?))
            }
            None => Box::new(BufWriter::new(std::io::stdout().lock())),
        };
        Ok(Self { lines, into: args.into.clone() })
    }

    fn put(&mut self, line: &Line, from: &Path) -> Result<()> {
        serde_json::to_writer(&mut self.lines, line)?;
        self.lines.write_all(b"\n")?;
        let (Some(into), Line::Label { label, kept, .. }) = (&self.into, line) else { return Ok(()) };
        let folder = into.join(if *kept { folder_name(label) } else { "unsure".into() });
        let copy = || -> std::io::Result<()> {
            std::fs::create_dir_all(&folder)?;
            std::fs::copy(from, free(&folder, from)).map(|_| ())
        };
        copy().map_err(|e| format!("{} to {}: {e}", from.display(), folder.display()).into())
    }
}

/// Labels a folder.
pub fn predict(args: &Predict) -> Result<()> {
    if args.batch == 0 || args.keep_above.is_some_and(|p| !(0.0..=1.0).contains(&p)) {
        return Err("--batch must be at least 1, --keep-above from 0 to 1".into());
    }
    let config = config_of(&args.run)?;
    let labeller = Labeller::open(&args.run, &config, args.keep_above)?;
    let mut output = Output::new(args)?;
    let mut counts = Counts::new(labeller.classes.len());
    let mut walk = Walk::new(&args.images)?;
    let mut chunk = Vec::with_capacity(args.batch);
    loop {
        chunk.clear();
        for found in walk.by_ref().take(args.batch) {
            match found {
                Ok(path) => chunk.push(path),
                Err(e) => {
                    let line = Line::Bad { path: args.images.display().to_string(), error: e.to_string() };
                    counts.add(&line, None);
                    output.put(&line, &args.images)?;
                }
            }
        }
        if chunk.is_empty() {
            break;
        }
        for ((line, class), path) in labeller.label(&chunk)?.into_iter().zip(&chunk) {
            counts.add(&line, class);
            output.put(&line, path)?;
        }
        // A reader on the other side of a pipe sees each batch as it is done.
        output.lines.flush()?;
    }
    drop(output);
    let tell = |text: String| {
        // Lines on standard output stay lines.
        if args.out.is_none() && args.into.is_none() {
            let _ = writeln!(std::io::stderr(), "{text}");
        } else {
            say(text);
        }
    };
    let (n, kept, trust) = counts.totals();
    tell(format!(
        "{n} images labelled, {kept} kept (from {:.2} up; {} of them right to be expected), {} could not be used, {} other files",
        labeller.keep_above,
        number::percent(trust),
        counts.n_bad,
        walk.others
    ));
    counts.bad.iter().take(10).for_each(|(path, why)| tell(format!("  {path}: {why}")));
    if let Some(into) = &args.into {
        let path = into.join("report.html");
        let page = page(args, &labeller, &counts);
        write_atomic(&path, |w| w.write_all(page.as_bytes()))?;
        tell(format!("report: {}", path.display()));
    }
    Ok(())
}

/// The report beside the sorted images.
fn page(args: &Predict, labeller: &Labeller, counts: &Counts) -> String {
    let (n, kept, trust) = counts.totals();
    let h = &counts.probabilities;
    let width = (h.high - h.low) / h.counts.len() as f64;
    let bars = h.counts.iter().enumerate().map(|(i, &c)| (h.low + width * (i as f64 + 0.5), c as f64)).collect();
    let chart = chart::lines(
        "Calibrated probabilities",
        Axis::new("probability").from(0.0).to(1.0),
        Axis::new("images").from(0.0),
        vec![Series::new("labelled", bars)],
    );
    let mut table = Table::new(["class", "labelled", "kept", "right to be expected"]);
    for (class, name) in labeller.classes.iter().enumerate().filter(|(class, _)| counts.labelled[*class] > 0) {
        let (labelled, kept) = (counts.labelled[class] as f64, counts.kept[class] as f64);
        let trust = Cell::percent(counts.trust[class] / kept);
        table = table.row([Cell::text(name), Cell::number(labelled, 0), Cell::number(kept, 0), trust]);
    }
    let c = &labeller.calibration;
    let text = format!(
        "A label is kept from a calibrated probability of {:.3} up. On the {} held-out labels of the run this keeps {}, of which {} are right.",
        labeller.keep_above,
        c.n,
        number::percent(c.coverage),
        number::percent(c.precision.unwrap_or(f64::NAN))
    );
    let note = "Right to be expected: mean calibrated probability of the kept labels. It holds as far as these images are like the run's.";
    let mut report = Report::new("Labels for a folder")
        .fact("Images", args.images.display().to_string())
        .fact("Run", args.run.display().to_string())
        .fact("Labelled", number::count(n as u64))
        .fact("Kept", number::count(kept as u64))
        .fact("Right to be expected", number::percent(trust))
        .fact("Could not be used", number::count(counts.n_bad as u64))
        .section(Section::new("Trust").text(text).chart(chart))
        .section(Section::new("Classes").table(table.note(note)));
    if !counts.bad.is_empty() {
        let mut table = Table::new(["file", "why"]);
        for (path, why) in &counts.bad {
            table = table.row([Cell::text(path), Cell::text(why)]);
        }
        let first = format!("The first {} of {}; all stand in labels.jsonl.", counts.bad.len(), counts.n_bad);
        report = report.section(Section::new("Could not be used").table(table.note(first)));
    }
    report.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_become_names_of_folders() {
        assert_eq!(folder_name("T-shirt/top"), "T-shirt-top");
        assert_eq!(folder_name(".."), "-");
        assert_eq!(folder_name("Golden-Delicious"), "Golden-Delicious");
    }
}
