//! What a frozen part of a network gives for some views of every image, kept on disk.

use std::io;
use std::ops::Range;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use chandlery_kernels::{Key, Stream};
use half::f16;
use rayon::prelude::*;

use super::rows::{Block, Rows};
use super::{ContentHash, DataError, Fold, Images, OnBad};
use crate::image::{Seen, View};

/// Feature maps [c, h, w] of the test view of every image, and of `views` weak and as many strong views of the images for
/// fitting, as half-precision numbers.
///
/// A step that starts from these runs the rest of the network alone. What it gives up: an image has `views` draws of each
/// kind for the whole run, and maps are rounded to 11 bits. Regions are mixed in the maps instead of in the pixels, in
/// steps of the maps' cells.
#[derive(Debug)]
pub struct KeptMaps {
    rows: Rows,
    shape: [usize; 3],
    views: usize,
    bad: OnBad,
}

/// Images whose maps are made at a time.
const ITEMS: usize = 32;

/// One image's place among the blocks.
#[derive(Clone, Copy)]
struct Place {
    views: usize,
}

impl Place {
    /// The test view, the weak ones, the strong ones.
    fn per_item(self) -> usize {
        1 + 2 * self.views
    }

    fn of(self, item: usize, view: View, nth: usize) -> usize {
        let first = match view {
            View::Test => 0,
            View::Weak => 1,
            View::Strong => 1 + self.views,
        };
        item * self.per_item() + first + nth
    }
}

impl KeptMaps {
    /// Opens the maps at `path`, or makes them: `forward` takes views [n, 3, crop, crop] to maps [n, c, h, w], and
    /// `network` identifies its parameters. `progress` is told how many of how many images are done.
    ///
    /// # Errors
    /// If the file is of other images, views or parameters, or is damaged; or the maps cannot be made or written.
    pub fn open(
        path: &Path,
        images: &Images,
        views: usize,
        network: &ContentHash,
        forward: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self, DataError> {
        let failed = |e: candle_core::Error| DataError::layout(path, format!("maps: {e}"));
        let one = Tensor::zeros(&images.views().shape(1)[..], DType::F32, &Device::Cpu).and_then(|x| forward(&x));
        let (_, c, h, w) = one.and_then(|maps| maps.dims4()).map_err(failed)?;
        let settings = serde_json::to_string(images.views()).map_err(|e| DataError::layout(path, e.to_string()))?;
        let of = format!("{} {settings} {views} {:?}", images.data().fingerprint(), network.0);
        let n = images.data().len();
        let (place, key) = (Place { views }, ContentHash::of(of.as_bytes()));
        let per_item = place.per_item();
        let rows = Rows::open(path, key, n * per_item, ITEMS * per_item, |range| {
            let items = range.start / per_item..range.end / per_item;
            let blocks = make(images, place, items.clone(), forward);
            progress(items.end, n);
            blocks
        })?;
        Ok(Self { rows, shape: [c, h, w], views, bad: images.bad() })
    }

    /// Maps of several views of several images, as [`Images::batch`] gives pixels: for each, `key` draws one of the views
    /// that are kept.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged, or there are no maps of an image and the policy refuses that.
    pub fn batch(
        &self,
        images: &Images,
        items: &[usize],
        views: &[View],
        key: Key,
    ) -> Result<Seen<DataError>, DataError> {
        let [c, h, w] = self.shape;
        let place = Place { views: self.views };
        let read = |&item: &usize| -> Result<Option<Vec<Vec<f32>>>, DataError> {
            let key = key.at(item as u64);
            let one = |(index, &view): (usize, &View)| {
                let nth = if view == View::Test { 0 } else { Stream::new(key.at(index as u64)).below(self.views) };
                let Some(block) = self.rows.get(place.of(item, view, nth))? else { return Ok(None) };
                let numbers = block.bytes.chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32());
                let numbers: Vec<f32> = numbers.collect();
                if numbers.len() != c * h * w {
                    return Err(self.rows.wrong(format!("item {item}: {} numbers", numbers.len())));
                }
                Ok(Some(numbers))
            };
            views.iter().enumerate().map(one).collect()
        };
        let read: Vec<_> = items.par_iter().map(read).collect::<Result<_, _>>()?;
        let mut seen = Seen {
            views: vec![Vec::with_capacity(items.len() * c * h * w); views.len()],
            shape: [0, c, h, w],
            kept: Vec::new(),
            failed: Vec::new(),
        };
        for (position, maps) in read.into_iter().enumerate() {
            match maps {
                Some(maps) => {
                    seen.views.iter_mut().zip(maps).for_each(|(all, one)| all.extend(one));
                    seen.kept.push(position);
                }
                None => {
                    let name = &images.data().item(items[position])?.name;
                    let why = format!("no maps of {name}: it could not be used, or is not for fitting");
                    seen.failed.push((position, self.rows.wrong(why)));
                }
            }
        }
        seen.shape[0] = seen.kept.len();
        if self.bad == OnBad::Refuse && !seen.failed.is_empty() {
            return Err(seen.failed.swap_remove(0).1);
        }
        Ok(seen)
    }
}

