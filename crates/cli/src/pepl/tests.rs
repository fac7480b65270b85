//! The whole way of the recipe on few images.

use super::*;
use crate::args::{Cam, Predict};
use chandlery::pseudo::data::fashion_mnist;
use chandlery::pseudo::image::Decode;
use serde_json::Value;

fn smoke(changes: &[&str]) -> PeplConfig {
    let changes: Vec<String> = changes.iter().map(|c| c.to_string()).collect();
    settings::resolve("pepl-smoke", &changes).unwrap()
}

fn trained(dir: &Path, config: &PeplConfig) -> Evaluation {
    run_in(dir, config, Run::open(dir)).unwrap().unwrap()
}

fn read(path: PathBuf) -> Vec<u8> {
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn smoke_trains_resumes_to_the_bit_and_labels_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dir.path().join("whole");
    let evaluation = trained(&whole, &smoke(&[]));
    assert_eq!((evaluation.steps, evaluation.method.as_str()), (12, "pepl"));
    assert_eq!(evaluation.last.len(), 2, "parameters and their average");
    let (s, n) = (evaluation.last(), evaluation.images[3]);
    assert!(s.hits.len() == n && s.top1 <= s.top5 && (0.0..=1.0).contains(&s.ece), "{s:?}");
    let page = String::from_utf8(read(whole.join("report.html"))).unwrap();
    for section in ["Results", "Trust", "Pseudo-labels", "Mixing", "Confusions", "Classes", "data:image/png;base64,"] {
        assert!(page.contains(section), "{section}");
    }

    // Stopped in the middle, thresholds and counts go on where they were.
    let parts = dir.path().join("parts");
    trained(&parts, &smoke(&["fit.steps=6", "fit.groups.main.schedule.until=12"]));
    let again = dir.path().join("again");
    trained(&again, &smoke(&["fit.groups.main.schedule.until=12"]));
    let config = smoke(&["fit.groups.main.schedule.until=12"]);
    run_in(&parts, &config, Run::resume(&parts).accept_changes(true)).unwrap().unwrap();
    for name in ["params.safetensors", "ema.safetensors", "optim.safetensors"] {
        let file = |run: &Path| read(run.join("ckpt/step-12").join(name));
        assert!(file(&parts) == file(&again), "{name}");
    }
    let record = |run: &Path| -> Value {
        let state: Value = serde_json::from_slice(&read(run.join("ckpt/step-12/state.json"))).unwrap();
        state["state"]["extra"].clone()
    };
    assert_eq!(record(&parts), record(&again));

    // Evaluating again gives the same.
    let config = config_of(&whole).unwrap();
    let corpus = Corpus::load(&config.data, &config.views).unwrap();
    let judged = report(&whole, &config, &corpus, evaluation.seconds).unwrap();
    assert_eq!(judged, evaluation);

    labels_a_folder_with_bad_images(dir.path(), &whole);
}

/// Writes test images of the embedded data as PNG files.
fn photographs(folder: &Path, n: usize) {
    let data = fashion_mnist().unwrap();
    for i in 0..n {
        let image = data.image(2000 + 7 * i, &Decode::default(), None).unwrap();
        let (w, h) = (image.width() as u32, image.height() as u32);
        let picture = image::RgbImage::from_raw(w, h, image.into_pixels()).unwrap();
        picture.save(folder.join(format!("{i}.png"))).unwrap();
    }
}

fn labels_a_folder_with_bad_images(dir: &Path, run: &Path) {
    let images = dir.join("images");
    std::fs::create_dir_all(images.join("deeper")).unwrap();
    photographs(&images, 7);
    std::fs::copy(images.join("0.png"), images.join("deeper/wrongly-named.jpg")).unwrap();
    let whole = read(images.join("1.png"));
    for (name, content) in [
        ("zero.jpg", &[][..]),
        ("text.png", b"not an image"),
        ("cut.png", &whole[..whole.len() / 2]),
        ("notes.txt", b"no image at all"),
    ] {
        std::fs::write(images.join(name), content).unwrap();
    }
    image::RgbImage::new(1, 1).save(images.join("dot.png")).unwrap();
    let into = dir.join("sorted");
    let args = |images: &Path, keep_above: f64| Predict {
        run: run.to_path_buf(),
        images: images.to_path_buf(),
        out: None,
        into: Some(into.clone()),
        keep_above: Some(keep_above),
        batch: 3,
    };
    predict(&args(&images, 0.0)).unwrap();
    let text = String::from_utf8(read(into.join("labels.jsonl"))).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let bad: Vec<&str> = lines.iter().filter(|l| l["error"].is_string()).filter_map(|l| l["path"].as_str()).collect();
    assert_eq!((lines.len(), bad.len()), (12, 4), "{text}");
    for name in ["zero.jpg", "text.png", "cut.png", "dot.png"] {
        assert!(bad.iter().any(|path| path.ends_with(name)), "{name}");
    }
    let of = |name: &str| lines.iter().find(|l| l["path"].as_str().unwrap().ends_with(name)).unwrap();
    let (first, copy) = (of("images/0.png"), of("wrongly-named.jpg"));
    assert_eq!((&first["label"], &first["probability"]), (&copy["label"], &copy["probability"]));
    assert!(first["kept"].as_bool().unwrap());
    let corners = first["box"].as_array().unwrap();
    assert!(corners.iter().all(|c| (0.0..=28.0).contains(&c.as_f64().unwrap())), "{corners:?}");
    let copies = walkdir(&into).into_iter().filter(|p| p.extension().is_some_and(|e| e == "png" || e == "jpg")).count();
    assert_eq!(copies, 8);
    assert!(String::from_utf8(read(into.join("report.html"))).unwrap().contains("Could not be used"));
    assert!(predict(&args(&into, 0.0)).unwrap_err().to_string().contains("outside of --images"));
    assert!(predict(&args(&dir.join("nowhere"), 0.0)).is_err());

    let out = dir.join("maps");
    let methods = vec!["cam".to_string(), "finer-cam".to_string()];
    cam(&Cam { run: run.to_path_buf(), images, methods, out: out.clone(), limit: 2 }).unwrap();
    assert!(out.join("sheet.png").is_file());
    assert_eq!(String::from_utf8(read(out.join("maps.jsonl"))).unwrap().lines().count(), 4);
}

