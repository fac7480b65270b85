//! Keys and values of earlier tokens, so that generating one token costs one token.
//!
//! The memory of all positions is set aside once and filled in place; attention reads the filled part where it lies.

use crate::decoder::DecoderConfig;
use candle_core::{DType, Device, Result, Tensor, bail};

/// Keys and values of every layer, [b, kv_heads, capacity, d_head] each.
#[derive(Clone, Debug)]
pub struct KvCache {
    layers: Vec<(Tensor, Tensor)>,
    /// Padding before the first token of each row.
    pads: Vec<usize>,
    /// u8 [b, capacity], where there is padding.
    keys: Option<Tensor>,
    capacity: usize,
    context: usize,
    len: usize,
    /// Positions of the first pass.
    prompt: usize,
}

impl KvCache {
    /// An empty cache for `batch` rows of up to `capacity` tokens.
    ///
    /// # Errors
    /// If the memory cannot be had, or the model's context is shorter than `capacity`.
    pub fn new(cfg: &DecoderConfig, batch: usize, capacity: usize, dtype: DType, device: &Device) -> Result<Self> {
        Self::with_padding(cfg, &vec![0; batch], capacity, dtype, device)
    }

    /// As [`new`](Self::new), for rows that start with `pads[row]` tokens of padding.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_padding(
        cfg: &DecoderConfig,
        pads: &[usize],
        capacity: usize,
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let context = cfg.context();
        if capacity > context {
            bail!("a cache of {capacity} tokens is longer than the model's context of {context}");
        }
        let shape = (pads.len(), cfg.kv_heads(), capacity, cfg.d_head());
        let empty = || Ok((Tensor::zeros(shape, dtype, device)?, Tensor::zeros(shape, dtype, device)?));
        let layers = (0..cfg.n_layers).map(|_| empty()).collect::<Result<_>>()?;
        let keys = padding_mask(pads, capacity, device)?;
        Ok(Self { layers, pads: pads.to_vec(), keys, capacity, context, len: 0, prompt: 0 })
    }

    /// Number of positions filled, padding included.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing is stored.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Number of rows.
    pub fn batch(&self) -> usize {
        self.pads.len()
    }

    /// Number of positions that fit before the cache has to move.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Forgets all positions and keeps the memory.
    pub fn clear(&mut self) {
        self.len = 0;
    }

    /// Makes room for `t` more positions, at least doubling the memory where it does not suffice.
    ///
    /// # Errors
    /// If the model's context is too short.
    pub fn reserve(&mut self, t: usize) -> Result<()> {
        let needed = self.len + t;
        if needed > self.context {
            bail!("{needed} tokens are longer than the model's context of {}", self.context);
        }
        if needed <= self.capacity {
            return Ok(());
        }
        let capacity = needed.max(2 * self.capacity).min(self.context);
        for (k, v) in &mut self.layers {
            (*k, *v) = (moved(k, self.len, capacity)?, moved(v, self.len, capacity)?);
            self.keys = padding_mask(&self.pads, capacity, k.device())?;
        }
        self.capacity = capacity;
        Ok(())
    }

    /// A cache with these rows, in this order; a row may be taken more than once.
    ///
    /// # Errors
    /// If a row does not exist.
    pub fn select(&self, rows: &[usize]) -> Result<Self> {
        if let Some(row) = rows.iter().find(|&&row| row >= self.batch()) {
            bail!("cache row {row} of {}", self.batch());
        }
        let index: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
        let take = |t: &Tensor| {
            let index = Tensor::from_slice(&index, rows.len(), t.device())?;
            moved(&t.narrow(2, 0, self.len)?.contiguous()?.index_select(&index, 0)?, self.len, self.capacity)
        };
        let layers = self.layers.iter().map(|(k, v)| Ok((take(k)?, take(v)?))).collect::<Result<_>>()?;
        let pads: Vec<usize> = rows.iter().map(|&row| self.pads[row]).collect();
        let keys = match self.layers.first() {
            Some((k, _)) => padding_mask(&pads, self.capacity, k.device())?,
            None => None,
        };
        Ok(Self { layers, pads, keys, ..*self })
    }

    /// Stores `t` positions of a layer, [b, kv_heads, t, d_head], behind those that count; returns all keys and values
    /// with the spare room behind them, or without it where attention would visit it.
    pub(crate) fn put(&self, layer: usize, k: &Tensor, v: &Tensor) -> Result<(Tensor, Tensor)> {
        let end = self.len + k.dim(2)?;
        let (keys, values) = &self.layers[layer];
        keys.slice_set(&k.detach().contiguous()?, 2, self.len)?;
        values.slice_set(&v.detach().contiguous()?, 2, self.len)?;
        if self.skips_spare_room() {
            return Ok((keys.clone(), values.clone()));
        }
        Ok((keys.narrow(2, 0, end)?, values.narrow(2, 0, end)?))
    }

    /// Which keys of [`put`](Self::put) are tokens: u8 [b, s].
    pub(crate) fn visible(&self, t: usize) -> Result<Option<Tensor>> {
        match &self.keys {
            Some(keys) if !self.skips_spare_room() => keys.narrow(1, 0, self.len + t).map(Some),
            keys => Ok(keys.clone()),
        }
    }

    /// Keys that attention is given together with `t` new ones.
    pub(crate) fn n_keys(&self, t: usize) -> usize {
        if self.skips_spare_room() { self.capacity } else { self.len + t }
    }

    /// Which keys are the prompt's, the first pass's: u8 [1, s].
    pub(crate) fn prompt(&self, t: usize, device: &Device) -> Result<Tensor> {
        let (s, prompt) = (self.n_keys(t), if self.len == 0 { t } else { self.prompt });
        Tensor::from_vec((0..s).map(|at| u8::from(at < prompt)).collect(), (1, s), device)
    }

    /// The CPU kernel stops at the causal limit and never reads what lies behind it.
    fn skips_spare_room(&self) -> bool {
        self.layers.first().is_some_and(|(k, _)| k.dtype() == DType::F32 && k.device().is_cpu())
    }

    /// Counts `t` stored positions.
    pub(crate) fn advance(&mut self, t: usize) {
        if self.len == 0 {
            self.prompt = t;
        }
        self.len += t;
    }

    /// Position of each of the next `t` tokens in its own row, [b, t]; 0 for padding.
    pub(crate) fn positions(&self, t: usize) -> Vec<u32> {
        let row = |&pad: &usize| (self.len..self.len + t).map(move |at| at.saturating_sub(pad) as u32);
        self.pads.iter().flat_map(row).collect()
    }
}

fn padding_mask(pads: &[usize], capacity: usize, device: &Device) -> Result<Option<Tensor>> {
    if pads.iter().all(|&pad| pad == 0) {
        return Ok(None);
    }
    let flags: Vec<u8> = pads.iter().flat_map(|&pad| (0..capacity).map(move |at| u8::from(at >= pad))).collect();
    Tensor::from_vec(flags, (pads.len(), capacity), device).map(Some)
}

/// The first `len` positions in memory for `capacity`.
fn moved(t: &Tensor, len: usize, capacity: usize) -> Result<Tensor> {
    let (b, g, _, d) = t.dims4()?;
    let to = Tensor::zeros((b, g, capacity, d), t.dtype(), t.device())?;
    if len > 0 {
        to.slice_set(&t.narrow(2, 0, len)?.contiguous()?, 2, 0)?;
    }
    Ok(to)
}
