//! Words on pictures, in capitals of three by five dots.

use ::image::{Rgb, RgbImage};

/// Rows from the top, one octal digit each: the bits of three dots.
const GLYPHS: [(char, [u8; 5]); 43] = [
    ('A', *b"25755"),
    ('B', *b"65656"),
    ('C', *b"34443"),
    ('D', *b"65556"),
    ('E', *b"74647"),
    ('F', *b"74644"),
    ('G', *b"34553"),
    ('H', *b"55755"),
    ('I', *b"72227"),
    ('J', *b"11152"),
    ('K', *b"55655"),
    ('L', *b"44447"),
    ('M', *b"57755"),
    ('N', *b"65555"),
    ('O', *b"25552"),
    ('P', *b"65644"),
    ('Q', *b"25563"),
    ('R', *b"65655"),
    ('S', *b"34216"),
    ('T', *b"72222"),
    ('U', *b"55557"),
    ('V', *b"55552"),
    ('W', *b"55775"),
    ('X', *b"55255"),
    ('Y', *b"55222"),
    ('Z', *b"71247"),
    ('0', *b"75557"),
    ('1', *b"26227"),
    ('2', *b"61247"),
    ('3', *b"61216"),
    ('4', *b"55711"),
    ('5', *b"74616"),
    ('6', *b"34757"),
    ('7', *b"71122"),
    ('8', *b"75757"),
    ('9', *b"75716"),
    ('+', *b"02720"),
    ('-', *b"00700"),
    ('.', *b"00002"),
    ('/', *b"11244"),
    (':', *b"02020"),
    ('%', *b"51245"),
    (' ', *b"00000"),
];

/// Writes `text` with its top left corner at `(x, y)`, each dot `scale` pixels; small letters become capitals, unknown
/// characters an underscore. What lies outside the picture is left out.
pub fn label(picture: &mut RgbImage, text: &str, (x, y): (u32, u32), scale: u32, colour: [u8; 3]) {
    for (i, c) in text.chars().enumerate() {
        let found = GLYPHS.iter().find(|(glyph, _)| *glyph == c.to_ascii_uppercase());
        let rows = found.map_or(*b"00007", |(_, rows)| *rows);
        for (row, digit) in rows.iter().enumerate() {
            for column in (0..3).filter(|column| (digit - b'0') >> (2 - column) & 1 == 1) {
                let (left, top) = (x + (4 * i as u32 + column) * scale, y + row as u32 * scale);
                square(picture, left, top, scale, colour);
            }
        }
    }
}

fn square(picture: &mut RgbImage, left: u32, top: u32, side: u32, colour: [u8; 3]) {
    for y in top..(top + side).min(picture.height()) {
        for x in left..(left + side).min(picture.width()) {
            picture.put_pixel(x, y, Rgb(colour));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_differ_and_stay_inside() {
        let draw = |text: &str| {
            let mut picture = RgbImage::new(10, 6);
            label(&mut picture, text, (0, 0), 1, [255; 3]);
            picture.pixels().map(|p| p.0[0] > 0).collect::<Vec<_>>()
        };
        let drawn: Vec<_> = GLYPHS.iter().map(|(c, _)| draw(&c.to_string())).collect();
        for (i, a) in drawn.iter().enumerate() {
            assert!(!drawn[..i].contains(a), "{} is drawn twice", GLYPHS[i].0);
        }
        assert_eq!(draw("l"), draw("L"));
        assert_ne!(draw("?"), draw(" "));
        draw("longer than the picture");
    }
}
