use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use chandlery_kernels::{Key, Stream};
use chandlery_nn::file::write_atomic;
use flate2::{Compression, GzBuilder};

use super::{DataError, Dataset, Fold, idx};
use crate::image::Decode;

/// Writes a stratified part of an IDX data set of grey images as an IDX data set: of each class `n_train` training and
/// `n_test` test images, drawn with `seed`, no image twice, the classes taking turns so that every start is balanced.
///
/// # Errors
/// If the source is no such data set, a class has too few images, or `out` cannot be written.
pub fn pack_idx(root: &Path, out: &Path, n_train: usize, n_test: usize, seed: u64) -> Result<Dataset, DataError> {
    let data = idx::read(root)?;
    let mut taken = HashSet::new();
    let hashes = data.hashes().into_iter().collect::<Result<Vec<_>, _>>()?;
    for (fold, prefix, n) in [(Fold::Train, "train", n_train), (Fold::Test, "t10k", n_test)] {
        let mut by_class = vec![Vec::new(); data.n_classes()];
        for i in data.fold(fold) {
            if let Some(label) = data.items()[i].label {
                by_class[label].push(i);
            }
        }
        for (class, items) in by_class.iter_mut().enumerate() {
            Stream::new(Key::new(seed).named(prefix).at(class as u64)).shuffle(items);
            items.retain(|&i| taken.insert(hashes[i]));
            if items.len() < n {
                return Err(DataError::layout(
                    root,
                    format!("class {class}: expected {n} images, got {}", items.len()),
                ));
            }
        }
        let order: Vec<usize> = (0..n).flat_map(|k| by_class.iter().map(move |items| items[k])).collect();
        write(&data, &order, out, prefix)?;
    }
    idx::read(out)
}

fn write(data: &Dataset, items: &[usize], out: &Path, prefix: &str) -> Result<(), DataError> {
    let (mut pixels, mut labels, mut size) = (Vec::new(), Vec::new(), (0, 0));
    for &i in items {
        let image = data.image(i, &Decode::default(), None)?;
        size = (image.height(), image.width());
        pixels.extend(image.pixels().iter().step_by(3));
        labels.push(data.items()[i].label.unwrap_or_default() as u8);
    }
    let n = items.len();
    save(&out.join(format!("{prefix}-images-idx3-ubyte.gz")), &[n, size.0, size.1], &pixels)?;
    save(&out.join(format!("{prefix}-labels-idx1-ubyte.gz")), &[n], &labels)
}

fn save(path: &Path, dims: &[usize], data: &[u8]) -> Result<(), DataError> {
    let written = write_atomic(path, |to| {
        // No name and no time in the head: the same content gives the same bytes.
        let mut gz = GzBuilder::new().mtime(0).write(to, Compression::best());
        gz.write_all(&[0, 0, 0x08, dims.len() as u8])?;
        dims.iter().try_for_each(|&dim| gz.write_all(&(dim as u32).to_be_bytes()))?;
        gz.write_all(data)?;
        gz.finish().map(drop)
    });
    written.map_err(DataError::from)
}
