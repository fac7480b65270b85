//! The methods that run the model again on altered activations or images.

use candle_core::{Device, Tensor};
use chandlery_kernels::{Key, Stream};

use super::activation::Activations;
use super::closed::{filling, share_of, weighted};
use super::error::{Error, Result};
use super::map::{Corners, Map, resize_bilinear};
use super::method::Settings;
use super::probe::{Layout, Probe, host, rows};

/// Keeps Score-CAM's masks defined (pytorch-grad-cam's value).
const MASK_EPS: f64 = 1e-8;

/// Ablation-CAM at any layer: one row of a batch for each channel without it.
pub(super) fn ablation_cam(
    probe: &Probe<'_>,
    output: &Tensor,
    values: &[f32],
    shape: [usize; 3],
    targets: &[usize],
    settings: &Settings,
) -> Result<Vec<Map>> {
    let [k, h, w] = shape;
    let full = rows(&(probe.logits)(output)?)?;
    let image = |(i, &target): (usize, &usize)| {
        let acts = Activations::new(&values[i * k * h * w..][..k * h * w], k, h, w)?;
        let logit = class_of(&full[i], target)?;
        let one = output.narrow(0, i, 1)?;
        let native = host(&one)?;
        let (mut weights, min) = (Vec::with_capacity(k), acts.min());
        for first in (0..k).step_by(settings.batch) {
            let channels = first..(first + settings.batch).min(k);
            let mut altered = Vec::with_capacity(channels.len() * native.len());
            for channel in channels.clone() {
                let fill = filling(settings.ablation_fill, min, channel) as f32;
                altered.extend(without(&native, probe.layout, channel, shape, fill));
            }
            let mut dims = one.dims().to_vec();
            dims[0] = channels.len();
            let altered = Tensor::from_vec(altered, dims, &Device::Cpu)?;
            let altered = altered.to_device(output.device())?.to_dtype(output.dtype())?;
            for row in rows(&(probe.logits)(&altered)?)? {
                weights.push((logit - class_of(&row, target)?) * share_of(logit));
            }
        }
        weighted(&acts, &weights)
    };
    targets.iter().enumerate().map(image).collect()
}

/// A layer's output of one image with one channel filled, prefix tokens included.
fn without(native: &[f32], layout: Layout, channel: usize, [k, h, w]: [usize; 3], fill: f32) -> Vec<f32> {
    let mut out = native.to_vec();
    match layout {
        Layout::Maps => out[channel * h * w..][..h * w].fill(fill),
        Layout::Tokens { .. } => out.iter_mut().skip(channel).step_by(k).for_each(|v| *v = fill),
    }
    out
}

fn class_of(row: &[f32], target: usize) -> Result<f64> {
    row.get(target).map(|&z| f64::from(z)).ok_or_else(|| Error::Shape {
        what: "target",
        expected: format!("a class below {}", row.len()),
        got: target.to_string(),
    })
}

/// Score-CAM: channels weighted by the softmax, over channels, of the logit of the image seen through each of them.
pub(super) fn score_cam(
    probe: &Probe<'_>,
    images: &Tensor,
    values: &[f32],
    shape: [usize; 3],
    targets: &[usize],
    settings: &Settings,
) -> Result<Vec<Map>> {
    let [k, h, w] = shape;
    let (_, _, height, width) = images.dims4()?;
    let image = |(i, &target): (usize, &usize)| {
        let acts = Activations::new(&values[i * k * h * w..][..k * h * w], k, h, w)?;
        let chosen = widest(&acts, settings.score_channels);
        let masks = chosen.iter().map(|&channel| channel_mask(&acts, channel, (height, width)));
        let scores =
            masked_scores(probe, &images.narrow(0, i, 1)?, masks, settings.batch, |row| class_of(row, target))?;
        let mut weights = vec![0.0; k];
        chosen.iter().zip(softmax(&scores)).for_each(|(&channel, weight)| weights[channel] = weight);
        weighted(&acts, &weights)
    };
    targets.iter().enumerate().map(image).collect()
}

/// The `count` channels of the widest range in the order of channels; all of them for 0.
fn widest(acts: &Activations<'_>, count: usize) -> Vec<usize> {
    let mut channels: Vec<usize> = (0..acts.channels()).collect();
    if count > 0 {
        let range = |k: &usize| {
            let (low, high) = extremes(acts.channel(*k));
            high - low
        };
        channels.sort_by(|a, b| range(b).total_cmp(&range(a)));
        channels.truncate(count);
        channels.sort_unstable();
    }
    channels
}

fn extremes(plane: &[f32]) -> (f32, f32) {
    plane.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)))
}

/// A channel stretched over the image, in [0, 1].
fn channel_mask(acts: &Activations<'_>, channel: usize, to: (usize, usize)) -> Vec<f32> {
    let mut mask = resize_bilinear(acts.channel(channel), acts.size(), to, Corners::Aligned);
    let (low, high) = extremes(&mask);
    let (low, span) = (f64::from(low), f64::from(high) - f64::from(low) + MASK_EPS);
    mask.iter_mut().for_each(|v| *v = ((f64::from(*v) - low) / span) as f32);
    mask
}

