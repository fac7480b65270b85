//! Layers for images [b, c, h, w].

use crate::{Buffer, Init, Mode, Scope};
use candle_core::{DType, Result, Tensor, bail};
use chandlery_kernels as ck;

/// Convolution; parameters `weight` [o, i / groups, kh, kw] and `bias` `[o]`.
#[derive(Clone, Debug)]
pub struct Conv2d {
    /// [o, i / groups, kh, kw].
    pub weight: Tensor,
    /// `[o]`.
    pub bias: Option<Tensor>,
    /// Stride, padding, dilation and groups.
    pub geometry: ck::Conv2d,
}

impl Conv2d {
    /// From `i` to `o` channels with a square kernel and, as networks with batch norm start, weights from a normal
    /// distribution with deviation `sqrt(2 / (kernel^2 o / groups))` (He et al., arXiv 1502.01852, for the backward pass).
    ///
    /// # Errors
    /// If `groups` does not divide both numbers of channels, or a parameter exists with another shape.
    pub fn new(scope: &Scope, (i, o): (usize, usize), kernel: usize, bias: bool, geometry: ck::Conv2d) -> Result<Self> {
        let groups = geometry.groups;
        if groups == 0 || !i.is_multiple_of(groups) || !o.is_multiple_of(groups) {
            bail!("conv2d {}: {groups} groups do not divide {i} and {o} channels", scope.path());
        }
        let weight =
            scope.param("weight", (o, i / groups, kernel, kernel), Init::kaiming(kernel * kernel * o / groups))?;
        let bias = bias.then(|| scope.param("bias", o, Init::ZEROS)).transpose()?;
        Ok(Self { weight, bias, geometry })
    }

    /// [b, i, h, w] to [b, o, h', w'].
    ///
    /// # Errors
    /// If the images have another number of channels or are smaller than the kernel.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        ck::conv2d(x, &self.weight, self.bias.as_ref(), &self.geometry)
    }
}

/// Which mean and variance batch norm uses in [`Mode::Train`]; in [`Mode::Eval`] they are always the running ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Statistics {
    /// Those of the batch, which also move the running ones.
    #[default]
    Batch,
    /// The running ones, which stay as they are: for fine-tuning on small batches.
    Running,
}

/// Settings of [`BatchNorm2d`]; the defaults are PyTorch's.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BatchNormConfig {
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch in the new running statistics; at 0 they stay.
    pub momentum: f64,
    /// Statistics used in training.
    pub statistics: Statistics,
}

impl Default for BatchNormConfig {
    fn default() -> Self {
        Self { eps: 1e-5, momentum: 0.1, statistics: Statistics::Batch }
    }
}

/// Batch norm (Ioffe and Szegedy, arXiv 1502.03167); parameters `weight` and `bias`, buffers `running_mean` and
/// `running_var`, all `[c]`.
///
/// In [`Mode::Train`] a forward pass moves the buffers before it returns, as PyTorch does: by the batch's mean and its
/// *unbiased* variance. It happens once per call in the calling thread, so a run that repeats the calls repeats the
/// buffers; a segment that [gradient checkpointing] runs twice moves them twice. Passes in [`Mode::Eval`], and layers
/// built in a frozen place, only read them.
///
/// [gradient checkpointing]: https://arxiv.org/abs/1604.06174
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    mean: Buffer,
    var: Buffer,
    config: BatchNormConfig,
}

impl BatchNorm2d {
    /// Starts as plain normalisation, with running mean 0 and variance 1.
    ///
    /// # Errors
    /// If a parameter or buffer exists with another shape.
    pub fn new(scope: &Scope, c: usize, config: BatchNormConfig) -> Result<Self> {
        Self::with_scale(scope, c, Init::ONES, config)
    }

    /// With another start of `weight`: zeros turn a residual branch off at first (Goyal et al., arXiv 1706.02677, 5.1).
    ///
    /// # Errors
    /// If a parameter or buffer exists with another shape.
    pub fn with_scale(scope: &Scope, c: usize, scale: Init, config: BatchNormConfig) -> Result<Self> {
        Ok(Self {
            weight: scope.param("weight", c, scale)?,
            bias: scope.param("bias", c, Init::ZEROS)?,
            mean: scope.buffer("running_mean", c, Init::ZEROS)?,
            var: scope.buffer("running_var", c, Init::ONES)?,
            config,
        })
    }

