//! Do maps change when the model forgets, from the head down?

use std::error::Error;

use candle_core::{DType, Device};
use chandlery_nn::ParamStore;
use chandlery_pseudo::cam::{Method, Settings, explain_all, measure};
use chandlery_pseudo::models::{EfficientNetConfig, Stage};

use super::Args;
use super::columns::Column;
use super::model::Lite0;
use super::stamps::{known, samples, tensor};

/// Those that differ on the last maps of a pooled linear head.
const METHODS: [Method; 7] = [
    Method::Cam,
    Method::GradCamPlusPlus,
    Method::LayerCam,
    Method::EigenCam,
    Method::EigenGradCam,
    Method::AblationCam,
    Method::FinerCam,
];

/// Images explained at a time.
const BATCH: usize = 16;

pub fn cascade(lite0: &Lite0, args: &Args) -> Result<(), Box<dyn Error>> {
    let stamps = known(lite0, args)?;
    let samples = samples(&stamps, args)?;
    let config = EfficientNetConfig::default();
    let fresh = ParamStore::new(args.number("fresh", 1)?, DType::F32, &Device::Cpu);
    config.build(&fresh.root(), 1000)?;
    let head = Stage { name: "classifier".into(), paths: vec!["_fc".into()] };
    let parts: Vec<Stage> = std::iter::once(head).chain(config.stages().into_iter().rev()).collect();

    let steps = measure::cascade(&lite0.store, &fresh, &parts, |store| {
        let model = Lite0::of(store)?;
        let mut all = vec![Vec::new(); METHODS.len()];
        for part in samples.chunks(BATCH) {
            let images = tensor(&part.iter().map(|s| &s.seen.input[..]).collect::<Vec<_>>())?;
            let classes: Vec<usize> = part.iter().map(|s| s.class).collect();
            let maps = model.probe(|probe| explain_all(probe, &images, &classes, &METHODS, &Settings::default()))?;
            all.iter_mut().zip(maps).for_each(|(all, maps)| all.extend(maps));
        }
        Ok(all)
    })?;
    println!("{} stamps, {} images", stamps.len(), samples.len());
    println!("| forgotten down to | {} |", METHODS.map(Method::name).join(" | "));
    println!("|---{}|", "|---:".repeat(METHODS.len()));
    for step in steps {
        let cell = |values: &Vec<f64>| {
            let mut column = Column::default();
            samples.iter().zip(values).for_each(|(sample, &value)| column.add(sample.stamp, value));
            column.cell()
        };
        println!("| {} | {} |", step.part, step.correlations.iter().map(cell).collect::<Vec<_>>().join(" | "));
    }
    Ok(())
}
