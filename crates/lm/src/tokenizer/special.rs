//! Names of the special tokens that training with attributes needs.

/// Fills rows of a batch up to the longest.
pub const PAD: &str = "[PAD]";
/// Stands for what a vocabulary cannot spell.
pub const UNK: &str = "[UNK]";
/// Stands before every sequence.
pub const BOS: &str = "[BOS]";
/// Ends every text.
pub const EOS: &str = "[EOS]";
/// Pools a sequence for classification.
pub const CLS: &str = "[CLS]";
/// Separates two sequences.
pub const SEP: &str = "[SEP]";
/// Hides a token that is to be predicted.
pub const MASK: &str = "[MASK]";
/// Opening and closing marker of the topic.
pub const TOPIC: [&str; 2] = ["[t]", "[/t]"];
/// Opening and closing marker of the keywords.
pub const KEYWORDS: [&str; 2] = ["[k]", "[/k]"];
/// Opening and closing marker of the sentiment.
pub const SENTIMENT: [&str; 2] = ["[senti]", "[/senti]"];
/// Opening and closing marker of the length.
pub const LENGTH: [&str; 2] = ["[w]", "[/w]"];
/// Opening and closing marker of a free-form attribute.
pub const EXTRA: [&str; 2] = ["[a]", "[/a]"];

/// All of them; in a [`CharTokenizer`](super::CharTokenizer) and in a trained BPE the position is the id.
pub const SPECIALS: [&str; 17] = [
    PAD,
    UNK,
    BOS,
    EOS,
    CLS,
    SEP,
    MASK,
    TOPIC[0],
    TOPIC[1],
    KEYWORDS[0],
    KEYWORDS[1],
    SENTIMENT[0],
    SENTIMENT[1],
    LENGTH[0],
    LENGTH[1],
    EXTRA[0],
    EXTRA[1],
];
