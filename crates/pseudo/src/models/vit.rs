//! Vision transformer (Dosovitskiy et al., arXiv 2010.11929) as a frozen backbone.
//!
//! The network is that of candle-transformers, whose fused softmax and norms carry no gradient: so it is frozen always,
//! and a trained head stands on the mean of its patch tokens. That head is linear, so class activation maps have the
//! closed form that they have on convolutions.

use super::{Backbone, Classifier, Input, Stage};
use crate::cam::Layout;
use candle_core::{DType, Device, Module, Result, Shape, Tensor, bail};
use candle_nn::var_builder::SimpleBackend;
use candle_nn::{Activation, VarBuilder};
use candle_transformers::models::vit::{Config, Embeddings, Encoder};
use chandlery_nn::{Dropout, Init, LayerNorm, Linear, Mode, Scope};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Settings; the defaults are those of ViT-B/16 at 224 pixels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitConfig {
    /// Width of a token.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the blocks' feed-forward nets.
    pub intermediate: usize,
    /// Side of the images; positions are learnt for it, so no other is taken.
    pub size: usize,
    /// Side of a patch.
    pub patch: usize,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Added to the variance in layer norms.
    pub norm_eps: f64,
}

impl Default for VitConfig {
    fn default() -> Self {
        Self {
            hidden: 768,
            layers: 12,
            heads: 12,
            intermediate: 3072,
            size: 224,
            patch: 16,
            qkv_bias: true,
            norm_eps: 1e-12,
        }
    }
}

/// Path of the frozen part, as in the published files.
const PATH: &str = "vit";

impl VitConfig {
    /// `2 value - 1` of values from 0 to 1.
    pub fn input(&self) -> Input {
        Input { size: self.size, mean: [0.5; 3], std: [0.5; 3] }
    }

    /// One: the whole backbone.
    pub fn stages(&self) -> Vec<Stage> {
        vec![Stage::at(PATH.into())]
    }

    /// Builds the network with a head for `n_classes` called `classifier`; freezes everything else.
    ///
    /// # Errors
    /// If sides or widths do not divide, or a parameter exists with another shape.
    pub fn build(&self, scope: &Scope, n_classes: usize) -> Result<Classifier> {
        let divides = |part: usize, whole: usize| part > 0 && whole > 0 && whole.is_multiple_of(part);
        if !divides(self.patch, self.size) || !divides(self.heads, self.hidden) {
            let Self { patch, size, heads, hidden, .. } = self;
            bail!("vit: patches of {patch} in images of {size}, {heads} heads in a width of {hidden}: must divide");
        }
        let config = Config {
            hidden_size: self.hidden,
            num_hidden_layers: self.layers,
            num_attention_heads: self.heads,
            intermediate_size: self.intermediate,
            hidden_act: Activation::Gelu,
            layer_norm_eps: self.norm_eps,
            image_size: self.size,
            patch_size: self.patch,
            num_channels: 3,
            qkv_bias: self.qkv_bias,
        };
        let own = scope.pp(PATH);
        own.store().freeze(own.path());
        let (dtype, device) = (own.store().dtype(), own.store().device().clone());
        let norm = LayerNorm::new(&own.pp("layernorm"), self.hidden, self.norm_eps)?;
        let vb = VarBuilder::from_backend(Box::new(Parameters(own)), dtype, device);
        let vit = Vit {
            stages: vec![PATH.into()],
            size: self.size,
            patches: self.size / self.patch,
            hidden: self.hidden,
            embeddings: Embeddings::new(&config, false, vb.pp("embeddings"))?,
            encoder: Encoder::new(&config, vb.pp("encoder"))?,
            norm,
        };
        let head = Linear::new(&scope.pp("classifier"), self.hidden, n_classes, true)?;
        Classifier::new(vit, head, Dropout { p: 0.0 })
    }
}

/// Parameters of a store for candle's layers.
struct Parameters(Scope);

impl SimpleBackend for Parameters {
    fn get(&self, shape: Shape, name: &str, init: candle_nn::Init, dtype: DType, device: &Device) -> Result<Tensor> {
        let init = match init {
            candle_nn::Init::Const(value) => Init::Const(value),
            // What the transformer's own code starts its matrices with; published weights take their place.
            _ => Init::TruncatedNormal { std: 0.02 },
        };
        self.0.param(name, shape, init)?.to_dtype(dtype)?.to_device(device)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> Result<Tensor> {
        bail!("vit: {name} is asked for without a shape")
    }

    fn contains_tensor(&self, _: &str) -> bool {
        // Whatever is asked for is made.
        true
    }
}

struct Vit {
    stages: Vec<String>,
    size: usize,
    /// In a row.
    patches: usize,
    hidden: usize,
    embeddings: Embeddings,
    encoder: Encoder,
    norm: LayerNorm,
}

impl Backbone for Vit {
    fn stages(&self) -> &[String] {
        &self.stages
    }

    fn channels(&self) -> usize {
        self.hidden
    }

