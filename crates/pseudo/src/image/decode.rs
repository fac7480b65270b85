//! From the bytes of a file to an [`Image`], memory bounded by what the header says before any pixel is decoded.

use std::fmt;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::error::ImageError as CodecError;
use image::metadata::Orientation;
use image::{ImageDecoder, Limits};
use serde::{Deserialize, Serialize};

use super::geometry::orient;
use super::{Image, ImageError, jpeg};

/// The formats that are read. The content decides; names and endings are never looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// JPEG, baseline and progressive.
    Jpeg,
    /// PNG; of an animation, the still image.
    Png,
    /// WebP, lossy and lossless; of an animation, the first frame.
    WebP,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
        })
    }
}

/// What is accepted, and how it becomes three channels of 8 bits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Decode {
    /// Longest file in bytes.
    pub max_bytes: u64,
    /// Most pixels of an image; one thread holds up to 11 bytes a pixel while it decodes.
    pub max_pixels: usize,
    /// Least side in pixels.
    pub min_side: usize,
    /// What becomes of images of 16 bits a sample.
    pub sixteen_bit: SixteenBit,
    /// What becomes of transparency.
    pub alpha: Alpha,
    /// Takes JPEG images that end too early, the missing part grey or coarse.
    pub accept_truncated: bool,
}

impl Default for Decode {
    fn default() -> Self {
        Self {
            max_bytes: 256 << 20,
            max_pixels: 50_000_000,
            min_side: 2,
            sixteen_bit: SixteenBit::Convert,
            alpha: Alpha::Over([255; 3]),
            accept_truncated: false,
        }
    }
}

/// A policy for samples of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SixteenBit {
    /// The upper 8 bits are kept.
    Convert,
    /// The image is refused.
    Refuse,
}

/// A policy for transparency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Alpha {
    /// The colour stored under it shows, as PIL's `convert("RGB")` has it.
    Drop,
    /// A background of this colour shows through.
    Over([u8; 3]),
}

/// What the first bytes of an image say about the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// By content.
    pub format: Format,
    /// Columns as stored, before [`exif`](Self::exif) turns the image.
    pub width: usize,
    /// Rows as stored.
    pub height: usize,
    /// Channels in the file: grey, grey and alpha, colour, colour and alpha (or CMYK) are 1 to 4.
    pub channels: u8,
    /// Bits a sample in the file.
    pub bits: u8,
    /// EXIF orientation, 1 to 8; 1 is upright.
    pub exif: u8,
}

impl Decode {
    /// Reads and decodes a file. Where only `short_side` pixels of the shorter side are needed, a JPEG may come at 1/2,
    /// 1/4 or 1/8 of its size, never smaller than that.
    ///
    /// # Errors
    /// See [`decode`](Self::decode); and if the file cannot be read or is longer than `max_bytes`.
    pub fn open(&self, path: &Path, short_side: Option<usize>) -> Result<Image, ImageError> {
        self.decode(&self.read(path)?, short_side)
    }

