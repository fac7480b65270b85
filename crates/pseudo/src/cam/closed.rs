//! From activations and slopes to maps, on plain slices.
//!
//! With a pooled linear head the slope of a logit is `W[c, k] / (h w)` in every place, so no backward pass is needed and
//! Ablation-CAM needs no passes either: without channel `k` the logit falls by `W[c, k] mean(A_k)`. The same functions
//! take the full slope that autograd gives for any other layer.

use rayon::prelude::*;

use super::activation::{Activations, Head, Slope};
use super::eigen::main_projection;
use super::error::{Error, Result, expect};
use super::map::Map;
use super::method::{Fill, Method, Settings};
use super::target::by_logit;

/// Keeps Grad-CAM++'s coefficients defined (pytorch-grad-cam's value).
const SECOND_ORDER_EPS: f64 = 1e-6;

/// Keeps XGrad-CAM's shares defined (pytorch-grad-cam's value).
const SHARE_EPS: f64 = 1e-7;

/// The map of `target` by `method` before any rectifying or scaling, `[h, w]`, for a pooled linear head.
///
/// # Errors
/// For the methods that alter images, sizes that do not fit, an unknown class, and results that are not finite.
pub fn closed_form(
    method: Method,
    of: &Activations<'_>,
    head: &Head<'_>,
    target: usize,
    settings: &Settings,
) -> Result<Map> {
    let logits = head.logits(of)?;
    let by_logit = by_logit(method, &logits, target, settings)?;
    match method {
        Method::Cam => {
            let weights: Vec<f64> = head.row(target).iter().map(|&w| f64::from(w)).collect();
            weighted(of, &weights)
        }
        Method::AblationCam => weighted(of, &ablation_weights(of, head, target, settings.ablation_fill)?),
        _ => slope_map(method, of, &head.slope(&by_logit, of.area())),
    }
}

/// [`closed_form`] of each image of `maps` `[n, k, h, w]`, on all threads; the number of threads changes no bit.
///
/// # Errors
/// As [`closed_form`], for the first image in order.
pub fn closed_forms(
    method: Method,
    maps: &[f32],
    shape: [usize; 3],
    head: &Head<'_>,
    targets: &[usize],
    settings: &Settings,
) -> Result<Vec<Map>> {
    let [k, h, w] = shape;
    expect("values of the activations", &[targets.len() * k * h * w], &[maps.len()])?;
    let one = |(values, &target): (&[f32], &usize)| {
        closed_form(method, &Activations::new(values, k, h, w)?, head, target, settings)
    };
    let each: Vec<Result<Map>> = maps.par_chunks_exact((k * h * w).max(1)).zip(targets).map(one).collect();
    each.into_iter().collect()
}

/// The map of a method that reads activations and the slope of what is explained; [`Method::EigenCam`] ignores the slope.
///
/// # Errors
/// For the methods that need more (CAM, Ablation-CAM, Score-CAM, RISE), sizes that do not fit, and results that are not
/// finite.
pub fn slope_map(method: Method, of: &Activations<'_>, slope: &Slope<'_>) -> Result<Map> {
    slope.check(of)?;
    let area = of.area();
    match method {
        Method::GradCam | Method::FinerCam | Method::GradCamPlusPlus | Method::XGradCam => {
            weighted(of, &slope_weights(method, of, slope)?)
        }
        Method::HiResCam => placewise(of, |k, place| slope.at(k, place, area)),
        Method::LayerCam => placewise(of, |k, place| slope.at(k, place, area).max(0.0)),
        Method::EigenCam => projected(of, |_, _| 1.0),
        Method::EigenGradCam => projected(of, |k, place| slope.at(k, place, area)),
        Method::Cam => Err(Error::Missing { method: method.name(), what: "a pooled linear head" }),
        Method::AblationCam => Err(Error::Missing { method: method.name(), what: "the head or passes of the model" }),
        Method::ScoreCam | Method::Rise => Err(Error::Missing { method: method.name(), what: "passes of the model" }),
    }
}

/// The weight of each channel by Grad-CAM, Finer-CAM, Grad-CAM++ or XGrad-CAM, `[k]`.
///
/// # Errors
/// For the methods whose maps are not sums of weighted channels, and sizes that do not fit.
pub fn slope_weights(method: Method, of: &Activations<'_>, slope: &Slope<'_>) -> Result<Vec<f64>> {
    slope.check(of)?;
    let area = of.area();
    let sum = |k: usize, f: &dyn Fn(f64, f64) -> f64| -> f64 {
        of.channel(k).iter().enumerate().map(|(place, &a)| f(slope.at(k, place, area), f64::from(a))).sum()
    };
    let weight = |k: usize| match method {
        Method::GradCam | Method::FinerCam => Ok(sum(k, &|g, _| g) / area as f64),
        Method::GradCamPlusPlus => {
            let total = of.sum(k);
            Ok(sum(k, &|g, _| second_order(g, total)))
        }
        Method::XGradCam => Ok(sum(k, &|g, a| g * a) / (of.sum(k) + SHARE_EPS)),
        _ => Err(Error::Missing { method: method.name(), what: "another form: it weights places, not channels" }),
    };
    (0..of.channels()).map(weight).collect()
}

