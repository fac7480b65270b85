//! What views promise.

use chandlery_kernels::Key;

use super::*;

fn ramp(w: usize, h: usize) -> Image {
    Image::new(w, h, (0..h).flat_map(|y| (0..w).flat_map(move |x| [x as u8, y as u8, 0])).collect()).unwrap()
}

fn plain() -> Views {
    Views { resize: Resize::ShortSide(32), crop: 24, ..Views::default() }
}

#[test]
fn weak_views_reach_every_corner_and_both_sides_and_never_stand_on_their_head() {
    let (views, image) = (plain(), ramp(40, 32));
    let (mut corners, mut mirrored) = (std::collections::BTreeSet::new(), 0);
    for i in 0..4000 {
        let seen = views.see(&image, View::Weak, Key::new(1).at(i), 0);
        let ([left, top, _], [right, bottom, _]) = (seen.pixel(0, 0), seen.pixel(23, 23));
        assert_eq!(bottom, top + 23, "upside down");
        corners.insert((left.min(right), top));
        mirrored += u32::from(left > right);
    }
    assert_eq!(corners.len(), 17 * 9);
    // Five standard errors of 4000 fair draws.
    assert!((1842..=2158).contains(&mirrored), "{mirrored}");
}

#[test]
fn test_view_is_the_middle_whatever_the_key() {
    let (views, image) = (plain(), ramp(40, 32));
    let seen = views.see(&image, View::Test, Key::new(1), 0);
    assert_eq!(seen, views.see(&image, View::Test, Key::new(2), 7));
    assert_eq!(seen.pixel(0, 0), [8, 4, 0]);
}

#[test]
fn points_are_found_again_in_the_test_view() {
    let mut image = Image::filled(120, 80, [0; 3]).unwrap();
    // Four white pixels around (62, 30).
    for (x, y) in [(61, 29), (62, 29), (61, 30), (62, 30)] {
        image.pixels_mut()[(y * 120 + x) * 3..][..3].fill(255);
    }
    let views = Views { resize: Resize::ShortSide(160), crop: 100, ..Views::default() };
    let seen = views.see(&views.resize(&image).unwrap(), View::Test, Key::new(0), 0);
    let (x, y) = views.place((120, 80), (62.0, 30.0));
    assert_eq!((x, y), (54.0, 30.0));
    let brightest = (0..100 * 100).filter(|i| seen.pixel(i % 100, i / 100)[0] > 200);
    let at: Vec<(usize, usize)> = brightest.map(|i| (i % 100, i / 100)).collect();
    assert!(!at.is_empty() && at.iter().all(|&(a, b)| (52..56).contains(&a) && (28..32).contains(&b)), "{at:?}");
}

#[test]
fn padded_crop_of_the_whole_image_shifts_it_by_at_most_the_pad() {
    let views = Views { resize: Resize::ShortSide(24), crop: 24, pad: 3, flip: 0.0, ..Views::default() };
    let image = ramp(24, 24);
    let shifts: std::collections::BTreeSet<[u8; 2]> = (0..2000)
        .map(|i| views.see(&image, View::Weak, Key::new(4).at(i), 0))
        .map(|seen| [seen.pixel(12, 12)[0], seen.pixel(12, 12)[1]])
        .collect();
    assert_eq!(shifts.len(), 49);
    assert_eq!((shifts.first(), shifts.last()), (Some(&[9, 9]), Some(&[15, 15])));
}

#[test]
fn strong_view_without_operations_is_the_weak_one() {
    let strong = Strong { n: 0, cutout: 0.0, ..Strong::default() };
    let (views, image) = (Views { strong, ..plain() }, ramp(40, 32));
    let key = Key::new(9);
    assert_eq!(views.see(&image, View::Strong, key, 1), views.see(&image, View::Weak, key, 1));
    assert_ne!(plain().see(&image, View::Strong, key, 1), plain().see(&image, View::Weak, key, 1));
}

#[test]
fn settings_out_of_range_are_named() {
    assert!(Views::default().check().is_ok());
    let cases = [
        (Views { crop: 0, ..plain() }, "crop"),
        (Views { crop: 33, ..plain() }, "crop"),
        (Views { resize: Resize::Squash(0), ..plain() }, "resize"),
        (Views { flip: 1.5, ..plain() }, "flip"),
    ];
    for (views, setting) in cases {
        assert!(views.check().unwrap_err().to_string().contains(setting), "{setting}");
    }
    assert!(Views { crop: 33, pad: 1, ..plain() }.check().is_ok());
}

#[test]
fn config_reads_back_and_unknown_keys_are_refused() {
    let views = Views { normalise: Normalise::Custom { mean: [0.5; 3], std: [0.25; 3] }, ..plain() };
    let text = serde_json::to_string(&views).unwrap();
    assert_eq!(serde_json::from_str::<Views>(&text).unwrap(), views);
    let short = r#"{"resize": {"squash": 64}, "crop": 56, "normalise": "efficientnet_lite", "strong": {"n": 2}}"#;
    let short: Views = serde_json::from_str(short).unwrap();
    assert_eq!((short.resize, short.strong.n, short.strong.ops.len()), (Resize::Squash(64), 2, 14));
    assert!(serde_json::from_str::<Views>(r#"{"crop": 56, "colour": 1}"#).is_err());
    assert!(serde_json::from_str::<Views>(r#"{"strong": {"m": 10}}"#).is_err());
}

#[test]
fn sliver_is_refused_before_it_grows() {
    let sliver = Image::filled(20_000, 2, [0; 3]).unwrap();
    assert!(matches!(Views::default().resize(&sliver), Err(ImageError::Size { .. })));
}