    /// The bytes of a file, at most `max_bytes` of them.
    ///
    /// # Errors
    /// If it cannot be read or is longer.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, ImageError> {
        let file = File::open(path).map_err(ImageError::io(path))?;
        let bytes = file.metadata().map_err(ImageError::io(path))?.len();
        let mut content = Vec::with_capacity(bytes.min(self.max_bytes) as usize + 1);
        // A file may grow, and a device has no length: the reader stops whatever the metadata say.
        file.take(self.max_bytes + 1).read_to_end(&mut content).map_err(ImageError::io(path))?;
        if bytes > self.max_bytes || content.len() as u64 > self.max_bytes {
            return Err(ImageError::Length { bytes: bytes.max(content.len() as u64), max_bytes: self.max_bytes });
        }
        Ok(content)
    }

    /// Decodes, sets upright by EXIF, and brings grey, CMYK, palettes and transparency to three channels.
    ///
    /// # Errors
    /// If the content is empty, of no known format, damaged, truncated, or outside the limits of this policy.
    pub fn decode(&self, content: &[u8], short_side: Option<usize>) -> Result<Image, ImageError> {
        let header = self.admit(content)?;
        let image = match header.format {
            Format::Jpeg => jpeg::decode(content, &header, short_side, self.accept_truncated)?,
            Format::Png => self.flatten(png(content, self.limits())?, header.format)?,
            Format::WebP => self.flatten(webp(content)?, header.format)?,
        };
        Ok(orient(image, header.exif))
    }

    /// Reads the header and holds it against the limits; decodes no pixel.
    ///
    /// # Errors
    /// As [`decode`](Self::decode), but for damage beyond the header.
    pub fn admit(&self, content: &[u8]) -> Result<Header, ImageError> {
        let header = header(content)?;
        let (width, height) = (header.width, header.height);
        let small = width.min(height) < self.min_side.max(1);
        if small || width.saturating_mul(height) > self.max_pixels {
            let (min_side, max_pixels) = (self.min_side, self.max_pixels);
            return Err(ImageError::Size { width, height, min_side, max_pixels });
        }
        if header.bits > 8 && self.sixteen_bit == SixteenBit::Refuse {
            return Err(ImageError::Depth { bits: header.bits });
        }
        Ok(header)
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.max_alloc = Some(self.max_pixels as u64 * 8 + (1 << 20));
        limits
    }

    /// Brings any of the codecs' layouts to three channels of 8 bits.
    fn flatten(&self, decoder: impl ImageDecoder, format: Format) -> Result<Image, ImageError> {
        let ((width, height), colour) = (decoder.dimensions(), decoder.color_type());
        let mut samples = vec![0; decoder.total_bytes() as usize];
        decoder.read_image(&mut samples).map_err(|e| codec_error(format, e))?;
        let channels = usize::from(colour.channel_count());
        if colour.bytes_per_pixel() as usize == 2 * channels {
            // The codecs write samples of 16 bits in the machine's own order.
            let wide = samples.chunks_exact(2).map(|s| (u16::from_ne_bytes([s[0], s[1]]) >> 8) as u8);
            samples = wide.collect();
        }
        let (width, height) = (width as usize, height as usize);
        match channels {
            1 => Image::from_grey(width, height, &samples),
            3 => Image::new(width, height, samples),
            n => {
                let rgb = samples.chunks_exact(n).flat_map(|p| {
                    let colour = if n == 2 { [p[0]; 3] } else { [p[0], p[1], p[2]] };
                    self.over(colour, p[n - 1])
                });
                Image::new(width, height, rgb.collect())
            }
        }
    }

    fn over(&self, colour: [u8; 3], alpha: u8) -> [u8; 3] {
        let Alpha::Over(ground) = self.alpha else { return colour };
        let (a, b) = (u32::from(alpha), 255 - u32::from(alpha));
        std::array::from_fn(|c| ((u32::from(colour[c]) * a + u32::from(ground[c]) * b + 127) / 255) as u8)
    }
}

/// Reads the header of an image, whatever its size.
///
/// # Errors
/// If the content is empty, of no known format, or damaged within the header.
pub fn header(content: &[u8]) -> Result<Header, ImageError> {
    match sniff(content)? {
        Format::Jpeg => jpeg::header(content),
        Format::Png => still(png(content, Limits::no_limits())?, Format::Png),
        Format::WebP => still(webp(content)?, Format::WebP),
    }
}

/// Tells the format by the content.
///
/// # Errors
/// If there is no content or none of a known format.
pub fn sniff(content: &[u8]) -> Result<Format, ImageError> {
    match content {
        [] => Err(ImageError::Empty),
        [0xff, 0xd8, 0xff, ..] => Ok(Format::Jpeg),
        [0x89, b'P', b'N', b'G', 0x0d, 0x0a, 0x1a, 0x0a, ..] => Ok(Format::Png),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::WebP),
        other => {
            let start: Vec<String> = other.iter().take(8).map(|b| format!("{b:02x}")).collect();
            Err(ImageError::UnknownFormat { start: start.join(" ") })
        }
    }
}

fn png(content: &[u8], limits: Limits) -> Result<PngDecoder<Cursor<&[u8]>>, ImageError> {
    PngDecoder::with_limits(Cursor::new(content), limits).map_err(|e| codec_error(Format::Png, e))
}

fn webp(content: &[u8]) -> Result<WebPDecoder<Cursor<&[u8]>>, ImageError> {
    WebPDecoder::new(Cursor::new(content)).map_err(|e| codec_error(Format::WebP, e))
}

fn still(mut decoder: impl ImageDecoder, format: Format) -> Result<Header, ImageError> {
    let (width, height) = decoder.dimensions();
    let colour = decoder.color_type();
    // Orientation is advice: where it cannot be read, the image stands as it is stored.
    let exif = decoder.orientation().map_or(1, Orientation::to_exif);
    let channels = colour.channel_count();
    let bits = colour.bytes_per_pixel() / channels * 8;
    Ok(Header { format, width: width as usize, height: height as usize, channels, bits, exif })
}

fn codec_error(format: Format, error: CodecError) -> ImageError {
    match &error {
        CodecError::IoError(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => ImageError::Truncated { format },
        _ => ImageError::damaged(format, error),
    }
}