/// Grad-CAM++'s positive slope times its coefficient, for a channel of sum `total`.
fn second_order(g: f64, total: f64) -> f64 {
    if g <= 0.0 {
        return 0.0;
    }
    g * (g * g / (2.0 * g * g + total * g * g * g + SECOND_ORDER_EPS))
}

/// What the logit of `target` loses without each channel, as a share of the logit, `[k]`; the loss itself where the logit
/// is zero. A negative logit turns the signs around, as in the paper's formula.
///
/// # Errors
/// If the activations are not the head's.
pub fn ablation_weights(of: &Activations<'_>, head: &Head<'_>, target: usize, fill: Fill) -> Result<Vec<f64>> {
    let logit = head.logits(of)?[target];
    let scale = share_of(logit);
    let (row, min) = (head.row(target), of.min());
    Ok((0..of.channels()).map(|k| f64::from(row[k]) * (of.mean(k) - filling(fill, min, k)) * scale).collect())
}

/// The factor that makes a loss of `logit` a share of it.
pub(super) fn share_of(logit: f64) -> f64 {
    if logit == 0.0 { 1.0 } else { 1.0 / logit }
}

/// What stands in for channel `k` of activations with the smallest value `min`.
pub(super) fn filling(fill: Fill, min: f32, k: usize) -> f64 {
    /// The package's step and batch.
    const BELOW: f64 = 1e7;
    const COPIES: usize = 32;
    match fill {
        Fill::Package if min != 0.0 => f64::from(min) - BELOW * (k % COPIES + 1) as f64,
        Fill::Zero | Fill::Package => 0.0,
    }
}

/// `sum_k weights[k] A_k`.
pub(super) fn weighted(of: &Activations<'_>, weights: &[f64]) -> Result<Map> {
    placewise(of, |k, _| weights[k])
}

/// `sum_k factor(k, place) A_k[place]`, channels in order.
fn placewise(of: &Activations<'_>, factor: impl Fn(usize, usize) -> f64) -> Result<Map> {
    let mut sums = vec![0.0; of.area()];
    for k in 0..of.channels() {
        for (place, (sum, &a)) in sums.iter_mut().zip(of.channel(k)).enumerate() {
            *sum += factor(k, place) * f64::from(a);
        }
    }
    Map::from_sums(of.size().0, of.size().1, &sums)
}

