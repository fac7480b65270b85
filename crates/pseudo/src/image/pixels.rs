use super::ImageError;

/// A colour picture in memory: `h x w x 3` bytes, row by row, red green blue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// Takes `height * width * 3` bytes.
    ///
    /// # Errors
    /// If there are more or fewer, or no pixel.
    pub fn new(width: usize, height: usize, pixels: Vec<u8>) -> Result<Self, ImageError> {
        check(width, height, 3, pixels.len())?;
        Ok(Self { width, height, pixels })
    }

    /// Repeats each of `height * width` grey bytes in three channels.
    ///
    /// # Errors
    /// If there are more or fewer, or no pixel.
    pub fn from_grey(width: usize, height: usize, grey: &[u8]) -> Result<Self, ImageError> {
        check(width, height, 1, grey.len())?;
        let pixels = grey.iter().flat_map(|&g| [g, g, g]).collect();
        Ok(Self { width, height, pixels })
    }

    /// One colour everywhere.
    ///
    /// # Errors
    /// If there is no pixel.
    pub fn filled(width: usize, height: usize, colour: [u8; 3]) -> Result<Self, ImageError> {
        Self::new(width, height, colour.repeat(width * height))
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, `[h, w, 3]`.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// All bytes, `[h, w, 3]`, to change.
    pub fn pixels_mut(&mut self) -> &mut [u8] {
        &mut self.pixels
    }

    /// The bytes themselves.
    pub fn into_pixels(self) -> Vec<u8> {
        self.pixels
    }

    /// The colour at column `x` of row `y`; panics outside, like an index.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        assert!(x < self.width, "column {x} of {}", self.width);
        let at = (y * self.width + x) * 3;
        [self.pixels[at], self.pixels[at + 1], self.pixels[at + 2]]
    }

    /// The bytes of row `y`, `[w, 3]`.
    pub(super) fn row(&self, y: usize) -> &[u8] {
        &self.pixels[y * self.width * 3..(y + 1) * self.width * 3]
    }

    /// An image whose rows `fill` writes into bytes that are zero at first; at least one pixel.
    pub(super) fn build(width: usize, height: usize, fill: impl FnOnce(&mut [u8])) -> Self {
        debug_assert!(width > 0 && height > 0);
        let mut pixels = vec![0; width * height * 3];
        fill(&mut pixels);
        Self { width, height, pixels }
    }
}

fn check(width: usize, height: usize, channels: usize, got: usize) -> Result<(), ImageError> {
    let expected = width.checked_mul(height).and_then(|n| n.checked_mul(channels)).unwrap_or(usize::MAX);
    if expected == got && got > 0 {
        return Ok(());
    }
    Err(ImageError::Shape { what: format!("an image of {width} x {height} x {channels}"), expected, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_and_bytes_must_agree() {
        assert!(Image::new(2, 1, vec![0; 6]).is_ok());
        let why = Image::new(2, 1, vec![0; 5]).unwrap_err().to_string();
        assert_eq!(why, "an image of 2 x 1 x 3: expected 6 bytes, got 5");
        assert!(Image::new(0, 1, vec![]).is_err());
        assert!(Image::new(usize::MAX, 2, vec![0; 6]).is_err());
    }

    #[test]
    fn grey_is_repeated() {
        let image = Image::from_grey(2, 1, &[7, 9]).unwrap();
        assert_eq!((image.pixel(0, 0), image.pixel(1, 0)), ([7; 3], [9; 3]));
    }
}
