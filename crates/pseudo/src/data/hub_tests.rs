//! Parquet files written here by the crate's own writer, in the forms that the hub has them.

use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedColumnWriter, SerializedFileWriter};
use parquet::schema::parser::parse_message_type;

use super::*;
use crate::image::{Decode, Image};

const SCHEMA: &str = "message schema {
    optional group image { optional binary bytes; optional binary path (STRING); }
    optional int64 label;
}";
const FEATURES: &str = r#"{"info": {"features": {
    "image": {"_type": "Image"}, "label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}}}}"#;

/// A column of one file.
enum Column {
    /// Text or bytes, null where there are none; the level of a value.
    Bytes(Vec<Option<Vec<u8>>>, i16),
    Numbers(Vec<Option<i64>>, i16),
}

fn png(shade: u8) -> Vec<u8> {
    let mut out = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut out);
    let pixels = [shade, 7, 9].repeat(12);
    image::ImageEncoder::write_image(encoder, &pixels, 4, 3, image::ExtendedColorType::Rgb8).unwrap();
    out
}

fn write_column(to: &mut SerializedColumnWriter<'_>, column: &Column) {
    let levels =
        |given: Vec<bool>, there: i16| given.into_iter().map(|g| if g { there } else { 0 }).collect::<Vec<_>>();
    match column {
        Column::Bytes(values, there) => {
            let levels = levels(values.iter().map(Option::is_some).collect(), *there);
            let given: Vec<ByteArray> = values.iter().flatten().map(|v| ByteArray::from(v.clone())).collect();
            to.typed::<ByteArrayType>().write_batch(&given, Some(&levels), None).unwrap();
        }
        Column::Numbers(values, there) => {
            let levels = levels(values.iter().map(Option::is_some).collect(), *there);
            let given: Vec<i64> = values.iter().flatten().copied().collect();
            to.typed::<Int64Type>().write_batch(&given, Some(&levels), None).unwrap();
        }
    }
}

/// One file, a row group for each list of columns.
fn write(path: &Path, schema: &str, features: Option<&str>, compression: Compression, groups: &[Vec<Column>]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let metadata = features.map(|f| vec![KeyValue::new("huggingface".to_owned(), f.to_owned())]);
    let properties = WriterProperties::builder().set_compression(compression).set_key_value_metadata(metadata).build();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for columns in groups {
        let mut group = writer.next_row_group().unwrap();
        for column in columns {
            let mut to = group.next_column().unwrap().unwrap();
            write_column(&mut to, column);
            to.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
}

/// Images of these shades with labels, as the hub's own libraries write them.
fn rows(shades: std::ops::Range<u8>, label: impl Fn(u8) -> Option<i64>) -> Vec<Column> {
    let images = shades.clone().map(|s| Some(png(s))).collect();
    let paths = shades.clone().map(|s| Some(format!("{s}.png").into_bytes())).collect();
    vec![Column::Bytes(images, 2), Column::Bytes(paths, 2), Column::Numbers(shades.map(label).collect(), 1)]
}

fn label(shade: u8) -> Option<i64> {
    Some(i64::from(shade) % 3)
}

fn open(path: &Path) -> Result<Dataset, DataError> {
    Location { path: Some(path.to_owned()), layout: None }.open()
}

#[test]
fn shards_of_a_checkout_become_folds_with_named_classes() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let zstd = Compression::ZSTD(ZstdLevel::default());
    write(
        &data.join("train-00000-of-00002.parquet"),
        SCHEMA,
        Some(FEATURES),
        zstd,
        &[rows(0..100, label), rows(100..130, label)],
    );
    write(
        &data.join("train-00001-of-00002.parquet"),
        SCHEMA,
        Some(FEATURES),
        Compression::SNAPPY,
        &[rows(130..140, label)],
    );
    write(
        &data.join("validation-00000-of-00001.parquet"),
        SCHEMA,
        Some(FEATURES),
        Compression::SNAPPY,
        &[rows(140..145, label)],
    );
    write(
        &data.join("test-00000-of-00001.parquet"),
        SCHEMA,
        Some(FEATURES),
        Compression::UNCOMPRESSED,
        &[rows(145..150, |_| Some(-1))],
    );
    let read = open(dir.path()).unwrap();
    assert_eq!(read.classes, ["ant", "bee", "cow"]);
    let sizes = [Fold::Train, Fold::Val, Fold::Test].map(|fold| read.fold(fold).len());
    assert_eq!(sizes, [140, 5, 5]);
    for i in read.fold(Fold::Train) {
        let item = read.item(i).unwrap();
        let shade: u8 = read.image(i, &Decode::default(), None).unwrap().pixels()[0];
        assert_eq!(item.label, Some(usize::from(shade) % 3), "{}", item.name);
    }
    assert!(read.fold(Fold::Test).iter().all(|&i| read.item(i).unwrap().label.is_none()), "-1 is no label");
    let at = |name: &str| read.items().iter().position(|item| item.name == name).unwrap();
    let image = read.image(at("data/train-00000-of-00002/104"), &Decode::default(), None).unwrap();
    assert_eq!(image, Image::filled(4, 3, [104, 7, 9]).unwrap());
    assert_eq!(read.size(0).unwrap(), (4, 3));
    assert_eq!(open(dir.path()).unwrap().fingerprint(), read.fingerprint());
}

#[test]
fn columns_are_found_without_metadata_and_chosen_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("birds.parquet");
    let schema = "message schema {
        optional group img { optional binary bytes; optional binary path (STRING); }
        optional int64 label; optional binary kind (STRING);
    }";
    let mut columns = rows(0..6, |s| Some(i64::from(s) % 2));
    let kinds = (0..6).map(|i| if i == 4 { None } else { Some([&b"wren"[..], b"auk"][i % 2].to_vec()) }).collect();
    columns.push(Column::Bytes(kinds, 1));
    write(&path, schema, None, Compression::SNAPPY, &[columns]);
    let read = open(&path).unwrap();
    assert_eq!((read.classes.as_slice(), read.len()), (["0".to_owned(), "1".to_owned()].as_slice(), 6));
    assert_eq!(read.item(3).unwrap().name, "birds/3");
    let by = |image: Option<&str>, label: Option<&str>| {
        hub_parquet(&path, &HubColumns { image: image.map(str::to_owned), label: label.map(str::to_owned) })
    };
    let kinds = by(None, Some("kind")).unwrap();
    assert_eq!(kinds.classes, ["auk", "wren"]);
    let labels: Vec<_> = kinds.items().iter().map(|item| item.label).collect();
    assert_eq!(labels, [Some(1), Some(0), Some(1), Some(0), None, Some(0)]);
    let why = by(Some("photo"), None).unwrap_err().to_string();
    assert!(why.contains("expected a column of images `photo.bytes`; there are img.bytes, img.path, label"), "{why}");
    let why = by(None, Some("species")).unwrap_err().to_string();
    assert!(why.contains("expected a column of labels `species`; there are"), "{why}");
}

