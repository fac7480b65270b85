//! Sound, odd and broken image files, made here by the codecs' own writers.

use std::io::Cursor;

use image::codecs::jpeg::JpegEncoder;
use image::codecs::png::PngEncoder;
use image::codecs::webp::WebPEncoder;
use image::{ExtendedColorType as Colour, ImageEncoder};

use super::*;

fn png(pixels: &[u8], w: u32, h: u32, colour: Colour) -> Vec<u8> {
    let mut out = Vec::new();
    PngEncoder::new(Cursor::new(&mut out)).write_image(pixels, w, h, colour).unwrap();
    out
}

fn webp(pixels: &[u8], w: u32, h: u32, colour: Colour) -> Vec<u8> {
    let mut out = Vec::new();
    WebPEncoder::new_lossless(Cursor::new(&mut out)).write_image(pixels, w, h, colour).unwrap();
    out
}

fn jpeg(pixels: &[u8], w: u32, h: u32, colour: Colour, exif: Option<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(Cursor::new(&mut out), 95);
    if let Some(orientation) = exif {
        // Little-endian TIFF, one entry: tag 0x0112, type SHORT, one value.
        let tiff = [b'I', b'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, orientation, 0, 0, 0, 0, 0, 0, 0];
        encoder.set_exif_metadata(tiff.to_vec()).unwrap();
    }
    encoder.write_image(pixels, w, h, colour).unwrap();
    out
}

/// A smooth picture: red grows to the right, green downwards.
fn slope(w: usize, h: usize) -> Image {
    let at = |i: usize, n: usize| (i * 255 / n.max(2).saturating_sub(1)).min(255) as u8;
    Image::new(w, h, (0..h).flat_map(|y| (0..w).flat_map(move |x| [at(x, w), at(y, h), 90])).collect()).unwrap()
}

fn worst(a: &Image, b: &Image) -> u8 {
    assert_eq!((a.width(), a.height()), (b.width(), b.height()));
    a.pixels().iter().zip(b.pixels()).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

fn decode(content: &[u8]) -> Result<Image, ImageError> {
    Decode::default().decode(content, None)
}

#[test]
fn lossless_formats_come_back_exactly() {
    let image = slope(31, 17);
    assert_eq!(decode(&png(image.pixels(), 31, 17, Colour::Rgb8)).unwrap(), image);
    assert_eq!(decode(&webp(image.pixels(), 31, 17, Colour::Rgb8)).unwrap(), image);
    let grey: Vec<u8> = (0..=254).collect();
    assert_eq!(decode(&png(&grey, 51, 5, Colour::L8)).unwrap(), Image::from_grey(51, 5, &grey).unwrap());
}

#[test]
fn jpeg_comes_back_nearly_and_grey_stays_grey() {
    let image = slope(64, 48);
    assert!(worst(&decode(&jpeg(image.pixels(), 64, 48, Colour::Rgb8, None)).unwrap(), &image) <= 12);
    let grey: Vec<u8> = (0..64 * 48).map(|i| (i / 16) as u8).collect();
    let back = decode(&jpeg(&grey, 64, 48, Colour::L8, None)).unwrap();
    assert!(back.pixels().chunks_exact(3).all(|p| p[0] == p[1] && p[1] == p[2]));
    assert!(worst(&back, &Image::from_grey(64, 48, &grey).unwrap()) <= 12);
}

#[test]
fn small_jpeg_is_the_large_one_averaged() {
    let image = slope(512, 400);
    let content = jpeg(image.pixels(), 512, 400, Colour::Rgb8, None);
    for (short_side, size) in [(400, 400), (201, 400), (200, 200), (100, 100), (51, 100), (50, 50), (7, 50)] {
        let small = Decode::default().decode(&content, Some(short_side)).unwrap();
        assert_eq!(small.height(), size, "for {short_side}");
        let same = resize(&image, small.width(), small.height()).unwrap();
        assert!(worst(&small, &same) <= 8, "for {short_side}: {}", worst(&small, &same));
    }
    let grey: Vec<u8> = image.pixels().iter().step_by(3).copied().collect();
    let content = jpeg(&grey, 512, 400, Colour::L8, None);
    assert_eq!(Decode::default().decode(&content, Some(100)).unwrap().width(), 128);
}

#[test]
fn exif_sets_upright_and_nonsense_is_passed_over() {
    let image = slope(32, 16);
    for exif in 0..=9 {
        let stored = jpeg(image.pixels(), 32, 16, Colour::Rgb8, Some(exif));
        assert_eq!(header(&stored).unwrap().exif, if (1..=8).contains(&exif) { exif } else { 1 });
        let upright = decode(&stored).unwrap();
        let plain = decode(&jpeg(image.pixels(), 32, 16, Colour::Rgb8, None)).unwrap();
        assert_eq!(upright, orient(plain, exif), "orientation {exif}");
    }
}

#[test]
fn transparency_follows_the_policy() {
    let pixels = [200, 100, 0, 255, 200, 100, 0, 0, 200, 100, 0, 51, 0, 0, 0, 0];
    for content in [png(&pixels, 2, 2, Colour::Rgba8), webp(&pixels, 2, 2, Colour::Rgba8)] {
        let over = decode(&content).unwrap();
        assert_eq!([over.pixel(0, 0), over.pixel(1, 0), over.pixel(0, 1)], [[200, 100, 0], [255; 3], [244, 224, 204]]);
    }
    let dropped = Decode { alpha: Alpha::Drop, ..Decode::default() };
    assert_eq!(dropped.decode(&png(&pixels, 2, 2, Colour::Rgba8), None).unwrap().pixel(1, 0), [200, 100, 0]);
    let grey = png(&[10, 255, 20, 0, 30, 255, 40, 255], 2, 2, Colour::La8);
    assert_eq!(decode(&grey).unwrap().pixels()[..6], [10, 10, 10, 255, 255, 255]);
}

#[test]
fn sixteen_bits_are_reduced_or_refused() {
    let samples: Vec<u8> = [0x1234_u16, 0xffff, 0x00ff, 0x8000].iter().flat_map(|s| s.to_ne_bytes()).collect();
    let content = png(&samples, 2, 2, Colour::L16);
    assert_eq!(header(&content).unwrap().bits, 16);
    assert_eq!(
        decode(&content).unwrap().pixels().iter().step_by(3).copied().collect::<Vec<_>>(),
        [0x12, 0xff, 0, 0x80]
    );
    let strict = Decode { sixteen_bit: SixteenBit::Refuse, ..Decode::default() };
    assert!(matches!(strict.decode(&content, None), Err(ImageError::Depth { bits: 16 })));
}

#[test]
fn empty_foreign_and_tiny_content_is_refused_by_name() {
    assert!(matches!(decode(&[]), Err(ImageError::Empty)));
    assert!(matches!(decode(b"GIF89a......"), Err(ImageError::UnknownFormat { .. })));
    assert!(matches!(decode(&[0; 64]), Err(ImageError::UnknownFormat { .. })));
    let one = png(&[1, 2, 3], 1, 1, Colour::Rgb8);
    assert!(matches!(decode(&one), Err(ImageError::Size { width: 1, height: 1, .. })));
    let one = Decode { min_side: 1, ..Decode::default() }.decode(&one, None).unwrap();
    assert_eq!(one.pixels(), [1, 2, 3]);
}

#[test]
fn gigapixels_are_refused_by_their_header() {
    // The headers of images of 2^31 and of 65,500 squared pixels, and hardly anything behind them.
    let mut png = png(&[0; 12], 2, 2, Colour::Rgb8);
    png[16..24].copy_from_slice(&[0, 0, 0x80, 0, 0, 1, 0, 0]);
    let crc = crc32(&png[12..29]).to_be_bytes();
    png[29..33].copy_from_slice(&crc);
    assert!(matches!(decode(&png), Err(ImageError::Size { width: 32_768, height: 65_536, .. })), "{:?}", decode(&png));
    let mut jpeg = jpeg(&[0; 192], 8, 8, Colour::Rgb8, None);
    let frame = jpeg.windows(2).position(|p| p == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert!(matches!(decode(&jpeg), Err(ImageError::Size { width: 65_500, .. })));
    let small = Decode { max_pixels: 99, ..Decode::default() };
    let ten = webp(&[7; 300], 10, 10, Colour::Rgb8);
    assert!(matches!(small.decode(&ten, None), Err(ImageError::Size { max_pixels: 99, .. })));
}

/// The checksum of PNG's chunks.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| {
        (0..8).fold(crc ^ u32::from(b), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn every_truncation_is_an_error_and_none_a_panic() {
    let image = slope(40, 30);
    let (w, h, rgb) = (40, 30, Colour::Rgb8);
    for content in
        [jpeg(image.pixels(), w, h, rgb, Some(6)), png(image.pixels(), w, h, rgb), webp(image.pixels(), w, h, rgb)]
    {
        let whole = decode(&content).unwrap();
        for end in 0..content.len() {
            // PNG and WebP may end with bytes that carry no pixel; then the image must be whole.
            if let Ok(image) = decode(&content[..end]) {
                assert_eq!(image, whole, "cut at {end} of {}", content.len());
            }
        }
    }
}

#[test]
fn truncated_jpeg_is_taken_where_the_policy_says_so() {
    let image = slope(64, 64);
    let content = jpeg(image.pixels(), 64, 64, Colour::Rgb8, None);
    let cut = &content[..content.len() * 2 / 3];
    assert!(matches!(decode(cut), Err(ImageError::Truncated { format: Format::Jpeg })));
    let lenient = Decode { accept_truncated: true, ..Decode::default() };
    assert_eq!(lenient.decode(cut, None).unwrap().width(), 64);
}

#[test]
fn flipped_bytes_never_panic() {
    let image = slope(24, 24);
    let key = chandlery_kernels::Key::new(11);
    for (kind, content) in [
        jpeg(image.pixels(), 24, 24, Colour::Rgb8, Some(3)),
        png(image.pixels(), 24, 24, Colour::Rgb8),
        webp(image.pixels(), 24, 24, Colour::Rgb8),
    ]
    .into_iter()
    .enumerate()
    {
        let mut stream = chandlery_kernels::Stream::new(key.at(kind as u64));
        for _ in 0..400 {
            let mut broken = content.clone();
            for _ in 0..1 + stream.below(4) {
                let at = stream.below(broken.len());
                broken[at] = stream.next_u64() as u8;
            }
            // Any answer is right but a panic or more memory than the header allows.
            let small = Decode { max_pixels: 1 << 20, ..Decode::default() };
            for short_side in [None, Some(8)] {
                let _ = small.decode(&broken, short_side);
            }
        }
    }
}

#[test]
fn long_file_is_refused_unread() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("misnamed.txt");
    std::fs::write(&path, png(slope(8, 8).pixels(), 8, 8, Colour::Rgb8)).unwrap();
    assert_eq!(Decode::default().open(&path, None).unwrap(), slope(8, 8), "content decides, not the name");
    let short = Decode { max_bytes: 20, ..Decode::default() };
    assert!(matches!(short.open(&path, None), Err(ImageError::Length { max_bytes: 20, .. })));
    let missing = Decode::default().open(&dir.path().join("none.png"), None).unwrap_err();
    assert!(missing.to_string().contains("none.png"));
}
