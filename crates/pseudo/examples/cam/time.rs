//! What a map costs.

use std::error::Error;
use std::time::Instant;

use candle_core::Tensor;
use chandlery_pseudo::cam::{Head, Method, Probe, Settings, closed_forms, explain};

use super::model::{self, Lite0, SIDE};
use super::stamps::tensor;
use super::{Args, some_files};

/// Images in a batch, as in a folder's gallery.
const BATCH: usize = 16;

/// The median of the milliseconds that a call takes: of five calls after one that is not counted, of one where it takes seconds.
fn median(mut f: impl FnMut() -> Result<(), Box<dyn Error>>) -> Result<f64, Box<dyn Error>> {
    let mut once = || {
        let start = Instant::now();
        f().map(|()| start.elapsed().as_secs_f64() * 1e3)
    };
    let first = once()?;
    if first > 2000.0 {
        return Ok(first);
    }
    let mut all = (0..5).map(|_| once()).collect::<Result<Vec<_>, _>>()?;
    all.sort_by(f64::total_cmp);
    Ok(all[2])
}

pub fn time(lite0: &Lite0, args: &Args) -> Result<(), Box<dyn Error>> {
    let files = some_files(&args.path("images")?, &["jpg", "jpeg", "png", "webp"])?;
    let seen = files.iter().take(BATCH).map(|path| model::open(path)).collect::<Result<Vec<_>, _>>()?;
    let inputs: Vec<&[f32]> = seen.iter().map(|s| &s.input[..]).collect();
    let images = tensor(&inputs)?;
    let classes = lite0.probe(|probe| probe.predict(&images))?;
    let n = classes.len() as f64;
    let settings = Settings::default();

    let forward = median(|| Ok(lite0.forward(&images).map(drop)?))?;
    println!("{n} images of {SIDE} x {SIDE}; the model alone takes {:.2} ms an image", forward / n);
    let output = lite0.features(&images)?;
    let maps: Vec<f32> = output.flatten_all()?.to_vec1()?;
    let (_, k, h, w) = output.dims4()?;
    let by_head = |method, head: &Head<'_>| {
        median(|| Ok(closed_forms(method, &maps, [k, h, w], head, &classes, &settings).map(drop)?)).map(|ms| ms / n)
    };
    println!("| method | closed form, activations at hand | by gradient or passes, activations at hand | whole |");
    println!("|---|---:|---:|---:|");
    for method in Method::ALL {
        let late = method.alters_images();
        let closed = (!late).then(|| by_head(method, &lite0.head()?)).transpose()?;
        // The activations are those computed before; the logits do not say that they are a pooled linear head.
        let at_hand = |_: &Tensor| Ok(output.clone());
        let open = (!late && method != Method::Cam).then(|| {
            let probe = |probe: &Probe<'_>| {
                let probe = Probe { features: &at_hand, head: None, ..*probe };
                explain(&probe, &images, &classes, method, &settings)
            };
            median(|| Ok(lite0.probe(probe).map(drop)?)).map(|ms| ms / n)
        });
        let count = if late { 1 } else { classes.len() };
        let some = images.narrow(0, 0, count)?;
        let explain = |probe: &Probe<'_>| explain(probe, &some, &classes[..count], method, &settings);
        let whole = median(|| Ok(lite0.probe(explain).map(drop)?))? / count as f64;
        let cell = |ms: Option<f64>| ms.map_or(String::new(), |ms| format!("{ms:.3}"));
        println!("| {method} | {} | {} | {whole:.2} |", cell(closed), cell(open.transpose()?));
    }
    Ok(())
}
