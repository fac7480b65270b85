//! JPEG files to tensors, one thread, decoding and augmenting apart, in images a second. `SMALL` photographs of about
//! 224 x 224 pixels and `LARGE` of 1280 x 960.
//!
//! `decode-*` decodes at full size; `to112-*` and `to256-*` to a shorter side of so many pixels (JPEG at 1/2, 1/4 or 1/8 of its
//! size where that is enough, then bilinear resizing with antialiasing). From decoded pixels: `weak-*` resizes to 256, crops 224
//! at random, mirrors, normalises to `[3, h, w]` floats; `strong-*` applies three operations of RandAugment and a cutout
//! in between; `randaugment-*` is those alone, bytes to bytes at 224 x 224. `views-*` is the whole way from the file to a
//! weak and a strong view.
//!
//! The files are the Grocery Store's, where `CHANDLERY_DATA` names a folder that has it, and patterns of clothes otherwise;
//! the large ones are mosaics of the small. All are in memory before the clock starts, so that no disk is measured. What the
//! peers do is said in `peers/images.py`.

use crate::measure::{Step, Workload};
use candle_core::{Error, Result};
use chandlery::kernels::Stream;
use chandlery::pseudo::data::{Dataset, Fold, Location};
use chandlery::pseudo::image::{Decode, Image, Resize, View, Views, centre_crop, crop, epoch_key, resize};
use std::hint::black_box;
use std::path::{Path, PathBuf};

const SMALL: usize = 100;
const LARGE: usize = 20;

/// Where both sides find the files.
fn folder() -> PathBuf {
    std::env::temp_dir().join("chandlery-bench-images")
}

pub fn workloads() -> Vec<Workload> {
    let small = |what: &str| format!("{what}-small-{SMALL}");
    let large = |what: &str| format!("{what}-large-{LARGE}");
    vec![
        Workload::new(small("decode"), 7, || decode("small", None)),
        Workload::new(large("decode"), 7, || decode("large", None)),
        Workload::new(small("to112"), 7, || decode("small", Some(112))),
        Workload::new(large("to256"), 7, || decode("large", Some(256))),
        Workload::new(small("weak"), 7, || augment(View::Weak)),
        Workload::new(small("strong"), 7, || augment(View::Strong)),
        Workload::new(small("randaugment"), 7, operations),
        Workload::new(small("views"), 7, || both_views("small")),
        Workload::new(large("views"), 7, || both_views("large")),
    ]
}

/// Decoding in full, or to a shorter side.
fn decode(size: &str, short_side: Option<usize>) -> Result<Step> {
    let (files, views) = (read(size)?, Views::default());
    let to = short_side.map(|side| Views { resize: Resize::ShortSide(side), ..Views::default() });
    Ok(Box::new(move || {
        for file in &files {
            black_box(match &to {
                Some(to) => to.prepare(file),
                None => views.decode.decode(file, None),
            })
            .map_err(Error::wrap)?;
        }
        Ok(())
    }))
}

/// Three operations and a cutout.
fn operations() -> Result<Step> {
    let views = Views::default();
    let prepare = |file: &Vec<u8>| Ok(centre_crop(&views.prepare(file).map_err(Error::wrap)?, views.crop));
    let images: Vec<Image> = read("small")?.iter().map(prepare).collect::<Result<_>>()?;
    let mut epoch = 0;
    Ok(Box::new(move || {
        epoch += 1;
        for (i, image) in images.iter().enumerate() {
            let mut seen = image.clone();
            views.strong.apply(&mut seen, &mut Stream::new(epoch_key(0, epoch).at(i as u64)));
            black_box(&seen);
        }
        Ok(())
    }))
}

/// From decoded pixels to one normalised view.
fn augment(view: View) -> Result<Step> {
    let views = Views::default();
    let decode = |file: &Vec<u8>| Decode::default().decode(file, None).map_err(Error::wrap);
    let images: Vec<Image> = read("small")?.iter().map(decode).collect::<Result<_>>()?;
    let mut out = vec![0.0; views.shape(1).iter().product()];
    let mut epoch = 0;
    Ok(Box::new(move || {
        epoch += 1;
        for (i, image) in images.iter().enumerate() {
            let prepared = views.resize(image).map_err(Error::wrap)?;
            let seen = views.see(&prepared, view, epoch_key(0, epoch).at(i as u64), 0);
            views.normalise.write(&seen, &mut out).map_err(Error::wrap)?;
            black_box(&out);
        }
        Ok(())
    }))
}

