//! Every layout, written small, read back; and what each does with wrong input.

use std::fs;
use std::path::Path;

use super::*;
use crate::image::Decode;

/// A folder with an image (a tiny grey PNG) at each path and a text at each other.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new(images: &[&str], texts: &[(&str, &str)]) -> Self {
        let tree = Self(tempfile::tempdir().unwrap());
        for (i, path) in images.iter().enumerate() {
            let mut png = Vec::new();
            let encoder = image::codecs::png::PngEncoder::new(&mut png);
            let pixels = [i as u8; 12];
            image::ImageEncoder::write_image(encoder, &pixels, 4, 3, image::ExtendedColorType::L8).unwrap();
            tree.write(path, &png);
        }
        texts.iter().for_each(|(path, text)| tree.write(path, text.as_bytes()));
        tree
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn open(&self) -> Result<Dataset, DataError> {
        Location { path: Some(self.path().to_owned()), layout: None }.open()
    }

    fn refusal(&self) -> String {
        self.open().unwrap_err().to_string()
    }
}

fn rows(data: &Dataset) -> Vec<(&str, Option<usize>, Fold)> {
    data.items().iter().map(|i| (i.name.as_str(), i.label, i.fold)).collect()
}

#[test]
fn folders_are_classes_and_folds() {
    let flat =
        Tree::new(&["owl/b.png", "owl/a", "jay/deep/c.png", "unlabeled/d.png", ".hidden/e.png"], &[("owl/x.txt", "")]);
    let data = flat.open().unwrap();
    assert_eq!(data.classes, ["jay", "owl"]);
    let (train, free) = (Fold::Train, Fold::Unlabelled);
    let expected = [
        ("jay/deep/c.png", Some(0), train),
        ("owl/a", Some(1), train),
        ("owl/b.png", Some(1), train),
        ("unlabeled/d.png", None, free),
    ];
    assert_eq!(rows(&data), expected);
    let folds =
        Tree::new(&["train/a/1.png", "validation/a/2.png", "test/b/3.png", "unlabelled/4.png"], &[]).open().unwrap();
    assert_eq!(
        rows(&folds).iter().map(|r| (r.1, r.2)).collect::<Vec<_>>(),
        [(Some(1), Fold::Test), (Some(0), Fold::Train), (None, Fold::Unlabelled), (Some(0), Fold::Val)]
    );
    let loose = Tree::new(&["1.png", "2.png"], &[]).open().unwrap();
    assert_eq!((loose.n_classes(), loose.fold(Fold::Unlabelled)), (0, vec![0, 1]));
    assert!(Tree::new(&[], &[]).refusal().contains("found no image"));
    let missing = Location { path: Some("no/such/folder".into()), layout: None }.open();
    assert!(missing.unwrap_err().to_string().contains("found nothing"));
}

#[test]
fn list_gives_labels_folds_and_boxes() {
    let list =
        "path,label,fold,x,y,width,height\na.png,ten,train,1,2,3,1\n\"b, c.png\",nine,test,0,0,4,3\nd.png,,,0,0,1,1\n";
    let tree = Tree::new(&["a.png", "b, c.png", "d.png"], &[("labels.csv", list)]);
    let data = tree.open().unwrap();
    assert_eq!(data.classes, ["nine", "ten"]);
    assert_eq!(
        rows(&data),
        [("a.png", Some(1), Fold::Train), ("b, c.png", Some(0), Fold::Test), ("d.png", None, Fold::Unlabelled)]
    );
    assert_eq!(data.items()[0].bbox, Some(BoundingBox { x: 1.0, y: 2.0, width: 3.0, height: 1.0 }));
    assert_eq!(data.image(1, &Decode::default(), None).unwrap().pixel(0, 0), [1; 3]);
    let numbers = Tree::new(&["a.png", "b.png"], &[("labels.csv", "file,class\na.png,10\nb.png,9\n")]).open().unwrap();
    assert_eq!((numbers.classes.clone(), numbers.items()[0].label), (vec!["9".to_owned(), "10".to_owned()], Some(1)));
}

