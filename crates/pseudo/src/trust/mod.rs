//! How far to trust labels: calibration, coverage, precision, selective risk.
//!
//! Pure functions on numbers; sums run in f64 in the order of the examples, so a result has the same bits everywhere.

mod bootstrap;
mod calibration;
mod confusion;
mod curve;
mod error;
mod histogram;
mod predictions;
mod risk;
mod stability;
mod tally;
mod temperature;

pub use bootstrap::{PairedBootstrap, Spread, paired_bootstrap, spread};
pub use calibration::{Bin, LastBin, Reliability};
pub use confusion::{Confusion, top_confusions};
pub use curve::{
    Average, PrecisionRecall, Ranking, Roc, average_precision, multiclass_average_precision, multiclass_roc_auc,
    precision_recall_curve, roc_auc, roc_auc_one_vs_one, roc_curve,
};
pub use error::Error;
pub use histogram::{Histogram, quantile};
pub use predictions::{Judged, Predictions};
pub(crate) use predictions::{brier_row, largest, rank};
pub use risk::RiskCoverage;
pub use stability::{Collapse, Flips};
pub use tally::Tally;
pub use temperature::{Temperature, estimated_precision};
