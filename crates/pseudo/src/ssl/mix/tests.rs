use super::*;
use candle_core::{Device, Tensor};
use chandlery_kernels::{Key, Stream};
use proptest::prelude::*;

fn map(seed: u64, n: usize) -> Vec<f32> {
    let mut draws = Stream::new(Key::new(seed));
    (0..n).map(|_| draws.normal() as f32).collect()
}

fn whole(size: (usize, usize)) -> Rect {
    Rect { row0: 0, col0: 0, row1: size.0, col1: size.1 }
}

/// A bump that is zero at the border of every patch would be flat; a ramp in one corner is not.
fn ramp() -> PercentMap {
    PercentMap::new(&[0.0, 0.0, 0.0, 1.0], (2, 2), (8, 8), SampleMin::Exact)
}

proptest! {
    /// The separable sum is the sum over the dense map, whatever the sizes and the box.
    #[test]
    fn mass_of_a_box_is_its_sum(
        seed in 0_u64..1000, h in 1_usize..6, w in 1_usize..6, rows in 1_usize..20, cols in 1_usize..20,
        box_seed in 0_u64..1000, exact in any::<bool>(),
    ) {
        let minimum = if exact { SampleMin::Exact } else { SampleMin::Cells };
        let percent = PercentMap::new(&map(seed, h * w), (h, w), (rows, cols), minimum);
        let dense = percent.dense();
        let mut draws = Stream::new(Key::new(box_seed));
        let (a, b, c, d) = (draws.below(rows + 1), draws.below(rows + 1), draws.below(cols + 1), draws.below(cols + 1));
        let rect = Rect { row0: a.min(b), row1: a.max(b), col0: c.min(d), col1: c.max(d) };
        let sum: f64 = (rect.row0..rect.row1).flat_map(|i| &dense[i * cols + rect.col0..i * cols + rect.col1]).sum();
        let mass = percent.mass(rect);
        if dense[0].is_nan() {
            prop_assert!(mass.is_nan());
            return Ok(());
        }
        prop_assert!((sum - mass).abs() < 1e-9, "{sum} {mass}");
        prop_assert!((percent.mass(whole((rows, cols))) - 1.0).abs() < 1e-9);
        let smallest = dense.iter().copied().fold(f64::INFINITY, f64::min);
        prop_assert!(smallest >= -1e-12, "{smallest}");
        prop_assert!(!exact || smallest.abs() < 1e-12, "{smallest}");
    }

    #[test]
    fn boxes_lie_within_the_image(rows in 1_usize..50, cols in 1_usize..50, lam in 0.0..=1.0_f64, seed in any::<u64>()) {
        let mut draws = Stream::new(Key::new(seed));
        let rect = Rect::around(rows, cols, lam, (draws.below(rows), draws.below(cols)));
        prop_assert!(rect.row0 <= rect.row1 && rect.row1 <= rows && rect.col0 <= rect.col1 && rect.col1 <= cols);
    }
}

#[test]
fn full_source_counts_whole_and_empty_box_nothing() {
    let percent = ramp();
    assert!((percent.mass(whole((8, 8))) - 1.0).abs() < 1e-12);
    assert_eq!(percent.mass(Rect { row0: 3, col0: 3, row1: 3, col1: 8 }), 0.0);
    let none = MixConfig::Snapmix(BoxMix::default()).draw(200, (2, 2), Key::new(1));
    assert!(none.iter().all(|b| match b {
        Blend::Paste { dest, source } => dest.area() > 0 && source.area() > 0,
        other => *other == Blend::Keep,
    }));
    assert!(none.contains(&Blend::Keep), "images of 2 by 2 have empty boxes");
}

/// Where evidence is even and both boxes are one, SnapMix is CutMix.
#[test]
fn even_maps_reduce_to_cutmix() {
    // Constant over the image, and zero in a strip one cell wide that no box touches, so that the map is not flat.
    let (h, w) = (1, 64);
    let mut cells = vec![1.0; w];
    cells[w - 1] = 0.0;
    let even = PercentMap::new(&cells, (h, w), (1, w), SampleMin::Exact);
    let rect = Rect { row0: 0, col0: 3, row1: 1, col1: 24 };
    let blend = Blend::Paste { dest: rect, source: rect };
    let semantic = shares(&blend, Some((&even, &even)), false, (1, w), ShareRule::default());
    let area = 21.0 / (w - 1) as f64;
    assert!((semantic.own - (1.0 - area)).abs() < 1e-12 && (semantic.partner - area).abs() < 1e-12);
    // A map without any difference says nothing: area decides.
    let flat = PercentMap::new(&[0.25; 6], (2, 3), (8, 64), SampleMin::Exact);
    assert!(flat.mass(whole((8, 64))).is_nan() && flat.dense()[5].is_nan());
    let by_area = shares(&blend, Some((&flat, &flat)), false, (8, 64), ShareRule::default());
    assert_eq!(by_area, shares(&blend, None, false, (8, 64), ShareRule::default()));
    assert_eq!(by_area.own + by_area.partner, 1.0);
    let one_flat = shares(&blend, Some((&even, &flat)), false, (1, w), ShareRule::default());
    assert!((one_flat.own - semantic.own).abs() < 1e-12 && one_flat.partner == 21.0 / w as f64);
}

