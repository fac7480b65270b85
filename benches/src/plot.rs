//! Time and memory over a size, ours beside the peer's, as an SVG of small panels with logarithmic axes.

use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt::Write;

const PANEL: (f64, f64) = (360.0, 240.0);
const MARGIN: f64 = 56.0;
/// Label, keys in a row, and colour.
const SIDES: [(&str, [&str; 2], &str); 2] =
    [("Chandlery", ["ms", "peak_mb"], "#c2410c"), ("PyTorch", ["peer_ms", "peer_peak_mb"], "#1d4ed8")];
const UNITS: [&str; 2] = ["ms a step", "MB"];

/// Draws all rows whose name ends in `-<size>`; one line of two panels for each name before the size.
pub fn svg(rows: &[Value]) -> String {
    let mut families: BTreeMap<&str, Vec<(f64, &Value)>> = BTreeMap::new();
    for row in rows {
        if let Some((family, size)) = row["name"].as_str().and_then(|name| name.rsplit_once('-'))
            && let Ok(size) = size.parse()
        {
            families.entry(family).or_default().push((size, row));
        }
    }
    let (width, height) = (2.0 * (PANEL.0 + 2.0 * MARGIN), families.len() as f64 * (PANEL.1 + 2.0 * MARGIN));
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"white\"/>\n"
    );
    for (line, (family, rows)) in families.iter().enumerate() {
        for (column, unit) in UNITS.iter().enumerate() {
            let x = MARGIN + column as f64 * (PANEL.0 + 2.0 * MARGIN);
            let y = MARGIN + line as f64 * (PANEL.1 + 2.0 * MARGIN);
            let _ = writeln!(out, "<g transform=\"translate({x} {y})\">");
            panel(&mut out, &format!("{family}: {unit}"), rows, column);
            out.push_str("</g>\n");
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Maps the logarithms of `low ..= high` to `0 ..= length`.
fn axis(values: impl Iterator<Item = f64>, length: f64) -> impl Fn(f64) -> f64 {
    let (low, high) = values.fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), v| (low.min(v), high.max(v)));
    let span = (high / low).ln().max(f64::EPSILON);
    move |v: f64| (v / low).ln() / span * length
}

fn panel(out: &mut String, title: &str, rows: &[(f64, &Value)], column: usize) {
    let side =
        |keys: [&'static str; 2]| rows.iter().filter_map(move |(x, row)| Some((*x, row[keys[column]].as_f64()?)));
    let x_at = axis(rows.iter().map(|(x, _)| *x), PANEL.0);
    let y_at = axis(SIDES.iter().flat_map(|(_, keys, _)| side(*keys)).map(|(_, y)| y), PANEL.1);
    let _ = writeln!(out, "<text x=\"0\" y=\"-28\" font-weight=\"bold\">{title}</text>");
    let _ = writeln!(out, "<rect width=\"{}\" height=\"{}\" fill=\"none\" stroke=\"#999\"/>", PANEL.0, PANEL.1);
    for (x, _) in rows {
        let at = x_at(*x);
        let _ = writeln!(out, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{x}</text>", PANEL.1 + 18.0);
    }
    for (at, (label, keys, colour)) in SIDES.iter().enumerate() {
        let points: Vec<(f64, f64, f64)> = side(*keys).map(|(x, y)| (x_at(x), PANEL.1 - y_at(y), y)).collect();
        if points.is_empty() {
            continue;
        }
        let path: Vec<String> = points.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for (x, y, value) in points {
            let above = if at == 0 { 16.0 } else { -7.0 };
            let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>");
            let _ = writeln!(
                out,
                "<text x=\"{x:.1}\" y=\"{:.1}\" fill=\"{colour}\" text-anchor=\"middle\">{value:.0}</text>",
                y + above
            );
        }
        let _ = writeln!(out, "<text x=\"{}\" y=\"-10\" fill=\"{colour}\">{label}</text>", 100.0 * at as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn sizes_lie_in_order_and_rows_without_a_size_are_left_out() {
        let rows = [
            json!({"name": "step", "ms": 1.0}),
            json!({"name": "a-100", "ms": 10.0, "peak_mb": 1.0, "peer_ms": 40.0, "peer_peak_mb": 2.0}),
            json!({"name": "a-200", "ms": 20.0, "peak_mb": 1.0, "peer_ms": 40.0, "peer_peak_mb": 2.0}),
        ];
        let svg = svg(&rows);
        // From 10 to 40 ms: the lowest point, its double in the middle, the peer's line at the top.
        assert!(
            svg.contains("points=\"0.0,240.0 360.0,120.0\"") && svg.contains("points=\"0.0,0.0 360.0,0.0\""),
            "{svg}"
        );
        assert!(!svg.contains("step:") && svg.matches("<polyline").count() == 4);
    }
}