/// One score for each of `masks` `[height, width]` laid over `image` `[1, channels, height, width]`.
fn masked_scores(
    probe: &Probe<'_>,
    image: &Tensor,
    masks: impl Iterator<Item = Vec<f32>>,
    batch: usize,
    score: impl Fn(&[f32]) -> Result<f64>,
) -> Result<Vec<f64>> {
    let (_, _, height, width) = image.dims4()?;
    let mut scores = Vec::new();
    let mut masks = masks.peekable();
    while masks.peek().is_some() {
        let some: Vec<f32> = masks.by_ref().take(batch).flatten().collect();
        // [m, 1, height, width]
        let some = Tensor::from_vec(some, ((), 1, height, width), &Device::Cpu)?;
        let some = some.to_device(image.device())?.to_dtype(image.dtype())?;
        for row in probe.scores(&image.broadcast_mul(&some)?)? {
            scores.push(score(&row)?);
        }
    }
    Ok(scores)
}

/// Probabilities of scores or logits; of none, none.
pub(super) fn softmax(scores: &[f64]) -> Vec<f64> {
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let each: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let total: f64 = each.iter().sum();
    each.into_iter().map(|e| e / total).collect()
}

/// The probability of `target` among logits.
pub(super) fn probability(row: &[f32], target: usize) -> Result<f64> {
    class_of(row, target)?;
    let row: Vec<f64> = row.iter().map(|&z| f64::from(z)).collect();
    Ok(softmax(&row)[target])
}

/// RISE: `1 / (n keep) * sum_i p(image * mask_i) mask_i` at the image's size.
pub(super) fn rise(probe: &Probe<'_>, images: &Tensor, targets: &[usize], settings: &Settings) -> Result<Vec<Map>> {
    let (_, _, height, width) = images.dims4()?;
    let key = Key::new(settings.seed).named("rise");
    let mask = |i: usize| rise_mask(key.at(i as u64), (height, width), settings.rise_cells, settings.rise_keep);
    let image = |(i, &target): (usize, &usize)| {
        let image = images.narrow(0, i, 1)?;
        let masks = (0..settings.rise_masks).map(mask);
        let scores = masked_scores(probe, &image, masks, settings.batch, |row| probability(row, target))?;
        let mut sums = vec![0.0; height * width];
        let scale = 1.0 / (settings.rise_masks as f64 * settings.rise_keep);
        // Drawn again rather than kept: a thousand masks at 224 x 224 are 200 MB.
        for (i, score) in scores.iter().enumerate() {
            sums.iter_mut().zip(mask(i)).for_each(|(sum, m)| *sum += scale * score * f64::from(m));
        }
        Map::from_sums(height, width, &sums)
    };
    targets.iter().enumerate().map(image).collect()
}

/// A grid of `cells + 1` visible (1) and hidden (0) cells a side, stretched and shifted by less than one cell.
fn rise_mask(key: Key, (height, width): (usize, usize), cells: usize, keep: f64) -> Vec<f32> {
    let mut stream = Stream::new(key);
    let side = cells + 1;
    let grid: Vec<f32> = (0..side * side).map(|_| if stream.uniform() < keep { 1.0 } else { 0.0 }).collect();
    let (cell_h, cell_w) = (height.div_ceil(cells), width.div_ceil(cells));
    let large = resize_bilinear(&grid, (side, side), (side * cell_h, side * cell_w), Corners::Half);
    let (down, right) = (stream.below(cell_h), stream.below(cell_w));
    (0..height).flat_map(|y| large[(y + down) * side * cell_w + right..][..width].to_vec()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rise_masks_are_shares_with_the_mean_asked_for() {
        let key = Key::new(3).named("rise");
        let masks: Vec<f32> = (0..200).flat_map(|i| rise_mask(key.at(i), (10, 13), 4, 0.3)).collect();
        assert_eq!(masks.len(), 200 * 130);
        assert!(masks.iter().all(|m| (0.0..=1.0).contains(m)));
        let mean = masks.iter().map(|&m| f64::from(m)).sum::<f64>() / masks.len() as f64;
        // 25 cells a mask, 200 masks: a standard error of 0.0065.
        assert!((mean - 0.3).abs() < 0.035, "{mean}");
    }

    #[test]
    fn the_widest_channels_are_taken_in_order() {
        let values = [0.0, 1.0, 0.0, 9.0, 5.0, 5.0, -4.0, 4.0];
        let acts = Activations::new(&values, 4, 1, 2).unwrap();
        assert_eq!(widest(&acts, 2), [1, 3]);
        assert_eq!(widest(&acts, 0), [0, 1, 2, 3]);
    }
}