/// The places `[h w, k]` of `factor * A` projected on their main direction.
fn projected(of: &Activations<'_>, factor: impl Fn(usize, usize) -> f64) -> Result<Map> {
    let (n, channels) = (of.area(), of.channels());
    let mut x = vec![0.0; n * channels];
    for k in 0..channels {
        for (place, &a) in of.channel(k).iter().enumerate() {
            x[place * channels + k] = factor(k, place) * f64::from(a);
        }
    }
    Map::from_sums(of.size().0, of.size().1, &main_projection(x, n, channels))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chandlery_kernels::{Key, Stream};

    /// Rectified activations `[k, h, w]`, a head and its classes.
    fn draw(seed: u64, k: usize, area: usize, classes: usize) -> (Vec<f32>, Vec<f32>) {
        let mut stream = Stream::new(Key::new(seed));
        let acts = (0..k * area).map(|_| stream.normal().max(0.0) as f32).collect();
        (acts, (0..classes * k).map(|_| stream.normal() as f32).collect())
    }

    /// `a` is `b` times a positive factor.
    fn parallel(a: &Map, b: &Map) {
        let (ra, rb) = (a.range(), b.range());
        let by = f64::from(ra.1 - ra.0) / f64::from(rb.1 - rb.0);
        for (a, b) in a.values().iter().zip(b.values()) {
            assert!((f64::from(*a) - by * f64::from(*b)).abs() < 1e-5 * f64::from(ra.1.abs().max(ra.0.abs())));
        }
    }

    #[test]
    fn gradient_methods_are_cam_up_to_scale_on_a_pooled_linear_head() {
        let (values, weight) = draw(5, 6, 12, 4);
        let acts = Activations::new(&values, 6, 3, 4).unwrap();
        let head = Head::new(&weight, None, 4, 6).unwrap();
        let settings = Settings::default();
        let map = |method| closed_form(method, &acts, &head, 2, &settings).unwrap();
        for method in [Method::GradCam, Method::HiResCam, Method::XGradCam] {
            parallel(&map(method), &map(Method::Cam));
        }
    }

    #[test]
    fn even_slopes_give_what_full_slopes_give() {
        let (values, weight) = draw(6, 5, 6, 3);
        let acts = Activations::new(&values, 5, 2, 3).unwrap();
        let head = Head::new(&weight, None, 3, 5).unwrap();
        let even = head.slope(&[0.0, 1.0, 0.0], 6);
        let full: Vec<f32> = (0..30).map(|i| even.at(i / 6, i % 6, 6) as f32).collect();
        for method in
            [Method::GradCam, Method::GradCamPlusPlus, Method::XGradCam, Method::LayerCam, Method::EigenGradCam]
        {
            let (a, b) =
                (slope_map(method, &acts, &even).unwrap(), slope_map(method, &acts, &Slope::Full(&full)).unwrap());
            for (a, b) in a.values().iter().zip(b.values()) {
                assert!((a - b).abs() < 1e-5, "{method}: {a} {b}");
            }
        }
    }

    #[test]
    fn grad_cam_plus_plus_by_hand() {
        // One channel, g = 0.5 everywhere, sum 4: 2 * 0.5 * 0.25 / (0.5 + 4 * 0.125 + 1e-6), about 0.25.
        let acts = Activations::new(&[1.0, 3.0], 1, 1, 2).unwrap();
        let weights = slope_weights(Method::GradCamPlusPlus, &acts, &Slope::Even(vec![0.5])).unwrap();
        assert!((weights[0] - 0.25).abs() < 1e-6, "{weights:?}");
        let none = slope_weights(Method::GradCamPlusPlus, &acts, &Slope::Even(vec![-0.5])).unwrap();
        assert_eq!(none, [0.0]);
    }

    #[test]
    fn ablation_equals_passes_without_each_channel() {
        let (values, weight) = draw(7, 4, 6, 3);
        let bias = [0.25, -0.5, 1.0];
        let acts = Activations::new(&values, 4, 2, 3).unwrap();
        let head = Head::new(&weight, Some(&bias), 3, 4).unwrap();
        let weights = ablation_weights(&acts, &head, 1, Fill::Zero).unwrap();
        let full = head.logits(&acts).unwrap()[1];
        for k in 0..4 {
            let mut without = values.clone();
            without[k * 6..][..6].fill(0.0);
            let left = head.logits(&Activations::new(&without, 4, 2, 3).unwrap()).unwrap()[1];
            assert!((weights[k] - (full - left) / full).abs() < 1e-9, "{k}");
        }
    }

    #[test]
    fn a_logit_of_zero_leaves_the_ablation_map_finite() {
        let acts = Activations::new(&[1.0, 1.0], 1, 1, 2).unwrap();
        let head = Head::new(&[2.0], Some(&[-2.0]), 1, 1).unwrap();
        assert_eq!(ablation_weights(&acts, &head, 0, Fill::Zero).unwrap(), [2.0]);
    }

    #[test]
    fn every_closed_form_of_dead_activations_is_a_constant_map() {
        let acts = Activations::new(&[0.0; 8], 2, 2, 2).unwrap();
        let head = Head::new(&[1.0, -1.0], None, 1, 2).unwrap();
        for method in Method::ALL.into_iter().filter(|m| !m.alters_images()) {
            let map = closed_form(method, &acts, &head, 0, &Settings::default()).unwrap();
            assert!(map.is_constant(), "{method}");
        }
    }

    #[test]
    fn threads_change_no_bit_and_images_do_not_mix() {
        let (values, weight) = draw(8, 6, 9, 4);
        let (more, _) = draw(9, 6, 9, 4);
        let batch = [values.clone(), more].concat();
        let head = Head::new(&weight, None, 4, 6).unwrap();
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let forms = || closed_forms(Method::EigenGradCam, &batch, [6, 3, 3], &head, &[1, 3], &Settings::default());
            pool.install(forms).unwrap()
        };
        assert_eq!(run(1), run(3));
        let acts = Activations::new(&values, 6, 3, 3).unwrap();
        let alone = closed_form(Method::EigenGradCam, &acts, &head, 1, &Settings::default()).unwrap();
        assert_eq!(run(2)[0], alone);
    }

    #[test]
    fn methods_that_need_the_model_say_so() {
        let acts = Activations::new(&[1.0], 1, 1, 1).unwrap();
        let head = Head::new(&[1.0], None, 1, 1).unwrap();
        for method in [Method::ScoreCam, Method::Rise] {
            let error = closed_form(method, &acts, &head, 0, &Settings::default()).unwrap_err();
            assert!(matches!(error, Error::Missing { .. }), "{error}");
        }
    }
}
