//! Remakes the embedded poems: `cargo run --release -p chandlery-lm --example pack_poetry -- data/chinese-poetry crates/lm/data/poems.jsonl.zst`

use std::io::Write;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let [src, out] =
        std::env::args().skip(1).collect::<Vec<_>>().try_into().map_err(|_| "usage: pack_poetry SRC OUT")?;
    let report = chandlery_lm::poetry::pack_poetry(src, out)?;
    writeln!(std::io::stdout(), "{report}")?;
    Ok(())
}
