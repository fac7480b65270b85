//! How well the model does what it is asked: accuracy by rule, beside what happens without asking and what real poems
//! reach.

use super::data::Corpus;
use super::requests::{Kind, Verifier};
use super::writer::{How, Writer};
use crate::Result;
use chandlery::lm::control::Attributes;
use chandlery::lm::poetry;
use serde::Serialize;
use std::collections::BTreeMap;

/// A share with its Wilson interval at 95 %.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Share {
    /// Hits over trials.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Trials.
    pub n: usize,
}

impl Share {
    /// Of the trials that are hits.
    pub fn of(hits: impl IntoIterator<Item = bool>) -> Self {
        let (mut hit, mut n) = (0, 0);
        for h in hits {
            hit += usize::from(h);
            n += 1;
        }
        let (z, trials) = (1.959_964_f64, n.max(1) as f64);
        let p = hit as f64 / trials;
        let center = p + z * z / (2.0 * trials);
        let spread = z * (p * (1.0 - p) / trials + z * z / (4.0 * trials * trials)).sqrt();
        let scale = 1.0 + z * z / trials;
        Self { value: p, low: ((center - spread) / scale).max(0.0), high: ((center + spread) / scale).min(1.0), n }
    }
}

/// One attribute.
#[derive(Clone, Debug, Serialize)]
pub struct Control {
    /// Asked, without guidance.
    pub asked: Share,
    /// Asked, with guidance.
    pub guided: Share,
    /// Asked, with guidance, and led to the keywords; only where there are some.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub led: Option<Share>,
    /// The same requests held against texts that were written without asking.
    pub base: Share,
    /// Real held-out poems against their own attributes.
    pub ceiling: Share,
    /// `(asked - base) / (ceiling - base)`.
    pub lift: f64,
    /// The same of `guided`.
    pub lift_guided: f64,
    /// Total variation distance between the forms of these texts and of those without asking: what is moved that nobody
    /// asked for (for form, line length, tune and joint: what was asked for).
    pub form_shift: f64,
}

/// Requested against realised length.
#[derive(Clone, Debug, Serialize)]
pub struct Length {
    /// Mean absolute error in characters.
    pub mae: f64,
    /// Pearson correlation.
    pub correlation: f64,
    /// Pairs (requested, realised).
    pub pairs: Vec<(usize, usize)>,
}

/// A text that was asked for.
#[derive(Clone, Debug, Serialize)]
pub struct Sample {
    pub kind: String,
    pub asked: Attributes,
    pub text: String,
    pub met: bool,
}

/// Everything in eval.json.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Nats per token (a character, or the end) on the test part: without prompt, with all attributes.
    pub test_nll: f64,
    pub test_nll_prompted: f64,
    /// Guidance of the guided arm.
    pub guidance: f64,
    pub requests: usize,
    pub control: BTreeMap<String, Control>,
    pub length: Length,
    pub samples: Vec<Sample>,
}

