//! Pictures of maps: colours, overlays on photographs, contact sheets.

mod gallery;
mod label;
mod overlay;
mod palette;
mod sheet;

pub use gallery::{Gallery, Line, Seen};
pub use label::label;
pub use overlay::{heat, outline, overlay};
pub use palette::Palette;
pub use sheet::{Sheet, Tile, save_png};
