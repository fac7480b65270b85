//! How good a map is: against where things are, against the model, and against itself.
//!
//! | question | functions |
//! |---|---|
//! | does it point at the thing? | [`pointing`], [`energy_pointing`] |
//! | does its extent match the thing's box? | [`boxes_above`], [`BoxAccuracy`] |
//! | does it cover the parts? | [`part_hit`], [`part_coverage`] |
//! | does the model need those places? | [`deletion`], [`insertion`], [`road`], [`confidence`] |
//! | does it say the same of the mirrored image? | [`flip_stability`] |
//! | against what truth? | [`Composite`]: cut-outs with known masks on photographs |
//! | does it depend on what the model learnt? | [`cascade`], [`randomised_head`], [`rank_correlation`] |

mod agreement;
mod boxes;
mod cascade;
mod composite;
mod confidence;
mod erasure;
mod parts;
mod pointing;
mod road;
mod score;

pub use agreement::{correlation, flip_stability, randomised_head, rank_correlation};
pub use boxes::{BoxAccuracy, Rect, boxes_above, largest_box};
pub use cascade::{CascadeStep, cascade};
pub use composite::{Composite, middle_square};
pub use confidence::{Confidence, confidence};
pub use erasure::{Curve, blurred, deletion, insertion, ranking};
pub use parts::{Part, part_coverage, part_hit};
pub use pointing::{Mask, energy_pointing, pointing};
pub use road::{Road, RoadScores, impute, road};
pub use score::{Scorer, class_probability};