    fn run(&self, x: &Tensor, stages: Range<usize>, _: Mode) -> Result<Tensor> {
        if stages.is_empty() {
            return Ok(x.clone());
        }
        let (_, channels, h, w) = x.dims4()?;
        if (channels, h, w) != (3, self.size, self.size) {
            bail!("vit: images of [3, {0}, {0}], got [{channels}, {h}, {w}]", self.size);
        }
        let tokens = self.norm.forward(&self.encoder.forward(&self.embeddings.forward(x, None, false)?)?)?;
        // The class token belongs to no place.
        let layout = Layout::Tokens { prefix: 1, height: self.patches, width: self.patches };
        layout.maps(&tokens).map_err(candle_core::Error::wrap)?.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::ModelConfig;
    use candle_core::IndexOp;
    use chandlery_kernels::{CrossEntropy, Key, cross_entropy};
    use chandlery_nn::ParamStore;

    fn narrow() -> VitConfig {
        VitConfig { hidden: 12, layers: 2, heads: 3, intermediate: 20, size: 32, patch: 8, ..VitConfig::default() }
    }

    fn images(n: usize, side: usize) -> Tensor {
        let key = Key::new(3);
        let values: Vec<f32> = (0..(n * 3 * side * side) as u64).map(|i| key.normal(i) as f32).collect();
        Tensor::from_vec(values, (n, 3, side, side), &Device::Cpu).unwrap()
    }

    fn flat(t: &Tensor) -> Vec<f32> {
        t.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn names_are_the_published_ones() {
        let store = ParamStore::new(1, DType::F32, &Device::Cpu);
        narrow().build(&store.root(), 5).unwrap();
        let names = store.names();
        for name in [
            "vit.embeddings.cls_token",
            "vit.embeddings.position_embeddings",
            "vit.embeddings.patch_embeddings.projection.weight",
            "vit.encoder.layer.1.attention.attention.query.bias",
            "vit.encoder.layer.0.layernorm_before.weight",
            "vit.layernorm.bias",
            "classifier.weight",
        ] {
            assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
        }
        // Two embeddings, the projection, sixteen a block, the last norm, the head.
        assert_eq!(names.len(), 2 + 2 + 2 * 16 + 2 + 2);
    }

    #[test]
    fn maps_are_the_tokens_of_the_patches() {
        let store = ParamStore::new(1, DType::F32, &Device::Cpu);
        let model = narrow().build(&store.root(), 5).unwrap();
        let (x, mode) = (images(2, 32), Mode::Eval);
        let maps = model.features(&x, mode).unwrap();
        assert_eq!(maps.dims(), [2, 12, 4, 4]);
        let vit = |x: &Tensor| -> Tensor {
            let own = store.frozen().pp(PATH);
            let norm = LayerNorm::new(&own.pp("layernorm"), 12, 1e-12).unwrap();
            let vb = VarBuilder::from_backend(Box::new(Parameters(own)), DType::F32, Device::Cpu);
            let c = Config {
                hidden_size: 12,
                num_hidden_layers: 2,
                num_attention_heads: 3,
                intermediate_size: 20,
                image_size: 32,
                patch_size: 8,
                ..Config::vit_base_patch16_224()
            };
            let embedded = Embeddings::new(&c, false, vb.pp("embeddings")).unwrap().forward(x, None, false).unwrap();
            let tokens = Encoder::new(&c, vb.pp("encoder")).unwrap().forward(&embedded).unwrap();
            norm.forward(&tokens).unwrap()
        };
        let tokens = vit(&x); // [2, 17, 12]
        for (row, column) in [(0, 0), (1, 2), (3, 3)] {
            let token = tokens.i((1, 1 + row * 4 + column)).unwrap();
            assert_eq!(flat(&maps.i((1, .., row, column)).unwrap()), flat(&token), "{row} {column}");
        }
        let why = model.features(&images(1, 40), mode).unwrap_err().to_string();
        assert!(why.contains("images of [3, 32, 32]"), "{why}");
    }

    #[test]
    fn only_the_head_is_trained() {
        let store = ParamStore::new(1, DType::F32, &Device::Cpu);
        let config = ModelConfig::Vit(narrow());
        let model = config.build(&store.root(), 5).unwrap();
        let trained: Vec<String> = store.named_vars().into_iter().map(|(name, _)| name).collect();
        assert_eq!(trained, ["classifier.bias", "classifier.weight"]);
        let logits = model.forward(&images(4, 32), Mode::Train(Key::new(1))).unwrap();
        let targets = Tensor::new(&[0u32, 1, 2, 3], &Device::Cpu).unwrap();
        let grads = cross_entropy(&logits, &targets, &CrossEntropy::default()).unwrap().backward().unwrap();
        for (name, var) in store.named_vars() {
            let grad = grads.get(&var).unwrap_or_else(|| panic!("{name} has no gradient"));
            assert!(flat(grad).iter().any(|g| *g != 0.0), "{name}");
        }
        // What is behind it is the head alone.
        let maps = model.features_at(&images(4, 32), "vit", Mode::Eval).unwrap();
        let eval = flat(&model.forward(&images(4, 32), Mode::Eval).unwrap());
        assert_eq!(flat(&model.behind("vit").unwrap().forward(&maps, Mode::Eval).unwrap()), eval);
        assert!(VitConfig { patch: 7, ..narrow() }.build(&store.root(), 5).is_err());
    }
}