/// From bytes to a weak and a strong view, as a step of FixMatch takes them.
fn both_views(size: &str) -> Result<Step> {
    let (files, views) = (read(size)?, Views::default());
    let items: Vec<usize> = (0..files.len()).collect();
    let mut epoch = 0;
    Ok(Box::new(move || {
        epoch += 1;
        let seen = views.batch(&items, &[View::Weak, View::Strong], epoch_key(0, epoch), |i| views.prepare(&files[i]));
        if let Some((_, error)) = seen.failed.into_iter().next() {
            return Err(Error::wrap(error));
        }
        black_box(seen.views);
        Ok(())
    }))
}

fn read(size: &str) -> Result<Vec<Vec<u8>>> {
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder().join(size))?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    paths.iter().map(|path| Ok(std::fs::read(path)?)).collect()
}

/// Writes the files that are measured.
pub fn prepare() -> std::result::Result<(), String> {
    let fail = |e: &dyn std::fmt::Display| format!("files for the benchmark: {e}");
    for size in ["small", "large"] {
        let folder = folder().join(size);
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| fail(&e))?;
        }
        std::fs::create_dir_all(&folder).map_err(|e| fail(&e))?;
    }
    let photographs = std::env::var_os("CHANDLERY_DATA").map(|data| Path::new(&data).join("grocery"));
    let data = Location { path: photographs.filter(|p| p.is_dir()), layout: None }.open().map_err(|e| fail(&e))?;
    let train = data.fold(Fold::Train);
    let images = (0..SMALL).map(|i| small(&data, train[i * train.len() / SMALL], i));
    let images: Vec<Image> = images.collect::<std::result::Result<_, _>>().map_err(|e| fail(&*e))?;
    for i in 0..LARGE {
        let tiles: Vec<&Image> = (0..20).map(|k| &images[(i * 7 + k) % SMALL]).collect();
        save(&mosaic(&tiles, 5).map_err(|e| fail(&e))?, "large", i).map_err(|e| fail(&*e))?;
    }
    Ok(())
}

type Failure = Box<dyn std::error::Error>;

/// Copies or draws one small file; returns its picture.
fn small(data: &Dataset, item: usize, index: usize) -> std::result::Result<Image, Failure> {
    let from = data.root.join(&data.items()[item].name);
    if from.is_file() {
        std::fs::copy(&from, folder().join("small").join(format!("{index:03}.jpg")))?;
        return Ok(data.image(item, &Decode::default(), None)?);
    }
    let tiles = (0..20).map(|k| data.image((item + k * 97) % data.len(), &Decode::default(), None));
    let tiles: Vec<Image> = tiles.collect::<std::result::Result<_, _>>()?;
    let image = resize(&mosaic(&tiles.iter().collect::<Vec<_>>(), 5)?, 320, 240)?;
    save(&image, "small", index)?;
    Ok(image)
}

/// Tiles of 256 x 240 pixels, `columns` in a row.
fn mosaic(tiles: &[&Image], columns: usize) -> std::result::Result<Image, chandlery::pseudo::image::ImageError> {
    let rows = tiles.len() / columns;
    let (width, height) = (columns * 256, rows * 240);
    let mut pixels = vec![0; width * height * 3];
    for (i, tile) in tiles.iter().enumerate() {
        let side = tile.width().min(tile.height()).max(256);
        let large = if side > tile.width().min(tile.height()) { resize(tile, 256, 256)? } else { (*tile).clone() };
        let tile = crop(&large, 0, 0, 256, 240);
        for (y, row) in tile.pixels().chunks_exact(256 * 3).enumerate() {
            let at = ((i / columns * 240 + y) * width + i % columns * 256) * 3;
            pixels[at..at + row.len()].copy_from_slice(row);
        }
    }
    Image::new(width, height, pixels)
}

fn save(image: &Image, size: &str, index: usize) -> std::result::Result<(), Failure> {
    let mut jpeg = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 88);
    let (width, height) = (image.width() as u32, image.height() as u32);
    encoder.encode(image.pixels(), width, height, image::ExtendedColorType::Rgb8)?;
    std::fs::write(folder().join(size).join(format!("{index:03}.jpg")), jpeg)?;
    Ok(())
}