#[test]
fn list_with_unknown_paths_counts_and_names_them() {
    let tree = Tree::new(&["a.png"], &[("labels.csv", "path,label\na.png,x\ngone.png,x\nlost.png,y\n")]);
    let why = tree.refusal();
    assert!(why.contains("2 of 3 rows") && why.contains("gone.png, lost.png"), "{why}");
    let heads = [
        ("name,label\na.png,x\n", ":1: expected a column `path`"),
        ("path,fold\na.png,tset\n", ":2: fold: expected train"),
    ];
    for (text, message) in heads {
        let why = Tree::new(&["a.png"], &[("labels.csv", text)]).refusal();
        assert!(why.contains(message), "{why}");
    }
    assert!(Tree::new(&[], &[("labels.csv", "")]).refusal().contains("expected a heading"));
}

const GROCERY: [(&str, &str); 4] = [
    (
        "classes.csv",
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int)\nGala,0,Apple,0\nFuji,1,Apple,0\nKiwi,2,Kiwi,1\n",
    ),
    ("train.csv", "path,fine,coarse\ntrain/1.png,2,1\ntrain/2.png,0,0\n"),
    ("val.csv", "path,fine,coarse\nval/1.png,1,0\n"),
    ("test.csv", "path,fine,coarse\ntest/1.png,2,1\n"),
];
const GROCERY_FILES: [&str; 4] = ["train/1.png", "train/2.png", "val/1.png", "test/1.png"];

#[test]
fn grocery_store_has_folds_and_coarse_classes() {
    let data = Tree::new(&GROCERY_FILES, &GROCERY).open().unwrap();
    assert_eq!(data.classes, ["Gala", "Fuji", "Kiwi"]);
    assert_eq!(data.coarse, Coarse { names: vec!["Apple".into(), "Kiwi".into()], of: vec![0, 0, 1] });
    assert_eq!(rows(&data)[..2], [("train/1.png", Some(2), Fold::Train), ("train/2.png", Some(0), Fold::Train)]);
    let mut wrong = GROCERY;
    wrong[1].1 = "path,fine,coarse\ntrain/1.png,3,1\n";
    assert!(
        Tree::new(&GROCERY_FILES, &wrong).refusal().contains("train.csv:2: fine: expected a class below 3, got `3`")
    );
}

#[test]
fn whole_grocery_store_is_read() {
    let Some(root) = std::env::var_os("CHANDLERY_DATA") else {
        println!("skipped: CHANDLERY_DATA is not set");
        return;
    };
    let path = Path::new(&root).join("grocery");
    let data = Location { path: Some(path), layout: None }.open().unwrap();
    assert_eq!((data.len(), data.n_classes(), data.coarse.names.len()), (5421, 81, 43));
    assert_eq!([Fold::Train, Fold::Val, Fold::Test].map(|f| data.fold(f).len()), [2640, 296, 2485]);
    let image = data.image(100, &Decode::default(), None).unwrap();
    assert_eq!(image.width().min(image.height()), 224);
}

