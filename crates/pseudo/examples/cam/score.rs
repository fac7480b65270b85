//! Every measure for every method, on composites with known masks.

use std::collections::BTreeMap;
use std::error::Error;

use candle_core::{Device, Tensor};
use chandlery_kernels::Key;
use chandlery_pseudo::cam::measure::{
    BoxAccuracy, Curve, Rect, Road, blurred, class_probability, confidence, deletion, energy_pointing, flip_stability,
    insertion, pointing, randomised_head, rank_correlation, road,
};
use chandlery_pseudo::cam::picture::{Palette, Sheet, outline, overlay, save_png};
use chandlery_pseudo::cam::{Corners, Map, Method, Result, Settings, explain_all};

use super::Args;
use super::model::{Lite0, SIDE};
use super::stamps::{Sample, known, samples, tensor};

/// Values of one measure by stamp: copies of a stamp are no independent samples.
#[derive(Default)]
struct Column(BTreeMap<usize, Vec<f64>>);

impl Column {
    fn add(&mut self, stamp: usize, value: f64) {
        self.0.entry(stamp).or_default().push(value);
    }

    /// Mean over stamps, and its standard error.
    fn mean(&self) -> (f64, f64) {
        let means: Vec<f64> = self.0.values().map(|v| v.iter().sum::<f64>() / v.len() as f64).collect();
        let n = means.len() as f64;
        let mean = means.iter().sum::<f64>() / n;
        let variance = means.iter().map(|m| (m - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, (variance / n).sqrt())
    }
}

/// The columns of one method.
struct Row {
    columns: BTreeMap<&'static str, Column>,
    boxes: BoxAccuracy,
}

impl Row {
    fn new() -> Self {
        Self { columns: BTreeMap::new(), boxes: BoxAccuracy::new(100) }
    }

    fn add(&mut self, column: &'static str, sample: &Sample, value: f64) {
        self.columns.entry(column).or_default().add(sample.stamp, value);
    }

    /// What needs the map and the mask only.
    fn place(&mut self, sample: &Sample, map: &Map) -> Result<()> {
        let fine = map.resized(SIDE, SIDE, Corners::Half)?;
        self.add("pointing", sample, pointing(&fine, &sample.mask, 0)?);
        self.add("pointing +15 px", sample, pointing(&fine, &sample.mask, 15)?);
        let scaled = map.scaled(SIDE, SIDE)?;
        self.add("energy", sample, energy_pointing(&scaled, &sample.mask)?);
        self.boxes.add(&scaled, &[sample.mask.bounds()]);
        Ok(())
    }