#[test]
fn missing_bytes_are_empty_images_and_damage_is_told_from_them() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    let mut columns = rows(0..4, label);
    columns[0] = Column::Bytes(vec![Some(png(0)), None, Some(b"no image".to_vec()), Some(png(3))], 2);
    write(&path, SCHEMA, Some(FEATURES), Compression::SNAPPY, &[columns]);
    let read = open(&path).unwrap();
    let good: Vec<bool> = (0..4).map(|i| read.image(i, &Decode::default(), None).is_ok()).collect();
    assert_eq!(good, [true, false, false, true]);
    let (audited, audit) = read.audited(&Decode::default(), &AuditConfig::default()).unwrap();
    assert_eq!((audited.len(), audit.bad.len()), (2, 2));
}

#[test]
fn wrong_schemas_and_other_classes_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let write_one = |name: &str, schema: &str, features: Option<&str>, columns: Vec<Column>| {
        let path = dir.path().join(name).join("train.parquet");
        write(&path, schema, features, Compression::SNAPPY, &[columns]);
        path
    };
    let refused = |path: &Path| open(path).unwrap_err().to_string();
    let numbers = |there| Column::Numbers(vec![Some(1), Some(2)], there);
    let text =
        write_one("a", "message s { optional int64 text; optional int64 label; }", None, vec![numbers(1), numbers(1)]);
    assert!(refused(&text).contains("expected one column of images; there are text, label"), "{}", refused(&text));
    let typed = write_one("b", "message s { optional group image { optional int64 bytes; } }", None, vec![numbers(2)]);
    assert!(!refused(&typed).is_empty());
    let far = write_one("c", SCHEMA, Some(FEATURES), rows(0..2, |_| Some(3)));
    assert!(refused(&far).contains("label 3, expected one of 3 classes"), "{}", refused(&far));
    let bad = write_one("d", SCHEMA, Some("{not json"), rows(0..2, label));
    assert!(refused(&bad).contains("metadata `huggingface`"), "{}", refused(&bad));
    let others = FEATURES.replace("cow", "cat");
    write(&dir.path().join("e/train.parquet"), SCHEMA, Some(FEATURES), Compression::SNAPPY, &[rows(0..2, label)]);
    write(&dir.path().join("e/test.parquet"), SCHEMA, Some(&others), Compression::SNAPPY, &[rows(0..2, label)]);
    let why = refused(&dir.path().join("e"));
    assert!(why.contains("expected the classes of"), "{why}");
}

#[test]
fn every_truncation_is_an_error_and_flipped_bytes_never_panic() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.parquet");
    write(&path, SCHEMA, Some(FEATURES), Compression::SNAPPY, &[rows(0..5, label), rows(5..8, label)]);
    let sound = std::fs::read(&path).unwrap();
    for end in (0..sound.len()).step_by(7) {
        std::fs::write(&path, &sound[..end]).unwrap();
        assert!(open(&path).is_err(), "cut at {end} of {}", sound.len());
    }
    let mut stream = chandlery_kernels::Stream::new(chandlery_kernels::Key::new(2));
    for _ in 0..600 {
        let mut broken = sound.clone();
        let at = stream.below(broken.len());
        broken[at] ^= 1 << stream.below(8);
        std::fs::write(&path, &broken).unwrap();
        // Any answer is right but a panic.
        if let Ok(read) = open(&path) {
            (0..read.len()).for_each(|i| drop(read.image(i, &Decode::default(), None)));
        }
    }
}
