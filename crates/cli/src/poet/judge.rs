//! A judge of dynasty and author that shares nothing with the model: naive Bayes over characters and pairs of
//! characters, fitted on the real poems of the training part.

use std::collections::HashMap;

/// Log-probabilities of features per class.
pub struct Judge {
    classes: Vec<String>,
    /// Log-share of each class.
    prior: Vec<f64>,
    /// Per feature the log-probability in each class, relative to that of an unseen feature.
    weight: HashMap<[char; 2], Vec<f64>>,
    /// Log-probability of an unseen feature per class.
    unseen: Vec<f64>,
}

/// Characters (beside a blank) and pairs of neighbours.
fn features(text: &str) -> Vec<[char; 2]> {
    let chars: Vec<char> = chandlery::lm::poetry::bare(text).chars().collect();
    chars.iter().map(|&c| [c, ' ']).chain(chars.windows(2).map(|w| [w[0], w[1]])).collect()
}

/// Added to every count.
const SMOOTHING: f64 = 0.1;

impl Judge {
    /// Fits on texts with their class.
    pub fn fit<'a>(texts: impl Iterator<Item = (&'a str, String)>) -> Self {
        let mut classes: Vec<String> = Vec::new();
        let mut counts: HashMap<[char; 2], Vec<f64>> = HashMap::new();
        let (mut n_texts, mut n_features): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
        for (class, text) in texts {
            let at = classes.iter().position(|c| c == class).unwrap_or_else(|| {
                classes.push(class.to_string());
                n_texts.push(0.0);
                n_features.push(0.0);
                classes.len() - 1
            });
            n_texts[at] += 1.0;
            for feature in features(&text) {
                let row = counts.entry(feature).or_default();
                row.resize(row.len().max(at + 1), 0.0);
                row[at] += 1.0;
                n_features[at] += 1.0;
            }
        }
        let total: f64 = n_texts.iter().sum();
        let room = SMOOTHING * (counts.len() + 1) as f64;
        let unseen: Vec<f64> = n_features.iter().map(|n| (SMOOTHING / (n + room)).ln()).collect();
        let relative = |row: Vec<f64>| row.into_iter().map(|n| ((n + SMOOTHING) / SMOOTHING).ln()).collect();
        Self {
            prior: n_texts.iter().map(|n| (n / total).ln()).collect(),
            weight: counts.into_iter().map(|(feature, row)| (feature, relative(row))).collect(),
            classes,
            unseen,
        }
    }

    /// The likeliest class; `None` for a text without characters.
    pub fn class_of(&self, text: &str) -> Option<&str> {
        let features = features(text);
        let mut score: Vec<f64> =
            self.prior.iter().zip(&self.unseen).map(|(prior, unseen)| prior + unseen * features.len() as f64).collect();
        for row in features.iter().filter_map(|f| self.weight.get(f)) {
            row.iter().enumerate().for_each(|(at, w)| score[at] += w);
        }
        let best = (0..score.len()).max_by(|&a, &b| score[a].total_cmp(&score[b]))?;
        (!features.is_empty()).then_some(&*self.classes[best])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn judge_tells_classes_by_their_characters() {
        let texts = [("甲", "山高水长"), ("乙", "花前月下"), ("甲", "高山流水")];
        let judge = Judge::fit(texts.iter().map(|(class, text)| (*class, text.to_string())));
        assert_eq!(judge.class_of("水高"), Some("甲"));
        assert_eq!(judge.class_of("月前花"), Some("乙"));
        assert_eq!(judge.class_of(""), None);
    }
}
