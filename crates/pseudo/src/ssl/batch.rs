//! What a step needs of the data.

use candle_core::{Tensor, bail};

/// Labelled and unlabelled images of one step; in evaluation the labelled ones alone.
#[derive(Clone, Debug)]
pub struct SslBatch {
    /// Images with labels.
    pub labelled: Labelled,
    /// Images without; not needed by the supervised method.
    pub unlabelled: Option<Unlabelled>,
}

/// Images with labels.
#[derive(Clone, Debug)]
pub struct Labelled {
    /// Normalised images, [b, 3, h, w].
    pub x: Tensor,
    /// Their classes, `[b]`.
    pub labels: Vec<u32>,
    /// Their places in the labelled set, `[b]`.
    pub indices: Vec<usize>,
}

/// Images without labels, in two views.
#[derive(Clone, Debug)]
pub struct Unlabelled {
    /// Weakly augmented, [m, 3, h, w].
    pub weak: Tensor,
    /// Strongly augmented; not needed by methods that train on the weak view, see
    /// [`SslConfig::needs_strong`](super::SslConfig::needs_strong).
    pub strong: Option<Tensor>,
    /// Their places in the unlabelled set, `[m]`.
    pub indices: Vec<usize>,
    /// Hidden labels of a benchmark. They only measure and never reach training.
    pub hidden: Option<Vec<u32>>,
}

impl SslBatch {
    /// Checks that everything fits together.
    pub(super) fn check(&self, n_classes: usize) -> candle_core::Result<()> {
        let (b, channels, h, w) = self.labelled.x.dims4()?;
        if b == 0 {
            bail!("batch: no labelled image");
        }
        if self.labelled.labels.len() != b || self.labelled.indices.len() != b {
            let (l, i) = (self.labelled.labels.len(), self.labelled.indices.len());
            bail!("batch: {b} labelled images with {l} labels and {i} indices");
        }
        if let Some(label) = self.labelled.labels.iter().find(|&&l| l as usize >= n_classes) {
            bail!("batch: label {label} is not one of {n_classes} classes");
        }
        let Some(u) = &self.unlabelled else { return Ok(()) };
        let m = u.indices.len();
        for (name, x) in [("weak", Some(&u.weak)), ("strong", u.strong.as_ref())] {
            if let Some(x) = x.filter(|x| x.dims() != [m, channels, h, w]) {
                bail!("batch: the {name} view is {:?}, expected {:?}", x.dims(), [m, channels, h, w]);
            }
        }
        match &u.hidden {
            Some(hidden) if hidden.len() != m => {
                bail!("batch: {m} unlabelled images with {} hidden labels", hidden.len())
            }
            _ => Ok(()),
        }
    }
}
