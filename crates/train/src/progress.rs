//! What a person sees while a run goes on.

use crate::{Error, Result};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};

/// Where progress is shown.
pub struct Progress(Kind);

enum Kind {
    Silent,
    Plain(Box<dyn Write + Send>),
    Terminal(ProgressBar),
}

impl Progress {
    /// Nowhere.
    pub fn silent() -> Self {
        Self(Kind::Silent)
    }

    /// Lines of text.
    pub fn plain(out: impl Write + Send + 'static) -> Self {
        Self(Kind::Plain(Box::new(out)))
    }

    /// A bar on standard error where that is a terminal, lines of text to it otherwise.
    pub fn auto() -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::plain(std::io::stderr());
        }
        Self(Kind::Terminal(ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())))
    }

    pub(crate) fn begin(&mut self, done: u64, total: u64) {
        if let Kind::Terminal(bar) = &self.0 {
            bar.set_length(total);
            bar.set_position(done);
            bar.reset_eta();
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {elapsed}<{eta} {msg}") {
                bar.set_style(style);
            }
        }
    }

    pub(crate) fn advance(&mut self, step: u64) {
        if let Kind::Terminal(bar) = &self.0 {
            bar.set_position(step);
        }
    }

    /// Shows a step's numbers with the speed.
    pub(crate) fn step(&mut self, step: u64, scalars: &BTreeMap<String, f64>, speed: &str) -> Result<()> {
        let show = |(name, value): (&String, &f64)| format!("{name} {}", short(*value));
        let numbers: Vec<String> = scalars.iter().map(show).collect();
        let text = format!("{}  {speed}", numbers.join("  "));
        match &mut self.0 {
            Kind::Silent => Ok(()),
            Kind::Plain(out) => line(out, &format!("step {step}  {text}")),
            Kind::Terminal(bar) => {
                bar.set_message(text);
                Ok(())
            }
        }
    }

    /// Says something once.
    pub(crate) fn note(&mut self, text: &str) -> Result<()> {
        match &mut self.0 {
            Kind::Silent => Ok(()),
            Kind::Plain(out) => line(out, text),
            Kind::Terminal(bar) => {
                bar.println(text);
                Ok(())
            }
        }
    }

    pub(crate) fn end(&mut self) {
        if let Kind::Terminal(bar) = &self.0 {
            bar.abandon();
        }
    }
}

fn line(out: &mut Box<dyn Write + Send>, text: &str) -> Result<()> {
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::io("progress output"))
}

/// Four significant digits.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if (1e-3..1e5).contains(&size) => {
            let digits = (3 - size.log10().floor() as i32).max(0) as usize;
            format!("{value:.digits$}")
        }
        _ => format!("{value:.3e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> = [0.0, 1.0, 2.34567, 123.456, 0.00123456, 1e-7, -4.5].map(short).into();
        assert_eq!(shown, ["0", "1.000", "2.346", "123.5", "0.001235", "1.000e-7", "-4.500"]);
    }
}
