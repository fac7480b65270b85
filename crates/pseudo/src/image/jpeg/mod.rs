//! JPEG: the markers before the picture, and the picture at full size or less.

mod baseline;

use image::metadata::Orientation;
use jpeg_decoder::{Decoder as ScaledDecoder, PixelFormat};
use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::decode::{Format, Header};
use super::{Image, ImageError};

/// Reads the markers up to the frame header, and those before it that hold EXIF.
pub(super) fn header(content: &[u8]) -> Result<Header, ImageError> {
    let mut exif = 1;
    for segment in Segments::new(content) {
        let (marker, body) = segment?;
        match (marker, body) {
            (0xe1, [b'E', b'x', b'i', b'f', 0, 0, tiff @ ..]) => {
                exif = Orientation::from_exif_chunk(tiff).map_or(1, Orientation::to_exif);
            }
            // Every start of frame; 0xc4, 0xc8 and 0xcc are tables.
            (0xc0..=0xcf, &[bits, h1, h0, w1, w0, channels, ..]) if !matches!(marker, 0xc4 | 0xc8 | 0xcc) => {
                let side = |high, low| usize::from(u16::from_be_bytes([high, low]));
                let (width, height) = (side(w1, w0), side(h1, h0));
                return Ok(Header { format: Format::Jpeg, width, height, channels, bits, exif });
            }
            (0xda, _) => return Err(damaged("a scan comes before the frame's header")),
            _ => {}
        }
    }
    Err(ImageError::Truncated { format: Format::Jpeg })
}

/// Decodes to RGB; at 1/2, 1/4 or 1/8 of the size where `short_side` pixels are enough.
pub(super) fn decode(
    content: &[u8],
    header: &Header,
    short_side: Option<usize>,
    accept_truncated: bool,
) -> Result<Image, ImageError> {
    if !accept_truncated && !is_complete(content)? {
        return Err(ImageError::Truncated { format: Format::Jpeg });
    }
    let short = header.width.min(header.height);
    let enough = |n: &usize| short_side.is_some_and(|s| s > 0 && short.div_ceil(*n) >= s);
    let n = [8, 4, 2].into_iter().find(enough).unwrap_or(1);
    if let Some(image) = baseline::decode(content, n) {
        return Ok(image);
    }
    match n {
        // Grey and the three channels of YCbCr or RGB; CMYK is rare and stays with the one converter.
        2.. if matches!(header.channels, 1 | 3) && header.bits == 8 => scaled(content, header, n),
        _ => full(content, header),
    }
}

fn full(content: &[u8], header: &Header) -> Result<Image, ImageError> {
    // The size has been held against the policy; the decoder's own bound would refuse long panoramas.
    let options = DecoderOptions::default()
        .set_strict_mode(false)
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(content), options);
    let pixels = decoder.decode().map_err(|e| match e {
        DecodeErrors::ExhaustedData | DecodeErrors::IoErrors(_) => ImageError::Truncated { format: Format::Jpeg },
        other => damaged(format!("{other:?}")),
    })?;
    Image::new(header.width, header.height, pixels)
}

fn scaled(content: &[u8], header: &Header, n: usize) -> Result<Image, ImageError> {
    let mut decoder = ScaledDecoder::new(content);
    let asked = |side: usize| side.div_ceil(n) as u16;
    let (width, height) = decoder.scale(asked(header.width), asked(header.height)).map_err(damaged)?;
    let pixels = decoder.decode().map_err(damaged)?;
    let (width, height) = (usize::from(width), usize::from(height));
    match decoder.info().map(|info| info.pixel_format) {
        Some(PixelFormat::RGB24) => Image::new(width, height, pixels),
        Some(PixelFormat::L8) => Image::from_grey(width, height, &pixels),
        other => Err(damaged(format!("unexpected layout of samples {other:?}"))),
    }
}

/// Whether the end-of-image marker comes after the first scan began. Decoders fill what is missing with grey, so that a
/// half picture would pass for a whole one.
fn is_complete(content: &[u8]) -> Result<bool, ImageError> {
    let mut segments = Segments::new(content);
    while let Some(segment) = segments.next() {
        if segment?.0 == 0xda {
            // Compressed data never hold 0xff 0xd9: a data byte 0xff is followed by 0.
            return Ok(segments.rest.windows(2).rev().any(|pair| pair == [0xff, 0xd9]));
        }
    }
    Ok(false)
}

fn damaged(problem: impl std::fmt::Display) -> ImageError {
    ImageError::damaged(Format::Jpeg, problem)
}

/// The marker segments before the first scan's data: `(marker, body)`. Ends where the content does.
struct Segments<'a> {
    rest: &'a [u8],
}

impl<'a> Segments<'a> {
    fn new(content: &'a [u8]) -> Self {
        Self { rest: content.get(2..).unwrap_or_default() }
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<(u8, &'a [u8]), ImageError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Some writers leave filling bytes between segments; every decoder skips them.
        let at = self.rest.windows(2).position(|pair| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xff))?;
        let marker = self.rest[at + 1];
        let rest = &self.rest[at + 2..];
        if matches!(marker, 0x01 | 0xd0..=0xd8) {
            self.rest = rest;
            return Some(Ok((marker, &[])));
        }
        let length = match rest {
            [high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
            _ => return None,
        };
        if length < 2 {
            self.rest = &[];
            return Some(Err(damaged(format!("segment {marker:#04x} gives its own length as {length}"))));
        }
        let body = rest.get(2..length)?;
        self.rest = &rest[length..];
        Some(Ok((marker, body)))
    }
}

#[cfg(test)]
mod tests;
