//! What splits, audits and batches promise.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::image::{Decode, Resize, View, Views, epoch_key};

/// `per_class` training images of each class and half as many test images; no pixels.
fn data(per_class: &[usize]) -> Dataset {
    let classes: Vec<String> = (0..per_class.len()).map(|c| format!("class {c}")).collect();
    let mut items = Vec::new();
    for (class, &n) in per_class.iter().enumerate() {
        items.extend((0..n).map(|i| Item::file(format!("train/{class}/{i}"), Some(class), Fold::Train)));
        items.extend((0..n / 2).map(|i| Item::file(format!("test/{class}/{i}"), Some(class), Fold::Test)));
    }
    Dataset::new("", classes, items).unwrap()
}

fn draw(data: &Dataset, config: SplitConfig) -> Split {
    Split::draw(data, &config).unwrap()
}

fn labelled(labelled: Labelled) -> SplitConfig {
    SplitConfig { labelled, ..SplitConfig::default() }
}

fn refusal(data: &Dataset, config: SplitConfig) -> String {
    Split::draw(data, &config).unwrap_err().to_string()
}

#[test]
fn percent_is_taken_of_each_class_half_up_and_at_least_one() {
    let data = data(&[30, 25, 13, 2]);
    for (percent, expected) in
        [(10.0, [3, 3, 1, 1]), (20.0, [6, 5, 3, 1]), (50.0, [15, 13, 7, 1]), (100.0, [30, 25, 13, 2])]
    {
        let split = draw(&data, labelled(Labelled::Percent(percent)));
        assert_eq!(data.counts(&split.labelled), expected, "{percent} %");
        let all: BTreeSet<usize> = split.labelled.iter().chain(&split.unlabelled).copied().collect();
        assert_eq!(all.len(), split.labelled.len() + split.unlabelled.len(), "an image is on both sides");
        assert_eq!(all.into_iter().collect::<Vec<_>>(), data.fold(Fold::Train));
        assert_eq!(split.test, data.fold(Fold::Test));
    }
}

#[test]
fn fewer_labels_are_a_part_of_more_and_seeds_differ() {
    let data = data(&[40; 8]);
    let at = |k, seed| draw(&data, SplitConfig { seed, ..labelled(Labelled::PerClass(k)) }).labelled;
    let (four, eight): (BTreeSet<_>, BTreeSet<_>) = (at(4, 1).into_iter().collect(), at(8, 1).into_iter().collect());
    assert!(four.is_subset(&eight));
    assert_ne!(at(4, 1), at(4, 2));
    assert_eq!(at(4, 1), at(4, 1));
    let with_val = SplitConfig { val_percent: 25.0, seed: 1, ..labelled(Labelled::PerClass(4)) };
    let split = draw(&data, with_val);
    assert_eq!((split.labelled, data.counts(&split.val)), (at(4, 1), vec![10; 8]));
}

#[test]
fn total_is_spread_evenly() {
    let data = data(&[9; 4]);
    let split = draw(&data, labelled(Labelled::Total(10)));
    let mut counts = data.counts(&split.labelled);
    counts.sort_unstable();
    assert_eq!(counts, [2, 2, 3, 3]);
    assert!(refusal(&data, labelled(Labelled::Total(3))).contains("3 labels are fewer than the 4 classes"));
}

#[test]
fn tail_falls_geometrically() {
    let data = data(&[100; 5]);
    let split = draw(&data, SplitConfig { tail: 16.0, ..labelled(Labelled::PerClass(80)) });
    assert_eq!(data.counts(&split.labelled), [80, 40, 20, 10, 5]);
    let all = draw(&data, SplitConfig { tail: 1000.0, ..labelled(Labelled::PerClass(10)) });
    assert_eq!(data.counts(&all.labelled), [10, 1, 1, 1, 1]);
}

#[test]
fn unknown_classes_are_met_without_labels_only() {
    let data = data(&[10; 6]);
    let split = draw(&data, SplitConfig { unknown_classes: 2, ..labelled(Labelled::PerClass(3)) });
    let known = split.known.clone();
    assert_eq!(known.iter().filter(|k| !**k).count(), 2);
    let is_known = |i: &usize| known[data.items()[*i].label.unwrap()];
    assert!(split.labelled.iter().all(is_known) && split.test.iter().all(is_known));
    assert!(!split.test_unknown.is_empty() && !split.test_unknown.iter().any(is_known));
    assert_eq!(split.unlabelled.iter().filter(|i| !is_known(i)).count(), 20);
}

