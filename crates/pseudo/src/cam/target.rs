//! The scalar that is explained, as its derivative by the logits. Any layer's slope follows from it by the chain rule.

use super::error::{Error, Result};
use super::method::{Method, Settings};

/// Keeps the weighted mean over rivals defined where all their probabilities vanish (pytorch-grad-cam's value).
const RIVAL_EPS: f64 = 1e-9;

/// `ds/dz` `[c]` of what `method` explains about class `target`: the logit itself, or Finer-CAM's contrast.
///
/// # Errors
/// If there is no such class, or if a logit is not finite.
pub fn by_logit(method: Method, logits: &[f64], target: usize, settings: &Settings) -> Result<Vec<f64>> {
    if target >= logits.len() {
        let expected = format!("a class below {}", logits.len());
        return Err(Error::Shape { what: "target", expected, got: target.to_string() });
    }
    if let Some(index) = logits.iter().position(|z| !z.is_finite()) {
        return Err(Error::NonFinite { what: "logits", index, value: logits[index] });
    }
    let rivals = rivals(logits, target, settings.finer_rivals);
    if method == Method::FinerCam && !rivals.is_empty() {
        return Ok(contrast(logits, target, &rivals, settings.finer_alpha));
    }
    let mut one_hot = vec![0.0; logits.len()];
    one_hot[target] = 1.0;
    Ok(one_hot)
}

/// The `count` other classes whose logits are nearest to that of `target`, nearest first, ties by number.
pub fn rivals(logits: &[f64], target: usize, count: usize) -> Vec<usize> {
    let far = |class: &usize| (logits[*class] - logits[target]).abs();
    let mut others: Vec<usize> = (0..logits.len()).filter(|&class| class != target).collect();
    others.sort_by(|a, b| far(a).total_cmp(&far(b)));
    others.truncate(count);
    others
}

/// The derivative of `sum_r p_r (z_c - alpha z_r) / (sum_r p_r + eps)`, `p = softmax(z)`, with the probabilities free.
fn contrast(logits: &[f64], target: usize, rivals: &[usize], alpha: f64) -> Vec<f64> {
    let top = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut p: Vec<f64> = logits.iter().map(|z| (z - top).exp()).collect();
    let total: f64 = p.iter().sum();
    p.iter_mut().for_each(|p| *p /= total);

    let gap = |class: usize| logits[target] - alpha * logits[class];
    let mass: f64 = rivals.iter().map(|&r| p[r]).sum();
    let sum: f64 = rivals.iter().map(|&r| p[r] * gap(r)).sum();
    let below = mass + RIVAL_EPS;
    let derivative = |j: usize| {
        let rival = if rivals.contains(&j) { p[j] } else { 0.0 };
        let own = if j == target { mass } else { 0.0 };
        // dp_r/dz_j = p_r ([r = j] - p_j) in numerator and denominator.
        let above = rival * gap(j) - p[j] * sum + own - alpha * rival;
        (above - sum / below * (rival - p[j] * mass)) / below
    };
    (0..logits.len()).map(derivative).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The explained scalar itself, written out.
    fn scalar(z: &[f64], target: usize, rivals: &[usize], alpha: f64) -> f64 {
        let total: f64 = z.iter().map(|z| z.exp()).sum();
        let p = |r: usize| z[r].exp() / total;
        let above: f64 = rivals.iter().map(|&r| p(r) * (z[target] - alpha * z[r])).sum();
        above / (rivals.iter().map(|&r| p(r)).sum::<f64>() + RIVAL_EPS)
    }

    #[test]
    fn the_contrast_has_the_slope_of_finite_differences() {
        let z = [0.3, -1.2, 2.0, 1.1, 0.9];
        for (target, alpha) in [(2, 1.0), (0, 0.6), (1, 0.0)] {
            let settings = Settings { finer_alpha: alpha, ..Settings::default() };
            let rivals = rivals(&z, target, 3);
            let slope = by_logit(Method::FinerCam, &z, target, &settings).unwrap();
            for (j, &slope) in slope.iter().enumerate() {
                let at = |step: f64| {
                    let mut moved = z;
                    moved[j] += step;
                    scalar(&moved, target, &rivals, alpha)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - slope).abs() < 1e-8, "{target} {j}: {numeric} {slope}");
            }
        }
    }

    #[test]
    fn rivals_are_the_nearest_others() {
        assert_eq!(rivals(&[0.0, 5.0, 1.0, -1.0, 9.0], 0, 3), [2, 3, 1]);
        assert_eq!(rivals(&[0.0, 1.0], 1, 3), [0]);
        assert!(rivals(&[0.0], 0, 3).is_empty());
    }

    #[test]
    fn without_rivals_the_logit_is_explained() {
        assert_eq!(by_logit(Method::FinerCam, &[2.0], 0, &Settings::default()).unwrap(), [1.0]);
        assert_eq!(by_logit(Method::GradCam, &[2.0, 1.0], 1, &Settings::default()).unwrap(), [0.0, 1.0]);
        assert!(by_logit(Method::GradCam, &[2.0], 1, &Settings::default()).is_err());
        assert!(by_logit(Method::GradCam, &[f64::NAN], 0, &Settings::default()).is_err());
    }

    #[test]
    fn distant_rivals_leave_it_finite() {
        let slope = by_logit(Method::FinerCam, &[1e4, 0.0, -5.0], 0, &Settings::default()).unwrap();
        assert!(slope.iter().all(|s| s.is_finite()));
    }
}
