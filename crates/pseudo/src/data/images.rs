use std::path::Path;

use chandlery_kernels::Key;

use super::cache::Cache;
use super::{ContentHash, DataError, Dataset, OnBad};
use crate::image::{Image, ImageError, Seen, View, Views};

/// A data set as a model sees it.
#[derive(Debug)]
pub struct Images {
    data: Dataset,
    views: Views,
    bad: OnBad,
    cache: Option<Cache>,
}

impl Images {
    /// Looks at `data` through `views`; `bad` says what becomes of an image that fails in the middle of a run.
    ///
    /// # Errors
    /// If a setting of `views` is out of its range.
    pub fn new(data: Dataset, views: Views, bad: OnBad) -> Result<Self, DataError> {
        views.check().map_err(|source| DataError::Image { name: "views".into(), source })?;
        Ok(Self { data, views, bad, cache: None })
    }

    /// Keeps the decoded and resized images in the file `path`, about `3 * width * height` bytes each; made now if it is
    /// not there, and refused if it was made from other data or settings.
    ///
    /// # Errors
    /// As [`Cache::open`].
    pub fn with_cache(mut self, path: &Path) -> Result<Self, DataError> {
        let settings = serde_json::to_string(&(&self.views.decode, &self.views.resize))
            .map_err(|e| DataError::layout(path, e.to_string()))?;
        let key = ContentHash::of(format!("{} {settings}", self.data.fingerprint()).as_bytes());
        self.cache = Some(Cache::open(path, key, self.data.len(), |i| self.prepare(i))?);
        Ok(self)
    }

    /// The data set.
    pub fn data(&self) -> &Dataset {
        &self.data
    }

    /// How it is looked at.
    pub fn views(&self) -> &Views {
        &self.views
    }

    /// What becomes of an image that fails in the middle of a run.
    pub fn bad(&self) -> OnBad {
        self.bad
    }

    /// An image decoded and resized, from the cache where there is one.
    ///
    /// # Errors
    /// If it cannot be read or is refused; the error names it.
    pub fn prepared(&self, item: usize) -> Result<Image, DataError> {
        match self.cache.as_ref().map(|cache| cache.get(item)).transpose()?.flatten() {
            Some(image) => Ok(image),
            None => self.prepare(item),
        }
    }

    fn prepare(&self, item: usize) -> Result<Image, DataError> {
        let image = self.data.image(item, &self.views.decode, Some(self.views.resize.side()))?;
        let name = || self.data.items()[item].name.clone();
        self.views.resize(&image).map_err(|source| DataError::Image { name: name(), source })
    }

    /// Several views of several images, in parallel; see [`Views::batch`]. `key` is that of the epoch
    /// ([`epoch_key`](crate::image::epoch_key)) or of the step.
    ///
    /// # Errors
    /// If an image fails and the policy refuses that; where it skips, [`Seen::kept`] says which came through.
    pub fn batch(&self, items: &[usize], views: &[View], key: Key) -> Result<Seen<DataError>, DataError> {
        let mut seen = self.views.batch(items, views, key, |item| self.prepared(item));
        if self.bad == OnBad::Refuse && !seen.failed.is_empty() {
            return Err(seen.failed.swap_remove(0).1);
        }
        Ok(seen)
    }

    /// The labels of `items`.
    ///
    /// # Errors
    /// If one has none.
    pub fn labels(&self, items: &[usize]) -> Result<Vec<u32>, DataError> {
        let label = |&item: &usize| {
            let item = self.data.item(item)?;
            let none = || DataError::Split(format!("{} has no label", item.name));
            item.label.map(|label| label as u32).ok_or_else(none)
        };
        items.iter().map(label).collect()
    }
}

impl From<ImageError> for DataError {
    fn from(source: ImageError) -> Self {
        Self::Image { name: "view".into(), source }
    }
}
