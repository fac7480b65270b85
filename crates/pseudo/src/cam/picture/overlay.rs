//! A map as colours, alone and on its photograph.

use ::image::{Rgb, RgbImage};

use super::super::map::{Corners, Map, resize_bilinear};
use super::super::measure::Rect;
use super::palette::Palette;

/// A map scaled to [0, 1] as colours.
pub fn heat(map: &Map, palette: Palette) -> RgbImage {
    let scaled = map.min_max();
    RgbImage::from_fn(map.width() as u32, map.height() as u32, |x, y| {
        Rgb(palette.colour(scaled.at(y as usize, x as usize)))
    })
}

/// A photograph under its map, which is scaled to [0, 1] and stretched over it. Where the map is 1 the photograph keeps
/// `1 - strength` of itself, where it is 0 two thirds more of `strength` shine through.
pub fn overlay(photo: &RgbImage, map: &Map, palette: Palette, strength: f32) -> RgbImage {
    let (width, height) = photo.dimensions();
    let to = (height as usize, width as usize);
    let values = resize_bilinear(map.min_max().values(), map.size(), to, Corners::Half);
    RgbImage::from_fn(width, height, |x, y| {
        let value = values[y as usize * to.1 + x as usize];
        let weight = strength.clamp(0.0, 1.0) * (1.0 + 2.0 * value) / 3.0;
        let (under, over) = (photo.get_pixel(x, y).0, palette.colour(value));
        let mix = |i: usize| f32::from(under[i]) * (1.0 - weight) + f32::from(over[i]) * weight;
        Rgb(std::array::from_fn(|i| mix(i).round() as u8))
    })
}

/// Draws the outline of a rectangle, `thickness` pixels inwards; what lies outside the picture is left out.
pub fn outline(picture: &mut RgbImage, rect: Rect, colour: [u8; 3], thickness: usize) {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    for y in rect.y0..rect.y1.min(height) {
        for x in rect.x0..rect.x1.min(width) {
            let inwards = (x - rect.x0).min(y - rect.y0).min(rect.x1 - 1 - x).min(rect.y1 - 1 - y);
            if inwards < thickness {
                picture.put_pixel(x as u32, y as u32, Rgb(colour));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_lets_more_through_where_the_map_is_low() {
        let photo = RgbImage::from_pixel(4, 1, Rgb([200, 200, 200]));
        let map = Map::new(1, 2, vec![0.0, 3.0]).unwrap();
        let over = overlay(&photo, &map, Palette::Heat, 0.6);
        // 0.8 of the photograph and 0.2 of black; 0.4 of the photograph and 0.6 of white.
        assert_eq!(over.get_pixel(0, 0).0, [160; 3]);
        assert_eq!(over.get_pixel(3, 0).0, [233; 3]);
        assert_eq!(overlay(&photo, &map, Palette::Heat, 0.0), photo);
    }

    #[test]
    fn heat_has_the_size_of_the_map() {
        let picture = heat(&Map::new(2, 3, vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0]).unwrap(), Palette::Viridis);
        assert_eq!(picture.dimensions(), (3, 2));
        assert_eq!(picture.get_pixel(2, 1).0, Palette::Viridis.colour(1.0));
    }

    #[test]
    fn outlines_stay_inside() {
        let mut picture = RgbImage::new(4, 4);
        outline(&mut picture, Rect { x0: 1, y0: 1, x1: 9, y1: 4 }, [255, 0, 0], 1);
        let red = picture.pixels().filter(|p| p.0 == [255, 0, 0]).count();
        // Left side of three and two rows of three, corners shared; the right side lies outside.
        assert_eq!(red, 7);
    }
}