#[test]
fn birds_have_boxes_and_visible_parts() {
    let texts = [
        ("images.txt", "1 a/x y.png\n2 b/z.png\n"),
        ("classes.txt", "1 001.Auk\n2 002.Bee Eater\n7 a whole order\n"),
        ("image_class_labels.txt", "1 1\n2 2\n"),
        ("train_test_split.txt", "1 1\n2 0\n"),
        ("bounding_boxes.txt", "1 60.0 27.0 325.0 304.0\n2 1 2 3 4\n"),
        ("parts/parts.txt", "1 back\n2 left eye\n"),
        ("parts/part_locs.txt", "1 1 0.0 0.0 0\n1 2 10.5 20.0 1\n2 1 3.0 4.0 1\n"),
    ];
    let images = ["images/a/x y.png", "images/b/z.png"];
    let data = Tree::new(&images, &texts).open().unwrap();
    assert_eq!(data.classes, ["001.Auk", "002.Bee Eater"]);
    assert_eq!(rows(&data), [(images[0], Some(0), Fold::Train), (images[1], Some(1), Fold::Test)]);
    assert_eq!(data.items()[0].bbox.unwrap().width, 325.0);
    assert_eq!(
        (data.items()[0].keypoints[..].to_vec(), &data.keypoint_names[1]),
        (vec![Keypoint { name: 1, x: 10.5, y: 20.0 }], &"left eye".to_owned())
    );
    for (file, text, message) in [
        (3, "1 1\n", "images.txt:2: image 2 has no line in train_test_split.txt"),
        (2, "1 1\n2 9\n", "images.txt:2: class 9 is not in classes.txt"),
        (4, "1 60.0 nan-sense 1 2\n", "bounding_boxes.txt:1: expected 4 numbers, got 1"),
        (6, "1 5 0.0 0.0 1\n", "part 5 is not in parts.txt"),
    ] {
        let mut wrong = texts;
        wrong[file].1 = text;
        let why = Tree::new(&images, &wrong).refusal();
        assert!(why.contains(message), "{why}");
    }
}

#[test]
fn aircraft_have_families_and_boxes_from_one() {
    let texts = [
        ("data/variants.txt", "707-320\nA300B4\n"),
        ("data/families.txt", "A300\nBoeing 707\n"),
        ("data/images_variant_train.txt", "0001 707-320\n"),
        ("data/images_variant_val.txt", "0002 A300B4\n"),
        ("data/images_variant_test.txt", "0003 707-320\n"),
        ("data/images_family_train.txt", "0001 Boeing 707\n"),
        ("data/images_family_val.txt", "0002 A300\n"),
        ("data/images_family_test.txt", "0003 Boeing 707\n"),
        ("data/images_box.txt", "0001 1 2 4 3\n"),
    ];
    let images = ["data/images/0001.jpg", "data/images/0002.jpg", "data/images/0003.jpg"];
    let tree = Tree::new(&images, &texts);
    let data = tree.open().unwrap();
    assert_eq!(
        rows(&data).iter().map(|r| (r.1, r.2)).collect::<Vec<_>>(),
        [(Some(0), Fold::Train), (Some(1), Fold::Val), (Some(0), Fold::Test)]
    );
    assert_eq!(data.coarse.of, [1, 0]);
    assert_eq!(data.items()[0].bbox, Some(BoundingBox { x: 0.0, y: 1.0, width: 4.0, height: 2.0 }));
    assert!(data.image(0, &Decode::default(), None).is_ok(), "a PNG that is called .jpg");
}

#[test]
fn cars_are_read_in_each_form_of_their_mirrors() {
    let images = ["car_ims/000001.jpg", "car_ims/000002.jpg", "car_ims/000003.jpg"];
    let mat = Tree::new(&images, &[]);
    let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/images/cars_annos.mat");
    mat.write("cars_annos.mat", &fs::read(fixture).unwrap());
    let expected = [(Some(0), Fold::Train), (Some(1), Fold::Train), (Some(1), Fold::Test)];
    let labels = |data: &Dataset| rows(data).iter().map(|r| (r.1, r.2)).collect::<Vec<_>>();
    let data = mat.open().unwrap();
    assert_eq!((labels(&data), data.classes[1].as_str()), (expected.to_vec(), "Acura RL Sedan 2012"));
    assert_eq!(data.items()[0].bbox, Some(BoundingBox { x: 111.0, y: 6.0, width: 742.0, height: 711.0 }));
    mat.write("cars_annos.mat", &fs::read(fixture).unwrap()[..900]);
    assert!(mat.refusal().contains("cars_annos.mat: "));

    // Both folds number their files from 1, in folders of classes or all together.
    let images = ["car_data/train/AM/00001.jpg", "car_data/train/Acura/00002.jpg", "car_data/test/Acura/00001.jpg"];
    let lists = [
        ("names.csv", "AM\n\"Acura\"\n"),
        ("anno_train.csv", "00001.jpg,39,116,569,375,1\n00002.jpg,1,2,3,4,2\n"),
        ("anno_test.csv", "00001.jpg,30,52,246,147,2\n"),
    ];
    let data = Tree::new(&images, &lists).open().unwrap();
    assert_eq!((labels(&data), data.items()[2].name.as_str()), (expected.to_vec(), images[2]));
    let mut wrong = lists;
    wrong[2].1 = "00001.jpg,30,52,246,147,3\n";
    assert!(Tree::new(&images, &wrong).refusal().contains("expected a class from 1 to 2, got 3"));
}

