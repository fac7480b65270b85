//! Overlays, a contact sheet and a list for a folder of images, batch by batch.

use std::path::{Path, PathBuf};

use ::image::RgbImage;
use candle_core::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::super::measure::{Rect, largest_box};
use super::super::method::{Method, Settings};
use super::super::passes::softmax;
use super::super::probe::{Probe, explain_all, predicted};
use super::{Palette, Sheet, Tile, outline, overlay, save_png};

/// What a gallery shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gallery {
    /// One column each.
    pub methods: Vec<Method>,
    /// Of the methods.
    pub settings: Settings,
    /// Colours.
    pub palette: Palette,
    /// How much of the photograph gives way where the map is strongest, 0 to 1.
    pub strength: f32,
    /// Of the map scaled to [0, 1]: the largest region above it gets a box; 1 for no box.
    pub threshold: f64,
    /// Images explained at a time.
    pub batch: usize,
    /// Side of a tile of the contact sheet in pixels.
    pub tile: u32,
    /// Images on the contact sheet, the first ones; all are listed and drawn alone.
    pub sheet_rows: usize,
}

impl Default for Gallery {
    fn default() -> Self {
        Self {
            methods: vec![Method::Cam, Method::GradCamPlusPlus, Method::LayerCam, Method::FinerCam],
            settings: Settings::default(),
            palette: Palette::default(),
            strength: 0.6,
            threshold: 0.5,
            batch: 16,
            tile: 168,
            sheet_rows: 24,
        }
    }
}

/// An image as people and as the model see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What the model sees, `width x height` pixels.
    pub photo: RgbImage,
    /// The same, normalised, row-major `[3, height, width]`.
    pub input: Vec<f32>,
}

/// One line of `maps.jsonl`: one image by one method.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// The file's name.
    pub image: String,
    /// The method.
    pub method: Method,
    /// The explained class.
    pub class: usize,
    /// Its probability.
    pub probability: f64,
    /// The pixel of the map's first maximum, column and row.
    pub peak: (usize, usize),
    /// The box around the largest region above the threshold.
    pub region: Option<Rect>,
    /// The overlay's file, beside this one.
    pub overlay: PathBuf,
}

impl Gallery {
    /// Explains the predicted class of each of `files` and writes into `out`: one overlay a file and method, `sheet.png`, and
    /// `maps.jsonl` ([`Line`]). `load` gives a file as the model sees it, all of one size; `classes` names the classes for
    /// the sheet, and may be empty. Files are loaded, explained and forgotten `batch` at a time.
    ///
    /// # Errors
    /// At the first file that cannot be loaded, explained or written.
    pub fn write(
        &self,
        probe: &Probe<'_>,
        files: &[PathBuf],
        load: &dyn Fn(&Path) -> Result<Seen>,
        classes: &[String],
        device: &Device,
        out: &Path,
    ) -> Result<Vec<Line>> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| Error::File(chandlery_nn::Error::Io { path, source })
        };
        std::fs::create_dir_all(out).map_err(io(out))?;
        let mut sheet = Sheet::new(self.tile);
        let mut lines = Vec::new();
        for (batch, files) in files.chunks(self.batch.max(1)).enumerate() {
            let seen: Vec<Seen> = files.iter().map(|file| load(file)).collect::<Result<_>>()?;
            let explained = self.explain(probe, &seen, device)?;
            for (i, (file, image)) in files.iter().zip(explained).enumerate() {
                let number = batch * self.batch.max(1) + i;
                let (tiles, of_file) = self.one(file, number, &seen[i], image, classes, out)?;
                if number < self.sheet_rows {
                    sheet.row(tiles);
                }
                lines.extend(of_file);
            }
        }
        save_png(&sheet.draw(), &out.join("sheet.png"))?;
        let path = out.join("maps.jsonl");
        chandlery_nn::file::write_atomic(&path, |to| {
            lines.iter().try_for_each(|line| {
                serde_json::to_writer(&mut *to, line)?;
                to.write_all(b"\n")
            })
        })?;
        Ok(lines)
    }

    /// Class, probability and one map a method of each image.
    fn explain(&self, probe: &Probe<'_>, seen: &[Seen], device: &Device) -> Result<Vec<Explained>> {
        let Some((width, height)) = seen.first().map(|s| s.photo.dimensions()) else { return Ok(Vec::new()) };
        let (width, height) = (width as usize, height as usize);
        for image in seen {
            expect(
                "size of the photograph",
                &[width, height],
                &[image.photo.width() as usize, image.photo.height() as usize],
            )?;
            expect("values of the input", &[3 * height * width], &[image.input.len()])?;
        }
        let values: Vec<f32> = seen.iter().flat_map(|s| s.input.iter().copied()).collect();
        let images = Tensor::from_vec(values, (seen.len(), 3, height, width), device)?;
        let scores = probe.scores(&images)?;
        let targets = predicted(&scores);
        let by_method = explain_all(probe, &images, &targets, &self.methods, &self.settings)?;
        let mut by_method: Vec<_> = by_method.into_iter().map(Vec::into_iter).collect();
        let one = |(row, &class): (&Vec<f32>, &usize)| {
            let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
            Explained {
                class,
                probability: softmax(&row)[class],
                maps: by_method.iter_mut().filter_map(Iterator::next).collect(),
            }
        };
        Ok(scores.iter().zip(&targets).map(one).collect())
    }

    /// Draws one image's overlays; its tiles and lines.
    fn one(
        &self,
        file: &Path,
        number: usize,
        seen: &Seen,
        of: Explained,
        classes: &[String],
        out: &Path,
    ) -> Result<(Vec<Tile>, Vec<Line>)> {
        let (width, height) = seen.photo.dimensions();
        let words = classes.get(of.class).map_or_else(|| format!("class {}", of.class), Clone::clone);
        let mut tiles = vec![(format!("{:.0}% {words}", 100.0 * of.probability), seen.photo.clone())];
        let mut lines = Vec::new();
        let stem = file.file_stem().unwrap_or_default().to_string_lossy();
        for (&method, map) in self.methods.iter().zip(of.maps) {
            let map = map.scaled(height as usize, width as usize)?;
            let region = largest_box(&map, self.threshold);
            let mut picture = overlay(&seen.photo, &map, self.palette, self.strength);
            if let Some(region) = region {
                outline(&mut picture, region, [255, 255, 255], 1);
            }
            // Numbered, for files of one name in several folders.
            let overlay = PathBuf::from(format!("{number:05}-{stem}.{method}.png"));
            save_png(&picture, &out.join(&overlay))?;
            let peak = map.peak();
            let image = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            lines.push(Line { image, method, class: of.class, probability: of.probability, peak, region, overlay });
            tiles.push((method.to_string(), picture));
        }
        Ok((tiles, lines))
    }
}

