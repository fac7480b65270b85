//! Ranking quality: ROC and precision-recall curves with ties and weights.

use super::{Error, Predictions};

/// Scores of a two-class problem in descending order with cumulated weights at each distinct score.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    scores: Vec<f64>,
    positives: Vec<f64>,
    negatives: Vec<f64>,
}

impl Ranking {
    /// Sorts `scores` `[n]` with their labels `[n]` and, where given, sample weights `[n]`.
    ///
    /// # Errors
    /// If the lengths differ.
    pub fn new(scores: &[f64], positive: &[bool], weights: Option<&[f64]>) -> Result<Self, Error> {
        Error::unless("labels", scores.len(), positive.len())?;
        Error::unless("sample weights", scores.len(), weights.map_or(scores.len(), <[f64]>::len))?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
        let mut ranking = Self { scores: vec![], positives: vec![], negatives: vec![] };
        let (mut tp, mut fp) = (0.0, 0.0);
        for (rank, &i) in order.iter().enumerate() {
            let weight = weights.map_or(1.0, |w| w[i]);
            *(if positive[i] { &mut tp } else { &mut fp }) += weight;
            // Equal scores are one threshold.
            if order.get(rank + 1).is_none_or(|&next| scores[next] != scores[i]) {
                ranking.scores.push(scores[i]);
                ranking.positives.push(tp);
                ranking.negatives.push(fp);
            }
        }
        Ok(ranking)
    }

    fn totals(&self) -> (f64, f64) {
        let last = |v: &[f64]| v.last().copied().unwrap_or(0.0);
        (last(&self.positives), last(&self.negatives))
    }
}

/// True against false positive rate at each threshold, from the highest down.
#[derive(Clone, Debug, PartialEq)]
pub struct Roc {
    /// False positive rates, from 0 to 1; NaN without negatives.
    pub fpr: Vec<f64>,
    /// True positive rates, from 0 to 1; NaN without positives.
    pub tpr: Vec<f64>,
    /// Thresholds; the first is infinite.
    pub thresholds: Vec<f64>,
}

/// ROC curve with one point per distinct score.
pub fn roc_curve(ranking: &Ranking) -> Roc {
    let (p, n) = ranking.totals();
    let from_zero = |v: &[f64], by: f64| std::iter::once(0.0).chain(v.iter().copied()).map(|x| x / by).collect();
    Roc {
        fpr: from_zero(&ranking.negatives, n),
        tpr: from_zero(&ranking.positives, p),
        thresholds: std::iter::once(f64::INFINITY).chain(ranking.scores.iter().copied()).collect(),
    }
}

/// Area under the ROC curve: probability that a positive is ranked above a negative, ties counting half. NaN where either
/// is absent.
pub fn roc_auc(ranking: &Ranking) -> f64 {
    let roc = roc_curve(ranking);
    let points: Vec<(f64, f64)> = roc.fpr.into_iter().zip(roc.tpr).collect();
    points.windows(2).map(|w| (w[1].0 - w[0].0) * (w[1].1 + w[0].1) / 2.0).sum()
}

/// Precision and recall at each threshold, from the lowest up.
#[derive(Clone, Debug, PartialEq)]
pub struct PrecisionRecall {
    /// Precisions, then a final 1.
    pub precision: Vec<f64>,
    /// Recalls, then a final 0; 1 throughout where there is no positive.
    pub recall: Vec<f64>,
    /// Thresholds, one fewer than points.
    pub thresholds: Vec<f64>,
}

/// Precision-recall curve with one point per distinct score.
pub fn precision_recall_curve(ranking: &Ranking) -> PrecisionRecall {
    let (p, _) = ranking.totals();
    let pairs = ranking.positives.iter().zip(&ranking.negatives).rev();
    let share = |tp: f64, all: f64| if all > 0.0 { tp / all } else { 0.0 };
    let precision = pairs.map(|(&tp, &fp)| share(tp, tp + fp)).chain([1.0]).collect();
    let recall = |&tp: &f64| if p > 0.0 { tp / p } else { 1.0 };
    PrecisionRecall {
        precision,
        recall: ranking.positives.iter().rev().map(recall).chain([0.0]).collect(),
        thresholds: ranking.scores.iter().rev().copied().collect(),
    }
}

