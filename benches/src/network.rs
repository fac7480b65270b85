//! The networks of the workloads `resnet18-*` and `lite0-*`: 1000 classes, random images.

use candle_core::{DType, Device, Result, Tensor, Var};
use chandlery::kernels::optim::{self, Rule, Sgd, Slot, Step};
use chandlery::kernels::{CrossEntropy, Key, backward, cross_entropy};
use chandlery::nn::{BatchNormConfig, Mode, ParamStore, Statistics};
use chandlery::pseudo::models::{Classifier, EfficientNetConfig, ModelConfig};

const CLASSES: usize = 1000;
const RULE: Sgd = Sgd { momentum: 0.9, nesterov: true, weight_decay: 1e-4 };

/// A network and its batch.
pub struct Network {
    pub model: ModelConfig,
    /// Last stage that is not trained.
    pub frozen: Option<&'static str>,
    pub batch: usize,
    pub side: usize,
}

/// ResNet-18 on 8 images of 224 pixels.
pub fn resnet18() -> Network {
    Network { model: ModelConfig::default(), frozen: None, batch: 8, side: 224 }
}

/// EfficientNet-Lite0 fine-tuned on few labels: 48 images of 96 pixels, running statistics, frozen up to the third of five
/// strides.
pub fn lite0() -> Network {
    let norm = BatchNormConfig { eps: 1e-3, momentum: 0.01, statistics: Statistics::Running };
    let model = ModelConfig::EfficientNet(EfficientNetConfig { norm, ..EfficientNetConfig::default() });
    Network { model, frozen: Some("_blocks.8"), batch: 48, side: 96 }
}

/// Model, optimiser state and a batch.
pub struct Images {
    model: Classifier,
    params: Vec<(Var, Vec<Var>)>,
    x: Tensor,
    targets: Tensor,
    t: u64,
}

impl Images {
    /// For training, or with frozen parameters.
    pub fn new(network: &Network, train: bool) -> Result<Self> {
        let &Network { ref model, frozen, batch, side } = network;
        let store = ParamStore::new(0, DType::F32, &Device::Cpu);
        frozen.map_or(Ok(()), |stage| model.freeze_through(&store, stage))?;
        let trained = model.build(&store.root(), CLASSES)?;
        let model = if train { trained } else { model.build(&store.frozen(), CLASSES)? };
        let with_state = |(_, var): (String, Var)| {
            let zeros = |(_, dims)| Var::zeros(dims, DType::F32, &Device::Cpu);
            let state = RULE.state(var.dims()).into_iter().map(zeros).collect::<Result<Vec<_>>>()?;
            Ok((var, state))
        };
        let params = store.named_vars().into_iter().map(with_state).collect::<Result<_>>()?;
        let key = Key::new(0).named("images");
        let pixels = (0..(batch * 3 * side * side) as u64).map(|i| key.normal(i) as f32);
        let x = Tensor::from_vec(pixels.collect::<Vec<_>>(), (batch, 3, side, side), &Device::Cpu)?;
        let key = Key::new(0).named("targets");
        let targets = (0..batch as u64).map(|i| (key.u64(i) % CLASSES as u64) as u32);
        let targets = Tensor::from_vec(targets.collect::<Vec<_>>(), batch, &Device::Cpu)?;
        Ok(Self { model, params, x, targets, t: 0 })
    }

    /// Forward, loss, backward and SGD with Nesterov momentum.
    pub fn step(&mut self) -> Result<()> {
        self.t += 1;
        let logits = self.model.forward(&self.x, Mode::Train(Key::new(self.t)))?;
        let grads = backward(&cross_entropy(&logits, &self.targets, &CrossEntropy::default())?)?;
        let missing = || candle_core::Error::Msg("a parameter has no gradient".to_string());
        let grads = self.params.iter().map(|(p, _)| grads.get(p).ok_or_else(missing)).collect::<Result<Vec<_>>>()?;
        let slots: Vec<Slot<'_>> =
            self.params.iter().zip(grads).map(|((param, state), grad)| Slot { param, grad, state }).collect();
        optim::update_all(&RULE, Step { t: self.t, lr: 1e-3, grad_scale: 1.0 }, &slots)
    }

    /// Logits in evaluation mode.
    pub fn infer(&self) -> Result<()> {
        self.model.forward(&self.x, Mode::Eval).map(drop)
    }
}
