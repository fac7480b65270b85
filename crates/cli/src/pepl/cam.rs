//! Where a trained classifier looks: overlays, a contact sheet, a list.

use super::data::Classes;
use super::folder::Walk;
use super::pictures::{PlainHead, view};
use super::{config_of, network};
use crate::args::Cam;
use crate::{Result, say};
use candle_core::{Device, Tensor};
use chandlery::nn::Mode;
use chandlery::pseudo::cam::picture::{Gallery, Seen};
use chandlery::pseudo::cam::{Error, Layout, Method, Probe};
use std::path::{Path, PathBuf};

/// Writes the pictures.
pub fn cam(args: &Cam) -> Result<()> {
    let methods = args.methods.iter().map(|name| name.parse()).collect::<std::result::Result<Vec<Method>, _>>()?;
    let config = config_of(&args.run)?;
    let classes = Classes::load(&args.run)?.names;
    let (model, _) = network::open(&config.model, classes.len(), &args.run.join(network::MODEL))?;
    let views = &config.views;
    let load = |path: &Path| -> Result<Seen> {
        let prepared = views.prepare(&views.decode.read(path)?)?;
        let (photo, input) = view(views, &prepared)?;
        Ok(Seen { photo, input })
    };
    let (mut files, mut bad) = (Vec::new(), 0);
    for found in Walk::new(&args.images)? {
        let path: PathBuf = found?;
        match views.decode.read(&path).and_then(|content| views.prepare(&content)) {
            Ok(_) => files.push(path),
            Err(why) => {
                bad += 1;
                say(format!("left out: {}: {why}", path.display()));
            }
        }
    }
    files.sort();
    if args.limit > 0 {
        files.truncate(args.limit);
    }
    if files.is_empty() {
        return Err(format!("--images {}: no image in it that can be used", args.images.display()).into());
    }
    let head = PlainHead::of(&model)?;
    let features = |x: &Tensor| model.features(x, Mode::Eval);
    let logits = |maps: &Tensor| model.head(maps);
    let probe = Probe { features: &features, logits: &logits, layout: Layout::Maps, head: Some(head.get()?) };
    let gallery = Gallery { methods, ..Gallery::default() };
    let load = |path: &Path| {
        let io = |e: Box<dyn std::error::Error + Send + Sync>| {
            Error::File(chandlery::nn::Error::Io { path: path.to_path_buf(), source: std::io::Error::other(e) })
        };
        load(path).map_err(io)
    };
    let lines = gallery.write(&probe, &files, &load, &classes, &Device::Cpu, &args.out)?;
    let sheet = args.out.join("sheet.png");
    say(format!("{} pictures of {} images, {bad} left out; overview: {}", lines.len(), files.len(), sheet.display()));
    Ok(())
}
