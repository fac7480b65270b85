//! Continues a text with a published model.
//!
//! ```text
//! cargo run --release -p chandlery-lm --example generate -- MODEL PROMPT [SETTING=VALUE ..]
//! cargo run --release -p chandlery-lm --example generate -- SmolLM2-135M-Instruct.Q4_1.gguf "What is a lamp?" chat=true
//! ```
//!
//! MODEL is a `.gguf` file, a folder with `config.json`, `model.safetensors` and `tokenizer.json`, or a model on the hub
//! (`owner/name`). SETTINGs are the fields of `Options`: `temperature=0.7 top_p=0.9 max_tokens=200 seed=1`.

use candle_core::{DType, Device};
use chandlery_lm::decoder::Decoder;
use chandlery_lm::generate::{Flow, Growing, Options, Prompt, generate};
use chandlery_lm::pretrained::{Checkpoint, hub};
use std::error::Error;
use std::io::Write;
use std::path::PathBuf;
use std::time::Instant;
use tokenizers::Tokenizer;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, prompt, settings @ ..] = &args[..] else {
        return Err("usage: generate MODEL PROMPT [SETTING=VALUE ..]".into());
    };
    let (options, chat) = options(settings)?;

    // 1. The weights: headers first, so that a wrong file is refused before anything large is read.
    let checkpoint = Checkpoint::open(&find(model)?)?;
    let store = checkpoint.load(DType::F32, &Device::Cpu)?;
    // The frozen view computes without recording a graph.
    let model = Decoder::new(checkpoint.config(), &store.frozen())?;

    // 2. The prompt as tokens.
    let tokenizer = checkpoint.tokenizer()?;
    let text = if chat { in_turns(prompt) } else { prompt.clone() };
    let ids = tokenizer.encode(text.as_str(), false)?.get_ids().to_vec();

    // 3. The text, printed as it grows. Any `FnMut(Growing) -> Flow` can watch and end it.
    let options = Options { stop_tokens: checkpoint.stop_tokens().to_vec(), ..options };
    let mut terminal = Terminal { tokenizer: &tokenizer, printed: 0, first: None };
    let mut show = |text: Growing<'_>| terminal.show(text);
    let start = Instant::now();
    let texts = generate(&model, &[Prompt::new(ids.clone())], &options, &mut show)?;

    let best = &texts[0][0];
    let (read, wrote) = terminal.first.map_or_else(Default::default, |first| (first - start, first.elapsed()));
    let speed = (best.tokens.len() - 1) as f64 / wrote.as_secs_f64();
    writeln!(
        std::io::stderr(),
        "\n[{} tokens read in {:.2} s, {} written at {speed:.1} a second, {:?}, log-probability a token {:.2}]",
        ids.len(),
        read.as_secs_f64(),
        best.tokens.len(),
        best.finish,
        best.mean_log_prob(),
    )?;
    Ok(())
}

/// A path as it is; anything else is looked for on the hub, or in its cache.
fn find(model: &str) -> Result<PathBuf, Box<dyn Error + Send + Sync>> {
    let path = PathBuf::from(model);
    Ok(if path.exists() { path } else { hub::fetch(&model.parse()?)? })
}

/// `Options` from `name=value` pairs; an unknown name is an error that lists the known ones.
fn options(settings: &[String]) -> Result<(Options, bool), Box<dyn Error + Send + Sync>> {
    let defaults = Options { temperature: 0.7, top_p: 0.95, max_tokens: 100, ..Options::default() };
    let mut fields = serde_json::to_value(defaults)?;
    let mut chat = false;
    for setting in settings {
        let (name, value) = setting.split_once('=').ok_or_else(|| format!("expected NAME=VALUE, got {setting}"))?;
        match name {
            "chat" => chat = value.parse()?,
            _ => fields[name] = serde_json::from_str(value)?,
        }
    }
    Ok((serde_json::from_value(fields)?, chat))
}

/// One turn of a conversation in ChatML, which SmolLM2's instruction models expect.
fn in_turns(prompt: &str) -> String {
    format!("<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n")
}

struct Terminal<'a> {
    tokenizer: &'a Tokenizer,
    /// Bytes of the text on the terminal.
    printed: usize,
    /// When the first token came.
    first: Option<Instant>,
}

impl Terminal<'_> {
    fn show(&mut self, text: Growing<'_>) -> Flow {
        self.first.get_or_insert_with(Instant::now);
        let whole = self.tokenizer.decode(text.tokens, true).unwrap_or_default();
        // A character of several tokens shows as U+FFFD until it is whole.
        if whole.ends_with('\u{fffd}') {
            return Flow::Continue;
        }
        let mut out = std::io::stdout().lock();
        let new = whole.get(self.printed..).unwrap_or_default();
        self.printed = whole.len();
        // Nobody reads on: stop.
        if write!(out, "{new}").and_then(|()| out.flush()).is_err() { Flow::Stop } else { Flow::Continue }
    }
}