fn walkdir(folder: &Path) -> Vec<PathBuf> {
    folder::Walk::new(folder).unwrap().map(std::result::Result::unwrap).collect()
}

#[test]
fn every_method_makes_its_steps() {
    let dir = tempfile::tempdir().unwrap();
    for kind in chandlery::pseudo::ssl::METHODS.iter().filter(|kind| **kind != "pepl") {
        let run = dir.path().join(kind);
        let method = format!("method.kind={kind}");
        let evaluation = trained(&run, &smoke(&[&method, "fit.steps=5", "fit.eval_every=5", "data.limit=12"]));
        assert_eq!(evaluation.method, *kind);
    }
}

#[test]
fn labels_of_a_folder_are_all_used_and_some_held_out() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    for class in ["a", "b"] {
        std::fs::create_dir_all(data.join(class)).unwrap();
        photographs(&data.join(class), 8);
    }
    std::fs::create_dir_all(data.join("unlabelled")).unwrap();
    let fashion = fashion_mnist().unwrap();
    for i in 0..10 {
        let image = fashion.image(3 * i, &Decode::default(), None).unwrap();
        image::RgbImage::from_raw(28, 28, image.into_pixels())
            .unwrap()
            .save(data.join(format!("unlabelled/{i}.png")))
            .unwrap();
    }
    let path = format!("data.path={}", data.display());
    let config = smoke(&[&path, "data.audit.duplicates=keep"]);
    let corpus = Corpus::load(&config.data, &config.views).unwrap();
    let split = &corpus.split;
    assert_eq!((split.labelled.len(), split.val.len(), split.unlabelled.len(), split.test.len()), (14, 2, 10, 0));
    assert_eq!(corpus.judged_name(), "held-out");
    let evaluation = trained(&dir.path().join("run"), &config);
    assert_eq!(evaluation.judged_on, "held-out");
    assert_eq!(evaluation.pseudo.and_then(|p| p.precision), None, "nobody knows");
}

#[test]
fn kept_maps_train_and_evaluate_like_the_images() {
    let dir = tempfile::tempdir().unwrap();
    let published = dir.path().join("published");
    trained(&published, &smoke(&["method.kind=supervised"]));
    let pretrained = format!("model.pretrained={}", published.join(network::MODEL).display());
    let run = dir.path().join("run");
    let config = smoke(&[&pretrained, "model.freeze=layer2", "model.kept.views=2"]);
    let evaluation = trained(&run, &config);
    assert!(run.join("maps.cache").is_file());

    let mut corpus = Corpus::load(&config.data, &config.views).unwrap();
    evaluate::keep_maps(&run, &config, &mut corpus).unwrap();
    assert_eq!(report(&run, &config, &corpus, evaluation.seconds).unwrap(), evaluation);

    // The whole network on the images says the same up to the rounding of the maps.
    let whole = smoke(&[&pretrained, "model.freeze=layer2"]);
    let corpus = Corpus::load(&whole.data, &whole.views).unwrap();
    let exact = evaluate::evaluate(&run, &whole, &corpus, 0.0).unwrap().evaluation;
    let (a, b) = (evaluation.last(), exact.last());
    assert!((a.nll - b.nll).abs() < 1e-3 * b.nll && (a.brier - b.brier).abs() < 1e-3, "{a:?} {b:?}");

    let say = |changes: &[&str]| run_in(&run, &smoke(changes), Run::open(&run)).unwrap_err().to_string();
    let others = [&pretrained, "model.freeze=layer1", "model.kept.views=2"];
    assert!(say(&others).contains("other settings"), "{}", say(&others));
}

#[test]
fn what_cannot_work_is_said_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let say = |changes: &[&str]| run_in(dir.path(), &smoke(changes), Run::create(dir.path())).unwrap_err().to_string();
    assert!(say(&["data.labelled=all"]).contains("needs unlabelled images"));
    assert!(
        say(&["model.pretrained=data/efficientnet-lite0/nothing"]).contains("cargo xtask fetch efficientnet-lite0")
    );
    assert!(say(&["data.labelled.total=3"]).contains("3 labels are fewer than the 10 classes"));
    assert!(say(&["data.path=/nowhere"]).contains("/nowhere"));
    assert!(say(&["method.kind=peppl"]).contains("there are supervised"));
    assert!(say(&["views.crop=0"]).contains("crop"));
    assert!(say(&["eval.precision=2"]).contains("eval.precision"));
    std::fs::create_dir_all(dir.path().join("one/only")).unwrap();
    photographs(&dir.path().join("one/only"), 2);
    let one = format!("data.path={}", dir.path().join("one").display());
    assert!(say(&[&one]).contains("at least 2 classes, found 1"));
}
