use std::path::Path;

use super::error::PoetryError;
use super::jsonl;
use super::poem::Poem;

const FILE: &str = "data/poems.jsonl.zst";
const BYTES: &[u8] = include_bytes!("../../data/poems.jsonl.zst");

/// The 30,000 poems that come with the crate: real, distinct, about 5,000 of each form (`data/README.md` has the counts,
/// the source and its licence). Takes about a tenth of a second.
///
/// # Errors
/// None in a sound build.
pub fn embedded() -> Result<Vec<Poem>, PoetryError> {
    let path = Path::new(FILE);
    let jsonl = zstd::decode_all(BYTES).map_err(PoetryError::io(path))?;
    jsonl::parse(path, &jsonl)
}
