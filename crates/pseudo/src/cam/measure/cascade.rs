//! Cascading randomisation (Adebayo et al., 1810.03292, sec. 3.1): from the head down, part after part of the model forgets
//! what it learnt. A map that stays as it was shows the image, or the architecture, and not what was learnt.

use chandlery_nn::ParamStore;

use super::super::error::{Error, Result, expect};
use super::super::map::Map;
use super::agreement::rank_correlation;
use crate::models::Stage;

/// The maps after one more part has forgotten.
#[derive(Clone, Debug, PartialEq)]
pub struct CascadeStep {
    /// The part that forgot last; those before it in the cascade have forgotten too.
    pub part: String,
    /// Spearman's correlation of each map with that of the trained model, `[method][image]`.
    pub correlations: Vec<Vec<f64>>,
}

/// Explains by the parameters and buffers of `trained`, then gives one of `parts` after another, usually the head first and
/// the stem last, the start values of `fresh` (the same model built from another seed) and explains again. `explain`
/// builds the model on the store that it gets and returns maps `[method][image]`, of the same images and classes each time.
/// `trained` stays as it is.
///
/// # Errors
/// If a part has no parameters, if `fresh` lacks one of them or has it in another shape, if `explain` fails, or if it
/// returns another number of maps or other sizes than at first.
pub fn cascade(
    trained: &ParamStore,
    fresh: &ParamStore,
    parts: &[Stage],
    mut explain: impl FnMut(&ParamStore) -> Result<Vec<Vec<Map>>>,
) -> Result<Vec<CascadeStep>> {
    let first = explain(trained)?;
    let model = trained.deep_copy()?;
    let step = |part: &Stage| {
        forget(&model, fresh, part)?;
        let maps = explain(&model)?;
        expect("methods of the cascade", &[first.len()], &[maps.len()])?;
        let correlations =
            first.iter().zip(&maps).map(|(first, maps)| correlate(first, maps)).collect::<Result<_>>()?;
        Ok(CascadeStep { part: part.name.clone(), correlations })
    };
    parts.iter().map(step).collect()
}

fn correlate(first: &[Map], maps: &[Map]) -> Result<Vec<f64>> {
    expect("images of the cascade", &[first.len()], &[maps.len()])?;
    first.iter().zip(maps).map(|(a, b)| rank_correlation(a, b)).collect()
}

/// Gives the parameters and buffers of a part the values that they have in `fresh`.
fn forget(model: &ParamStore, fresh: &ParamStore, part: &Stage) -> Result<()> {
    let below = |name: &String| {
        let rest = |path: &String| name.strip_prefix(path.as_str());
        part.paths.iter().filter_map(rest).any(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let buffers = model.named_buffers().into_iter().map(|(name, _)| name);
    let names: Vec<String> = model.names().into_iter().chain(buffers).filter(below).collect();
    if names.is_empty() {
        return Err(Error::Setting { what: "part", expected: "a part that has parameters", got: part.name.clone() });
    }
    for name in names {
        // Listed a moment ago, and a store forgets nothing.
        let Some(own) = model.get(&name) else { continue };
        let (expected, other) = (format!("{name} {:?}", own.dims()), fresh.get(&name));
        match other.filter(|var| var.dims() == own.dims()) {
            Some(var) => own.set(&var.as_detached_tensor())?,
            None => {
                let got = fresh.get(&name).map_or("none of this name".into(), |var| format!("{:?}", var.dims()));
                return Err(Error::Shape { what: "fresh parameters", expected, got });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cam::{Head, Layout, Method, Probe, Settings, explain_all};
    use crate::models::{ModelConfig, ResNetConfig, Stem};
    use candle_core::{DType, Device, Tensor};
    use chandlery_kernels::Key;
    use chandlery_nn::Mode;

    const METHODS: [Method; 2] = [Method::Cam, Method::EigenCam];

    fn config() -> ModelConfig {
        ModelConfig::ResNet(ResNetConfig { width: 4, stem: Stem::Small, ..ResNetConfig::default() })
    }

    fn store(seed: u64) -> ParamStore {
        let store = ParamStore::new(seed, DType::F32, &Device::Cpu);
        config().build(&store.root(), 5).unwrap();
        store
    }

    fn images() -> Tensor {
        let key = Key::new(5);
        let values: Vec<f32> = (0..2 * 3 * 41 * 41).map(|i| key.normal(i) as f32).collect();
        Tensor::from_vec(values, (2, 3, 41, 41), &Device::Cpu).unwrap()
    }

    fn explain(store: &ParamStore) -> Result<Vec<Vec<Map>>> {
        let model = config().build(&store.frozen(), 5)?;
        let weight = model.head_weight().flatten_all()?.to_vec1::<f32>()?;
        let features = |x: &Tensor| model.features(x, Mode::Eval);
        let logits = |maps: &Tensor| model.head(maps);
        let head = Some(Head::new(&weight, None, 5, model.channels())?);
        let probe = Probe { features: &features, logits: &logits, layout: Layout::Maps, head };
        explain_all(&probe, &images(), &[1, 3], &METHODS, &Settings::default())
    }

    /// The head, then the stages from the last to the first.
    fn parts() -> Vec<Stage> {
        let head = Stage { name: "head".into(), paths: vec![config().head().into()] };
        std::iter::once(head).chain(config().stages().into_iter().rev()).collect()
    }

    #[test]
    fn a_class_agnostic_map_survives_the_head_and_none_the_backbone() {
        let steps = cascade(&store(1), &store(2), &parts(), explain).unwrap();
        assert_eq!(steps.len(), 10);
        assert_eq!((steps[0].part.as_str(), steps[9].part.as_str()), ("head", "stem"));
        let [cam, eigen] = [0, 1].map(|m| &steps[0].correlations[m]);
        assert!(eigen.iter().all(|c| *c > 1.0 - 1e-12), "{eigen:?}");
        assert!(cam.iter().all(|c| *c < 0.9), "{cam:?}");
        assert!(steps[9].correlations.iter().flatten().all(|c| *c < 0.9), "{:?}", steps[9]);
    }

    #[test]
    fn at_the_end_only_the_fresh_model_is_left() {
        let (trained, fresh) = (store(1), store(2));
        let before = explain(&trained).unwrap();
        let mut seen = Vec::new();
        let watched = |store: &ParamStore| {
            seen = explain(store)?;
            Ok(seen.clone())
        };
        cascade(&trained, &fresh, &parts(), watched).unwrap();
        assert_eq!(seen, explain(&fresh).unwrap());
        assert_eq!(before, explain(&trained).unwrap());
    }

    #[test]
    fn parts_that_do_not_exist_are_named() {
        let part = |path: &str| [Stage { name: "part".into(), paths: vec![path.into()] }];
        let why = cascade(&store(1), &store(2), &part("layer"), explain).unwrap_err().to_string();
        assert!(why.contains("a part that has parameters"), "{why}");
        let other = ParamStore::new(2, DType::F32, &Device::Cpu);
        config().build(&other.root(), 7).unwrap();
        let why = cascade(&store(1), &other, &part("fc"), explain).unwrap_err().to_string();
        assert!(why.contains("fc.bias [5]") && why.contains("[7]"), "{why}");
    }
}