/// Asks, writes and verifies, `say`ing what it is at.
pub fn evaluate(
    writer: &Writer<'_>,
    corpus: &Corpus,
    [test_nll, test_nll_prompted]: [f64; 2],
    say: &dyn Fn(&str),
) -> Result<Evaluation> {
    let verifier = Verifier::new(corpus);
    let (n, guidance) = (writer.config.eval.requests, writer.config.eval.guidance);
    say(&format!("writing {n} texts without asking"));
    let plainly = How { guidance: 0.0, lead: false };
    let base = writer.write(&vec![Attributes::default(); n], plainly, 1)?;
    let mut control = BTreeMap::new();
    let mut samples = Vec::new();
    let mut length = Length { mae: f64::NAN, correlation: f64::NAN, pairs: Vec::new() };
    for kind in Kind::ALL {
        let requests: Vec<Attributes> = (0..n as u64).filter_map(|i| verifier.request(kind, i)).collect();
        let ceiling = Share::of(corpus.test.iter().filter_map(|item| verifier.real(kind, item)));
        if requests.is_empty() || ceiling.n == 0 {
            continue;
        }
        say(&format!("{}: {} requests, plain and with guidance {guidance}", kind.name(), requests.len()));
        let plain = writer.write(&requests, plainly, 2)?;
        let guided = writer.write(&requests, How { guidance, lead: false }, 3)?;
        let leads = writer.config.lead.is_some() && requests.iter().any(|asked| !asked.keywords.is_empty());
        let led = leads.then(|| writer.write(&requests, How { guidance, lead: true }, 3)).transpose()?;
        let share = |texts: &[String]| {
            Share::of(requests.iter().zip(texts).map(|(asked, text)| verifier.holds(kind, asked, text)))
        };
        let (asked, with_guidance, base_share) = (share(&plain), share(&guided), share(&base));
        let lift = |s: Share| (s.value - base_share.value) / (ceiling.value - base_share.value);
        let entry = Control {
            lift: lift(asked),
            lift_guided: lift(with_guidance),
            form_shift: form_shift(&plain, &base),
            asked,
            guided: with_guidance,
            led: led.as_deref().map(share),
            base: base_share,
            ceiling,
        };
        control.insert(kind.name().to_string(), entry);
        if kind == Kind::Length {
            length = lengths(&requests, &guided);
        }
        let few = requests.iter().zip(led.as_ref().unwrap_or(&guided)).take(6).map(|(asked, text)| Sample {
            kind: kind.name().to_string(),
            asked: asked.clone(),
            text: text.clone(),
            met: verifier.holds(kind, asked, text),
        });
        samples.extend(few);
    }
    Ok(Evaluation { test_nll, test_nll_prompted, guidance, requests: n, control, length, samples })
}

fn lengths(requests: &[Attributes], texts: &[String]) -> Length {
    let pairs: Vec<(usize, usize)> =
        requests.iter().zip(texts).filter_map(|(r, t)| Some((r.length?, poetry::length(t)))).collect();
    let n = pairs.len().max(1) as f64;
    let mean = |f: &dyn Fn(&(usize, usize)) -> f64| pairs.iter().map(f).sum::<f64>() / n;
    let (mx, my) = (mean(&|p| p.0 as f64), mean(&|p| p.1 as f64));
    let cov = mean(&|p| (p.0 as f64 - mx) * (p.1 as f64 - my));
    let (vx, vy) = (mean(&|p| (p.0 as f64 - mx).powi(2)), mean(&|p| (p.1 as f64 - my).powi(2)));
    Length { mae: mean(&|p| (p.0 as f64 - p.1 as f64).abs()), correlation: cov / (vx * vy).sqrt(), pairs }
}

/// Total variation distance between the forms of two sets of texts.
fn form_shift(a: &[String], b: &[String]) -> f64 {
    let shares = |texts: &[String]| {
        let mut counts: BTreeMap<Option<&str>, f64> = BTreeMap::new();
        for text in texts {
            *counts.entry(poetry::form_of(text).map(|f| f.name())).or_default() += 1.0 / texts.len() as f64;
        }
        counts
    };
    let (a, b) = (shares(a), shares(b));
    let names: std::collections::BTreeSet<_> = a.keys().chain(b.keys()).collect();
    let share = |m: &BTreeMap<_, f64>, name| m.get(name).copied().unwrap_or(0.0);
    0.5 * names.into_iter().map(|name| (share(&a, name) - share(&b, name)).abs()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_wilsons() {
        // 8 of 10: [0.4902, 0.9433].
        let share = Share::of((0..10).map(|i| i < 8));
        assert!((share.low - 0.4902).abs() < 1e-3 && (share.high - 0.9433).abs() < 1e-3, "{share:?}");
        assert_eq!(Share::of([]).n, 0);
    }

    #[test]
    fn shift_is_zero_for_equal_and_one_for_disjoint_forms() {
        let jue = vec!["白日依山尽，黄河入海流。欲穷千里目，更上一层楼。".to_string()];
        let junk = vec!["山".to_string()];
        assert_eq!(form_shift(&jue, &jue), 0.0);
        assert!((form_shift(&jue, &junk) - 1.0).abs() < 1e-12);
    }
}
