//! Every measure for every method, on composites with known masks.

use std::error::Error;

use candle_core::{Device, Tensor};
use chandlery_kernels::Key;
use chandlery_pseudo::cam::measure::{
    Curve, Rect, Road, blurred, class_probability, confidence, deletion, energy_pointing, flip_stability, insertion,
    pointing, road,
};
use chandlery_pseudo::cam::picture::{Palette, Sheet, outline, overlay, save_png};
use chandlery_pseudo::cam::{Corners, Map, Method, Probe, Result, Settings, explain_all};

use super::Args;
use super::columns::{Boxes, Column};
use super::model::{Lite0, SIDE};
use super::stamps::{Sample, known, samples, tensor};

/// What is told of each row, in order; the box accuracy follows the third.
const MEASURES: [&str; 9] =
    ["pointing", "pointing, 15 px", "energy", "deletion", "insertion", "ROAD", "drop", "increase", "flip"];

/// Images explained at a time.
const BATCH: usize = 16;

/// One method, or what stands in for one.
struct Row {
    name: String,
    columns: [Column; MEASURES.len()],
    boxes: Boxes,
}

impl Row {
    fn new(name: String) -> Self {
        Self { name, columns: Default::default(), boxes: Boxes::default() }
    }

    fn images(&self) -> usize {
        self.columns[0].images()
    }

    /// One image's map, the map of the mirrored image where there is one, and the model where images are to be altered.
    fn add(&mut self, sample: &Sample, map: &Map, turned: Option<&Map>, lite0: Option<&Lite0>) -> Result<()> {
        self.place(sample, map)?;
        if let Some(turned) = turned {
            self.columns[8].add(sample.stamp, flip_stability(map, turned)?);
        }
        match lite0 {
            Some(lite0) => self.cause(sample, map, lite0),
            None => Ok(()),
        }
    }

    /// What needs the map and the mask only.
    fn place(&mut self, sample: &Sample, map: &Map) -> Result<()> {
        let fine = map.resized(SIDE, SIDE, Corners::Half)?;
        let scaled = map.scaled(SIDE, SIDE)?;
        self.columns[0].add(sample.stamp, pointing(&fine, &sample.mask, 0)?);
        self.columns[1].add(sample.stamp, pointing(&fine, &sample.mask, 15)?);
        self.columns[2].add(sample.stamp, energy_pointing(&scaled, &sample.mask)?);
        self.boxes.of(sample.stamp).add(&scaled, &[sample.mask.bounds()]);
        Ok(())
    }

    /// What runs the model on altered images.
    fn cause(&mut self, sample: &Sample, map: &Map, lite0: &Lite0) -> Result<()> {
        let image = Tensor::from_slice(&sample.seen.input, (3, SIDE, SIDE), &Device::Cpu)?;
        let forward = |x: &Tensor| lite0.forward(x);
        let score = class_probability(&forward, sample.class);
        let scaled = map.scaled(SIDE, SIDE)?;
        let area = |curve: Curve| curve.area();
        let how = Road { shares: vec![0.1, 0.3, 0.5, 0.7, 0.9], ..Road::default() };
        let seen = confidence(&image, &scaled, &score)?;
        let values = [
            area(deletion(&image, &image.zeros_like()?, &scaled, 20, 21, &score)?),
            area(insertion(&image, &blurred(&image, 5.0)?, &scaled, 20, 21, &score)?),
            road(&image, &scaled, &how, 10, &score)?.combined(),
            seen.drop(),
            f64::from(u8::from(seen.increases())),
        ];
        self.columns[3..8].iter_mut().zip(values).for_each(|(column, value)| column.add(sample.stamp, value));
        Ok(())
    }

    fn print(&self) {
        let cell = |column: &Column| if column.images() == 0 { String::new() } else { column.cell() };
        let mut cells: Vec<String> = self.columns.iter().map(cell).collect();
        cells.insert(3, self.boxes.cell());
        println!("| {} | {} | {} | {} |", self.name, self.images(), self.columns[3].images(), cells.join(" | "));
    }
}

