//! An SVG picture under construction.

use std::fmt::Write;

use super::super::escape::escape;

/// Pixels between the baselines of two lines of text.
pub const LINE: f64 = 18.0;
/// How many colours the style has; further series repeat them, dashed.
const COLOURS: usize = 6;

/// The picture's size for one kind of page.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    pub width: f64,
    pub height: f64,
    /// Little room: labels go above what they name, not beside it.
    pub is_narrow: bool,
}

impl Frame {
    pub const WIDE: Self = Self { width: 736.0, height: 330.0, is_narrow: false };
    pub const NARROW: Self = Self { width: 350.0, height: 280.0, is_narrow: true };

    /// How many ticks fit along the horizontal axis and the vertical one.
    pub fn ticks(&self) -> (usize, usize) {
        if self.is_narrow { (4, 5) } else { (7, 5) }
    }
}

/// Where a text begins, as SVG calls it.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// Elements so far, and the size of the picture.
#[derive(Debug)]
pub struct Canvas {
    width: f64,
    height: f64,
    body: String,
}

impl Canvas {
    pub fn new(width: f64, height: f64) -> Self {
        Self { width, height, body: String::new() }
    }

    /// The picture of a chart that has no data.
    pub fn nothing(frame: Frame) -> Self {
        let mut canvas = Self::new(frame.width, 90.0);
        canvas.line("axis", (0.0, 70.0), (frame.width, 70.0));
        canvas.text("tick", (frame.width / 2.0, 44.0), Anchor::Middle, "nothing to draw");
        canvas
    }

    /// Begins the group of series `i`: its colour, dashed from the second round of colours on.
    pub fn open_series(&mut self, i: usize, class: &str) {
        let again = if i >= COLOURS { " again" } else { "" };
        let _ = write!(self.body, "<g class=\"s{}{again} {class}\">", i % COLOURS);
    }

    pub fn close(&mut self) {
        self.body.push_str("</g>\n");
    }

    pub fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(coordinate);
        let _ = writeln!(self.body, "<line class=\"{class}\" x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\"/>");
    }

    pub fn rect(&mut self, class: &str, corner: (f64, f64), size: (f64, f64), tip: &str) {
        let [x, y, w, h] = [corner.0, corner.1, size.0.max(0.0), size.1.max(0.0)].map(coordinate);
        let _ = write!(self.body, "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{w}\" height=\"{h}\">");
        self.tip(tip);
        self.body.push_str("</rect>\n");
    }

    /// A path through `points`, closed or open.
    pub fn path(&mut self, class: &str, points: &[(f64, f64)], is_closed: bool) {
        let mut d = String::with_capacity(points.len() * 12);
        for (i, (x, y)) in points.iter().enumerate() {
            let _ = write!(d, "{}{} {}", if i == 0 { "M" } else { "L" }, coordinate(*x), coordinate(*y));
        }
        let _ = writeln!(self.body, "<path class=\"{class}\" d=\"{d}{}\"/>", if is_closed { "Z" } else { "" });
    }

    pub fn text(&mut self, class: &str, at: (f64, f64), anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y) = (coordinate(at.0), coordinate(at.1));
        let text = escape(text);
        let _ =
            writeln!(self.body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{text}</text>");
    }

    /// A circle, or for further series a square, a diamond or a triangle of about the same area.
    pub fn marker(&mut self, series: usize, at: (f64, f64), radius: f64, tip: &str) {
        let (x, y) = at;
        let corners: &[(f64, f64)] = match series % 4 {
            0 => &[],
            1 => &[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
            2 => &[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)],
            _ => &[(0.0, -1.3), (1.2, 0.9), (-1.2, 0.9)],
        };
        if corners.is_empty() {
            let [x, y, r] = [x, y, radius].map(coordinate);
            let _ = write!(self.body, "<circle class=\"mark\" cx=\"{x}\" cy=\"{y}\" r=\"{r}\">");
            self.tip(tip);
            self.body.push_str("</circle>\n");
        } else {
            let points: Vec<String> = corners
                .iter()
                .map(|(dx, dy)| format!("{},{}", coordinate(x + dx * radius), coordinate(y + dy * radius)))
                .collect();
            let _ = write!(self.body, "<polygon class=\"mark\" points=\"{}\">", points.join(" "));
            self.tip(tip);
            self.body.push_str("</polygon>\n");
        }
    }

    /// What a pointer that rests on the element shows.
    fn tip(&mut self, text: &str) {
        if !text.is_empty() {
            let _ = write!(self.body, "<title>{}</title>", escape(text));
        }
    }

    /// The picture inside a page.
    pub fn into_svg(self, class: &str, label: &str) -> String {
        let (w, h) = (coordinate(self.width), coordinate(self.height));
        let label = escape(label);
        format!(
            "<svg class=\"{class}\" viewBox=\"0 0 {w} {h}\" role=\"img\" aria-label=\"{label}\">\n{}</svg>\n",
            self.body
        )
    }

    /// The picture as a file of its own, below its title.
    pub fn into_file(self, title: &str, style: &str) -> String {
        let (margin, head) = (16.0, 44.0);
        let [w, h] = [self.width + 2.0 * margin, self.height + head + margin].map(coordinate);
        let title = escape(title);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"chart\" viewBox=\"0 0 {w} {h}\" width=\"{w}\" height=\"{h}\" \
             role=\"img\" aria-label=\"{title}\">\n<style>\n{style}</style>\n<rect class=\"paper\" width=\"{w}\" height=\"{h}\"/>\n\
             <text class=\"title\" x=\"{margin}\" y=\"28\">{title}</text>\n<g transform=\"translate({margin} {head})\">\n{}</g>\n</svg>\n",
            self.body
        )
    }
}

/// A coordinate with one digit behind the point; what is not finite cannot come here, and would be drawn at 0.
fn coordinate(value: f64) -> String {
    if !value.is_finite() {
        return "0".into();
    }
    let text = format!("{:.1}", value.clamp(-1e5, 1e5));
    let text = text.strip_suffix(".0").unwrap_or(&text);
    if text == "-0" { "0".into() } else { text.into() }
}

/// About how many pixels `text` takes at the charts' type size, on the wide side of the usual typefaces.
pub fn text_width(text: &str) -> f64 {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> f64 {
    match c {
        'i' | 'j' | 'l' | '.' | ',' | ':' | ';' | '\'' | '|' | '\u{2000}'..='\u{200f}' | '\u{202f}' => 4.0,
        'f' | 'r' | 't' | ' ' | '(' | ')' | '[' | ']' | '-' | '/' => 5.2,
        'm' | 'w' | 'M' | 'W' | '%' => 12.0,
        'A'..='Z' => 9.2,
        c if c < '\u{1100}' || ('\u{2010}'..='\u{206f}').contains(&c) => 7.9,
        _ => 13.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coordinates_are_short() {
        let cases = [(1.0, "1"), (1.26, "1.3"), (-0.01, "0"), (f64::NAN, "0"), (f64::INFINITY, "0"), (1e9, "100000")];
        for (value, text) in cases {
            assert_eq!(coordinate(value), text);
        }
    }

    #[test]
    fn chinese_takes_more_room_than_latin() {
        assert!(text_width("平仄") > text_width("abc"));
        assert_eq!(text_width(""), 0.0);
    }
}
