//! Many pictures side by side.

use std::path::Path;

use ::image::{ImageFormat, Rgb, RgbImage, imageops};

use super::super::error::{Error, Result};
use super::label::label;

const INK: [u8; 3] = [20, 20, 20];
const PAPER: [u8; 3] = [250, 250, 250];
/// Pixels between tiles.
const GAP: u32 = 4;
/// Pixels above each tile, for one line of words.
const LINE: u32 = 16;
/// Pixels of one dot of a letter.
const DOT: u32 = 2;

/// A picture under its words.
pub type Tile = (String, RgbImage);

/// A contact sheet: rows of pictures, each under its words.
#[derive(Clone, Debug)]
pub struct Sheet {
    tile: u32,
    rows: Vec<Vec<Tile>>,
}

impl Sheet {
    /// An empty sheet of tiles `tile` pixels a side.
    pub fn new(tile: u32) -> Self {
        Self { tile: tile.max(1), rows: Vec::new() }
    }

    /// Adds a row, usually one image's maps by several methods. Pictures are fitted into their tiles.
    pub fn row(&mut self, pictures: Vec<Tile>) {
        self.rows.push(pictures);
    }

    /// The sheet as one picture; words are cut at their tile.
    pub fn draw(&self) -> RgbImage {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0) as u32;
        let (step_x, step_y) = (self.tile + GAP, self.tile + LINE + GAP);
        let (width, height) = (columns * step_x + GAP, self.rows.len() as u32 * step_y + GAP);
        let mut sheet = RgbImage::from_pixel(width, height, Rgb(PAPER));
        for (row, pictures) in self.rows.iter().enumerate() {
            for (column, (words, picture)) in pictures.iter().enumerate() {
                let (x, y) = (GAP + column as u32 * step_x, GAP + row as u32 * step_y);
                let fits = (self.tile / (4 * DOT)) as usize;
                let words: String = words.chars().take(fits).collect();
                label(&mut sheet, &words, (x, y + 2), DOT, INK);
                let fitted = self.fitted(picture);
                let (left, top) = (x + (self.tile - fitted.width()) / 2, y + LINE + (self.tile - fitted.height()) / 2);
                imageops::replace(&mut sheet, &fitted, i64::from(left), i64::from(top));
            }
        }
        sheet
    }

    /// The picture with its longer side as long as a tile's.
    fn fitted(&self, picture: &RgbImage) -> RgbImage {
        let longer = picture.width().max(picture.height()).max(1);
        let side = |n: u32| (n * self.tile / longer).max(1);
        let (width, height) = (side(picture.width()), side(picture.height()));
        if (width, height) == picture.dimensions() {
            return picture.clone();
        }
        imageops::resize(picture, width, height, imageops::FilterType::Triangle)
    }
}

/// Writes a picture as PNG; the file appears whole or not at all.
///
/// # Errors
/// If it cannot be encoded or written; the error names the file.
pub fn save_png(picture: &RgbImage, path: &Path) -> Result<()> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let encoded = picture.write_to(&mut bytes, ImageFormat::Png);
    encoded.map_err(|source| Error::Picture { path: path.to_path_buf(), source })?;
    Ok(chandlery_nn::file::write_atomic(path, |out| out.write_all(bytes.get_ref()))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_lie_in_rows_and_columns() {
        let mut sheet = Sheet::new(40);
        let plain = |colour: u8| RgbImage::from_pixel(20, 10, Rgb([colour; 3]));
        sheet.row(vec![("one".into(), plain(10)), ("two".into(), plain(60))]);
        sheet.row(vec![("three".into(), plain(110))]);
        let picture = sheet.draw();
        assert_eq!(picture.dimensions(), (2 * 44 + 4, 2 * 60 + 4));
        // The middles of the tiles; 20 x 10 is fitted to 40 x 20.
        assert_eq!(picture.get_pixel(24, 40).0, [10; 3]);
        assert_eq!(picture.get_pixel(68, 40).0, [60; 3]);
        assert_eq!(picture.get_pixel(24, 100).0, [110; 3]);
        assert_eq!(picture.get_pixel(68, 100).0, PAPER);
        assert!(picture.enumerate_pixels().any(|(_, y, p)| y < 16 && p.0 == INK));
        assert_eq!(Sheet::new(9).draw().dimensions(), (GAP, GAP));
    }

    #[test]
    fn pictures_survive_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        let picture = RgbImage::from_fn(5, 3, |x, y| Rgb([x as u8, y as u8, 7]));
        save_png(&picture, &path).unwrap();
        assert_eq!(::image::open(&path).unwrap().to_rgb8(), picture);
        let error = save_png(&picture, &dir.path().join("none/a.png")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }
}
