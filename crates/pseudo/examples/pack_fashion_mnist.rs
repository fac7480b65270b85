//! Remakes the embedded images from the unpacked files of Fashion-MNIST:
//! `cargo run --release -p chandlery-pseudo --example pack_fashion_mnist -- SOURCE crates/pseudo/data/fashion-mnist`

use std::io::Write;
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [source, out] = &args[..] else { return Err("usage: pack_fashion_mnist SOURCE OUT".into()) };
    let part = chandlery_pseudo::data::pack_idx(Path::new(source), Path::new(out), 200, 100, 0)?;
    writeln!(std::io::stdout(), "{} images of {} classes", part.len(), part.n_classes())?;
    Ok(())
}