/// Whether `number` of `all` is among the `some` that are spread evenly.
fn among(number: usize, all: usize, some: usize) -> bool {
    (number + 1) * some / all > number * some / all
}

/// Methods whose maps are those of CAM but for a factor on the last maps of a pooled linear head.
const AS_CAM: [Method; 3] = [Method::GradCam, Method::HiResCam, Method::XGradCam];

/// What stands in for a method, so that figures can be judged.
const STAND_INS: [&str; 4] = ["(one value everywhere)", "(random numbers)", "(always the middle)", "(the mask itself)"];

/// What is scored.
struct Trial<'a> {
    lite0: &'a Lite0,
    layer: Option<&'a str>,
    /// Methods that read one pass.
    fast: Vec<Method>,
    /// Methods that alter images.
    late: Vec<Method>,
    how: Settings,
}

impl<'a> Trial<'a> {
    fn new(lite0: &'a Lite0, args: &'a Args) -> std::result::Result<Self, String> {
        let layer = args.0.get("layer").map(String::as_str);
        // CAM needs the head, which does not follow on an earlier layer.
        let (late, mut fast): (Vec<_>, Vec<_>) = Method::ALL.into_iter().partition(|m| m.alters_images());
        fast.retain(|m| layer.is_none() || *m != Method::Cam);
        let (score_channels, rise_masks) = (args.number("channels", 0)?, args.number("masks", 1000)?);
        Ok(Self { lite0, layer, fast, late, how: Settings { score_channels, rise_masks, ..Settings::default() } })
    }

    fn rows(&self) -> Vec<Row> {
        let name = |method: &Method| match (method, self.layer) {
            (Method::Cam, None) => "cam = grad-cam = hires-cam = xgrad-cam".to_string(),
            _ => method.to_string(),
        };
        let names = self.fast.iter().chain(&self.late).map(name);
        names.chain(STAND_INS.map(String::from)).map(Row::new).collect()
    }

    /// Whether the row of a method would repeat that of CAM.
    fn repeats(&self, row: usize) -> bool {
        self.layer.is_none() && self.fast.get(row).is_some_and(|m| AS_CAM.contains(m))
    }

    fn explain(&self, images: &Tensor, classes: &[usize], methods: &[Method]) -> Result<Vec<Vec<Map>>> {
        let explain = |probe: &Probe<'_>| explain_all(probe, images, classes, methods, &self.how);
        match self.layer {
            Some(layer) => self.lite0.probe_at(layer, explain),
            None => self.lite0.probe(explain),
        }
    }

    /// One map for each row, none for the late methods unless `late` holds their image.
    fn maps(&self, number: usize, sample: &Sample, fast: Vec<Map>, late: Option<Tensor>) -> Result<Vec<Option<Map>>> {
        let mut maps: Vec<Option<Map>> = fast.into_iter().map(Some).collect();
        match late {
            Some(image) => {
                let mut found = self.explain(&image, &[sample.class], &self.late)?;
                maps.extend(found.iter_mut().map(Vec::pop));
            }
            None => maps.extend(self.late.iter().map(|_| None)),
        }
        maps.extend([Map::new(1, 1, vec![1.0])?, random(number)?, middle()?, of_mask(sample)?].map(Some));
        Ok(maps)
    }
}