/// Sum of precision times gain in recall, from the highest threshold down; 0 where there is no positive.
pub fn average_precision(ranking: &Ranking) -> f64 {
    let (p, _) = ranking.totals();
    if p == 0.0 {
        return 0.0;
    }
    let curve = precision_recall_curve(ranking);
    curve.recall.windows(2).zip(&curve.precision).map(|(r, precision)| (r[0] - r[1]) * precision).sum()
}

/// How the values of the classes become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Average {
    /// Every class counts the same.
    Macro,
    /// Every class counts by its examples.
    Weighted,
    /// All decisions in one pool.
    Micro,
}

/// One class against all others.
fn one_vs_rest(all: &Predictions, class: u32) -> (Vec<f64>, Vec<bool>) {
    all.rows().map(|(row, label)| (row[class as usize], label == class)).unzip()
}

fn averaged(all: &Predictions, average: Average, measure: fn(&Ranking) -> f64) -> Result<f64, Error> {
    let classes = 0..all.n_classes() as u32;
    let problems: Vec<(Vec<f64>, Vec<bool>)> = classes.map(|c| one_vs_rest(all, c)).collect();
    if average == Average::Micro {
        let (scores, positive): (Vec<Vec<f64>>, Vec<Vec<bool>>) = problems.into_iter().unzip();
        return Ok(measure(&Ranking::new(&scores.concat(), &positive.concat(), None)?));
    }
    let (mut sum, mut by) = (0.0, 0.0);
    for (scores, positive) in problems {
        let n = positive.iter().filter(|&&p| p).count() as f64;
        let weight = if average == Average::Weighted { n } else { 1.0 };
        sum += weight * measure(&Ranking::new(&scores, &positive, None)?);
        by += weight;
    }
    Ok(sum / by)
}

/// Area under the ROC curve of each class against the rest, averaged; NaN if a class has no example.
///
/// # Errors
/// Never for predictions that were accepted.
pub fn multiclass_roc_auc(all: &Predictions, average: Average) -> Result<f64, Error> {
    averaged(all, average, roc_auc)
}

/// Average precision of each class against the rest, averaged.
///
/// # Errors
/// Never for predictions that were accepted.
pub fn multiclass_average_precision(all: &Predictions, average: Average) -> Result<f64, Error> {
    averaged(all, average, average_precision)
}

/// Mean area under the ROC curve over all pairs of classes (Hand and Till 2001); NaN if a class has no example.
///
/// # Errors
/// Never for predictions that were accepted.
pub fn roc_auc_one_vs_one(all: &Predictions) -> Result<f64, Error> {
    let c = all.n_classes() as u32;
    let area = |class: u32, other: u32| {
        let rows = all.rows().filter(|(_, label)| *label == class || *label == other);
        let (scores, positive): (Vec<f64>, Vec<bool>) =
            rows.map(|(row, label)| (row[class as usize], label == class)).unzip();
        Ranking::new(&scores, &positive, None).map(|r| roc_auc(&r))
    };
    let mut areas = Vec::new();
    for a in 0..c {
        for b in a + 1..c {
            areas.push((area(a, b)? + area(b, a)?) / 2.0);
        }
    }
    Ok(super::predictions::mean(areas.into_iter()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_are_one_point_and_count_half() {
        let ranking = Ranking::new(&[0.5; 4], &[true, false, true, false], None).unwrap();
        assert_eq!((roc_auc(&ranking), average_precision(&ranking)), (0.5, 0.5));
        assert_eq!(roc_curve(&ranking).thresholds, [f64::INFINITY, 0.5]);
    }

    #[test]
    fn one_class_alone_has_no_area() {
        let ranking = Ranking::new(&[0.1, 0.9], &[false, false], None).unwrap();
        assert!(roc_auc(&ranking).is_nan());
        assert_eq!(average_precision(&ranking), 0.0);
        assert!(Ranking::new(&[0.1], &[], None).unwrap_err().to_string().contains("labels: expected 1, got 0"));
    }
}
