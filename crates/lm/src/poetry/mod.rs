//! Chinese poems with attributes: the data of the recipe `poet`.
//!
//! [`embedded`] gives 30,000 Tang and Song poems, [`poems_from_package`] all 330,000, [`from_jsonl`] a user's own. [`Catalogue`]
//! tells the attributes of each by rule, [`split`] divides them with all near-duplicates on one side, and [`form_of`],
//! [`lines_exact`], [`line_lengths`], [`length`] and [`contains_keyword`] verify generated text by the same rules.
//!
//! ```
//! use chandlery_lm::poetry::{self, Form};
//! let poem = "朝辞白帝彩云间，千里江陵一日还。两岸猿声啼不住，轻舟已过万重山。";
//! assert_eq!(poetry::form_of(poem), Some(Form::QiJue));
//! assert!(poetry::contains_keyword(poem, "轻舟"));
//! ```
//!
//! No tensor occurs here.

mod catalogue;
mod clean;
mod embedded;
mod error;
mod form;
mod hash;
mod jsonl;
mod keywords;
mod near;
mod pack;
mod package;
mod poem;
mod script;
mod split;
mod verse;

pub use catalogue::{Attributes, Catalogue, CatalogueSize};
pub use clean::{Dropped, LONGEST, Reason};
pub use embedded::embedded;
pub use error::PoetryError;
pub use form::{Form, form_of, lines_exact};
pub use jsonl::from_jsonl;
pub use near::near_duplicates;
pub use pack::{Counts, LEAST_OCCURRENCES, PER_FORM, PackReport, count, pack_poetry};
pub use package::{Package, poems_from_package};
pub use poem::{Poem, SONG, TANG};
pub use script::simplify;
pub use split::{Part, Split, split};
pub use verse::{bare, contains_keyword, is_han, length, line_lengths, normalise, split_lines};