pub fn score(lite0: &Lite0, args: &Args) -> std::result::Result<(), Box<dyn Error>> {
    let stamps = known(lite0, args)?;
    let samples = samples(&stamps, args)?;
    let (late, cause): (usize, usize) = (args.number("slow", 0)?, args.number("cause", 0)?);
    let trial = Trial::new(lite0, args)?;
    let out = args.path("out")?;
    println!("{} stamps, {} images", stamps.len(), samples.len());

    let mut rows = trial.rows();
    let mut sheet = Sheet::new(168);
    let mut recognised = 0;
    for (first, part) in (0..).step_by(BATCH).zip(samples.chunks(BATCH)) {
        let images = tensor(&part.iter().map(|s| &s.seen.input[..]).collect::<Vec<_>>())?;
        let classes: Vec<usize> = part.iter().map(|s| s.class).collect();
        let found = lite0.probe(|probe| probe.predict(&images))?;
        recognised += found.iter().zip(&classes).filter(|(a, b)| a == b).count();
        let plain = trial.explain(&images, &classes, &trial.fast)?;
        let turned = trial.explain(&images.flip(&[3])?, &classes, &trial.fast)?;
        for (i, (number, sample)) in (first..).zip(part).enumerate() {
            let chosen = |some| among(number, samples.len(), some);
            let image = chosen(late).then(|| images.narrow(0, i, 1)).transpose()?;
            let maps = trial.maps(number, sample, plain.iter().map(|of| of[i].clone()).collect(), image)?;
            for (r, (row, map)) in rows.iter_mut().zip(&maps).enumerate() {
                match map {
                    Some(map) if trial.repeats(r) => same_as_cam(&plain[0][i], map)?,
                    Some(map) => {
                        row.add(sample, map, turned.get(r).map(|of| &of[i]), chosen(cause).then_some(lite0))?
                    }
                    None => {}
                }
            }
            if chosen(12) {
                let mut tiles = vec![(stamps[sample.stamp].name.clone(), sample.seen.photo.clone())];
                for (row, map) in rows.iter().zip(&maps).filter(|(row, _)| row.images() > 0) {
                    tiles.extend(map.as_ref().map(|map| tile(sample, &row.name, map)).transpose()?);
                }
                sheet.row(tiles);
            }
        }
    }
    println!("{recognised} of {} recognised on the photograph", samples.len());
    print(&rows);
    std::fs::create_dir_all(&out)?;
    save_png(&sheet.draw(), &out.join("sheet.png"))?;
    Ok(())
}

/// Refuses a map that is not CAM's but for a factor.
fn same_as_cam(cam: &Map, other: &Map) -> std::result::Result<(), Box<dyn Error>> {
    let (a, b) = (cam.scaled(SIDE, SIDE)?, other.scaled(SIDE, SIDE)?);
    let far = a.values().iter().zip(b.values()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    if far < 1e-3 { Ok(()) } else { Err(format!("a map that should be CAM's is {far} away from it").into()) }
}

fn tile(sample: &Sample, name: &str, map: &Map) -> Result<(String, image::RgbImage)> {
    let scaled = map.scaled(SIDE, SIDE)?;
    let mut picture = overlay(&sample.seen.photo, &scaled, Palette::Viridis, 0.7);
    outline(&mut picture, sample.mask.bounds(), [255, 255, 255], 1);
    let (x, y) = scaled.peak();
    let dot = Rect { x0: x.saturating_sub(3), y0: y.saturating_sub(3), x1: x + 4, y1: y + 4 };
    outline(&mut picture, dot, [255, 0, 0], 4);
    Ok((name.to_string(), picture))
}

/// As coarse as a layer's map, and means nothing.
fn random(number: usize) -> Result<Map> {
    let key = Key::new(0).named("random map").at(number as u64);
    Map::new(7, 7, (0..49).map(|i| key.uniform(i) as f32).collect())
}

/// A preference for the middle, whatever the image: a bell of a fifth of the side.
fn middle() -> Result<Map> {
    let away = |i: usize| ((i % 7) as f32 - 3.0).powi(2) + ((i / 7) as f32 - 3.0).powi(2);
    Map::new(7, 7, (0..49).map(|i| (-away(i) / 4.0).exp()).collect())
}

/// The best that a map can be where place is what counts.
fn of_mask(sample: &Sample) -> Result<Map> {
    let inside = |i: usize| f32::from(u8::from(sample.mask.contains(i % SIDE, i / SIDE)));
    Map::new(SIDE, SIDE, (0..SIDE * SIDE).map(inside).collect())
}

fn print(rows: &[Row]) {
    let mut names = MEASURES.to_vec();
    names.insert(3, "MaxBoxAccV2");
    println!("| method | images | of these altered | {} |", names.join(" | "));
    println!("|---{}|", "|---:".repeat(names.len() + 2));
    rows.iter().filter(|row| row.images() > 0).for_each(Row::print);
}
