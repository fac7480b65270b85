//! The bytes of libjpeg, and what the fast way leaves to others.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::baseline;
use crate::image::{Decode, Image};

fn cases() -> Vec<(String, Vec<u8>, Value)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/images/pil_jpeg.json");
    let cases: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let bytes =
        |hex: &str| (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
    let case =
        |c: Value| (c["name"].as_str().unwrap().to_owned(), bytes(c["jpeg"].as_str().unwrap()), c["decoded"].clone());
    cases.into_iter().map(case).collect()
}

fn hash(image: &Image) -> String {
    Sha256::digest(image.pixels()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_size_and_sampling_has_the_bytes_of_pillow() {
    let mut seen = 0;
    for (name, content, decoded) in cases() {
        for n in [1, 2, 4, 8] {
            let image = baseline::decode(&content, n).unwrap_or_else(|| panic!("{name} at 1/{n} was left to others"));
            let Some(theirs) = decoded.get(n.to_string()) else { continue };
            assert_eq!(serde_json::json!([image.width(), image.height()]), theirs["size"], "{name} at 1/{n}");
            assert_eq!(hash(&image), theirs["sha256"], "{name} at 1/{n}");
            seen += 1;
        }
    }
    assert!(seen > 70, "{seen}");
}

#[test]
fn other_kinds_are_left_to_others() {
    let (_, content, _) = cases().swap_remove(2);
    let at = |marker: u8| content.windows(2).position(|pair| pair == [0xff, marker]).unwrap();
    let change = |place: usize, to: u8| {
        let mut other = content.clone();
        other[place] = to;
        baseline::decode(&other, 1)
    };
    let frame = at(0xc0);
    assert!(baseline::decode(&content, 1).is_some());
    assert_eq!(change(frame + 1, 0xc2), None, "progressive");
    assert_eq!(change(frame + 4, 12), None, "12 bits");
    assert_eq!(change(frame + 11, 0x41), None, "4:1:1");
    assert_eq!(change(frame + 12, 3), None, "a table that is not there");
    assert_eq!(baseline::decode(&content[..content.len() / 2], 1), None, "cut short");
    let twice = [&content[..frame], &content[frame..frame + 19], &content[frame..]].concat();
    assert_eq!(baseline::decode(&twice, 1), None, "two frames: the limits were held against the first alone");
}

#[test]
fn fast_and_general_decoders_agree_nearly_where_no_colour_is_enlarged() {
    // Of the others the general decoder enlarges the colours in a way of its own.
    for (name, content, _) in
        cases().into_iter().filter(|(name, ..)| name.starts_with("444") || name.starts_with("grey"))
    {
        let whole = Decode { min_side: 1, ..Decode::default() };
        let (fast, header) = (whole.decode(&content, None).unwrap(), crate::image::header(&content).unwrap());
        let general = super::full(&content, &header).unwrap();
        let differences = fast.pixels().iter().zip(general.pixels()).map(|(a, b)| u64::from(a.abs_diff(*b)));
        let mean = differences.sum::<u64>() as f64 / fast.pixels().len() as f64;
        assert!(mean < 1.0, "{name}: {mean}");
    }
}
