//! Whole workloads.

use crate::gpt::{GPT_STEP, Shape, Trainer, Writer};
use crate::measure::{Step, Workload};
use crate::network::{Images, Network, lite0, resnet18};

fn train(name: String, repeats: usize, shape: Shape) -> Workload {
    Workload::new(name, repeats, move || {
        let mut trainer = Trainer::new(shape)?;
        Ok(Box::new(move || trainer.step().map(drop)) as Step)
    })
}

fn write(batch: usize) -> Workload {
    Workload::new(format!("generate-b{batch}"), 5, move || {
        let writer = Writer::new(batch)?;
        Ok(Box::new(move || writer.write()) as Step)
    })
}

/// One training step, or one forward pass in evaluation mode.
fn images(name: &str, network: Network, train: bool) -> Workload {
    Workload::new(name, 9, move || {
        let mut images = Images::new(&network, train)?;
        Ok(Box::new(move || if train { images.step() } else { images.infer() }) as Step)
    })
}

/// ResNet-18, EfficientNet-Lite0, `gpt-step-f32`, generation with its model, and the same model over sequence length and width.
pub fn workloads() -> Vec<Workload> {
    let mut all = vec![train("gpt-step-f32".to_string(), 9, GPT_STEP), write(1), write(16)];
    all.extend([("step", true), ("infer", false)].into_iter().flat_map(|(what, train)| {
        let resnet = images(&format!("resnet18-{what}-b8-224"), resnet18(), train);
        [resnet, images(&format!("lite0-{what}-b48-96"), lite0(), train)]
    }));
    for t in [128, 256, 512, 1024, 2048, 4096] {
        all.push(train(format!("gpt-length-{t}"), 3, Shape { layers: 2, batch: 4096 / t, t, ..GPT_STEP }));
    }
    for heads in [2, 4, 8, 12] {
        let d = 64 * heads;
        all.push(train(format!("gpt-width-{d}"), 3, Shape { layers: 2, d, heads, batch: 4, ..GPT_STEP }));
    }
    all
}
