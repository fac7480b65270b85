//! Photographs and maps inside the page.

use super::escape::escape;
use std::fmt::Write;

/// A picture as the bytes of a PNG file, with words below it.
#[derive(Debug, Clone)]
pub struct Picture {
    png: Vec<u8>,
    caption: String,
}

impl Picture {
    /// Takes a PNG file.
    pub fn new(png: Vec<u8>, caption: impl Into<String>) -> Self {
        Self { png, caption: caption.into() }
    }
}

/// Pictures side by side where there is room.
pub(super) fn grid(pictures: &[Picture]) -> String {
    let mut html = "<div class=\"pictures\">\n".to_owned();
    for picture in pictures {
        let (data, caption) = (base64(&picture.png), escape(&picture.caption));
        let _ = writeln!(
            html,
            "<figure><img src=\"data:image/png;base64,{data}\" alt=\"{caption}\"><figcaption>{caption}</figcaption></figure>"
        );
    }
    html + "</div>\n"
}

/// RFC 4648, with padding.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, &b| bits << 8 | u32::from(b)) << (8 * (3 - group.len()));
        for digit in 0..4 {
            let c = if digit <= group.len() { DIGITS[(bits >> (18 - 6 * digit)) as usize & 63] } else { b'=' };
            text.push(char::from(c));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        for (plain, coded) in [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
    }

    #[test]
    fn caption_is_also_the_alternative_text() {
        let html = grid(&[Picture::new(vec![1], "a < b")]);
        assert!(html.contains("alt=\"a &lt; b\"") && html.contains("<figcaption>a &lt; b</figcaption>"));
    }
}
