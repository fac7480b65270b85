//! Backbone, mean over places, linear head.

use super::config::end_of;
use candle_core::{Result, Tensor, bail};
use chandlery_kernels::global_avg_pool;
use chandlery_nn::{Dropout, Linear, Mode};
use std::ops::Range;

/// A network from images to feature maps, as a chain of named stages.
pub trait Backbone: Send + Sync {
    /// Names of the stages in order; the output of the last are the maps.
    fn stages(&self) -> &[String];

    /// Channels k of the maps.
    fn channels(&self) -> usize;

    /// Runs the stages of this range on what the stage before it gives (on images [b, 3, h, w] from stage 0).
    ///
    /// # Errors
    /// If the shape is not what the first of the stages takes.
    fn run(&self, x: &Tensor, stages: Range<usize>, mode: Mode) -> Result<Tensor>;
}

/// An image classifier: `logits = W mean(A) + b` on the feature maps A of a [`Backbone`].
pub struct Classifier {
    backbone: Box<dyn Backbone>,
    fc: Linear,
    dropout: Dropout,
}

impl Classifier {
    /// Puts a head, weight [c, k] and bias `[c]`, on a backbone.
    ///
    /// # Errors
    /// If the head's width is not the number of the backbone's channels, or it has no bias.
    pub fn new(backbone: impl Backbone + 'static, fc: Linear, dropout: Dropout) -> Result<Self> {
        let (_, k) = fc.weight.dims2()?;
        if k != backbone.channels() {
            bail!("classifier: the backbone has {} channels, the head takes {k}", backbone.channels());
        }
        if fc.bias.is_none() {
            bail!("classifier: the head needs a bias");
        }
        Ok(Self { backbone: Box::new(backbone), fc, dropout })
    }

    /// Number of classes c.
    pub fn n_classes(&self) -> usize {
        self.fc.weight.dims()[0]
    }

    /// Channels k of the maps.
    pub fn channels(&self) -> usize {
        self.backbone.channels()
    }

    /// Names of the backbone's stages in order.
    pub fn stages(&self) -> &[String] {
        self.backbone.stages()
    }

    /// The linear head: weight [c, k] and bias `[c]`.
    pub fn head_layer(&self) -> &Linear {
        &self.fc
    }

    /// The head's weight, [c, k].
    pub fn head_weight(&self) -> &Tensor {
        &self.fc.weight
    }

    /// The head's bias, `[c]`.
    ///
    /// # Errors
    /// Never for a classifier that was built.
    pub fn head_bias(&self) -> Result<&Tensor> {
        match &self.fc.bias {
            Some(bias) => Ok(bias),
            None => bail!("classifier: the head has no bias"),
        }
    }

    /// Images [b, 3, h, w] to the last feature maps [b, k, h', w'], after their nonlinearity.
    ///
    /// # Errors
    /// If the images are too small or have another number of channels.
    pub fn features(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.backbone.run(x, 0..self.stages().len(), mode)
    }

    /// Images [b, 3, h, w] to the output of `stage`, or of the last stage below it: `layer3` for `layer3.5`.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn features_at(&self, x: &Tensor, stage: &str, mode: Mode) -> Result<Tensor> {
        self.backbone.run(x, 0..self.after(stage)?, mode)
    }

    /// The output of `stage` to the last feature maps: what [`features_at`](Self::features_at) left to do. The two in
    /// turn give what [`features`](Self::features) gives.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn features_from(&self, x: &Tensor, stage: &str, mode: Mode) -> Result<Tensor> {
        self.backbone.run(x, self.after(stage)?..self.stages().len(), mode)
    }

    /// What is behind `stage`, as a classifier of its output: its stages are those that follow.
    ///
    /// # Errors
    /// If there is no such stage.
    pub fn behind(self, stage: &str) -> Result<Self> {
        let from = self.after(stage)?;
        let stages = self.stages()[from..].to_vec();
        Ok(Self { backbone: Box::new(Behind { whole: self.backbone, from, stages }), ..self })
    }

    /// Number of stages up to and with this one and those below it.
    fn after(&self, stage: &str) -> Result<usize> {
        match end_of(self.stages().iter().map(String::as_str), stage) {
            Some(at) => Ok(at),
            None => bail!("classifier: no stage `{stage}`; there are {}", self.stages().join(", ")),
        }
    }

    /// Maps [b, k, h, w] to logits [b, c], without dropout.
    ///
    /// # Errors
    /// If the maps have another number of channels.
    pub fn head(&self, maps: &Tensor) -> Result<Tensor> {
        self.head_in(maps, Mode::Eval)
    }

    /// Maps [b, k, h, w] to logits [b, c], in training with the head's dropout.
    ///
    /// # Errors
    /// If the maps have another number of channels.
    pub fn head_in(&self, maps: &Tensor, mode: Mode) -> Result<Tensor> {
        let pooled = global_avg_pool(maps)?; // [b, k]
        self.fc.forward(&self.dropout.forward(&pooled, mode.named("head"))?)
    }

    /// Images [b, 3, h, w] to logits [b, c].
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        self.head_in(&self.features(x, mode)?, mode)
    }

    /// Images [b, 3, h, w] to logits [b, c] and the maps [b, k, h', w'] that they come from.
    ///
    /// # Errors
    /// As [`features`](Self::features).
    pub fn forward_with_maps(&self, x: &Tensor, mode: Mode) -> Result<(Tensor, Tensor)> {
        let maps = self.features(x, mode)?;
        Ok((self.head_in(&maps, mode)?, maps))
    }
}