    /// What runs the model on altered images.
    fn cause(&mut self, sample: &Sample, map: &Map, lite0: &Lite0) -> Result<()> {
        let image = Tensor::from_slice(&sample.seen.input, (3, SIDE, SIDE), &Device::Cpu)?;
        let forward = |x: &Tensor| lite0.forward(x);
        let score = class_probability(&forward, sample.class);
        let scaled = map.scaled(SIDE, SIDE)?;
        let area = |curve: Curve| curve.area();
        self.add("deletion", sample, area(deletion(&image, &image.zeros_like()?, &scaled, 20, 21, &score)?));
        self.add("insertion", sample, area(insertion(&image, &blurred(&image, 5.0)?, &scaled, 20, 21, &score)?));
        let how = Road { shares: vec![0.1, 0.3, 0.5, 0.7, 0.9], ..Road::default() };
        self.add("road", sample, road(&image, &scaled, &how, 8, &score)?.combined());
        let seen = confidence(&image, &scaled, &score)?;
        self.add("drop", sample, seen.drop());
        self.add("increase", sample, f64::from(u8::from(seen.increases())));
        Ok(())
    }
}

/// Maps by method and image.
fn maps(
    lite0: &Lite0,
    weight: &[f32],
    images: &Tensor,
    classes: &[usize],
    methods: &[Method],
    how: &Settings,
) -> Result<Vec<Vec<Map>>> {
    lite0.probe_with(weight, |probe| explain_all(probe, images, classes, methods, how))
}

pub fn score(lite0: &Lite0, args: &Args) -> Result<(), Box<dyn Error>> {
    let stamps = known(lite0, args)?;
    let samples = samples(&stamps, args)?;
    let (slow, cause): (usize, usize) = (args.number("slow", 0)?, args.number("cause", 0)?);
    println!("{} stamps, {} images", stamps.len(), samples.len());
    let fast: Vec<Method> = Method::ALL.into_iter().filter(|m| !m.alters_images()).collect();
    let late: Vec<Method> = Method::ALL.into_iter().filter(|m| m.alters_images()).collect();
    let how = Settings { score_channels: 64, rise_masks: 400, ..Settings::default() };
    let random = randomised_head(&lite0.weight, Key::new(1));

    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut sheet = Sheet::new(168);
    let mut recognised = 0;
    for (number, part) in samples.chunks(16).enumerate() {
        let inputs: Vec<&[f32]> = part.iter().map(|s| &s.seen.input[..]).collect();
        let images = tensor(&inputs)?;
        let mirrored = images.flip(&[3])?;
        let classes: Vec<usize> = part.iter().map(|s| s.class).collect();
        let found = lite0.probe(|probe| probe.predict(&images))?;
        recognised += found.iter().zip(&classes).filter(|(a, b)| a == b).count();
        let plain = maps(lite0, &lite0.weight, &images, &classes, &fast, &how)?;
        let turned = maps(lite0, &lite0.weight, &mirrored, &classes, &fast, &how)?;
        let random = maps(lite0, &random, &images, &classes, &fast, &how)?;
        for (m, method) in fast.iter().enumerate() {
            let row = rows.entry(method.to_string()).or_insert_with(Row::new);
            for (i, sample) in part.iter().enumerate() {
                row.place(sample, &plain[m][i])?;
                row.add("flip", sample, flip_stability(&plain[m][i], &turned[m][i])?);
                row.add("random head", sample, rank_correlation(&plain[m][i], &random[m][i])?);
                if number * 16 + i < cause {
                    row.cause(sample, &plain[m][i], lite0)?;
                }
            }
        }
        for (i, sample) in part.iter().enumerate() {
            for (name, map) in [("(anywhere)", everywhere()?), ("(middle)", middle()?)] {
                rows.entry(name.into()).or_insert_with(Row::new).place(sample, &map)?;
            }
            let mut tiles = vec![(stamps[sample.stamp].name.clone(), sample.seen.photo.clone())];
            let mut shown: Vec<(Method, Map)> =
                fast.iter().enumerate().map(|(m, &f)| (f, plain[m][i].clone())).collect();
            if number * 16 + i < slow {
                let image = images.narrow(0, i, 1)?;
                for (&method, mut map) in
                    late.iter().zip(maps(lite0, &lite0.weight, &image, &[sample.class], &late, &how)?)
                {
                    rows.entry(method.to_string()).or_insert_with(Row::new).place(sample, &map[0])?;
                    shown.push((method, map.remove(0)));
                }
            }
            if number * 16 + i < 12 {
                tiles.extend(
                    shown.into_iter().map(|(method, map)| tile(sample, method, &map)).collect::<Result<Vec<_>>>()?,
                );
                sheet.row(tiles);
            }
        }
    }
    println!("{recognised} of {} recognised on the photograph", samples.len());
    print(&rows);
    let out = args.path("out")?;
    std::fs::create_dir_all(&out)?;
    save_png(&sheet.draw(), &out.join("sheet.png"))?;
    Ok(())
}

fn tile(sample: &Sample, method: Method, map: &Map) -> Result<(String, image::RgbImage)> {
    let scaled = map.scaled(SIDE, SIDE)?;
    let mut picture = overlay(&sample.seen.photo, &scaled, Palette::Viridis, 0.7);
    outline(&mut picture, sample.mask.bounds(), [255, 255, 255], 1);
    let (x, y) = scaled.peak();
    let dot = Rect { x0: x.saturating_sub(3), y0: y.saturating_sub(3), x1: x + 4, y1: y + 4 };
    outline(&mut picture, dot, [255, 0, 0], 4);
    Ok((method.to_string(), picture))
}

/// No preference.
fn everywhere() -> Result<Map> {
    Map::new(1, 1, vec![1.0])
}

/// A preference for the middle, whatever the image.
fn middle() -> Result<Map> {
    let away = |i: usize| ((i % 7) as f32 - 3.0).powi(2) + ((i / 7) as f32 - 3.0).powi(2);
    Map::new(7, 7, (0..49).map(|i| (-away(i) / 4.0).exp()).collect())
}

fn print(rows: &BTreeMap<String, Row>) {
    let names = [
        "pointing",
        "pointing +15 px",
        "energy",
        "flip",
        "random head",
        "deletion",
        "insertion",
        "road",
        "drop",
        "increase",
    ];
    println!("| method | images | {} | MaxBoxAccV2 |", names.join(" | "));
    println!("|---{}", "|---".repeat(names.len() + 2) + "|");
    for (name, row) in rows {
        let cell = |column: &&str| match row.columns.get(*column) {
            Some(values) => {
                let (mean, error) = values.mean();
                format!("{mean:.3} ± {error:.3}")
            }
            None => "".into(),
        };
        let images: usize = row.columns["pointing"].0.values().map(Vec::len).sum();
        let cells: Vec<String> = names.iter().map(cell).collect();
        println!("| {name} | {images} | {} | {:.3} |", cells.join(" | "), row.boxes.value());
    }
}
