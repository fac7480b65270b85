//! Decoded images on disk.

use std::path::Path;

use rayon::prelude::*;

use super::rows::{Block, Rows};
use super::{ContentHash, DataError};
use crate::image::Image;

/// Prepared images in one file.
#[derive(Debug)]
pub struct Cache(Rows);

impl Cache {
    /// Opens the cache of `key` at `path`, or makes it of `n` images: `load` is called for each once, several at a time.
    /// An image that cannot be loaded has no place in it; [`get`](Self::get) says `None`.
    ///
    /// # Errors
    /// If the file holds something else or is damaged, or cannot be written.
    pub fn open<E>(
        path: &Path,
        key: ContentHash,
        n: usize,
        load: impl Fn(usize) -> Result<Image, E> + Sync,
    ) -> Result<Self, DataError> {
        let block = |i: usize| {
            let image = load(i).ok()?;
            Some(Block { tag: [image.width() as u32, image.height() as u32], bytes: image.into_pixels() })
        };
        // As many at a time as keep the threads busy and the memory small.
        let chunk = 16 * rayon::current_num_threads();
        Rows::open(path, key, n, chunk, |range| Ok(range.into_par_iter().map(block).collect())).map(Self)
    }

    /// Number of images, those without a place included.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds no image.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `index`-th image; `None` where it could not be loaded when the cache was made, or there is none.
    ///
    /// # Errors
    /// If its bytes cannot be read or are not those that were written.
    pub fn get(&self, index: usize) -> Result<Option<Image>, DataError> {
        let Some(Block { tag: [width, height], bytes }) = self.0.get(index)? else { return Ok(None) };
        let image = Image::new(width as usize, height as usize, bytes);
        image.map(Some).map_err(|e| self.0.wrong(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn load(i: usize) -> Result<Image, ()> {
        if i == 3 { Err(()) } else { Image::filled(i + 1, 2, [i as u8, 1, 2]).map_err(|_| ()) }
    }

    #[test]
    fn images_come_back_and_are_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let key = ContentHash::of(b"settings");
        let cache = Cache::open(&path, key, 100, load).unwrap();
        let again = Cache::open(&path, key, 100, |_| -> Result<Image, ()> { panic!("made twice") }).unwrap();
        for cache in [cache, again] {
            assert_eq!(cache.get(3).unwrap(), None);
            assert_eq!(cache.get(100).unwrap(), None);
            for i in [0, 1, 50, 99] {
                assert_eq!(cache.get(i).unwrap(), Some(load(i).unwrap()));
            }
        }
        let why = Cache::open(&path, ContentHash::of(b"others"), 100, load).unwrap_err().to_string();
        assert!(why.contains("other settings"), "{why}");
        assert!(Cache::open(&path, key, 99, load).is_err());
    }

    #[test]
    fn any_damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c");
        let key = ContentHash::of(b"settings");
        let read = || -> Result<Vec<Option<Image>>, DataError> {
            let cache = Cache::open(&path, key, 5, load)?;
            (0..5).map(|i| cache.get(i)).collect()
        };
        read().unwrap();
        let sound = fs::read(&path).unwrap();
        for at in 0..sound.len() {
            let mut broken = sound.clone();
            broken[at] ^= 0x10;
            fs::write(&path, &broken).unwrap();
            assert!(read().is_err(), "byte {at} of {}", sound.len());
            fs::write(&path, &sound[..at]).unwrap();
            assert!(read().is_err(), "cut at {at}");
        }
    }
}