struct Explained {
    class: usize,
    probability: f64,
    maps: Vec<Map>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cam::Layout;

    /// An image that is bright in one corner; the model's two channels are the image's first two.
    fn load(path: &Path) -> Result<Seen> {
        let at = if path.ends_with("left.png") { 0 } else { 7 };
        let photo = RgbImage::from_fn(8, 6, |x, y| ::image::Rgb([if (x, y) == (at, 0) { 250 } else { 9 }, 5, 5]));
        let input = (0..3).flat_map(|c| photo.pixels().map(move |p| f32::from(p.0[c]) / 255.0)).collect();
        Ok(Seen { photo, input })
    }

    #[test]
    fn a_gallery_lists_and_draws_every_image() {
        let dir = tempfile::tempdir().unwrap();
        let features = |x: &Tensor| x.narrow(1, 0, 2);
        let logits = |maps: &Tensor| maps.mean((2, 3));
        let probe = Probe { features: &features, logits: &logits, layout: Layout::Maps, head: None };
        let methods = vec![Method::GradCam, Method::HiResCam];
        let gallery = Gallery { methods, batch: 2, sheet_rows: 2, ..Gallery::default() };
        let files = ["a/left.png", "right.png", "b/left.png"].map(PathBuf::from);
        let out = dir.path().join("maps");
        let lines = gallery.write(&probe, &files, &load, &["spot".into()], &Device::Cpu, &out).unwrap();
        assert_eq!(lines.len(), 6);
        let peaks: Vec<_> = lines.iter().map(|l| l.peak).collect();
        assert_eq!(peaks, [(0, 0), (0, 0), (7, 0), (7, 0), (0, 0), (0, 0)]);
        assert_eq!(lines[2].region, Some(Rect { x0: 7, y0: 0, x1: 8, y1: 1 }));
        assert!(lines.iter().all(|l| l.class == 0 && l.probability > 0.5 && out.join(&l.overlay).exists()));
        let text = std::fs::read_to_string(out.join("maps.jsonl")).unwrap();
        let read: Vec<Line> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!(read, lines);
        // Two rows of three tiles.
        let sheet = ::image::open(out.join("sheet.png")).unwrap();
        assert_eq!(sheet.width(), 3 * (168 + 4) + 4);
    }
}