#[test]
fn labelled_images_come_again_where_asked() {
    let data = data(&[10; 3]);
    let config = SplitConfig { labelled_again: true, ..labelled(Labelled::PerClass(2)) };
    assert_eq!(draw(&data, config).unlabelled, data.fold(Fold::Train));
}

#[test]
fn impossible_splits_are_refused_with_the_class() {
    let uneven = data(&[10, 0, 3]);
    let why = refusal(&uneven, labelled(Labelled::PerClass(2)));
    assert!(why.contains("1 classes have no labelled training image: class 1"), "{why}");
    let passed = SplitConfig { empty_classes: true, ..labelled(Labelled::PerClass(2)) };
    assert_eq!(uneven.counts(&draw(&uneven, passed).labelled), [2, 0, 2]);
    let few = refusal(&data(&[10, 3]), labelled(Labelled::PerClass(4)));
    assert!(few.contains("class class 1: 4 labelled and 0 held out of 3"), "{few}");
    let small = data(&[10, 10]);
    for (config, what) in [
        (labelled(Labelled::Percent(0.0)), "percentage"),
        (labelled(Labelled::Percent(f64::NAN)), "percentage"),
        (labelled(Labelled::PerClass(0)), "at least 1"),
        (SplitConfig { tail: 0.5, ..SplitConfig::default() }, "tail"),
        (SplitConfig { unknown_classes: 2, ..SplitConfig::default() }, "unknown_classes"),
        (SplitConfig { val_percent: 101.0, ..SplitConfig::default() }, "val_percent"),
    ] {
        assert!(refusal(&small, config).contains(what), "{what}");
    }
}

#[test]
fn saved_split_comes_back_and_a_changed_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("split.json");
    let data = data(&[10; 4]);
    let split =
        draw(&data, SplitConfig { seed: 3, unknown_classes: 1, val_percent: 10.0, ..labelled(Labelled::PerClass(2)) });
    split.save(&data, &path).unwrap();
    assert_eq!(Split::load(&data, &path).unwrap(), split);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(&split.sha256(&data).unwrap()) && text.contains("\"seed\": 3"));

    fs::write(&path, text.replacen("train/", "test/", 1)).unwrap();
    assert!(Split::load(&data, &path).unwrap_err().to_string().contains("the file was changed"));
    fs::write(&path, &text).unwrap();
    let fewer = data.subset(&(0..data.len() - 1).collect::<Vec<_>>()).unwrap();
    assert!(Split::load(&fewer, &path).unwrap_err().to_string().contains("1 of its images are not in the data set"));
    let mut other = data.clone();
    for item in &mut other.items {
        item.label = item.label.map(|l| (l + 1) % 4);
    }
    assert!(Split::load(&other, &path).unwrap_err().to_string().contains("was labelled"));
    fs::write(&path, "{").unwrap();
    assert!(Split::load(&data, &path).is_err());
}

#[test]
fn embedded_split_is_the_same_for_ever() {
    let data = fashion_mnist().unwrap();
    let split = draw(&data, labelled(Labelled::PerClass(4)));
    assert_eq!((split.labelled.len(), split.unlabelled.len(), split.test.len()), (40, 1960, 1000));
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/data/README.md")).unwrap();
    let sha256 = split.sha256(&data).unwrap();
    assert!(readme.contains(&sha256), "{sha256}");
}

/// A folder with sound, equal and broken images.
fn mixed(dir: &Path) -> Dataset {
    let png = |grey: u8, side: u32| {
        let mut png = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut png);
        let pixels = vec![grey; (side * side) as usize];
        image::ImageEncoder::write_image(encoder, &pixels, side, side, image::ExtendedColorType::L8).unwrap();
        png
    };
    let sound = png(7, 9);
    for (path, content) in [
        ("train/a/one.png", sound.clone()),
        ("train/a/two.jpg", png(8, 9)),
        ("train/a/two again", png(8, 9)),
        ("train/a/zero.png", Vec::new()),
        ("train/a/half.png", sound[..sound.len() / 2].to_vec()),
        ("train/a/text.png", b"not an image".to_vec()),
        ("train/a/dot.png", png(1, 1)),
        ("test/a/one.png", sound),
        ("test/a/three.png", png(9, 9)),
    ] {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    Location { path: Some(dir.to_owned()), layout: None }.open().unwrap()
}