/// The blocks of some images.
fn make(
    images: &Images,
    place: Place,
    items: Range<usize>,
    forward: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> io::Result<Vec<Option<Block>>> {
    let for_fitting = |&i: &usize| matches!(images.data().items()[i].fold, Fold::Train | Fold::Unlabelled);
    let (fitting, others): (Vec<usize>, Vec<usize>) = items.clone().partition(for_fitting);
    let mut kinds = vec![(View::Test, 0)];
    kinds.extend((0..place.views).map(|nth| (View::Weak, nth)));
    kinds.extend((0..place.views).map(|nth| (View::Strong, nth)));
    let mut blocks = vec![None; items.len() * place.per_item()];
    for (group, kinds) in [(fitting, &kinds[..]), (others, &kinds[..1])] {
        let views: Vec<View> = kinds.iter().map(|(view, _)| *view).collect();
        // The same draws whatever the seed of a run, so that several runs share one file.
        let seen = images.batch(&group, &views, Key::new(0).named("kept views")).map_err(io::Error::other)?;
        let kept: Vec<usize> = seen.kept.iter().map(|&k| group[k]).collect();
        if kept.is_empty() {
            continue;
        }
        for (x, &(view, nth)) in seen.tensors(&Device::Cpu).map_err(io::Error::other)?.into_iter().zip(kinds) {
            let maps = forward(&x).and_then(|maps| halves(&maps)).map_err(io::Error::other)?;
            for (&item, bytes) in kept.iter().zip(maps) {
                let at = place.of(item, view, nth) - items.start * place.per_item();
                blocks[at] = Some(Block { tag: [view as u32, nth as u32], bytes });
            }
        }
    }
    Ok(blocks)
}

/// The bytes of each of the maps [n, c, h, w].
fn halves(maps: &Tensor) -> candle_core::Result<Vec<Vec<u8>>> {
    let rows = maps.to_dtype(DType::F32)?.flatten_from(1)?.to_vec2::<f32>()?;
    let bytes = |row: Vec<f32>| -> candle_core::Result<Vec<u8>> {
        let halves: Vec<f16> = row.into_iter().map(f16::from_f32).collect();
        if let Some(value) = halves.iter().find(|h| !h.is_finite()) {
            candle_core::bail!("a value of the maps is {value} in half precision")
        }
        Ok(halves.into_iter().flat_map(f16::to_le_bytes).collect())
    };
    rows.into_iter().map(bytes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::fashion_mnist;
    use crate::image::{Normalise, Resize, Views};
    use candle_core::Result;

    /// Three images for fitting, two to test.
    fn images() -> Images {
        let data = fashion_mnist().unwrap();
        let pick = [data.fold(Fold::Train)[..3].to_vec(), data.fold(Fold::Test)[..2].to_vec()].concat();
        let views = Views { resize: Resize::ShortSide(28), crop: 24, normalise: Normalise::Unit, ..Views::default() };
        Images::new(data.subset(&pick).unwrap(), views, OnBad::Skip).unwrap()
    }

    fn halved(x: &Tensor) -> Result<Tensor> {
        x.avg_pool2d(2)
    }

    fn open(path: &Path, images: &Images, network: &[u8]) -> std::result::Result<KeptMaps, DataError> {
        KeptMaps::open(path, images, 2, &ContentHash::of(network), &halved, &mut |_, _| {})
    }

    #[test]
    fn maps_are_those_of_the_views() {
        let dir = tempfile::tempdir().unwrap();
        let (path, images) = (dir.path().join("maps"), images());
        let maps = open(&path, &images, b"a").unwrap();
        let seen = maps.batch(&images, &[4, 0], &[View::Test], Key::new(1)).unwrap();
        assert_eq!((seen.shape, seen.kept.as_slice()), ([2, 3, 12, 12], &[0, 1][..]));
        let pixels = images.batch(&[4, 0], &[View::Test], Key::new(9)).unwrap().tensors(&Device::Cpu).unwrap();
        let expected = halved(&pixels[0]).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(seen.views[0].iter().zip(&expected).all(|(a, b)| (a - b).abs() <= b.abs() / 2048.0));

        // Both draws of each kind come up, and a strong view is none of the weak ones.
        let draws = |view: View| {
            let draw = |k| maps.batch(&images, &[1], &[view], Key::new(k)).unwrap().views.swap_remove(0);
            let mut all: Vec<Vec<u32>> = (0..20).map(|k| draw(k).into_iter().map(f32::to_bits).collect()).collect();
            all.sort();
            all.dedup();
            all
        };
        let (weak, strong) = (draws(View::Weak), draws(View::Strong));
        assert_eq!((weak.len(), strong.len()), (2, 2));
        assert!(weak.iter().all(|w| !strong.contains(w)));
    }

    #[test]
    fn maps_are_made_once_and_for_one_network() {
        let dir = tempfile::tempdir().unwrap();
        let (path, images) = (dir.path().join("maps"), images());
        open(&path, &images, b"a").unwrap();
        let again = KeptMaps::open(&path, &images, 2, &ContentHash::of(b"a"), &halved, &mut |_, _| panic!("again"));
        let why = open(&path, &images, b"b").unwrap_err().to_string();
        assert!(why.contains("other images or with other settings"), "{why}");
        // Images to test have no weak views.
        let seen = again.unwrap().batch(&images, &[3, 2], &[View::Weak], Key::new(0)).unwrap();
        assert_eq!((seen.kept.as_slice(), seen.failed.len()), (&[1][..], 1));
        let too_large = |x: &Tensor| halved(&(x * 1e9)?);
        let why = KeptMaps::open(&dir.path().join("n"), &images, 1, &ContentHash::of(b"a"), &too_large, &mut |_, _| {});
        assert!(why.unwrap_err().to_string().contains("half precision"));
        assert!(!dir.path().join("n").exists());
    }
}