#[test]
fn share_rules_do_as_named() {
    let (dest, source) = (whole((4, 8)), Rect { row0: 4, col0: 4, row1: 8, col1: 8 });
    let blend = Blend::Paste { dest, source };
    let (a, b) = (ramp(), ramp());
    let rule = |same_class_double, normalise| ShareRule { same_class_double, normalise };
    let of = |same, rule| shares(&blend, Some((&a, &b)), same, (8, 8), rule);
    let plain = of(true, rule(false, false));
    assert!(plain.own + plain.partner > 1.1, "{plain:?}");
    let both = plain.own + plain.partner;
    assert_eq!(of(true, rule(true, false)), Shares { own: both, partner: both });
    assert_eq!(of(false, rule(true, false)), plain);
    let normal = of(false, rule(false, true));
    assert!((normal.own + normal.partner - 1.0).abs() < 1e-12);
    assert_eq!(shares(&Blend::Keep, Some((&a, &b)), true, (8, 8), rule(true, true)), Shares::WHOLE);
    let fade = shares(&Blend::Fade { own: 0.25 }, None, false, (8, 8), rule(false, false));
    assert_eq!(fade, Shares { own: 0.25, partner: 0.75 });
}

#[test]
fn draws_depend_on_key_and_image_alone() {
    let mix = MixConfig::Snapmix(BoxMix::default());
    let (five, nine) = (mix.draw(5, (64, 48), Key::new(1)), mix.draw(9, (64, 48), Key::new(1)));
    assert_eq!(five, nine[..5]);
    assert_ne!(five, mix.draw(5, (64, 48), Key::new(2)));
    assert!(five[0] != five[1]);
    let batch =
        MixConfig::Snapmix(BoxMix { boxes: Boxes::PerBatch, ..BoxMix::default() }).draw(5, (64, 48), Key::new(1));
    assert!(batch.iter().all(|b| *b == five[0]));
    let never = MixConfig::Cutmix(PlainMix { prob: 0.0, ..PlainMix::default() });
    assert_eq!(never.draw(3, (8, 8), Key::new(1)), [Blend::Keep; 3]);
    for blend in MixConfig::Cutmix(PlainMix::default()).draw(20, (64, 48), Key::new(1)) {
        assert!(matches!(blend, Blend::Keep) || matches!(blend, Blend::Paste { dest, source } if dest == source));
    }
    let mut order = partners(10, Key::new(3));
    order.sort_unstable();
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

#[test]
fn pixels_outside_the_box_stay_and_inside_come_from_the_partner() {
    let x = Tensor::arange(0f32, 64.0, &Device::Cpu).unwrap().reshape((2, 2, 4, 4)).unwrap();
    let rect = |row0, col0, row1, col1| Rect { row0, col0, row1, col1 };
    let plan = Plan {
        partners: vec![1, 1],
        blends: vec![Blend::Paste { dest: rect(0, 0, 2, 2), source: rect(1, 1, 4, 4) }, Blend::Fade { own: 0.5 }],
    };
    let mixed = plan.apply(&x).unwrap().to_vec3_of_planes();
    // 3 x 3 to 2 x 2 with coinciding corners takes the corners.
    assert_eq!(mixed[0], [37., 39., 2., 3., 45., 47., 6., 7., 8., 9., 10., 11., 12., 13., 14., 15.]);
    assert_eq!(mixed[2], (32..48).map(|v| v as f32).collect::<Vec<_>>(), "faded with itself");
    let say = |plan: Plan| plan.apply(&x).unwrap_err().to_string();
    assert!(say(Plan { partners: vec![0], blends: vec![Blend::Keep] }).contains("for 1 images, got 2"));
    assert!(say(Plan { partners: vec![0, 2], blends: vec![Blend::Keep; 2] }).contains("partner 2"));
    let outside = Blend::Paste { dest: rect(0, 0, 2, 5), source: rect(0, 0, 1, 1) };
    assert!(say(Plan { partners: vec![0, 0], blends: vec![outside; 2] }).contains("do not lie within"));
}

/// Planes of a tensor [n, c, h, w].
trait Planes {
    fn to_vec3_of_planes(&self) -> Vec<Vec<f32>>;
}

impl Planes for Tensor {
    fn to_vec3_of_planes(&self) -> Vec<Vec<f32>> {
        self.flatten(0, 1).unwrap().flatten_from(1).unwrap().to_vec2().unwrap()
    }
}

#[test]
fn number_of_threads_changes_no_bit() {
    let x = Tensor::from_vec(map(7, 6 * 3 * 20 * 20), (6, 3, 20, 20), &Device::Cpu).unwrap();
    let key = Key::new(5);
    let plan =
        Plan { partners: partners(6, key), blends: MixConfig::Snapmix(BoxMix::default()).draw(6, (20, 20), key) };
    let on = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| plan.apply(&x)).unwrap().to_vec3_of_planes()
    };
    assert_eq!(on(1), on(3));
}