#[test]
fn audit_counts_lists_and_leaves_out() {
    let dir = tempfile::tempdir().unwrap();
    let all = mixed(dir.path());
    let config = AuditConfig { depth: Depth::Pixels, ..AuditConfig::default() };
    let (data, audit) = all.clone().audited(&Decode::default(), &config).unwrap();
    let bad: Vec<&str> = audit.bad.iter().map(|b| b.name.as_str()).collect();
    assert_eq!(bad, ["train/a/dot.png", "train/a/half.png", "train/a/text.png", "train/a/zero.png"]);
    assert!(audit.bad[0].why.starts_with("1 x 1 pixels") && audit.bad[3].why.starts_with("empty"), "{:?}", audit.bad);
    assert_eq!((audit.n_images, audit.duplicates.len()), (9, 2));
    assert_eq!(audit.dropped, ["train/a/one.png", "train/a/two.jpg"], "the test fold and the first of a fold stay");
    let names: Vec<&str> = data.items().iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["test/a/one.png", "test/a/three.png", "train/a/two again"]);

    // The header of the half image is sound: only decoding finds it.
    let (_, shallow) = all.clone().audited(&Decode::default(), &AuditConfig::default()).unwrap();
    assert_eq!(shallow.bad.len(), 3);
    let strict = AuditConfig { bad: OnBad::Refuse, ..config.clone() };
    let why = all.clone().audited(&Decode::default(), &strict).unwrap_err().to_string();
    assert!(why.starts_with("4 of 9 images cannot be used, first train/a/dot.png (1 x 1"), "{why}");
    let apart = AuditConfig { duplicates: OnDuplicate::Refuse, ..config };
    let why = all.audited(&Decode::default(), &apart).unwrap_err().to_string();
    assert!(why.contains("test/a/one.png = train/a/one.png"), "{why}");
}

#[test]
fn kept_duplicates_across_a_split_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let keep = AuditConfig { duplicates: OnDuplicate::Keep, ..AuditConfig::default() };
    let (data, audit) = mixed(dir.path()).audited(&Decode::default(), &keep).unwrap();
    let split = draw(&data, labelled(Labelled::PerClass(1)));
    assert_eq!(audit.leaks(&data, &split), [["test/a/one.png".to_owned(), "train/a/one.png".to_owned()].as_slice()]);
}

fn small() -> Views {
    Views { resize: Resize::ShortSide(8), crop: 8, ..Views::default() }
}

#[test]
fn failed_image_is_skipped_or_ends_the_batch_with_its_name() {
    let dir = tempfile::tempdir().unwrap();
    let data = mixed(dir.path());
    let at = |name: &str| data.items().iter().position(|i| i.name == name).unwrap();
    let items = [at("train/a/one.png"), at("train/a/zero.png"), at("test/a/three.png")];
    let batch =
        |policy| Images::new(data.clone(), small(), policy).unwrap().batch(&items, &[View::Weak], epoch_key(0, 0));
    let seen = batch(OnBad::Skip).unwrap();
    assert_eq!((seen.kept, seen.shape, seen.failed.len()), (vec![0, 2], [2, 3, 8, 8], 1));
    assert!(batch(OnBad::Refuse).unwrap_err().to_string().contains("train/a/zero.png: empty"));
    assert!(Images::new(data, Views { crop: 0, ..small() }, OnBad::Skip).is_err());
}

#[test]
fn cache_changes_no_bit_and_knows_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cache");
    let data = fashion_mnist().unwrap().subset(&(0..40).collect::<Vec<_>>()).unwrap();
    let plain = Images::new(data.clone(), small(), OnBad::Refuse).unwrap();
    let (items, views) = ([3, 39, 0], [View::Weak, View::Strong]);
    let expected = plain.batch(&items, &views, epoch_key(5, 1)).unwrap().views;
    for _ in 0..2 {
        let cached = Images::new(data.clone(), small(), OnBad::Refuse).unwrap().with_cache(&path).unwrap();
        assert_eq!(cached.batch(&items, &views, epoch_key(5, 1)).unwrap().views, expected);
    }
    let larger = Views { resize: Resize::ShortSide(9), ..small() };
    let other = Images::new(data, larger, OnBad::Refuse).unwrap().with_cache(&path).unwrap_err();
    assert!(other.to_string().contains("other settings"), "{other}");
    assert_eq!(plain.labels(&items).unwrap(), [3, 9, 0]);
}