/// The last stages of a backbone.
struct Behind {
    whole: Box<dyn Backbone>,
    from: usize,
    stages: Vec<String>,
}

impl Backbone for Behind {
    fn stages(&self) -> &[String] {
        &self.stages
    }

    fn channels(&self) -> usize {
        self.whole.channels()
    }

    fn run(&self, x: &Tensor, stages: Range<usize>, mode: Mode) -> Result<Tensor> {
        self.whole.run(x, stages.start + self.from..stages.end + self.from, mode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{DType, Device};
    use chandlery_nn::ParamStore;

    /// Doubles, then squares.
    struct Toy(Vec<String>);

    impl Backbone for Toy {
        fn stages(&self) -> &[String] {
            &self.0
        }

        fn channels(&self) -> usize {
            3
        }

        fn run(&self, x: &Tensor, stages: Range<usize>, _: Mode) -> Result<Tensor> {
            (stages.start..stages.end).try_fold(x.clone(), |x, stage| if stage == 0 { x * 2.0 } else { x.sqr() })
        }
    }

    fn toy(k: usize, bias: bool) -> Result<Classifier> {
        let store = ParamStore::new(1, DType::F32, &Device::Cpu);
        let fc = Linear::new(&store.root().pp("fc"), k, 5, bias)?;
        Classifier::new(Toy(vec!["double".into(), "square".into()]), fc, Dropout { p: 0.0 })
    }

    #[test]
    fn stages_in_turn_equal_the_whole() {
        let model = toy(3, true).unwrap();
        let x = Tensor::arange(0f32, 24.0, &Device::Cpu).unwrap().reshape((2, 3, 2, 2)).unwrap();
        let (logits, maps) = model.forward_with_maps(&x, Mode::Eval).unwrap();
        let lower = model.features_at(&x, "double", Mode::Eval).unwrap();
        let upper = model.features_from(&lower, "double", Mode::Eval).unwrap();
        let flat = |t: &Tensor| t.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(&upper), flat(&maps));
        assert_eq!(flat(&model.head(&maps).unwrap()), flat(&logits));
        assert_eq!((logits.dims(), model.n_classes(), model.head_bias().unwrap().dims()), (&[2, 5][..], 5, &[5][..]));
        let no = model.features_at(&x, "half", Mode::Eval).unwrap_err().to_string();
        assert!(no.contains("no stage `half`; there are double, square"), "{no}");
        let rest = model.behind("double").unwrap();
        assert_eq!(rest.stages(), ["square"]);
        assert_eq!(flat(&rest.forward(&lower, Mode::Eval).unwrap()), flat(&logits));
        assert_eq!(flat(&rest.features_at(&lower, "square", Mode::Eval).unwrap()), flat(&maps));
    }

    #[test]
    fn head_must_fit_the_backbone() {
        let say = |model: Result<Classifier>| model.err().unwrap().to_string();
        assert!(say(toy(4, true)).contains("the backbone has 3 channels, the head takes 4"));
        assert!(say(toy(3, false)).contains("needs a bias"));
    }
}