#[test]
fn idx_is_read_plain_and_packed_and_its_lies_are_found() {
    let images = [&[0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 3][..], &(0..12).collect::<Vec<u8>>()].concat();
    let labels = [0, 0, 8, 1, 0, 0, 0, 2, 4, 1];
    let tree = Tree::new(&[], &[]);
    tree.write("train-images-idx3-ubyte", &images);
    assert!(tree.refusal().contains("the labels' file beside it"));
    tree.write("train-labels-idx1-ubyte", &labels);
    let data = tree.open().unwrap();
    assert_eq!((data.n_classes(), rows(&data)[1]), (5, ("train/1", Some(1), Fold::Train)));
    assert_eq!(data.image(1, &Decode::default(), None).unwrap().pixel(2, 1), [11; 3]);
    for (content, message) in [
        (&images[..20], "expected 12 bytes, got 4"),
        (&[&[0, 0, 8, 3][..], &[0xff; 12], &[1; 50]].concat(), "expected at most"),
        (
            &[&[0, 0, 8, 3][..], &[0, 0, 0, 9, 0, 0, 0, 2, 0, 0, 0, 3], &[1; 54]].concat(),
            "labels: expected [9], got [2]",
        ),
        (&[0, 0, 13, 3, 0, 0], "expected an IDX file of bytes"),
    ] {
        tree.write("train-images-idx3-ubyte", content);
        let why = tree.refusal();
        assert!(why.contains(message), "{why}");
    }
    let out = tempfile::tempdir().unwrap();
    let whole = fashion_mnist().unwrap();
    let source = Tree::new(&[], &[]);
    for (name, bytes) in [("train-images-idx3-ubyte", &images), ("train-labels-idx1-ubyte", &labels.to_vec())] {
        source.write(name, bytes);
    }
    assert!(pack_idx(source.path(), out.path(), 1, 0, 0).is_err(), "classes 0, 2 and 3 have no image");
    assert_eq!(whole.items()[3].label, Some(3), "classes take turns");
}

#[test]
fn fingerprint_knows_content_labels_and_names_but_not_the_place() {
    let tree = || Tree::new(&["a/1.png", "b/2.png"], &[]);
    let (one, other) = (tree(), tree());
    let fingerprint = one.open().unwrap().fingerprint();
    assert_eq!(fingerprint, other.open().unwrap().fingerprint());
    let content = fs::read(other.path().join("a/1.png")).unwrap();
    other.write("b/2.png", &content);
    assert_ne!(fingerprint, other.open().unwrap().fingerprint());
    fs::rename(one.path().join("b"), one.path().join("c")).unwrap();
    assert_ne!(fingerprint, one.open().unwrap().fingerprint());
}

#[test]
fn label_without_a_class_is_refused() {
    let item = Item::file("a.png", Some(2), Fold::Train);
    let why = Dataset::new("", vec!["x".into(), "y".into()], vec![item]).unwrap_err().to_string();
    assert_eq!(why, "a.png: label 2, expected one of 2 classes");
    let whole = fashion_mnist().unwrap();
    assert!(whole.subset(&[0, 3000]).is_err());
    assert_eq!(whole.subset(&[5, 3]).unwrap().items()[1].label, Some(3));
}
