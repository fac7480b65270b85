//! Numbers as a reader wants them: few digits, grouped thousands, a true minus sign.

/// Stands for a number that is not there.
pub const ABSENT: &str = "–";

/// `value` with `digits` digits behind the point and grouped thousands.
pub fn fixed(value: f64, digits: usize) -> String {
    if !value.is_finite() {
        return ABSENT.into();
    }
    let text = format!("{:.digits$}", value.abs());
    let is_zero = text.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    format!("{}{}{rest}", if value < 0.0 && !is_zero { "\u{2212}" } else { "" }, grouped(whole))
}

/// `value` with about four significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        _ if !value.is_finite() => ABSENT.into(),
        0.0 => "0".into(),
        size if !(1e-3..1e7).contains(&size) => scientific(value),
        size if size >= 1000.0 => fixed(value, 0),
        size => {
            let digits = (3.0 - size.log10().floor()).clamp(0.0, 6.0) as usize;
            trimmed(&fixed(value, digits))
        }
    }
}

/// A share as a percentage: `0.934` is `93.4 %` (with a narrow space that does not break).
pub fn percent(share: f64) -> String {
    if share.is_finite() { format!("{}\u{202f}%", fixed(share * 100.0, 1)) } else { ABSENT.into() }
}

/// A whole number with grouped thousands.
pub fn count(value: u64) -> String {
    grouped(&value.to_string())
}

/// Labels for tick marks that lie `step` apart, all with the same number of digits and the same unit.
pub fn ticks(values: &[f64], step: f64) -> Vec<String> {
    let largest = values.iter().fold(0.0f64, |most, value| most.max(value.abs()));
    if largest >= 1e15 || (largest > 0.0 && largest < 1e-3) {
        return values.iter().map(|value| short(*value)).collect();
    }
    let (unit, suffix) = match largest {
        size if size >= 1e9 => (1e9, "G"),
        size if size >= 1e6 => (1e6, "M"),
        size if size >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let digits = decimals(step / unit);
    values.iter().map(|value| if *value == 0.0 { "0".into() } else { fixed(value / unit, digits) + suffix }).collect()
}

/// How many digits behind the point a multiple of `step` needs.
fn decimals(step: f64) -> usize {
    (0..9)
        .find(|digits| {
            let scaled = step * 10f64.powi(*digits);
            (scaled - scaled.round()).abs() < 1e-6 * scaled.max(1e-300)
        })
        .unwrap_or(9) as usize
}

fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let mantissa = trimmed(&mantissa.replace('-', "\u{2212}"));
    let power: String = exponent.chars().map(superscript).collect();
    if mantissa == "1" { format!("10{power}") } else { format!("{mantissa}×10{power}") }
}

fn superscript(c: char) -> char {
    match c {
        '-' => '⁻',
        '1' => '¹',
        '2' => '²',
        '3' => '³',
        digit => digit.to_digit(10).and_then(|n| char::from_u32(0x2070 + n)).unwrap_or(digit),
    }
}

fn trimmed(text: &str) -> String {
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
}

fn grouped(whole: &str) -> String {
    let mut text = String::with_capacity(whole.len() + whole.len() / 3);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_grouped_and_minus_is_a_minus() {
        assert_eq!(fixed(1_234_567.891, 1), "1,234,567.9");
        assert_eq!(fixed(-999.0, 0), "\u{2212}999");
        assert_eq!(fixed(-0.001, 1), "0.0");
        assert_eq!(count(330_000), "330,000");
    }

    #[test]
    fn short_keeps_four_digits_and_no_dead_zeros() {
        let cases = [
            (0.0, "0"),
            (1.5, "1.5"),
            (2.71234, "2.712"),
            (0.01234, "0.01234"),
            (12345.6, "12,346"),
            (-2.0, "\u{2212}2"),
        ];
        for (value, text) in cases {
            assert_eq!(short(value), text);
        }
        assert_eq!(short(3e-4), "3×10⁻⁴");
        assert_eq!(short(1e-5), "10⁻⁵");
        assert_eq!(short(-2.5e12), "\u{2212}2.5×10¹²");
    }

    #[test]
    fn what_is_no_number_is_a_dash() {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!((short(value), fixed(value, 2), percent(value)), (ABSENT.into(), ABSENT.into(), ABSENT.into()));
        }
    }

    #[test]
    fn ticks_share_digits_and_unit() {
        assert_eq!(ticks(&[0.0, 0.25, 0.5], 0.25), ["0", "0.25", "0.50"]);
        assert_eq!(ticks(&[0.0, 20_000.0], 20_000.0), ["0", "20k"]);
        assert_eq!(ticks(&[0.0, 2500.0], 2500.0), ["0", "2,500"]);
        assert_eq!(ticks(&[1e6, 1.5e6], 5e5), ["1.0M", "1.5M"]);
        assert_eq!(ticks(&[1e-4, 3e-4], 2e-4), ["10⁻⁴", "3×10⁻⁴"]);
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(percent(0.9341), "93.4\u{202f}%");
    }
}
