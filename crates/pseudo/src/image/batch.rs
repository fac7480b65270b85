use candle_core::{Device, Tensor};
use chandlery_kernels::Key;
use rayon::prelude::*;

use super::{Image, ImageError, View, Views};

/// Several views of several images as numbers.
#[derive(Clone, Debug)]
pub struct Seen<E> {
    /// One list for each view asked for, in that order: `[n, 3, crop, crop]` of the images that could be had.
    pub views: Vec<Vec<f32>>,
    /// The shape of each view.
    pub shape: [usize; 4],
    /// Positions, in the list asked for, of the images that could be had, ascending.
    pub kept: Vec<usize>,
    /// Positions of the others and what is wrong with each.
    pub failed: Vec<(usize, E)>,
}

impl<E> Seen<E> {
    /// Each view as a tensor `[n, 3, crop, crop]`.
    ///
    /// # Errors
    /// If the device has no room.
    pub fn tensors(self, device: &Device) -> candle_core::Result<Vec<Tensor>> {
        let shape = self.shape;
        self.views.into_iter().map(|v| Tensor::from_vec(v, &shape[..], device)).collect()
    }
}

impl Views {
    /// Loads each item once and looks at it in each of `views`, images in parallel.
    ///
    /// `load` gives the prepared image of an item ([`Views::prepare`]). The draws of an item depend on `key`, the item and
    /// the place of the view alone: neither on its place in the batch nor on the number of threads.
    pub fn batch<E: Send + From<ImageError>>(
        &self,
        items: &[usize],
        views: &[View],
        key: Key,
        load: impl Fn(usize) -> Result<Image, E> + Sync,
    ) -> Seen<E> {
        let size: usize = self.shape(1).iter().product();
        let mut numbers = vec![vec![0.0_f32; items.len() * size]; views.len()];
        let mut slots: Vec<Vec<&mut [f32]>> = items.iter().map(|_| Vec::with_capacity(views.len())).collect();
        for list in &mut numbers {
            slots.iter_mut().zip(list.chunks_exact_mut(size)).for_each(|(slot, chunk)| slot.push(chunk));
        }
        let look = |(&item, slots): (&usize, Vec<&mut [f32]>)| -> Result<(), E> {
            let prepared = load(item)?;
            let key = key.at(item as u64);
            for (index, (&view, slot)) in views.iter().zip(slots).enumerate() {
                self.normalise.write(&self.see(&prepared, view, key, index), slot)?;
            }
            Ok(())
        };
        let results: Vec<Result<(), E>> = items.par_iter().zip(slots).map(look).collect();

        let (mut kept, mut failed) = (Vec::with_capacity(items.len()), Vec::new());
        for (position, result) in results.into_iter().enumerate() {
            match result {
                Ok(()) => kept.push(position),
                Err(e) => failed.push((position, e)),
            }
        }
        if !failed.is_empty() {
            numbers.iter_mut().for_each(|list| close_up(list, &kept, size));
        }
        Seen { views: numbers, shape: self.shape(kept.len()), kept, failed }
    }
}

/// Keeps the chunks of `size` numbers at `kept` (ascending).
fn close_up(list: &mut Vec<f32>, kept: &[usize], size: usize) {
    for (to, &from) in kept.iter().enumerate() {
        list.copy_within(from * size..(from + 1) * size, to * size);
    }
    list.truncate(kept.len() * size);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Normalise, Resize, epoch_key};

    fn views() -> Views {
        Views { resize: Resize::ShortSide(24), crop: 20, normalise: Normalise::Unit, ..Views::default() }
    }

    fn load(item: usize) -> Result<Image, ImageError> {
        if item == 13 {
            return Err(ImageError::Empty);
        }
        let pixels = (0..30 * 24 * 3).map(|i| (i * (item + 3) % 251) as u8).collect();
        Image::new(30, 24, pixels)
    }

    #[test]
    fn draws_depend_on_epoch_item_and_view_alone() {
        let (views, kinds) = (views(), [View::Weak, View::Strong, View::Strong]);
        let key = epoch_key(1, 4);
        let together = views.batch(&[5, 2, 9], &kinds, key, load);
        let alone = views.batch(&[9], &kinds, key, load);
        let size = 3 * 20 * 20;
        for v in 0..3 {
            assert_eq!(together.views[v][2 * size..], alone.views[v][..], "view {v}");
        }
        assert_ne!(alone.views[1], alone.views[2], "two strong views of one image");
        let later = views.batch(&[9], &kinds, epoch_key(1, 5), load);
        assert_ne!(alone.views[0], later.views[0], "epochs");
    }

    #[test]
    fn thread_count_changes_no_bit() {
        let items: Vec<usize> = (20..60).collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| views().batch(&items, &[View::Weak, View::Strong], epoch_key(3, 0), load)).views
        };
        let one = with(1);
        assert_eq!(one, with(2));
        assert_eq!(one, with(5));
    }

    #[test]
    fn failed_images_leave_no_gap() {
        let views = views();
        let seen = views.batch(&[7, 13, 8], &[View::Test], epoch_key(0, 0), load);
        assert_eq!((seen.kept.as_slice(), seen.shape), ([0, 2].as_slice(), [2, 3, 20, 20]));
        assert!(matches!(seen.failed[..], [(1, ImageError::Empty)]));
        let good = views.batch(&[7, 8], &[View::Test], epoch_key(0, 0), load);
        assert_eq!(seen.views, good.views);
        assert_eq!(seen.tensors(&Device::Cpu).unwrap()[0].dims(), [2, 3, 20, 20]);
    }
}
