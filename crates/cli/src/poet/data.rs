//! Poems as training samples.

use super::config::{DataConfig, PoetConfig};
use crate::Result;
use candle_core::Device;
use chandlery::kernels::Key;
use chandlery::lm::control::{self, Attributes, Batch};
use chandlery::lm::poetry::{self, Catalogue, CatalogueSize, Form, Part, Poem};
use chandlery::lm::tokenizer::{CharTokenizer, Tokenizer};
use std::path::Path;

/// Names of the free-form attributes.
pub const FORM: &str = "体裁";
/// Dynasty.
pub const DYNASTY: &str = "朝代";
/// Author.
pub const AUTHOR: &str = "作者";
/// Tune of a ci.
pub const TUNE: &str = "词牌";
/// Number of lines.
pub const LINES: &str = "行数";

/// One poem, ready to be encoded.
pub struct Item {
    /// Ids of the text.
    pub text: Vec<u32>,
    /// All its attributes.
    pub attrs: Attributes,
    /// The poem.
    pub poem: Poem,
}

/// Poems by part, with the catalogue and the tokenizer that the training part gives.
pub struct Corpus {
    pub train: Vec<Item>,
    pub val: Vec<Item>,
    pub test: Vec<Item>,
    pub catalogue: Catalogue,
    pub tokenizer: Tokenizer,
    /// Identifies poems and split.
    pub fingerprint: String,
}

fn read(config: &DataConfig) -> Result<Vec<Poem>> {
    let all = match &config.path {
        None => poetry::embedded()?,
        Some(path) if path.is_dir() => poetry::poems_from_package(path)?.collect::<Result<_, _>>()?,
        Some(path) => poetry::from_jsonl(path)?,
    };
    if config.limit == 0 || config.limit >= all.len() {
        return Ok(all);
    }
    let (n, limit) = (all.len(), config.limit);
    Ok(all.into_iter().enumerate().filter(|(i, _)| (i + 1) * limit / n > i * limit / n).map(|(_, p)| p).collect())
}

/// A poem's attributes as the model sees them.
pub fn attributes(catalogue: &Catalogue, poem: &Poem) -> Attributes {
    let known = catalogue.attributes(poem);
    let mut attrs = Attributes {
        genre: Some(if known.form == Form::Ci { "词" } else { "诗" }.to_string()),
        topic: known.tags.first().cloned(),
        keywords: known.keywords,
        length: Some(known.length),
        ..Attributes::default()
    };
    attrs = attrs.with(FORM, known.form.name()).with(LINES, known.n_lines.to_string());
    for (name, value) in [(DYNASTY, known.dynasty), (AUTHOR, known.author), (TUNE, known.tune)] {
        if let Some(value) = value {
            attrs = attrs.with(name, value);
        }
    }
    attrs
}

/// Every character that a prompt can contain.
fn alphabet(catalogue: &Catalogue, config: &PoetConfig) -> String {
    let mut all = config.control.wording.alphabet();
    let lists = [catalogue.dynasties(), catalogue.authors(), catalogue.tunes(), catalogue.tags()];
    lists.into_iter().flatten().for_each(|name| all.push_str(name));
    Form::ALL.iter().for_each(|form| all.push_str(form.name()));
    all + FORM + DYNASTY + AUTHOR + TUNE + LINES
}

impl Corpus {
    /// Reads the poems; `tokenizer` is that of an earlier run, else one is made from the training part.
    pub fn load(config: &PoetConfig, tokenizer: Option<Tokenizer>) -> Result<Self> {
        let poems = read(&config.data)?;
        if poems.is_empty() {
            return Err("data.path: no poem in it".into());
        }
        let split = poetry::split(&poems);
        let part = |part| -> Vec<Poem> { split.indices(part).into_iter().map(|i| poems[i].clone()).collect() };
        let (train, val, test) = (part(Part::Train), part(Part::Val), part(Part::Test));
        if train.is_empty() || val.is_empty() || test.is_empty() {
            let n = poems.len();
            return Err(format!("data: {n} poems are too few for a training, a validation and a test part").into());
        }
        let mut size = CatalogueSize::default();
        if config.data.keywords > 0 {
            size.keywords = config.data.keywords;
        }
        let catalogue = Catalogue::fit(&train, &size);
        let tokenizer = match tokenizer {
            Some(tokenizer) => tokenizer,
            None => {
                let texts = train.iter().map(Poem::text);
                CharTokenizer::train(texts, config.data.min_count, &alphabet(&catalogue, config))?.into()
            }
        };
        let item = |poem: Poem| -> Result<Item> {
            let (text, attrs) = (tokenizer.encode(&poem.text())?, attributes(&catalogue, &poem));
            Ok(Item { text, attrs, poem })
        };
        let items = |poems: Vec<Poem>| poems.into_iter().map(item).collect::<Result<Vec<_>>>();
        let (train, val, test) = (items(train)?, items(val)?, items(test)?);
        let fingerprint = format!("poems {:016x}, tokenizer {}", split.fingerprint(), tokenizer.fingerprint().as_str());
        Ok(Self { train, val, test, catalogue, tokenizer, fingerprint })
    }
}

/// Packs `items` into rows, each with the draws of its own key.
pub fn batch<'a>(
    items: impl Iterator<Item = &'a Item>,
    tokenizer: &Tokenizer,
    config: &PoetConfig,
    key: Key,
) -> Result<Batch> {
    let sample = |(i, item): (usize, &Item)| {
        let key = key.named("control").at(i as u64);
        control::encode_ids(tokenizer, &item.attrs, &item.text, key, &config.control)
    };
    let samples = items.enumerate().map(sample).collect::<Result<Vec<_>, _>>()?;
    let longest = samples.iter().map(|s| s.len()).max().unwrap_or(0);
    Ok(control::pack(&samples, config.row.max(longest), tokenizer.pad()?, &Device::Cpu)?)
}

/// The same configuration with other odds of leaving out: everything shown, or nothing.
pub fn showing(config: &PoetConfig, all: bool) -> PoetConfig {
    let mut config = config.clone();
    config.control.p_attr = 0.0;
    config.control.p_uncond = if all { 0.0 } else { 1.0 };
    config.control.keyword_subset = false;
    config
}

/// The tokenizer of a run.
pub fn tokenizer_of(run: &Path) -> Result<Tokenizer> {
    Ok(Tokenizer::load(run.join("tokenizer.json"))?)
}