    /// [b, c, h, w] to the same shape.
    ///
    /// # Errors
    /// If the number of channels differs, or a training batch has a single value per channel.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.forward_then(x, mode, None, None)
    }

    /// `clamp(norm(x) + residual)` as one operation; `residual` has the shape of `x`.
    ///
    /// # Errors
    /// As [`forward`](Self::forward), and if the shape of `residual` differs.
    pub fn forward_then(
        &self,
        x: &Tensor,
        mode: Mode,
        residual: Option<&Tensor>,
        clamp: Option<ck::Clamp>,
    ) -> Result<Tensor> {
        let eps = self.config.eps;
        if !self.by_batch(mode) {
            let [mean, var] = self.running()?;
            return ck::batch_norm_eval_fused(x, [&self.weight, &self.bias, &mean, &var], eps, residual, clamp);
        }
        let (y, mean, var) = ck::batch_norm_train_fused(x, &self.weight, &self.bias, eps, residual, clamp)?;
        self.moved(y, &mean, &var)
    }

    /// `clamp(norm(conv(x)) + residual)` as one operation; `residual` has the shape of the result.
    ///
    /// # Errors
    /// As [`Conv2d::forward`] and [`forward_then`](Self::forward_then).
    pub fn after(
        &self,
        conv: &Conv2d,
        x: &Tensor,
        mode: Mode,
        residual: Option<&Tensor>,
        clamp: Option<ck::Clamp>,
    ) -> Result<Tensor> {
        if conv.bias.is_some() {
            return self.forward_then(&conv.forward(x)?, mode, residual, clamp);
        }
        let (Conv2d { weight, geometry, .. }, eps) = (conv, self.config.eps);
        if !self.by_batch(mode) {
            let [mean, var] = self.running()?;
            let params = [&self.weight, &self.bias, &mean, &var];
            return ck::conv2d_batch_norm_eval(x, weight, geometry, params, eps, residual, clamp);
        }
        let (y, mean, var) =
            ck::conv2d_batch_norm(x, weight, geometry, &self.weight, &self.bias, eps, residual, clamp)?;
        self.moved(y, &mean, &var)
    }

    /// Whether the statistics are the batch's.
    fn by_batch(&self, mode: Mode) -> bool {
        mode != Mode::Eval && self.config.statistics == Statistics::Batch && !self.mean.is_frozen()
    }

    /// Copies of running mean and variance: a graph must not see the buffers move before its backward pass.
    fn running(&self) -> Result<[Tensor; 2]> {
        Ok([self.mean.get().copy()?, self.var.get().copy()?])
    }

    /// Moves the running statistics by those of the batch with the result `y`, which it returns.
    fn moved(&self, y: Tensor, mean: &Tensor, var: &Tensor) -> Result<Tensor> {
        let (b, c, h, w) = y.dims4()?;
        let n = b * h * w;
        if n < 2 {
            bail!("batch norm: training needs more than one value per channel, got shape {:?}", [b, c, h, w]);
        }
        self.blend(&self.mean, mean, 1.0)?;
        self.blend(&self.var, var, n as f64 / (n - 1) as f64)?;
        Ok(y)
    }

    /// Moves a running statistic towards `scale * batch`.
    fn blend(&self, running: &Buffer, batch: &Tensor, scale: f64) -> Result<()> {
        let momentum = self.config.momentum;
        if momentum == 0.0 {
            return Ok(());
        }
        let old = running.get();
        let batch = (batch.detach().to_dtype(DType::F64)? * (scale * momentum))?;
        let new = ((old.to_dtype(DType::F64)? * (1.0 - momentum))? + batch)?;
        running.set(&new.to_dtype(old.dtype())?)
    }
}

/// Dropout of whole channels (Tompson et al., arXiv 1411.4280), active in [`Mode::Train`] only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelDropout {
    /// Probability that a channel of an image is dropped.
    pub p: f64,
}

impl ChannelDropout {
    /// [b, c, h, w] to the same shape.
    ///
    /// # Errors
    /// If `p` is not in [0, 1).
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        match mode {
            Mode::Train(key) if self.p > 0.0 => ck::dropout_channels(x, self.p, key),
            _ => Ok(x.clone()),
        }
    }
}
