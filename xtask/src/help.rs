//! The help page, and the nearest command to a misspelt one.

use std::fmt::Write;
use std::io::IsTerminal;

/// One line of the help page: what to type and what it does.
type Entry = (&'static str, &'static str);

const RECIPES: &[Entry] = &[
    ("train RECIPE [--set KEY=VALUE ...]", "train, evaluate, report:  cargo xtask train poet"),
    ("eval RUN", "measure a finished run again"),
    ("generate [RUN] [ATTRIBUTE ...]", "write text in the form that was asked for"),
    ("predict RUN --images DIR", "label a folder of images with a trained classifier"),
    ("cam RUN --images DIR --out DIR", "show where a trained classifier looks"),
    ("experiment PLAN --set data.path=DIR", "methods beside each other, with a table:  cargo xtask experiment pepl"),
    ("plan ...", "plan a distributed run:  cargo xtask plan --model gpt-175b --cluster a100-1024"),
    ("plan validate | plan measure", "the cost model against published measurements, and against this machine"),
    ("cluster probe", "measure this machine and print it as a cluster"),
    ("COMMAND --help", "the options of a command of the binary"),
];

const PROJECT: &[Entry] = &[
    ("test [CRATE ...] [-- FILTER]", "all tests, or those of some crates"),
    ("test conformance", "only the tests against recorded vectors; CHANDLERY_VECTORS=DIR adds a folder of them"),
    ("ci", "format, tidy, clippy, rustdoc, tests: cheapest first"),
    ("tidy", "crate edges, file lengths, words, names, pages, lint bans"),
    (
        "bench steps [--only NAME] [--json] [--plot FILE]",
        "time and memory of whole training steps, over sizes as an SVG",
    ),
    ("bench ops [--only NAME] [--json]", "time of single operations, forward and backward"),
    ("bench images [--only NAME] [--json]", "time of decoding and augmenting image files"),
    ("bench criterion [NAME]", "values or operations a second of single operations, with intervals (criterion)"),
    ("bench planner", "plans priced a second, and whole answers"),
    ("simulate [FOLDER]", "every figure and table of docs/results/simulator"),
    ("bench ... --peers", "the same work in PyTorch beside it (PEER_PYTHON names an interpreter that has it)"),
    ("fetch NAME", "bring a public data set or published weights into data/:  cargo xtask fetch chinese-poetry"),
    ("help", "this page"),
];

/// The commands that xtask answers itself.
const OWN: &[&str] = &["bench", "ci", "fetch", "help", "simulate", "test", "tidy"];
/// Commands of the binary that a typing slip must not be mistaken for.
const RECIPE_WORDS: &[&str] = &["train", "eval", "generate", "predict", "cam", "experiment", "plan", "cluster"];

/// The help page, in bold and colour on a terminal.
pub fn text() -> String {
    page(std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none())
}

fn page(colour: bool) -> String {
    let (bold, name, off) = if colour { ("\x1b[1m", "\x1b[36m", "\x1b[0m") } else { ("", "", "") };
    let mut page = format!(
        "{bold}Chandlery{off}: training for candle\n\n\
         {bold}Usage{off}  cargo xtask [--features LIST] {name}COMMAND{off} [ARGUMENT ...]\n"
    );
    let widest = RECIPES.iter().chain(PROJECT).map(|(typed, _)| typed.len()).max().unwrap_or(0);
    for (title, entries) in [("Recipes (the binary `chandlery`, in release)", RECIPES), ("The project", PROJECT)] {
        let _ = write!(page, "\n{bold}{title}{off}\n");
        for (typed, does) in entries {
            let _ = writeln!(page, "  {name}{typed:widest$}{off}  {does}");
        }
    }
    page.push_str("\n--features goes to cargo: cuda, cudnn, metal, mkl, accelerate, parquet, vit.");
    page
}

/// The command of ours that `word` probably meant; none when the binary may know the word.
pub fn misspelt(word: &str) -> Option<&'static str> {
    if RECIPE_WORDS.contains(&word) {
        return None;
    }
    OWN.iter().chain(RECIPE_WORDS).copied().find(|known| distance(word, known) <= if known.len() > 3 { 2 } else { 1 })
}

/// Levenshtein distance in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_names_every_command_of_ours() {
        let page = page(false);
        for command in OWN.iter().chain(RECIPE_WORDS) {
            assert!(page.contains(&format!("\n  {command}")), "{command} is missing");
        }
        assert!(!page.contains('\x1b'));
    }

    #[test]
    fn slips_are_caught_and_the_binary_keeps_its_words() {
        assert_eq!(misspelt("tets"), Some("test"));
        assert_eq!(misspelt("tiddy"), Some("tidy"));
        assert_eq!(misspelt("trian"), Some("train"));
        assert_eq!(misspelt("train"), None);
        assert_eq!(misspelt("summary"), None);
    }

    #[test]
    fn distance_counts_edits() {
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("bench", "bench"), 0);
    }
}
